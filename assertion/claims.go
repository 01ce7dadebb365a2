package assertion

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
)

// maxJTI is the longest jti in bytes. The framework names no limit.
const maxJTI = 255

// maxSeconds is a time in the year 5138. A larger number is in milliseconds.
const maxSeconds = 1e11

// A claimSet holds the registered claims of a payload as they were written.
// Anything else in the payload is ignored.
type claimSet struct {
	Iss jsontext.Value `json:"iss"`
	Sub jsontext.Value `json:"sub"`
	Aud jsontext.Value `json:"aud"`
	JTI jsontext.Value `json:"jti"`
	Iat jsontext.Value `json:"iat"`
	Exp jsontext.Value `json:"exp"`
	Nbf jsontext.Value `json:"nbf"`
}

// decodeClaims: rule jwt.payload.
func decodeClaims(token *jws.Token) (*claimSet, error) {
	var c claimSet
	if err := jws.UnmarshalObject(token.Payload(), &c); err != nil {
		return nil, rule.JWTPayload.Because("the payload %v", err).From(err)
	}
	return &c, nil
}

// text returns a claim that is a string.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

// seconds returns a claim that is a number.
func seconds(v jsontext.Value) (float64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(v), 64)
	return f, err == nil
}

// instant is exact to the millisecond. f is below [maxSeconds].
func instant(f float64) time.Time { return time.UnixMilli(int64(math.Round(f * 1000))) }

// stated is what an assertion says when it keeps the rules claim.iss to
// claim.nbf. It is not proven yet.
type stated struct {
	issuer            ishare.PartyID
	jti               string
	issuedAt, expires time.Time
	payload           []byte // whole, decoded
}

// hearing is what the claims' rules look at.
type hearing struct {
	*claimSet

	clientID ishare.PartyID
	audience []ishare.PartyID
	at       time.Time
	leeway   time.Duration
}

var claimTests = []rule.Check[hearing]{
	{Rule: rule.ClaimIss, Apply: issIsClient},
	{Rule: rule.ClaimSub, Apply: subIsIss},
	{Rule: rule.ClaimAud, Apply: audIsThisServer},
	{Rule: rule.ClaimJTI, Apply: jtiIsPresent},
	{Rule: rule.ClaimIat, Apply: iatHasCome},
	{Rule: rule.ClaimExp, Apply: expHasNotCome},
	{Rule: rule.ClaimLifetime, Apply: lifeIsThirtySeconds},
	{Rule: rule.ClaimNbf, Apply: nbfHasCome},
}

func (v *Verifier) judgeClaims(c *claimSet, clientID ishare.PartyID, at time.Time, trail *rule.Trace) (*stated, error) {
	h := hearing{claimSet: c, clientID: clientID, audience: v.config.Audience, at: at, leeway: v.config.Leeway}
	if err := rule.Evaluate(trail, h, claimTests); err != nil {
		return nil, err
	}
	jti, _ := text(c.JTI)
	iat, _ := seconds(c.Iat)
	exp, _ := seconds(c.Exp)
	return &stated{issuer: clientID, jti: jti, issuedAt: instant(iat), expires: instant(exp)}, nil
}

func issIsClient(h hearing) *rule.Rejection {
	iss, rejection := textOf(rule.ClaimIss, "iss", h.Iss)
	switch {
	case rejection != nil:
		return rejection
	case h.clientID == "": // nobody but an explanation comes without one: it takes iss for it
		return rule.ClaimIss.Because("iss is %s, which is not a party identifier", rule.Quote(iss))
	case iss != string(h.clientID):
		return rule.ClaimIss.Because("iss is %s, and client_id is %s", rule.Quote(iss), rule.Quote(string(h.clientID)))
	}
	return nil
}

func subIsIss(h hearing) *rule.Rejection {
	iss, _ := text(h.Iss)
	sub, rejection := textOf(rule.ClaimSub, "sub", h.Sub)
	if rejection == nil && sub != iss {
		return rule.ClaimSub.Because("sub is %s, and iss is %s", rule.Quote(sub), rule.Quote(iss))
	}
	return rejection
}

func audIsThisServer(h hearing) *rule.Rejection {
	mend := "Set aud to " + string(h.audience[0]) + ", the party identifier of this server, as one string."
	if h.Aud.Kind() == '[' {
		return rule.ClaimAud.Because("aud is an array, %s; it must be one string, because an assertion for several servers lets each pass as the client at the others",
			quoteArray(h.Aud)).WithHint("%s", mend+" Some libraries make an array even of one value: give them the text.")
	}
	aud, rejection := textOf(rule.ClaimAud, "aud", h.Aud)
	switch {
	case rejection != nil:
		return rejection.WithHint("%s", mend)
	case slices.Contains(h.audience, ishare.PartyID(aud)):
		return nil
	case strings.Contains(aud, "://"):
		mend += " iSHARE names a server by its party identifier, and never by a URL."
	}
	return rule.ClaimAud.Because("aud is %s; this server is %s", rule.Quote(aud), h.audience[0]).WithHint("%s", mend)
}

func jtiIsPresent(h hearing) *rule.Rejection {
	jti, rejection := textOf(rule.ClaimJTI, "jti", h.JTI)
	if rejection == nil && len(jti) > maxJTI {
		return rule.ClaimJTI.Because("jti has %d bytes, more than %d", len(jti), maxJTI).
			WithHint("Set jti to a short random value, such as a UUID: it has 36 bytes.")
	}
	return rejection
}

// textOf refuses a claim that is missing, empty or not a string.
func textOf(reason *rule.Rule, name string, v jsontext.Value) (string, *rule.Rejection) {
	s, ok := text(v)
	switch {
	case v == nil:
		return "", reason.Because("%s is missing", name)
	case !ok:
		return "", reason.Because("%s is %s, not a string", name, quoteJSON(v))
	case s == "":
		return "", reason.Because("%s is empty", name)
	}
	return s, nil
}

// quoteJSON shows a value of any kind, in few bytes.
func quoteJSON(v jsontext.Value) string {
	if s, ok := text(v); ok {
		return "the string " + rule.Quote(s)
	}
	if v.Kind() == '0' {
		return "the number " + strings.Trim(rule.Quote(string(v)), "'")
	}
	if v.Kind() == '[' {
		return "an array"
	}
	if v.Kind() == '{' {
		return "an object"
	}
	return string(v) // null, true or false
}

// maxShown is how many entries of an array are shown.
const maxShown = 3

func quoteArray(v jsontext.Value) string {
	var shown []string
	d := jsontext.NewDecoder(bytes.NewReader(v))
	_, err := d.ReadToken() // the bracket; all was read before, so that no error comes
	for err == nil && d.PeekKind() != ']' {
		if len(shown) == maxShown {
			shown = append(shown, "...")
			break
		}
		var entry jsontext.Value
		if entry, err = d.ReadValue(); err != nil {
			break
		}
		if s, ok := text(entry); ok {
			shown = append(shown, rule.Quote(s))
		} else {
			shown = append(shown, quoteJSON(entry))
		}
	}
	return "[" + strings.Join(shown, ", ") + "]"
}

// numberOf refuses a time that is no number, or that is in milliseconds.
func numberOf(reason *rule.Rule, name string, v jsontext.Value) (time.Time, *rule.Rejection) {
	f, ok := seconds(v)
	switch {
	case v == nil:
		return time.Time{}, reason.Because("%s is missing", name).
			WithHint("Set %s to a time in seconds since 1970, as a JSON number.", name)
	case !ok:
		return time.Time{}, reason.Because("%s is %s, not a number of seconds", name, quoteJSON(v)).
			WithHint("Set %s to a time in seconds since 1970, as a JSON number: without quotes.", name)
	case f < 0:
		return time.Time{}, reason.Because("%s is negative: %.15g", name, f)
	case f >= maxSeconds:
		return time.Time{}, reason.Because("%s is in milliseconds (%.15g); it must be in seconds", name, f).
			WithHint("Divide by 1000 and drop the fraction, in iat, exp and nbf alike.")
	}
	return instant(f), nil
}

// ahead refuses a time that has not come.
func (h *hearing) ahead(reason *rule.Rule, name string, then time.Time) *rule.Rejection {
	early := then.Sub(h.at)
	if early <= h.leeway {
		return nil
	}
	rejection := reason.Because("%s is %s in the future: it says %s, and here it is %s", name, span(early), stamp(then), stamp(h.at))
	if zone := early.Round(time.Hour); zone > 0 && zone <= 14*time.Hour && (early-zone).Abs() < time.Minute {
		return rejection.WithHint("Take the time in UTC: local time seems to have been taken for it. Unless the clock is wrong by %d hours.", zone/time.Hour)
	}
	return rejection
}

// span is a length of time as people say it: to the second, unless it is short.
func span(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func iatHasCome(h hearing) *rule.Rejection {
	iat, rejection := numberOf(rule.ClaimIat, "iat", h.Iat)
	if rejection != nil {
		return rejection
	}
	return h.ahead(rule.ClaimIat, "iat", iat)
}

func expHasNotCome(h hearing) *rule.Rejection {
	exp, rejection := numberOf(rule.ClaimExp, "exp", h.Exp)
	if rejection == nil && !h.at.Before(exp.Add(h.leeway)) {
		return rule.ClaimExp.Because("the assertion expired %s ago: exp says %s, and here it is %s", span(h.at.Sub(exp)), stamp(exp), stamp(h.at))
	}
	return rejection
}

// lifeIsThirtySeconds compares to the millisecond, because clients in some
// languages send fractions of seconds.
func lifeIsThirtySeconds(h hearing) *rule.Rejection {
	iat, okIat := seconds(h.Iat)
	exp, okExp := seconds(h.Exp)
	switch life := math.Round((exp-iat)*1000) / 1000; {
	case !okIat || !okExp:
		return rule.ClaimLifetime.Because("iat or exp is missing or not a number")
	case life != Lifetime.Seconds():
		return rule.ClaimLifetime.Because("exp is iat + %.15g seconds, and must be iat + %d", life, Lifetime/time.Second).
			WithHint("Set exp to exactly iat + 30, whatever the library's default is, and both from one reading of the clock.")
	}
	return nil
}

func nbfHasCome(h hearing) *rule.Rejection {
	if h.Nbf == nil {
		return nil
	}
	nbf, rejection := numberOf(rule.ClaimNbf, "nbf", h.Nbf)
	if rejection != nil {
		return rejection.WithHint("%s", rule.ClaimNbf.Hint)
	}
	return h.ahead(rule.ClaimNbf, "nbf", nbf)
}
