package ishare

import "errors"

// ErrUnknownParty is wrapped by a source of party records that was asked and
// knows no such participant: a definite answer, unlike a source out of reach.
var ErrUnknownParty = errors.New("no such participant")
