package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/metrics"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// shown are the lines that whoever looks gets.
func shown(tb testing.TB, m *metrics.Metrics) string {
	tb.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		tb.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return "\n" + w.Body.String()
}

func expect(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, " ")
			at := max(0, strings.Index(text, "\n"+name))
			t.Errorf("want %q, got %.120q", line, text[at:])
		}
	}
}

// Whatever a request can come to is counted, and was there with zero before.
func TestEveryDecisionIsCounted(t *testing.T) {
	t.Parallel()
	m := metrics.New("v1", "go1")
	events := m.Events()
	before := shown(t, m)
	var lines []string
	decide := func(outcome tokenendpoint.Outcome, r *rule.Rule, granted *accesstoken.Claims) {
		id := ""
		if r != nil {
			id = r.ID
		}
		series := fmt.Sprintf("waybill_token_requests_total{outcome=%q,rule=%q} ", outcome, id)
		expect(t, before, series+"0")
		lines = append(lines, series+"1")
		events.Decided(t.Context(), &tokenendpoint.Decision{Outcome: outcome, Rule: r, Granted: granted, Duration: 20 * time.Millisecond})
	}
	decide(tokenendpoint.Issued, nil, &accesstoken.Claims{})
	for _, r := range rule.All() {
		decide(tokenendpoint.Refused, r, nil)
	}
	for _, r := range rule.Outages() {
		if r == rule.Internal {
			decide(tokenendpoint.Failed, r, nil)
			continue
		}
		decide(tokenendpoint.Unavailable, r, nil)
		decide(tokenendpoint.Abandoned, r, nil)
	}
	for _, stage := range tokenendpoint.Stages() {
		events.Stage(t.Context(), stage, time.Now(), nil)
		lines = append(lines, fmt.Sprintf("waybill_token_stage_duration_seconds_count{stage=%q} 1", stage))
	}
	events.Stage(t.Context(), "a stage that nobody knows", time.Now(), nil)
	expect(t, shown(t, m), append(lines,
		"waybill_access_tokens_issued_total 1",
		fmt.Sprintf(`waybill_token_request_duration_seconds_bucket{outcome="refused",le="0.025"} %d`, len(rule.All())),
		`waybill_token_request_duration_seconds_bucket{outcome="refused",le="0.01"} 0`,
	)...)
	if after := shown(t, m); strings.Contains(after, "nobody knows") {
		t.Error("a stage that nobody knows is shown")
	}
}

// What became of tokens is told apart, also by errors that wrap others.
func TestTokens(t *testing.T) {
	t.Parallel()
	m := metrics.New("v1", "go1")
	events := m.Events()
	m.Routes("/orders")
	for _, err := range []error{
		nil, fmt.Errorf("at noon: %w", accesstoken.ErrExpired), accesstoken.ErrRevoked, accesstoken.ErrInvalid,
		errors.New("the store is out of reach"), context.Canceled,
	} {
		events.Checked(err)
	}
	events.Revoked(accesstoken.TokenRevocation{TokenID: "a"})
	events.Revoked(accesstoken.TokenRevocation{Party: "b"})
	events.Revoked(accesstoken.TokenRevocation{Thumbprint: "c"})
	events.UpstreamFailed("/orders")
	for _, outcome := range guard.Outcomes() {
		expect(t, shown(t, m), fmt.Sprintf(`waybill_guarded_requests_total{outcome=%q,route="/orders"} 0`, outcome))
		events.Guarded(nil, guard.Decision{Route: "/orders", Outcome: outcome})
		expect(t, shown(t, m), fmt.Sprintf(`waybill_guarded_requests_total{outcome=%q,route="/orders"} 1`, outcome))
	}
	m.Panicked()
	m.Reloaded(errors.New("no"))
	expect(t, shown(t, m), "waybill_last_reload_successful 0")
	m.Reloaded(nil)
	expect(t, shown(t, m),
		`waybill_access_tokens_checked_total{result="good"} 1`, `waybill_access_tokens_checked_total{result="expired"} 1`,
		`waybill_access_tokens_checked_total{result="revoked"} 1`, `waybill_access_tokens_checked_total{result="invalid"} 1`,
		`waybill_access_tokens_checked_total{result="unavailable"} 2`,
		`waybill_revocations_total{what="token"} 1`, `waybill_revocations_total{what="party"} 1`, `waybill_revocations_total{what="certificate"} 1`,
		`waybill_upstream_failures_total{route="/orders"} 1`, "waybill_panics_total 1", "waybill_last_reload_successful 1",
		`waybill_reloads_total{result="done"} 1`, `waybill_reloads_total{result="failed"} 1`, `waybill_build_info{goversion="go1",version="v1"} 1`,
	)
}

// Many count at once while somebody looks.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	m := metrics.New("v1", "go1")
	events := m.Events()
	const many, each = 8, 500
	var group sync.WaitGroup
	for range many {
		group.Go(func() {
			for range each {
				tokenRequest(t.Context(), events)
				guardedRequest(events)
			}
		})
	}
	for range 10 {
		shown(t, m)
	}
	group.Wait()
	expect(t, shown(t, m), fmt.Sprintf("waybill_access_tokens_issued_total %d", many*each),
		fmt.Sprintf(`waybill_guarded_requests_total{outcome="admitted",route="/auth"} %d`, many*each),
		fmt.Sprintf(`waybill_token_stage_duration_seconds_count{stage="issue"} %d`, many*each))
}

var stages = tokenendpoint.Stages()

// tokenRequest tells what a provider tells of one.
func tokenRequest(ctx context.Context, events provider.Events) {
	for _, stage := range stages {
		events.Stage(ctx, stage, time.Now(), nil)
	}
	events.Decided(ctx, &tokenendpoint.Decision{Outcome: tokenendpoint.Issued, Granted: &accesstoken.Claims{}, Duration: time.Millisecond})
}

func guardedRequest(events provider.Events) {
	events.Checked(nil)
	events.Guarded(nil, guard.Decision{Route: "/auth", Outcome: "admitted", Began: time.Now()})
}

// What metrics cost a token request, which takes some 300 µs, with its stages and their looks at the clock.
func BenchmarkTokenRequest(b *testing.B) {
	events := metrics.New("v1", "go1").Events()
	b.ReportAllocs()
	for b.Loop() {
		tokenRequest(b.Context(), events)
	}
}

// What metrics cost a guarded request: the check alone takes some 3 µs, an HTTP request ten times as much.
func BenchmarkGuardedRequest(b *testing.B) {
	events := metrics.New("v1", "go1").Events()
	b.ReportAllocs()
	for b.Loop() {
		guardedRequest(events)
	}
}

// What a look costs.
func BenchmarkScrape(b *testing.B) {
	m := metrics.New("v1", "go1")
	b.ReportAllocs()
	for b.Loop() {
		shown(b, m)
	}
}
