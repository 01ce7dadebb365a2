package rule

// A Check applies one rule to an input that was parsed before: nil means that the rule holds. A check judges and
// never writes, so the order of checks decides which rejection comes first and nothing else.
type Check[T any] struct {
	Rule  *Rule
	Apply func(input T) *Rejection
}

// Evaluate applies checks in order and returns the first rejection, or nil when every rule holds.
//
// Serving passes a nil trace, and Evaluate ends at the first rejection. Explaining
// passes a trace: all checks are applied and recorded. The result is still the
// first rejection, so that an input which broke a rule cannot pass as accepted.
func Evaluate[T any](trace *Trace, input T, checks []Check[T]) error {
	var first *Rejection
	for _, check := range checks {
		rejection := check.Apply(input)
		trace.Record(check.Rule, rejection)
		if rejection == nil {
			continue
		}
		if trace == nil {
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

// A Trace records the outcome of each rule, for a person who wants to know them all. A nil
// trace records nothing and is what serving uses.
type Trace struct {
	outcomes map[*Rule]*Rejection // nil rejection: the rule holds
}

// Record records that the rule was applied, and by what rejection it failed or, for nil, that it holds.
func (t *Trace) Record(rule *Rule, rejection *Rejection) {
	if t == nil {
		return
	}
	if t.outcomes == nil {
		t.outcomes = map[*Rule]*Rejection{}
	}
	t.outcomes[rule] = rejection
}

// Outcome tells whether the rule was applied, and by what rejection it failed if it did.
func (t *Trace) Outcome(rule *Rule) (rejection *Rejection, applied bool) {
	if t == nil {
		return nil, false
	}
	rejection, applied = t.outcomes[rule]
	return rejection, applied
}
