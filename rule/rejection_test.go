package rule_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

func TestRejectionSpeaksForItsRule(t *testing.T) {
	rejection := rule.ClaimAud.Reject()
	if rejection.Rule != rule.ClaimAud || rejection.Hint != rule.ClaimAud.Hint || rejection.Cause != nil {
		t.Errorf("Reject = %+v", rejection)
	}
	want := "claim.aud: aud is missing or not the party identifier of this server"
	if got := rejection.Description(); got != want {
		t.Errorf("Description = %q, want %q", got, want)
	}
	if got := rejection.Error(); got != want {
		t.Errorf("Error = %q, want %q", got, want)
	}
}

func TestRejectionWithASentenceOfItsOwn(t *testing.T) {
	rejection := rule.RequestMissingParameter.Because("%s is missing", "scope")
	if rejection.Rule != rule.RequestMissingParameter || rejection.Hint != rule.RequestMissingParameter.Hint {
		t.Errorf("Because = %+v", rejection)
	}
	if got, want := rejection.Description(), "request.missing-parameter: scope is missing"; got != want {
		t.Errorf("Description = %q, want %q", got, want)
	}
	if strings.Contains(rule.RequestMissingParameter.Sentence, "scope") {
		t.Error("the rule's own sentence was changed")
	}
}

func TestRejectionWithAHintOfItsOwn(t *testing.T) {
	rejection := rule.ChainIssuer.Because("x5c[1] is not a CA").WithHint("Put %s behind the leaf.", "its issuer")
	if want := "Put its issuer behind the leaf."; rejection.Hint != want {
		t.Errorf("Hint = %q, want %q", rejection.Hint, want)
	}
	if rejection.Hint == rule.ChainIssuer.Hint {
		t.Error("the rule's own hint was changed")
	}
}

func TestRejectionKeepsItsCausePrivate(t *testing.T) {
	cause := fmt.Errorf("reading: %w", &fs.PathError{Op: "open", Path: "secret.pem", Err: io.ErrUnexpectedEOF})
	rejection := rule.JWTX5C.Reject().From(cause)
	if strings.Contains(rejection.Description(), "secret") {
		t.Errorf("Description tells the cause: %q", rejection.Description())
	}
	if got, want := rejection.Error(), rejection.Description()+" ("+cause.Error()+")"; got != want {
		t.Errorf("Error = %q, want %q", got, want)
	}
}

func TestRejectionIsFoundAndFindsItsCause(t *testing.T) {
	rejection := rule.JWTX5C.Reject().From(fmt.Errorf("entry 2: %w", &fs.PathError{Op: "parse", Err: io.ErrUnexpectedEOF}))
	err := fmt.Errorf("token request: %w", rejection)

	if found, ok := errors.AsType[*rule.Rejection](err); !ok || found != rejection {
		t.Errorf("the rejection is not found in %v", err)
	}
	if _, ok := errors.AsType[*fs.PathError](err); !ok {
		t.Errorf("the cause is not found in %v", err)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the cause's own cause is not found in %v", err)
	}
	if _, ok := errors.AsType[*rule.Outage](err); ok {
		t.Error("a rejection counts as an outage")
	}
	if errors.Unwrap(rule.JWTX5C.Reject()) != nil {
		t.Error("a rejection without a cause has one")
	}
}

func TestOutage(t *testing.T) {
	outage := &rule.Outage{Rule: rule.UnavailableState}
	want := "unavailable.state: " + rule.UnavailableState.Sentence
	if outage.Description() != want || outage.Error() != want {
		t.Errorf("without a cause: %q, %q", outage.Description(), outage.Error())
	}

	outage.Cause = fmt.Errorf("store: %w", io.ErrClosedPipe)
	err := fmt.Errorf("token request: %w", outage)
	if found, ok := errors.AsType[*rule.Outage](err); !ok || found != outage {
		t.Errorf("the outage is not found in %v", err)
	}
	if errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the cause is found in %v", err)
	}
	if outage.Description() != want {
		t.Errorf("Description = %q, want %q", outage.Description(), want)
	}
	if got := outage.Error(); got != want+" (store: io: read/write on closed pipe)" {
		t.Errorf("Error = %q", got)
	}
}

// A nested error is one of every way in which these can stand in each other, with what can be
// reached from its top.
type nested struct {
	err               error
	outage, rejection bool
}

// nestings are all errors up to a depth.
func nestings(depth int) []nested {
	all := []nested{
		{io.ErrClosedPipe, false, false},
		{ishare.ErrUnknownParty, false, false},
		{rule.ClaimExp.Reject(), false, true},
		{&rule.Outage{Rule: rule.UnavailableState}, true, false},
	}
	if depth == 0 {
		return all
	}
	below := nestings(depth - 1)
	for _, a := range below {
		all = append(
			all,
			nested{&rule.Outage{Rule: rule.UnavailableState, Cause: a.err}, true, false},
			nested{rule.PartyUnknown.Reject().From(a.err), a.outage, true},
			nested{fmt.Errorf("wrapped: %w", a.err), a.outage, a.rejection},
		)
		for _, b := range below {
			all = append(all, nested{errors.Join(a.err, b.err), a.outage || b.outage, a.rejection || b.rejection})
		}
	}
	return all
}

// However an outage and a rejection are nested and joined, the outage is what counts, and
// neither a rejection nor an unknown party is found beneath it.
func TestClassifyLooksForOutagesFirst(t *testing.T) {
	for _, n := range nestings(2) {
		rejection, outage := rule.Classify(n.err)
		if (outage != nil) != n.outage || (rejection != nil) != (n.rejection && !n.outage) {
			t.Errorf("%v: rejection %v, outage %v", n.err, rejection, outage)
		}
		if n.outage && rule.IsUnknownParty(n.err) {
			t.Errorf("%v counts as the answer that there is no such party", n.err)
		}
		above := &rule.Outage{Rule: rule.UnavailableRegistry, Cause: n.err}
		if errors.As(above, new(*rule.Rejection)) || errors.Is(above, ishare.ErrUnknownParty) || errors.Is(above, io.ErrClosedPipe) {
			t.Errorf("an outage unwraps to its cause %v", n.err)
		}
	}
}

func TestClassifyNothing(t *testing.T) {
	for _, err := range []error{nil, io.ErrClosedPipe, ishare.ErrUnknownParty} {
		if rejection, outage := rule.Classify(err); rejection != nil || outage != nil {
			t.Errorf("%v: %v, %v", err, rejection, outage)
		}
	}
	for err, want := range map[error]bool{
		nil: false, io.ErrClosedPipe: false, ishare.ErrUnknownParty: true, fmt.Errorf("file: %w", ishare.ErrUnknownParty): true,
	} {
		if got := rule.IsUnknownParty(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

func TestDescriptionKeepsToItsAlphabet(t *testing.T) {
	for sentence, want := range map[string]string{
		`client_id is "a:b"`:          `client_id is 'a:b'`,
		`scope is C:\dsgo`:            `scope is C:<U+005C>dsgo`,
		`character '\n'`:              `character '<U+005C>n'`, // a quoted one is still seen
		"two\r\nlines\tand a tab":     "two<U+000D><U+000A>lines<U+0009>and a tab",
		"\u00e9\u20ac\U0001f600":      "<U+00E9><U+20AC><U+1F600>",
		"not \xff UTF-8":              "not <U+FFFD> UTF-8",
		"NUL \x00, DEL \x7f":          "NUL <U+0000>, DEL <U+007F>",
		"plain ~ !#$%&()*+,-./[]^_`{": "plain ~ !#$%&()*+,-./[]^_`{",
	} {
		if got := rule.ClaimIss.Because("%s", sentence).Description(); got != "claim.iss: "+want {
			t.Errorf("%q is described as %q, want %q", sentence, got, want)
		}
	}
}

func TestStrayCharacter(t *testing.T) {
	digits := func(r rune) bool { return '0' <= r && r <= '9' }
	for value, want := range map[string]string{
		"":         "",
		"123":      "",
		"123\n":    "ends with a line feed",
		"123\r\n":  "ends with a line feed",
		"123 \t":   "ends with a tab",
		"\n":       "ends with a line feed",
		" 123":     "begins with a blank",
		"\r123\n":  "begins with a carriage return",
		"12\n3":    "holds a line feed at place 3 of 4",
		"1\u00e93": "holds the character U+00E9 at place 2 of 4",
		"1\"3":     `holds the character " at place 2 of 3`,
		"1\x003":   "holds the character U+0000 at place 2 of 3",
		"12\xff":   "ends with the character U+FFFD",
	} {
		if got := ishare.StrayCharacter(value, digits); got != want {
			t.Errorf("%q %q, want %q", value, got, want)
		}
	}
}

func FuzzDescription(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\\r\n\x00\x7f", "\xff", "\u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sentence string) {
		got := rule.ClaimIss.Because("%s", sentence).Description()
		if strings.ContainsFunc(got, notDescriptionRune) {
			t.Errorf("%q is described as %q", sentence, got)
		}
	})
}

// notDescriptionRune tells what RFC 6749 section 5.2 keeps out of error_description.
func notDescriptionRune(r rune) bool {
	return r < 0x20 || r > 0x7e || r == '"' || r == '\\'
}

func TestDescribed(t *testing.T) {
	for _, r := range append(rule.All(), rule.Outages()...) {
		if got, sentence := rule.Described(r.ID + ": a sentence: of two"); got != r || sentence != "a sentence: of two" {
			t.Errorf("%s: %v, %q", r.ID, got, sentence)
		}
		if got, sentence := rule.Described(r.ID); got != r || sentence != "" {
			t.Errorf("%s alone: %v, %q", r.ID, got, sentence)
		}
	}
	for _, text := range []string{"", ":", "claim", "claim.aud2: x", "Client authentication failed: claim.aud: x"} {
		if got, sentence := rule.Described(text); got != nil || sentence != "" {
			t.Errorf("%q: %v, %q", text, got, sentence)
		}
	}
}
