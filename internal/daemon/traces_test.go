package daemon_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// A receiver is a collector that keeps what it gets.
type receiver struct {
	*httptest.Server

	mu    sync.Mutex // guards what follows
	spans []*spans.Span
	raw   bytes.Buffer // all that came, unpacked
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if request.Header.Get("Content-Encoding") == "gzip" && err == nil {
			var unpacked io.Reader
			if unpacked, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, err = io.ReadAll(unpacked)
			}
		}
		var export collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &export) != nil || request.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v, %d bytes", request.URL, err, len(body))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw.Write(body)
		for _, resource := range export.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				r.spans = append(r.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// named are the spans with a name, in the order in which they ended.
func (r *receiver) named(name string) (found []*spans.Span) {
	for _, s := range r.spans {
		if s.GetName() == name {
			found = append(found, s)
		}
	}
	return found
}

// attributes are the texts among the attributes of a span.
func attributes(s *spans.Span) map[string]string {
	found := map[string]string{}
	for _, a := range s.GetAttributes() {
		found[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return found
}

// The trace and the span that a stranger names, and that it wants to have recorded.
const (
	theirTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + theirTrace + "-00f067aa0ba902b7-01"
)

// A token request has a span for each stage, below its own. Calls to upstreams have one too, which they are told of.
func TestTraces(t *testing.T) {
	t.Parallel()
	var told []string // by the upstream
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		told = append(told, r.Header.Get("traceparent")+r.Header.Get("tracestate"))
	}))
	defer upstream.Close()
	r := newReceiver(t)
	cfg := parse(t, newHome(t), "WAYBILL_TRACING_ENDPOINT="+r.URL, `WAYBILL_ROUTES=[{path: /api, upstream: "`+upstream.URL+`", scope: iSHARE}]`)
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, cfg)
	good := players().consumer.Request(providerID)
	good.Header.Set("Traceparent", traceparent)
	good.Header.Set("Tracestate", "theirs=something")
	token := s.send(t, good).AccessToken
	s.send(t, good) // a second time
	for _, url := range []string{s.url + "/who?a", s.url + "/api/b?c", s.internal + "/auth", s.internal + "/readyz"} {
		get(t, plain(t), url, "Authorization", "Bearer "+token, "Traceparent", traceparent, "Tracestate", "theirs=something")
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	requests := r.named("/connect/token")
	if len(requests) != 2 {
		t.Fatalf("%d token requests in %v", len(requests), r.spans)
	}
	var stages []string
	for _, span := range r.spans {
		if bytes.Equal(span.GetParentSpanId(), requests[0].GetSpanId()) && bytes.Equal(span.GetTraceId(), requests[0].GetTraceId()) {
			stages = append(stages, span.GetName())
			if span.GetStartTimeUnixNano() < requests[0].GetStartTimeUnixNano() || span.GetEndTimeUnixNano() > requests[0].GetEndTimeUnixNano() || attributes(span)["waybill.outcome"] != "passed" {
				t.Errorf("%v in %v", span, requests[0])
			}
		}
	}
	want := slices.DeleteFunc(tokenendpoint.Stages(), func(stage string) bool { return stage == tokenendpoint.StageRecord }) // nobody keeps anything
	if diff := cmp.Diff(want, stages); diff != "" {
		t.Errorf("stages: %s", diff)
	}
	party := string(players().consumer.ID())
	for i, want := range []map[string]string{
		{"waybill.outcome": "issued", "waybill.party": party, "http.route": "/connect/token"},
		{"waybill.outcome": "refused", "waybill.rule": "jti.replayed", "waybill.party": "", "http.route": "/connect/token"},
	} {
		got := attributes(requests[i])
		for name, value := range want {
			if got[name] != value {
				t.Errorf("token request %d: %s is %q", i, name, got[name])
			}
		}
		if links := requests[i].GetLinks(); len(links) != 1 || hex.EncodeToString(links[0].GetTraceId()) != theirTrace || links[0].GetTraceState() != "" {
			t.Errorf("the trace of a stranger is not linked to: %v", links)
		}
		if hex.EncodeToString(requests[i].GetTraceId()) == theirTrace || len(requests[i].GetParentSpanId()) > 0 || requests[i].GetTraceState() != "" {
			t.Errorf("the request is in the trace of a stranger: %v", requests[i])
		}
	}
	for name, route := range map[string]string{"GET /who": "/who", "/api": "/api", "/auth": "/auth"} {
		found := r.named(name)
		if len(found) != 1 || attributes(found[0])["http.route"] != route || attributes(found[0])["waybill.outcome"] != "admitted" || attributes(found[0])["waybill.party"] != party {
			t.Errorf("%s: %v", name, found)
		}
	}
	calls := r.named("upstream")
	if len(calls) != 1 || len(told) != 1 || len(r.named("/api")) != 1 {
		t.Fatalf("%v, and the upstream was told %q", calls, told)
	}
	if !bytes.Equal(calls[0].GetParentSpanId(), r.named("/api")[0].GetSpanId()) || calls[0].GetKind() != spans.Span_SPAN_KIND_CLIENT {
		t.Errorf("the call: %v", calls[0])
	}
	if want := "00-" + hex.EncodeToString(calls[0].GetTraceId()) + "-" + hex.EncodeToString(calls[0].GetSpanId()) + "-01"; told[0] != want {
		t.Errorf("the upstream was told %q, want %q", told[0], want)
	}
	for _, span := range r.spans {
		if span.GetName() == "HTTP request" {
			t.Errorf("nobody decided about %v", span)
		}
	}
}

// Nothing that would let in who reads the spans is in them, wherever a client has put it.
func TestTracesKeepSecrets(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, newHome(t), "WAYBILL_TRACING_ENDPOINT="+r.URL))
	var secrets []string
	for _, edit := range []func(*isharetest.Request){
		func(*isharetest.Request) {},
		func(r *isharetest.Request) { r.Method = r.Assertion.Compact() },
		func(r *isharetest.Request) { r.InURL = true },
		func(r *isharetest.Request) { r.Header.Set("User-Agent", r.Assertion.Compact()) },
		func(r *isharetest.Request) { r.Header.Set("Authorization", "Bearer "+r.Assertion.Compact()) },
		func(r *isharetest.Request) { r.Header.Set("Tracestate", "a="+r.Assertion.Compact()[:200]) },
		func(r *isharetest.Request) { r.Form.Set("client_id", isharetest.Signed) },
		func(r *isharetest.Request) { r.Assertion.Key = newKey(t) },
	} {
		request := players().consumer.Request(providerID)
		edit(request)
		request.Header.Set("Traceparent", traceparent)
		secrets = append(secrets, assertionSecrets(t, request)...)
		if token := s.send(t, request).AccessToken; token != "" {
			_, sealed, _ := strings.Cut(token, ".")
			secrets = append(secrets, sealed)
			for _, path := range []string{"/who", "/who?token=" + token, "/" + token, "/panic"} {
				get(t, plain(t), s.url+path, "Authorization", "Bearer "+token, "User-Agent", token, "X-Forwarded-For", token, "Tracestate", "a="+token, "Traceparent", traceparent)
			}
			get(t, plain(t), s.internal+"/envoy/"+token, "Authorization", "Bearer "+token)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	text := r.raw.String()
	for _, secret := range secrets {
		if part := leaked(text, secret); part != "" {
			t.Errorf("the spans hold %q", part)
		}
	}
	if leaked(text, string(players().consumer.ID())) == "" || len(r.spans) < 20 {
		t.Errorf("the search finds nothing in %d spans, not even what is there", len(r.spans))
	}
}

// Whether a request is recorded is up to us, unless a trusted proxy says so. Then it is in the proxy's trace.
func TestWhoDecidesOnTraces(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ []string
		want    string // the trace; empty: none
	}{
		"a stranger":      {nil, ""},
		"a trusted proxy": {[]string{"WAYBILL_LIMITS_TRUSTED_PROXIES=127.0.0.1"}, theirTrace},
		"another proxy":   {[]string{"WAYBILL_LIMITS_TRUSTED_PROXIES=127.0.0.2"}, ""},
	} {
		r := newReceiver(t)
		s := start(t, daemon.Options{NoHistory: true}, parse(t, newHome(t), append(c.environ, "WAYBILL_TRACING_ENDPOINT="+r.URL, "WAYBILL_TRACING_SAMPLE=0")...))
		request := players().consumer.Request(providerID)
		request.Header.Set("Traceparent", traceparent)
		s.send(t, request)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, span := range r.named("/connect/token") {
			got += hex.EncodeToString(span.GetTraceId())
		}
		if got != c.want {
			t.Errorf("%s: traces %q, want %q", name, got, c.want)
		}
	}
}

// Without a collector, or with one that hangs, everything is answered as ever, the log has a line, and a stop comes to its end.
func TestCollectorIsGone(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	for _, endpoint := range []string{"http://127.0.0.1:1", hanging.URL} {
		s := start(t, daemon.Options{NoHistory: true}, parse(t, newHome(t), "WAYBILL_TRACING_ENDPOINT="+endpoint))
		for range 100 { // more spans than the queue takes
			if a := s.send(t, players().consumer.Request(providerID)); a.AccessToken == "" {
				t.Fatalf("%+v", a)
			}
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		lines := len(s.log.records(t, "spans do not reach the collector, and are lost")) + len(s.log.records(t, "the last spans may be lost"))
		if lines == 0 || lines > 3 {
			t.Errorf("%s: %d lines:\n%s", endpoint, lines, s.log)
		}
	}
}

// A change of where spans go wants a restart, which is said.
func TestTracingNeedsRestart(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, home))
	if err := s.Reload(t.Context(), parse(t, home, "WAYBILL_TRACING_ENDPOINT=http://127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), "tracing") {
		t.Error(err)
	}
}

// A check looks whether the collector answers, and only warns.
func TestCheckOfCollector(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	for endpoint, want := range map[string]string{r.URL: "", elsewhere.URL: "status 404", "http://127.0.0.1:1": "refused"} {
		found := daemon.Check(parse(t, newHome(t), "WAYBILL_TRACING_ENDPOINT="+endpoint))
		got := ""
		for _, w := range found.Warnings {
			if w.Key == "tracing.endpoint" {
				got += w.Message
			}
		}
		if (got == "") != (want == "") || !strings.Contains(got, want) || len(found.Problems) > 0 {
			t.Errorf("%s: %q, %v", endpoint, got, found.Problems)
		}
	}
}

// The calls by which a token request waits for others are in its trace, although others may wait for them too.
func TestTracesOfDependencies(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	space := startDataSpace(t)
	s := start(t, daemon.Options{NoHistory: true}, space.configured(t, "WAYBILL_TRACING_ENDPOINT="+r.URL, "WAYBILL_DATA="+t.TempDir()))
	space.server = s
	if broken := space.ask(t, space.known); broken != "" {
		t.Fatal(broken)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	requests := r.named("/connect/token")
	if len(requests) == 0 {
		t.Fatal("no token request")
	}
	for _, name := range []string{"registry", "revocation"} {
		inTrace := slices.ContainsFunc(r.named(name), func(call *spans.Span) bool {
			return bytes.Equal(call.GetTraceId(), requests[0].GetTraceId()) && call.GetKind() == spans.Span_SPAN_KIND_CLIENT
		})
		if !inTrace {
			t.Errorf("%s: none of %d calls is in the trace of the request", name, len(r.named(name)))
		}
	}
}
