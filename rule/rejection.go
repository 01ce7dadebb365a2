package rule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// A Rejection says that a request was refused and that the caller is the one who can mend it. Its rule, sentence and
// hint may be shown to anyone; Cause is for the log only and may be nil.
type Rejection struct {
	Rule     *Rule
	Sentence string // what is wrong in this case
	Hint     string // how to mend it
	Cause    error
}

// Reject refuses by this rule, with its own sentence.
func (r *Rule) Reject() *Rejection {
	return &Rejection{Rule: r, Sentence: r.Sentence, Hint: r.Hint}
}

// Because refuses by this rule with a sentence that fits the case better than the rule's own. The sentence is shown to
// the caller: what it quotes of the request must be short.
func (r *Rule) Because(format string, args ...any) *Rejection {
	return &Rejection{Rule: r, Sentence: fmt.Sprintf(format, args...), Hint: r.Hint}
}

// WithHint replaces the rule's own hint by one that mends this case, and returns the rejection.
func (r *Rejection) WithHint(format string, args ...any) *Rejection {
	r.Hint = fmt.Sprintf(format, args...)
	return r
}

// From sets the private cause and returns the rejection.
func (r *Rejection) From(cause error) *Rejection {
	r.Cause = cause
	return r
}

// Error tells everything, the private cause included: for the log.
func (r *Rejection) Error() string {
	if r.Cause == nil {
		return r.Description()
	}
	return r.Description() + " (" + r.Cause.Error() + ")"
}

// Unwrap returns the private cause.
func (r *Rejection) Unwrap() error { return r.Cause }

// Description is the error_description of the OAuth error: the rule's id, a
// colon and the sentence, in the alphabet of RFC 6749 section 5.2.
func (r *Rejection) Description() string {
	return describe(r.Rule, r.Sentence)
}

// Described finds what an error_description says: the rule or the outage by its id, and the sentence behind the colon. The
// rule is nil when none is named that is known here.
func Described(description string) (*Rule, string) {
	id, sentence, _ := strings.Cut(description, ":")
	for _, r := range slices.Concat(All(), Outages()) {
		if r.ID == id {
			return r, strings.TrimPrefix(sentence, " ")
		}
	}
	return nil, ""
}

// An Outage says that the server could not decide, through no fault of the caller: something it depends on is out of
// reach, or it is overloaded. No token is given, and the caller may try again after RetryAfter.
//
// An outage does not unwrap to its cause. That may hold a [Rejection] or [ishare.ErrUnknownParty], which a server that
// we depend on said about us, or which was a guess; whoever looks for one with errors.As or errors.Is would take it for
// an answer about the caller. For the log and for an operator, Cause is there.
type Outage struct {
	Rule       *Rule  // one of [Outages]
	Sentence   string // in place of that of the rule. Optional
	RetryAfter time.Duration
	Cause      error // for the log only
}

// Error tells everything, the private cause included: for the log.
func (o *Outage) Error() string {
	if o.Cause == nil {
		return o.Description()
	}
	return o.Description() + " (" + o.Cause.Error() + ")"
}

// Description is the error_description of the OAuth error.
func (o *Outage) Description() string {
	return describe(o.Rule, cmp.Or(o.Sentence, o.Rule.Sentence))
}

// Classify says what an error means to the caller, wherever errors become answers: at most one of the two is not nil.
// When both are, the error is the server's own, and its words are not for the caller.
//
// An outage is looked for first, however the two are joined or nested. When
// something that the decision rests on was out of reach, a refusal is a guess.
func Classify(err error) (*Rejection, *Outage) {
	if outage, ok := errors.AsType[*Outage](err); ok {
		return nil, outage
	}
	rejection, _ := errors.AsType[*Rejection](err)
	return rejection, nil
}

// IsUnknownParty reports whether an error of a source is the definite answer of
// [ishare.ErrUnknownParty]. It is not when an [Outage] has a part in it: then nobody knows.
func IsUnknownParty(err error) bool {
	_, outage := Classify(err)
	return outage == nil && errors.Is(err, ishare.ErrUnknownParty)
}

// describe keeps to the characters that RFC 6749 section 5.2 allows in error_description, whatever a sentence quotes.
func describe(rule *Rule, sentence string) string {
	var b strings.Builder
	b.WriteString(rule.ID + ": ")
	for _, r := range sentence {
		if r == '"' {
			r = '\''
		}
		writeVisible(&b, r)
	}
	return b.String()
}

// writeVisible writes what RFC 6749 section 5.2 does not allow in error_description by its number.
func writeVisible(b *strings.Builder, r rune) {
	if r < ' ' || r > '~' || r == '"' || r == '\\' {
		fmt.Fprintf(b, "<U+%04X>", r)
		return
	}
	b.WriteRune(r)
}

// maxQuoted is how many bytes of a value a sentence shows.
const maxQuoted = 60

// Quote is a value of a request as a sentence or a hint shows it: between single
// quotes, in the alphabet of RFC 6749 section 5.2, other characters by their number. It is
// cut at 60 bytes, and where a JWT begins: no answer and no log may hold one.
func Quote(value string) string {
	end := maxQuoted
	if i := strings.Index(value, "eyJ"); i >= 0 { // {" in base64url
		end = min(end, i+3)
	}
	var b strings.Builder
	b.WriteByte('\'')
	for i, r := range value {
		if i >= end {
			b.WriteString("...")
			break
		}
		writeVisible(&b, r)
	}
	b.WriteByte('\'')
	return b.String()
}
