package guard_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
)

// Each guard tells of each request, what became of it and where it came to.
func TestDecisionsAreTold(t *testing.T) {
	h := guardtest.NewIssuer(t)
	for _, way := range guardtest.Ways() {
		var told []guard.Decision
		watched := func(c guard.Checker) *guard.LoggingChecker {
			checker := guard.LogOutages(c, nil)
			checker.Decided = func(r *http.Request, d guard.Decision) {
				if r == nil || d.Began.IsZero() {
					t.Errorf("%s: %+v", way.Name, d)
				}
				told = append(told, d)
			}
			return checker
		}
		handler := way.Guard(t, watched(h), nil, "orders")
		guardtest.Get(handler, "/orders", "")
		guardtest.Get(handler, "/orders", "x")
		guardtest.Get(handler, "/orders", h.Token(t, "iSHARE"))
		guardtest.Get(handler, "/orders", h.Token(t, "iSHARE", "orders"))
		guardtest.Get(way.Guard(t, watched(guardtest.Undecided), nil), "/orders", "x")
		var outcomes []string
		for _, d := range told {
			outcomes = append(outcomes, d.Outcome)
			if !slices.Contains(guard.Outcomes(), d.Outcome) || (d.Claims != nil) != (d.Outcome == "admitted") {
				t.Errorf("%s: %+v", way.Name, d)
			}
			if d.Route != told[0].Route {
				t.Errorf("%s: routes %q and %q", way.Name, d.Route, told[0].Route)
			}
		}
		if want := []string{"no_token", "invalid_token", "insufficient_scope", "admitted", "unavailable"}; !slices.Equal(outcomes, want) {
			t.Errorf("%s: %q, want %q", way.Name, outcomes, want)
		}
	}
}
