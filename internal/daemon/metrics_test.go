package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// A scrape is what /metrics shows.
type scrape map[string]*dto.MetricFamily

// scrape reads the metrics as Prometheus does.
func (s *server) scrape(tb testing.TB) scrape {
	tb.Helper()
	answer, err := http.Get(s.internal + "/metrics")
	if err != nil {
		tb.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		tb.Fatalf("status %d, %v", answer.StatusCode, err)
	}
	return families
}

// series are all values by name and labels, as PromQL writes them. Of a histogram, they are its buckets, sum and count.
func (c scrape) series() map[string]float64 {
	all := map[string]float64{}
	for name, family := range c {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			put := func(suffix string, value float64, more ...string) {
				all[name+suffix+"{"+strings.Join(slices.Concat(labels, more), ",")+"}"] = value
			}
			switch {
			case m.GetHistogram() != nil:
				h := m.GetHistogram()
				for _, b := range h.GetBucket() {
					if !math.IsInf(b.GetUpperBound(), 1) {
						put("_bucket", float64(b.GetCumulativeCount()), fmt.Sprintf("le=%q", fmt.Sprint(b.GetUpperBound())))
					}
				}
				put("_bucket", float64(h.GetSampleCount()), `le="+Inf"`)
				put("_sum", h.GetSampleSum())
				put("_count", float64(h.GetSampleCount()))
			case m.GetCounter() != nil:
				put("", m.GetCounter().GetValue())
			case m.GetGauge() != nil:
				put("", m.GetGauge().GetValue())
			case m.GetSummary() != nil: // of the Go runtime
				put("_sum", m.GetSummary().GetSampleSum())
				put("_count", float64(m.GetSummary().GetSampleCount()))
			}
		}
	}
	return all
}

// value is that of a series; NaN when there is none.
func (c scrape) value(series string) float64 {
	if value, ok := c.series()[series]; ok {
		return value
	}
	return math.NaN()
}

// has fails the test unless series have these values.
func (c scrape) has(t *testing.T, want map[string]float64) {
	t.Helper()
	got := c.series()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[name]; !ok || value != want[name] {
			t.Errorf("%s is %v (there: %t), want %v", name, value, ok, want[name])
		}
	}
}

// scripted are the metrics of servers that have all that a configuration can name, after all that can happen to a request.
func scripted(t *testing.T) map[string]scrape {
	t.Helper()
	return map[string]scrape{
		"file": afterEveryOutcome(t), "registry": afterRegistry(t), "store": afterStore(t), "tls": afterTLS(t),
	}
}

// afterEveryOutcome counts by the answers what a server must have counted by itself.
func afterEveryOutcome(t *testing.T) scrape {
	t.Helper()
	api := newUpstream(t)
	attempts := isharetest.NewAttempts(players().ca, providerID, alias)
	dir := newHome(t)
	writeParties(t, dir, append(everyone(), attempts.Parties()...)...)
	environ := []string{
		"WAYBILL_AUDIT_FILE=audit.jsonl", "WAYBILL_LISTEN_URL=https://provider.example", "WAYBILL_POLICY_ROLES=" + isharetest.RoleServiceConsumer,
		fmt.Sprintf("WAYBILL_ROUTES=[{path: /api, upstream: %q}, {path: /orders, upstream: %q, scope: orders}]", api.URL, api.URL),
	}
	s := start(t, daemon.Options{NoHistory: true, Secured: secured, Version: "v1.2.3"}, parse(t, dir, environ...))
	want := map[string]float64{}
	total := 0.0
	tally := func(a *isharetest.Answer) {
		outcome, id := "refused", a.RuleID()
		if a.Status == http.StatusOK {
			outcome, id = "issued", ""
		}
		want[fmt.Sprintf("waybill_token_requests_total{outcome=%q,rule=%q}", outcome, id)]++
		total++
	}
	seen := map[string]bool{}
	for _, attempt := range attempts.All() {
		for _, r := range attempt.Requests() {
			a, err := r.Send(s.url)
			if err != nil {
				t.Fatalf("%s: %v", attempt, err)
			}
			tally(a)
			seen[a.RuleID()] = true
		}
	}
	for _, attempt := range attempts.All() {
		if attempt.Rule != nil && !seen[attempt.Rule.ID] {
			t.Errorf("no attempt was refused by %s", attempt.Rule.ID)
		}
	}
	issued := want[`waybill_token_requests_total{outcome="issued",rule=""}`]
	if issued == 0 {
		t.Fatal("no attempt got a token")
	}
	tokens := []string{s.token(t), s.token(t), s.token(t)}
	issued, total = issued+3, total+3
	want[`waybill_token_requests_total{outcome="issued",rule=""}`] = issued
	want["waybill_access_tokens_issued_total{}"] = issued
	want[`waybill_token_request_duration_seconds_count{outcome="issued"}`] = issued
	want[`waybill_token_request_duration_seconds_count{outcome="refused"}`] = total - issued
	want[`waybill_token_stage_duration_seconds_count{stage="request"}`] = total
	want[`waybill_token_stage_duration_seconds_count{stage="issue"}`] = issued
	want[`waybill_token_stage_duration_seconds_count{stage="record"}`] = total
	if used := s.scrape(t).value("waybill_used_assertions{}"); !(used >= 3 && used <= issued) { // the earliest may be over by now
		t.Errorf("%v used assertions, after %v tokens, three of them just now", used, issued)
	}

	asked := func(path string, fields ...string) { get(t, plain(t), s.url+path, fields...) }
	good := []string{"Authorization", "Bearer " + tokens[0]}
	asked("/api/a", good...)
	asked("/api/b", good...)
	asked("/api/c")
	asked("/api", "Authorization", "Basic x")
	asked("/api", "Authorization", "Bearer x")
	asked("/orders", good...)
	asked("/who", good...)
	asked("/capabilities", good...)
	asked("/panic", good...)
	get(t, plain(t), s.internal+"/auth", good...)
	get(t, plain(t), s.internal+"/envoy/anything", good...)
	api.Close()
	asked("/api/a", good...)
	s.post(t, "/introspect", url.Values{"token": {tokens[0]}})
	for _, form := range []url.Values{{"token": {tokens[1]}}, {"party_id": {"did:ishare:EU.NL.NTRNL-10000009"}}, {"certificate": {strings.Repeat("0", 64)}}} {
		if status, _, body := s.post(t, "/revoke", form); status != http.StatusOK {
			t.Errorf("%v: status %d, %s", form, status, body)
		}
	}
	get(t, plain(t), s.internal+"/auth", "Authorization", "Bearer "+tokens[1])
	maps.Copy(want, map[string]float64{
		`waybill_guarded_requests_total{outcome="admitted",route="/api"}`:              3,
		`waybill_guarded_requests_total{outcome="no_token",route="/api"}`:              1,
		`waybill_guarded_requests_total{outcome="invalid_request",route="/api"}`:       1,
		`waybill_guarded_requests_total{outcome="invalid_token",route="/api"}`:         1,
		`waybill_guarded_requests_total{outcome="insufficient_scope",route="/orders"}`: 1,
		`waybill_guarded_requests_total{outcome="admitted",route="GET /who"}`:          1,
		`waybill_guarded_requests_total{outcome="admitted",route="/capabilities"}`:     1,
		`waybill_guarded_requests_total{outcome="admitted",route="/auth"}`:             2,
		`waybill_guarded_requests_total{outcome="invalid_token",route="/auth"}`:        1,
		`waybill_upstream_failures_total{route="/api"}`:                                1,
		`waybill_upstream_failures_total{route="/orders"}`:                             0,
		`waybill_access_tokens_checked_total{result="revoked"}`:                        1,
		`waybill_access_tokens_checked_total{result="invalid"}`:                        1,
		`waybill_access_tokens_checked_total{result="expired"}`:                        0,
		`waybill_revocations_total{what="token"}`:                                      1,
		`waybill_revocations_total{what="party"}`:                                      1,
		`waybill_revocations_total{what="certificate"}`:                                1,
		"waybill_revoked_tokens{}":                                                     3,
		"waybill_panics_total{}":                                                       1,
		"waybill_ready{}":                                                              1,
		"waybill_audit_up{}":                                                           1,
		"waybill_audit_failures_total{}":                                               0,
		"waybill_parties{}":                                                            float64(len(everyone()) + len(attempts.Parties())),
		`waybill_dependency_up{dependency="participants_file"}`:                        1,
		`waybill_config_seconds{key="policy.leeway"}`:                                  10,
		`waybill_config_number{key="routes"}`:                                          2,
		`waybill_build_info{goversion="` + runtime.Version() + `",version="v1.2.3"}`:   1,
		`waybill_certificate_expiry_timestamp_seconds{certificate="seal"}`:             float64(players().provider.Certificates[0].NotAfter.Unix()),
	})
	// A reload takes nothing away of what was counted, and one that fails is seen.
	if err := s.Reload(t.Context(), parse(t, dir, environ...)); err != nil {
		t.Fatal(err)
	}
	s.scrape(t).has(t, map[string]float64{`waybill_reloads_total{result="done"}`: 1, "waybill_last_reload_successful{}": 1})
	if err := s.Reload(t.Context(), parse(t, dir, append(environ, "WAYBILL_PARTICIPANTS_FILE=nowhere.json")...)); err == nil {
		t.Error("a reload without participants")
	}
	unread := errors.New("the file cannot be read")
	if err := s.ReloadFrom(t.Context(), func() (*config.Config, error) { return nil, unread }); !errors.Is(err, unread) {
		t.Errorf("a reload from a file that cannot be read: %v", err)
	}
	maps.Copy(want, map[string]float64{
		`waybill_reloads_total{result="done"}`: 1, `waybill_reloads_total{result="failed"}`: 2, "waybill_last_reload_successful{}": 0,
	})
	write(t, filepath.Join(dir, "parties.json"), []byte(`[{"id": "nobody"}]`))
	s.eventually(t, "a problem", func() bool {
		return s.scrape(t).value(`waybill_problem{key="participants.file"}`) == 1
	})
	want[`waybill_dependency_up{dependency="participants_file"}`] = 0
	found := s.scrape(t)
	found.has(t, want)
	if n := found.value("waybill_audit_entries_total{}"); n < total/2 {
		t.Errorf("%v entries of the audit trail, for %v requests", n, total)
	}
	return found
}

// afterRegistry is a server that asks a registry and status services, which fail in the end.
func afterRegistry(t *testing.T) scrape {
	t.Helper()
	w := newAskingWorld(t, "cache: 1s, max_stale: 24h", "revocation: require, trusted_list: true")
	s := w.server
	s.eventually(t, "the trusted list", func() bool { return s.scrape(t).value("waybill_trusted_list_in_force{}") == 1 })
	for range 2 {
		if err := s.send(t, w.known.Request(providerID)).Meets(nil); err != nil {
			t.Error(err)
		}
	}
	s.scrape(t).has(t, map[string]float64{
		`waybill_dependency_up{dependency="registry"}`:                          1,
		`waybill_dependency_up{dependency="trusted_list"}`:                      1,
		`waybill_dependency_calls_total{dependency="registry",result="failed"}`: 0,
		`waybill_dependency_calls_total{dependency="ocsp",result="failed"}`:     0,
		`waybill_cache_hits_total{cache="known_clients"}`:                       1,
		`waybill_cache_misses_total{cache="known_clients"}`:                     1,
		"waybill_trusted_list_authorities{}":                                    1,
		"waybill_trusted_list_stale{}":                                          0,
	})
	for _, dependency := range []string{"registry", "ocsp"} {
		if n := s.scrape(t).value(`waybill_dependency_calls_total{dependency="` + dependency + `",result="answered"}`); !(n >= 1) {
			t.Errorf("%s answered %v calls", dependency, n)
		}
	}
	w.status.FailOCSP(isharetest.FaultError)
	w.status.FailCRL(isharetest.FaultError)
	if err := s.send(t, w.newcomer().Request(providerID)).Meets(rule.UnavailableRevocation); err != nil {
		t.Error(err)
	}
	w.registry.Fail(isharetest.FaultOff)
	s.eventually(t, "a record that is no longer fresh", func() bool {
		s.send(t, w.known.Request(providerID))
		return s.scrape(t).value("waybill_party_records_stale_since_timestamp_seconds{}") > 0
	})
	found := s.scrape(t)
	found.has(t, map[string]float64{
		`waybill_dependency_up{dependency="registry"}`: 0,
		"waybill_revocation_undecided_total{}":         1,
	})
	return found
}

func afterStore(t *testing.T) scrape {
	t.Helper()
	redis := redistest.Start(t)
	s := replicas(t, 1, redis)[0]
	s.token(t)
	s.scrape(t).has(t, map[string]float64{`waybill_dependency_up{dependency="state"}`: 1, "waybill_ready{}": 1})
	redis.Kill()
	s.send(t, players().consumer.Request(providerID))
	s.eventually(t, "the metrics", func() bool { return s.scrape(t).value(`waybill_dependency_up{dependency="state"}`) == 0 })
	found := s.scrape(t)
	found.has(t, map[string]float64{`waybill_token_requests_total{outcome="unavailable",rule="unavailable.state"}`: 1})
	return found
}

func afterTLS(t *testing.T) scrape {
	t.Helper()
	dir := newHome(t)
	writeCertificate(t, dir)
	return start(t, daemon.Options{}, parse(t, dir, append(withTLS, "WAYBILL_TRUST_REVOCATION=prefer", "WAYBILL_AUDIT_FILE=audit.jsonl", "WAYBILL_AUDIT_REQUIRED=true")...)).scrape(t)
}

// However many names, paths, scopes and methods strangers think of, no series comes into being.
func TestStrangersMakeNoSeries(t *testing.T) {
	t.Parallel()
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, newHome(t),
		fmt.Sprintf("WAYBILL_ROUTES=[{path: /api, upstream: %q}]", newUpstream(t).URL)))
	token := s.token(t)
	ours := func() []string {
		var names []string
		for name := range s.scrape(t).series() {
			if strings.HasPrefix(name, "waybill_") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	before := ours()
	public := s.Public()
	ask := func(method, path string, fields ...string) {
		r := httptest.NewRequest(method, path, strings.NewReader("x"))
		for field := range slices.Chunk(fields, 2) {
			r.Header.Set(field[0], field[1])
		}
		public.ServeHTTP(httptest.NewRecorder(), r)
	}
	for i := range 2000 {
		id := ishare.PartyID(fmt.Sprintf("did:ishare:EU.NL.NTRNL-%08d", 20000000+i))
		form := url.Values{
			"grant_type": {"client_credentials"}, "scope": {fmt.Sprintf("iSHARE scope%d", i)}, "client_id": {string(id)},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {"e30.e30.e30"},
		}
		if i%2 == 0 {
			form.Set("scope", "iSHARE")
		}
		r := httptest.NewRequest(http.MethodPost, "/connect/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", isharetest.MediaType)
		public.ServeHTTP(httptest.NewRecorder(), r)
		ask(fmt.Sprintf("METHOD%d", i), "/connect/token")
		ask(http.MethodGet, fmt.Sprintf("/api/%d", i), "Authorization", fmt.Sprintf("Bearer %d", i))
		ask(http.MethodGet, fmt.Sprintf("/who?%d", i), "Authorization", fmt.Sprintf("Scheme%d %d", i, i))
		ask(http.MethodGet, fmt.Sprintf("/nowhere/%d", i), "Authorization", "Bearer "+token)
	}
	for i := range 100 {
		get(t, plain(t), fmt.Sprintf("%s/envoy/%d", s.internal, i), "Authorization", fmt.Sprintf("Bearer %d", i))
		get(t, plain(t), fmt.Sprintf("%s/auth?scope=s%d", s.internal, i), "Authorization", "Bearer "+token)
	}
	if after := ours(); !slices.Equal(before, after) {
		t.Errorf("%d series became %d:\n%s", len(before), len(after), strings.Join(slices.DeleteFunc(after, func(name string) bool { return slices.Contains(before, name) }), "\n"))
	}
	if len(before) > 1000 {
		t.Errorf("%d series", len(before))
	}
}

// Metrics and profiles are on the internal listener, and there only when they are asked for.
func TestWhoSeesMetricsAndProfiles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		environ            []string
		metrics, profiling int
	}{
		{nil, http.StatusOK, http.StatusNotFound},
		{[]string{"WAYBILL_METRICS=false"}, http.StatusNotFound, http.StatusNotFound},
		{[]string{"WAYBILL_PROFILING=true"}, http.StatusOK, http.StatusOK},
	} {
		s := startNewborn(t, test.environ...)
		s.token(t) // with or without anybody who counts
		for path, want := range map[string]int{
			"/metrics": test.metrics, "/debug/pprof/": test.profiling, "/debug/pprof/cmdline": test.profiling, "/debug/pprof/heap": test.profiling, "/debug/pprof/symbol": test.profiling,
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if got := status(t, method, s.internal+path); got != want {
					t.Errorf("%v: %s %s: status %d, want %d", test.environ, method, path, got, want)
				}
			}
			if got := status(t, http.MethodGet, s.url+path); got != http.StatusNotFound {
				t.Errorf("%v: %s is public: status %d", test.environ, path, got)
			}
		}
		if got := status(t, http.MethodPost, s.internal+"/metrics"); got != http.StatusNotFound && got != http.StatusMethodNotAllowed {
			t.Errorf("%v: POST: status %d", test.environ, got)
		}
	}
}

func status(t *testing.T, method, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	code, _, _ := exchange(t, plain(t), r)
	return code
}

// Whoever looks waits for nobody of whom the server waits for an answer.
func TestScrapeWhileTheRegistryHangs(t *testing.T) {
	t.Parallel()
	registry := newHesitant(t)
	s := start(t, daemon.Options{NoHistory: true}, registry.config(t, newHome(t)))
	answered := make(chan *isharetest.Answer, 1)
	go func() {
		a, _ := players().consumer.Request(providerID).Send(s.url)
		answered <- a
	}()
	<-registry.asked
	// An answer of the registry would only come after this.
	s.scrape(t).has(t, map[string]float64{`waybill_token_requests_total{outcome="unavailable",rule="unavailable.registry"}`: 0})
	registry.release()
	if a := <-answered; a == nil || a.Meets(rule.UnavailableRegistry) != nil {
		t.Errorf("%+v", a)
	}
	s.scrape(t).has(t, map[string]float64{
		`waybill_token_requests_total{outcome="unavailable",rule="unavailable.registry"}`: 1, `waybill_dependency_up{dependency="registry"}`: 0,
	})
}

// The metrics can be read while requests come and the configuration is exchanged.
func TestScrapesAmongRequestsAndReloads(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for range 20 {
				if a, err := players().consumer.Request(providerID).Send(s.url); err != nil || a.Status != http.StatusOK {
					t.Errorf("%+v, %v", a, err)
				}
			}
		})
	}
	group.Go(func() {
		for range 5 {
			if err := s.Reload(t.Context(), parse(t, dir)); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		s.scrape(t)
	}
	group.Wait()
	s.scrape(t).has(t, map[string]float64{"waybill_access_tokens_issued_total{}": 60, `waybill_reloads_total{result="done"}`: 5})
}

// text is what the server shows of metrics whose names begin so.
func (c scrape) text(t *testing.T, prefix string) string {
	t.Helper()
	var text bytes.Buffer
	for name, family := range c {
		if strings.HasPrefix(name, prefix) {
			if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
				t.Fatal(err)
			}
		}
	}
	return text.String()
}

// lint are the complaints of Prometheus about our metrics.
func lint(t *testing.T, s scrape) []string {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(s.text(t, "waybill_"))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	var complaints []string
	for _, p := range problems {
		complaints = append(complaints, p.Metric+": "+p.Text)
	}
	return complaints
}
