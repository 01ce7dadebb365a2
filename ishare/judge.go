package ishare

// A Test applies one rule to a subject: nil means that the rule holds.
type Test[T any] struct {
	Rule  *Rule
	Check func(subject T) *Rejection
}

// Judge applies tests in order and returns the first rejection, or nil when
// every rule holds.
//
// Serving passes a nil trail, and the walk ends at the first refusal. Explaining
// passes a trail: the walk goes on to tell of every rule, and still returns the
// first rejection, so that a subject which failed cannot come out as judged well.
func Judge[T any](trail *Trail, subject T, tests []Test[T]) error {
	var first *Rejection
	for _, test := range tests {
		rejection := test.Check(subject)
		trail.Note(test.Rule, rejection)
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

// A Trail remembers the outcome of each rule for a person who wants to know them
// all. A nil trail remembers nothing and is what serving uses.
type Trail struct {
	outcomes map[*Rule]*Rejection // nil rejection: the rule holds
}

// Note remembers that the rule was reached, and by what rejection it failed or,
// for nil, that it holds.
func (t *Trail) Note(rule *Rule, rejection *Rejection) {
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
func (t *Trail) Outcome(rule *Rule) (rejection *Rejection, reached bool) {
	if t == nil {
		return nil, false
	}
	rejection, reached = t.outcomes[rule]
	return rejection, reached
}
