package explain_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

const (
	server = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")
	leeway = 10 * time.Second
)

// A pair is a token endpoint and the explanation of a server of the same configuration.
type pair struct {
	endpoint http.Handler
	options  explain.Options
	attempts *isharetest.Attempts
}

func newPair(t *testing.T) *pair {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	ca := isharetest.NewCA()
	attempts := isharetest.NewAttempts(ca, server)
	validator, err := trust.New(ca.Anchors())
	must(err)
	store, err := replay.Open(replay.Config{Leeway: leeway, NoHistory: true})
	must(err)
	t.Cleanup(func() { store.Close() })
	config := assertion.Config{
		Audience: []ishare.PartyID{server}, Trust: validator, Parties: isharetest.NewList(attempts.Parties()...), Revocation: revocation.Off{}, Replay: store,
		Roles: []string{isharetest.RoleServiceConsumer},
	}
	verifier, err := assertion.NewVerifier(config)
	must(err)
	keys, err := accesstoken.OpenKeys(t.TempDir(), nil)
	must(err)
	t.Cleanup(func() { keys.Close() })
	issuer, err := accesstoken.New(accesstoken.Config{Party: server, Keys: keys, Lifetime: time.Hour})
	must(err)
	p := &pair{attempts: attempts}
	p.endpoint, err = tokenendpoint.New(tokenendpoint.Config{Verifier: verifier, Issuer: issuer})
	must(err)
	explainer, err := assertion.NewExplainer(config, leeway)
	must(err)
	p.options = explain.Options{
		Scopes: []string{ishare.ScopeISHARE},
		Judge: func(ctx context.Context, r assertion.Request, at time.Time) (*provider.Explanation, error) {
			return &provider.Explanation{Report: explainer.ExplainRequest(ctx, r, at)}, nil
		},
	}
	return p
}

// compare sends a request, and has it explained as it stands on the line.
func (p *pair) compare(t *testing.T, about string, r *http.Request) (answer string) {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	var message strings.Builder
	fmt.Fprintf(&message, "%s %s HTTP/1.1\r\n", r.Method, r.URL.RequestURI())
	for name, values := range r.Header {
		for _, value := range values {
			fmt.Fprintf(&message, "%s: %s\r\n", name, value)
		}
	}
	message.WriteString("\r\n" + string(body))
	p.options.At = time.Now()
	in, err := explain.Read(message.String())
	if err != nil {
		t.Fatalf("%s: %v", about, err)
	}
	view, err := explain.Explain(t.Context(), in, p.options)
	if err != nil {
		t.Fatalf("%s: %v", about, err)
	}
	w := httptest.NewRecorder()
	r.RemoteAddr = "192.0.2.1:1"
	p.endpoint.ServeHTTP(w, r)
	answer = explain.Accepted
	if w.Code != http.StatusOK {
		_, description, _ := strings.Cut(w.Body.String(), `"error_description":"`)
		answer, _, _ = strings.Cut(description, ":")
	}
	got := view.Rule
	if view.Verdict != explain.Rejected {
		got = view.Verdict
	}
	if got != answer {
		t.Errorf("%s: the endpoint answers %s, and the explanation says %s: %s\n%.300s", about, answer, got, view.Sentence, message.String())
	}
	return answer
}

// For any request, the endpoint and the explanation give the same verdict: in every way of getting one wrong that is known, and
// in some thousand that are not, which change a byte.
func TestSameVerdict(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	seen := map[string]int{}
	for _, a := range p.attempts.All() {
		requests := a.Requests()
		if len(requests) > 1 || strings.ContainsAny(requests[0].Body(), "\r\n") {
			continue // one of several is about what was used before
		}
		seen[p.compare(t, a.String(), requests[0].HTTP("http://provider.example"))]++
	}
	client := p.attempts.Parties()[0]
	random := rand.New(rand.NewPCG(1, 2))
	const alphabet = "ABCxyz019-_.=&%+ {}\"'/:~é"
	for i := range 1000 {
		request := client.Request(server)
		r := request.HTTP("http://provider.example")
		body := []byte(request.Body())
		for range 1 + random.IntN(2) {
			at, by := random.IntN(len(body)), alphabet[random.IntN(len(alphabet))]
			switch random.IntN(3) {
			case 0:
				body[at] = by
			case 1:
				body = append(body[:at:at], body[at+1:]...)
			default:
				body = append(body[:at:at], append([]byte{by}, body[at:]...)...)
			}
		}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
		seen[p.compare(t, fmt.Sprintf("mutation %d", i), r)]++
	}
	rules := 0
	for _, reason := range rule.All() {
		if seen[reason.ID] > 0 {
			rules++
		}
	}
	if rules < 30 || seen[explain.Accepted] == 0 {
		t.Errorf("%d rules, and %d tokens: %v", rules, seen[explain.Accepted], seen)
	}
}
