package assertion

import "github.com/waybill-token/waybill/rule"

// Remembered is the number of headers in the cache of proven headers.
func (v *Verifier) Remembered() int { return v.headers.EstimatedSize() }

// A Stage is what a page tells of a stage.
type Stage struct {
	Name      string
	Rules     []*rule.Rule
	PerHeader bool
}

// Walk lists the stages of both halves, in their order.
func Walk() (authenticating, admitting []Stage) {
	list := func(stages []stage) (all []Stage) {
		for _, s := range stages {
			all = append(all, Stage{s.name, s.rules, s.perHeader})
		}
		return all
	}
	return list(authentication), list(admission)
}
