package rule

// A Check applies one rule to a subject: nil means that the rule holds.
type Check[T any] struct {
	Rule  *Rule
	Apply func(subject T) *Rejection
}

// Evaluate applies checks in order and returns the first rejection, or nil when
// every rule holds.
//
// Serving passes a nil trail, and the walk ends at the first refusal. Explaining
// passes a trail: the walk goes on to tell of every rule, and still returns the
// first rejection, so that a subject which failed cannot come out as judged well.
func Evaluate[T any](trail *Trace, subject T, tests []Check[T]) error {
	var first *Rejection
	for _, test := range tests {
		rejection := test.Apply(subject)
		trail.Record(test.Rule, rejection)
		if rejection == nil {
			continue
		}
		if trail == nil {
			return rejection
		}
		if first == nil {
			first = rejection
		}
	}
	if first != nil {
		return first
	}
	return nil
}

// A Trace remembers the outcome of each rule for a person who wants to know them
// all. A nil trail remembers nothing and is what serving uses.
type Trace struct {
	outcomes map[*Rule]*Rejection // nil rejection: the rule holds
}

// Record remembers that the rule was reached, and by what rejection it failed or,
// for nil, that it holds.
func (t *Trace) Record(rule *Rule, rejection *Rejection) {
	if t == nil {
		return
	}
	if t.outcomes == nil {
		t.outcomes = map[*Rule]*Rejection{}
	}
	t.outcomes[rule] = rejection
}

// Outcome tells whether the rule was reached, and by what rejection it failed if
// it did.
func (t *Trace) Outcome(rule *Rule) (rejection *Rejection, reached bool) {
	if t == nil {
		return nil, false
	}
	rejection, reached = t.outcomes[rule]
	return rejection, reached
}
