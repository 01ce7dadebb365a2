package ishare_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/ishare"
)

// limits are three tests of a number, which note that they were reached.
func limits(reached *[]string) []ishare.Test[int] {
	atMost := func(rule *ishare.Rule, limit int) ishare.Test[int] {
		return ishare.Test[int]{Rule: rule, Check: func(n int) *ishare.Rejection {
			*reached = append(*reached, rule.ID)
			if n > limit {
				return rule.Because("%d is more than %d", n, limit)
			}
			return nil
		}}
	}
	return []ishare.Test[int]{atMost(ishare.ClaimIss, 30), atMost(ishare.ClaimSub, 10), atMost(ishare.ClaimAud, 20)}
}

func TestJudgeStopsAtTheFirstRefusal(t *testing.T) {
	for _, test := range []struct {
		subject int
		reached []string
		rule    *ishare.Rule // nil: every rule holds
	}{
		{5, []string{"claim.iss", "claim.sub", "claim.aud"}, nil},
		{15, []string{"claim.iss", "claim.sub"}, ishare.ClaimSub},
		{25, []string{"claim.iss", "claim.sub"}, ishare.ClaimSub},
		{35, []string{"claim.iss"}, ishare.ClaimIss},
	} {
		var reached []string
		err := ishare.Judge(nil, test.subject, limits(&reached))
		if diff := cmp.Diff(test.reached, reached); diff != "" {
			t.Errorf("%d reached other rules (-want +got):\n%s", test.subject, diff)
		}
		checkVerdict(t, err, test.rule)
	}
}

func TestJudgeWithATrailGoesOnAndReturnsTheFirstRefusal(t *testing.T) {
	for _, test := range []struct {
		subject int
		failing []*ishare.Rule
	}{
		{5, nil},
		{15, []*ishare.Rule{ishare.ClaimSub}},
		{25, []*ishare.Rule{ishare.ClaimSub, ishare.ClaimAud}},
		{35, []*ishare.Rule{ishare.ClaimIss, ishare.ClaimSub, ishare.ClaimAud}},
	} {
		var (
			reached []string
			trail   ishare.Trail
			failing []*ishare.Rule
			first   *ishare.Rule
		)
		err := ishare.Judge(&trail, test.subject, limits(&reached))
		if len(reached) != 3 {
			t.Errorf("%d reached only %q", test.subject, reached)
		}
		for _, rule := range []*ishare.Rule{ishare.ClaimIss, ishare.ClaimSub, ishare.ClaimAud} {
			rejection, reached := trail.Outcome(rule)
			if !reached {
				t.Errorf("%d: the trail does not know %s", test.subject, rule.ID)
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
func checkVerdict(t *testing.T, err error, want *ishare.Rule) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("Judge = %v, want nil", err)
		}
		return
	}
	rejection, ok := errors.AsType[*ishare.Rejection](err)
	if !ok || rejection.Rule != want {
		t.Errorf("Judge = %v, want a rejection by %s", err, want.ID)
	}
}

func TestJudgeWithoutTests(t *testing.T) {
	if err := ishare.Judge(nil, 1, nil); err != nil {
		t.Errorf("Judge = %v", err)
	}
}

func TestTrail(t *testing.T) {
	var nobody *ishare.Trail
	nobody.Note(ishare.ClaimIss, nil) // serving: nothing is remembered
	if _, reached := nobody.Outcome(ishare.ClaimIss); reached {
		t.Error("a nil trail remembers")
	}

	var trail ishare.Trail
	if _, reached := trail.Outcome(ishare.ClaimIss); reached {
		t.Error("a new trail knows a rule")
	}
	refusal := ishare.ClaimSub.Reject().From(fmt.Errorf("sub is empty"))
	trail.Note(ishare.ClaimIss, nil)
	trail.Note(ishare.ClaimSub, refusal)
	if rejection, reached := trail.Outcome(ishare.ClaimIss); !reached || rejection != nil {
		t.Errorf("claim.iss came out as %v, %v", rejection, reached)
	}
	if rejection, reached := trail.Outcome(ishare.ClaimSub); !reached || rejection != refusal {
		t.Errorf("claim.sub came out as %v, %v", rejection, reached)
	}
	if _, reached := trail.Outcome(ishare.ClaimAud); reached {
		t.Error("the trail knows a rule that was not reached")
	}
}
