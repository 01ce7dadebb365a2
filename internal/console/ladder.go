package console

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/rule"
)

// What a ladder says of a rule.
const (
	holds      = "holds"
	fails      = "fails"
	failsToo   = "fails too"
	notReached = "not reached"
	notKnown   = "not known"
)

// A ladder is what became of every rule, in their order.
type ladder struct {
	Verdict  string // accepted, refused, undecided
	Headline string
	Steps    []step
}

// A step is some rules of which the same is to be said in a line, or one that fails.
type step struct {
	Outcome  string
	Rules    []*rule.Rule // one, if it fails
	Sentence string       // of a rule that fails
	Hint     string       // how to mend it
	Sent     string       // what was sent of what it is about
}

// A decided request is one that a server has answered; the rule is nil when it has given a token.
type decided struct {
	rule     *rule.Rule
	sentence string
}

// judge says of an assertion what the provider would at a time. It is the one place where pages have assertions judged.
func (c *console) judge(ctx context.Context, request assertion.Request, at time.Time) (*provider.Explanation, error) {
	return c.Sandbox.Explain(ctx, request, at)
}

// decidedLadder is that of a request that was decided. The server stops at the first rule that fails, so those before it held;
// of those behind it the report, which was made afterwards, knows which fail too. The report may be nil.
func decidedLadder(d decided, report *provider.Explanation, sent map[string]string) ladder {
	findings := findingsOf(report)
	l := ladder{Verdict: "accepted", Headline: "The server gave a token: every rule holds."}
	at := slices.Index(rule.All(), d.rule)
	switch {
	case d.rule != nil && at < 0:
		l.Verdict = "undecided"
		l.Headline = "The server could not decide: " + d.rule.ID + ", " + d.sentence + "."
	case d.rule != nil:
		l.Verdict = "refused"
		l.Headline = "The server refused: " + d.rule.ID + "."
	}
	for i, r := range rule.All() {
		f := findings[r]
		s := step{Outcome: holds, Rules: []*rule.Rule{r}}
		switch {
		case d.rule == nil || at >= 0 && i < at:
		case i == at:
			s.Outcome, s.Sentence, s.Hint, s.Sent = fails, d.sentence, r.Hint, sent[r.ID]
			if f.Rejection != nil {
				s.Hint = f.Rejection.Hint
			}
		default:
			s = judged(f, r, sent)
			if s.Outcome == fails {
				s.Outcome = failsToo
			}
			if s.Outcome == holds && at >= 0 { // nobody has asked
				s.Outcome = notReached
			}
		}
		l.add(s)
	}
	return l
}

// judgedLadder is that of an assertion that nobody was sent.
func judgedLadder(report *provider.Explanation, sent map[string]string) ladder {
	l := ladder{Verdict: "accepted", Headline: "Every rule that can be applied to an assertion alone holds."}
	_, outage := rule.Classify(report.Outage)
	switch {
	case outage != nil:
		l.Verdict, l.Headline = "undecided", "This cannot be decided: "+outage.Rule.ID+", "+outage.Rule.Sentence+"."
	case report.Rejection != nil:
		l.Verdict, l.Headline = "refused", "A server refuses it: "+report.Rejection.Rule.ID+"."
	case !report.Accepted:
		l.Verdict, l.Headline = "undecided", "This cannot be decided."
	}
	findings := findingsOf(report)
	for _, r := range rule.All() {
		l.add(judged(findings[r], r, sent))
	}
	return l
}

func findingsOf(report *provider.Explanation) map[*rule.Rule]assertion.Finding {
	findings := map[*rule.Rule]assertion.Finding{}
	if report != nil && report.Report != nil {
		for _, f := range report.Findings {
			findings[f.Rule] = f
		}
	}
	return findings
}

// judged is the step of a rule by its finding.
func judged(f assertion.Finding, r *rule.Rule, sent map[string]string) step {
	s := step{Outcome: notReached, Rules: []*rule.Rule{r}}
	switch {
	case f.Rejection != nil:
		s.Outcome, s.Sentence, s.Hint, s.Sent = fails, f.Rejection.Sentence, f.Rejection.Hint, sent[r.ID]
	case f.Outcome == assertion.Pass:
		s.Outcome = holds
	case f.Outcome != assertion.Skipped && f.Outcome != "":
		s.Outcome = notKnown
	}
	return s
}

// add folds rules of which the same is to be said into one step, so that those which fail are seen.
func (l *ladder) add(s step) {
	if n := len(l.Steps); n > 0 && !s.Failed() && l.Steps[n-1].Outcome == s.Outcome {
		l.Steps[n-1].Rules = append(l.Steps[n-1].Rules, s.Rules...)
		return
	}
	l.Steps = append(l.Steps, s)
}

// Failed reports whether a step is about a rule that fails.
func (s step) Failed() bool { return s.Outcome == fails || s.Outcome == failsToo }

// Class is how the step looks.
func (s step) Class() string { return strings.ReplaceAll(s.Outcome, " ", "-") }

// Count says how many rules the step stands for.
func (s step) Count() string {
	if len(s.Rules) == 1 {
		return "1 rule"
	}
	return fmt.Sprintf("%d rules", len(s.Rules))
}

// asWords is a time in words, beside another.
func asWords(t, now time.Time) string {
	d := t.Sub(now).Round(time.Second)
	switch {
	case d > 0:
		return t.UTC().Format(time.RFC3339) + ", in " + d.String()
	case d < 0:
		return t.UTC().Format(time.RFC3339) + ", " + (-d).String() + " ago"
	}
	return t.UTC().Format(time.RFC3339) + ", now"
}
