package ishare

import "errors"

// ErrUnknownParty is wrapped by a source of party records that was asked and
// knows no such participant: a definite answer, unlike a source out of reach.
var ErrUnknownParty = errors.New("no such participant")

// IsUnknownParty reports whether an error of a source is the definite answer of
// [ErrUnknownParty]. It is not when an [Outage] has a part in it: then nobody knows.
func IsUnknownParty(err error) bool {
	_, outage := Classify(err)
	return outage == nil && errors.Is(err, ErrUnknownParty)
}
