package tokenendpoint_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// A watched is an endpoint that has its decisions recorded and told.
type watched struct {
	*endpoint

	answer   *httptest.ResponseRecorder
	cannot   error // why nothing can be recorded
	recorded []tokenendpoint.Decision
	decided  []tokenendpoint.Decision
	stages   []string
}

func watch(t *testing.T) *watched {
	t.Helper()
	e := &watched{endpoint: newEndpoint(t)}
	observe := func(_ context.Context, stage string, began time.Time, err error) {
		if began.IsZero() {
			t.Errorf("%s has no beginning", stage)
		}
		if err != nil {
			stage += " failed"
		}
		e.stages = append(e.stages, stage)
	}
	verifier, err := assertion.NewVerifier(e.verifierConfig(t, observe))
	check(t, err)
	e.Handler, err = tokenendpoint.New(tokenendpoint.Config{
		Verifier: verifier, Issuer: e.issuer, Observe: observe,
		Record: func(_ context.Context, d *tokenendpoint.Decision) error {
			if e.answer != nil && (e.answer.Body.Len() > 0 || len(e.answer.Header()) > 0) {
				t.Error("something was answered before it was recorded")
			}
			e.recorded = append(e.recorded, *d)
			return e.cannot
		},
		Decided: func(_ context.Context, d *tokenendpoint.Decision) { e.decided = append(e.decided, *d) },
	})
	check(t, err)
	return e
}

// ask posts an assertion to an audience, and returns what was recorded and decided.
func (e *watched) ask(t *testing.T, audience ishare.PartyID) (recorded, decided tokenendpoint.Decision) {
	t.Helper()
	e.recorded, e.decided, e.stages = nil, nil, nil
	e.answer = httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, tokenendpoint.Path, strings.NewReader(e.form(e.client.Assertion(audience)).Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	e.ServeHTTP(e.answer, r)
	if len(e.recorded) != 1 || len(e.decided) != 1 {
		t.Fatalf("recorded %d times, decided %d times", len(e.recorded), len(e.decided))
	}
	return e.recorded[0], e.decided[0]
}

func TestDecisionsAreRecordedFirst(t *testing.T) {
	e := watch(t)
	recorded, decided := e.ask(t, provider)
	if recorded.Granted == nil || recorded.Outcome != tokenendpoint.Issued || recorded.Rule != nil || !recorded.Seen.Signed ||
		recorded.Correlation != e.answer.Header().Get("X-Request-Id") || decided.Granted != recorded.Granted {
		t.Errorf("issued: %+v, then %+v", recorded, decided)
	}
	recorded, _ = e.ask(t, "did:ishare:EU.NL.NTRNL-10000009")
	if recorded.Granted != nil || recorded.Outcome != tokenendpoint.Refused || recorded.Rule != rule.ClaimAud || recorded.Seen.Signed {
		t.Errorf("refused: %+v", recorded)
	}
}

// A token that cannot be recorded is not given. A refusal that cannot is told all the same.
func TestWhatCannotBeRecorded(t *testing.T) {
	e := watch(t)
	e.cannot = errors.New("the disk is full")
	recorded, decided := e.ask(t, provider)
	if got := decode(t, e.answer); e.answer.Code != http.StatusServiceUnavailable || !strings.HasPrefix(got.Description, "unavailable.state: the server cannot keep a record") ||
		strings.Contains(e.answer.Body.String(), "disk") || strings.Contains(e.answer.Body.String(), "access_token") || e.answer.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", e.answer.Code, e.answer.Body)
	}
	if recorded.Outcome != tokenendpoint.Issued || decided.Outcome != tokenendpoint.Unavailable || decided.Granted != nil {
		t.Errorf("%+v, then %+v", recorded, decided)
	}
	e.ask(t, "did:ishare:EU.NL.NTRNL-10000009")
	if got := decode(t, e.answer); e.answer.Code != http.StatusBadRequest || !strings.HasPrefix(got.Description, "claim.aud: ") {
		t.Errorf("%d %s", e.answer.Code, e.answer.Body)
	}
}

// Each stage is told of in its order, and none behind one that fails.
func TestStagesAreObserved(t *testing.T) {
	e := watch(t)
	e.ask(t, provider)
	want := slices.DeleteFunc(tokenendpoint.Stages(), func(stage string) bool { return stage == assertion.StageWait }) // there is no gate
	if !slices.Equal(e.stages, want) {
		t.Errorf("a first assertion: %q, want %q", e.stages, want)
	}
	e.ask(t, provider)
	if slices.Contains(e.stages, "validateChain") || !slices.Contains(e.stages, "verifySignature") {
		t.Errorf("a known client: %q", e.stages)
	}
	e.ask(t, "did:ishare:EU.NL.NTRNL-10000009")
	if last := len(e.stages) - 2; last < 0 || e.stages[last] != "checkClaims failed" || e.stages[last+1] != tokenendpoint.StageRecord {
		t.Errorf("another audience: %q", e.stages)
	}
}
