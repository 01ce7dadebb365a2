package rule_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/rule"
)

// limits are three tests of a number, which note that they were reached.
func limits(reached *[]string) []rule.Check[int] {
	atMost := func(reason *rule.Rule, limit int) rule.Check[int] {
		return rule.Check[int]{Rule: reason, Apply: func(n int) *rule.Rejection {
			*reached = append(*reached, reason.ID)
			if n > limit {
				return reason.Because("%d is more than %d", n, limit)
			}
			return nil
		}}
	}
	return []rule.Check[int]{atMost(rule.ClaimIss, 30), atMost(rule.ClaimSub, 10), atMost(rule.ClaimAud, 20)}
}

func TestEvaluateStopsAtTheFirstRefusal(t *testing.T) {
	for _, test := range []struct {
		subject int
		reached []string
		rule    *rule.Rule // nil: every rule holds
	}{
		{5, []string{"claim.iss", "claim.sub", "claim.aud"}, nil},
		{15, []string{"claim.iss", "claim.sub"}, rule.ClaimSub},
		{25, []string{"claim.iss", "claim.sub"}, rule.ClaimSub},
		{35, []string{"claim.iss"}, rule.ClaimIss},
	} {
		var reached []string
		err := rule.Evaluate(nil, test.subject, limits(&reached))
		if diff := cmp.Diff(test.reached, reached); diff != "" {
			t.Errorf("%d reached other rules (-want +got):\n%s", test.subject, diff)
		}
		checkVerdict(t, err, test.rule)
	}
}

func TestEvaluateWithATraceGoesOnAndReturnsTheFirstRefusal(t *testing.T) {
	for _, test := range []struct {
		subject int
		failing []*rule.Rule
	}{
		{5, nil},
		{15, []*rule.Rule{rule.ClaimSub}},
		{25, []*rule.Rule{rule.ClaimSub, rule.ClaimAud}},
		{35, []*rule.Rule{rule.ClaimIss, rule.ClaimSub, rule.ClaimAud}},
	} {
		var (
			reached []string
			trace   rule.Trace
			failing []*rule.Rule
			first   *rule.Rule
		)
		err := rule.Evaluate(&trace, test.subject, limits(&reached))
		if len(reached) != 3 {
			t.Errorf("%d reached only %q", test.subject, reached)
		}
		for _, reason := range []*rule.Rule{rule.ClaimIss, rule.ClaimSub, rule.ClaimAud} {
			rejection, reached := trace.Outcome(reason)
			if !reached {
				t.Errorf("%d: the trace does not know %s", test.subject, reason.ID)
			}
			if rejection != nil {
				failing = append(failing, rejection.Rule)
			}
		}
		if diff := cmp.Diff(test.failing, failing); diff != "" {
			t.Errorf("%d failed by other rules (-want +got):\n%s", test.subject, diff)
		}
		if len(test.failing) > 0 {
			first = test.failing[0]
		}
		checkVerdict(t, err, first)
	}
}

// checkVerdict expects a rejection by the rule, or an error that is nil, and not an
// interface around a nil rejection.
func checkVerdict(t *testing.T, err error, want *rule.Rule) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("Judge = %v, want nil", err)
		}
		return
	}
	rejection, ok := errors.AsType[*rule.Rejection](err)
	if !ok || rejection.Rule != want {
		t.Errorf("Judge = %v, want a rejection by %s", err, want.ID)
	}
}

func TestEvaluateWithoutChecks(t *testing.T) {
	if err := rule.Evaluate(nil, 1, nil); err != nil {
		t.Errorf("Judge = %v", err)
	}
}

func TestTrace(t *testing.T) {
	var nobody *rule.Trace
	nobody.Record(rule.ClaimIss, nil) // serving: nothing is remembered
	if _, reached := nobody.Outcome(rule.ClaimIss); reached {
		t.Error("a nil trace remembers")
	}

	var trace rule.Trace
	if _, reached := trace.Outcome(rule.ClaimIss); reached {
		t.Error("a new trace knows a rule")
	}
	refusal := rule.ClaimSub.Reject().From(fmt.Errorf("sub is empty"))
	trace.Record(rule.ClaimIss, nil)
	trace.Record(rule.ClaimSub, refusal)
	if rejection, reached := trace.Outcome(rule.ClaimIss); !reached || rejection != nil {
		t.Errorf("claim.iss came out as %v, %v", rejection, reached)
	}
	if rejection, reached := trace.Outcome(rule.ClaimSub); !reached || rejection != refusal {
		t.Errorf("claim.sub came out as %v, %v", rejection, reached)
	}
	if _, reached := trace.Outcome(rule.ClaimAud); reached {
		t.Error("the trace knows a rule that was not reached")
	}
}
