package explain

import (
	"cmp"
	"slices"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/rule"
)

// Unjudged is the view of a request of which nothing is known.
func Unjudged() *View {
	v := &View{Verdict: Unknown}
	for _, r := range rule.All() {
		v.Rules = append(v.Rules, Rule{ID: r.ID, Title: r.Title, Outcome: assertion.Skipped})
	}
	return v
}

// Decided makes the verdict that of a server, at a time. It stopped at the first rule that fails, so those before that hold; of
// those behind it is shown which fail too, as far as they were judged. The reason is nil where it gave a token. Without a
// hint there is that of the rule.
func (v *View) Decided(at time.Time, reason *rule.Rule, sentence, hint string) {
	v.Verdict, v.Rule, v.Sentence, v.Hint, v.Time = Accepted, "", "", "", "judged by the server"
	if !at.IsZero() {
		v.JudgedAt = at.UTC()
		v.Time += " at " + stamp(at)
	}
	last := len(v.Rules)
	if reason != nil {
		last = slices.Index(rule.All(), reason)
		v.Verdict, v.Rule, v.Sentence = Rejected, reason.ID, Printable(sentence)
		v.Hint = Printable(cmp.Or(hint, reason.Hint))
		if last < 0 {
			v.Verdict = Undecided
		}
	}
	for i := range v.Rules {
		switch r := &v.Rules[i]; {
		case i < last:
			*r = Rule{ID: r.ID, Title: r.Title, Outcome: assertion.Pass}
		case i == last:
			if hint == "" && r.Hint != "" { // which may fit the case better
				v.Hint = r.Hint
			}
			r.Outcome, r.Detail, r.Hint, r.Spec = assertion.Fail, v.Sentence, v.Hint, reason.Spec
		case last >= 0 && r.Outcome != assertion.Fail: // nobody has asked
			r.Outcome, r.Detail = assertion.Skipped, ""
		}
	}
}
