package assertion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/plainjson"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
)

// maxJTI is the longest jti in bytes. The framework names no limit.
const maxJTI = 255

// maxSeconds is a time in the year 5138. A larger number is in milliseconds.
const maxSeconds = 1e11

// A claim is a value of the payload, parsed.
type claim struct {
	raw     jsontext.Value // nil when the payload lacks it
	text    string         // of a string
	seconds float64        // of a number
	// isText and isNumber say which of the two there is.
	isText, isNumber bool
}

func parseClaim(raw jsontext.Value) claim {
	c := claim{raw: raw}
	if raw.Kind() == '0' {
		var err error
		c.seconds, err = strconv.ParseFloat(string(raw), 64)
		c.isNumber = err == nil
	} else {
		c.text, c.isText = text(raw)
	}
	return c
}

// text returns a value that is a string.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	if plain, _, ok := plainjson.Text(string(v)); ok {
		return plain, true
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

// instant is the time of a claim, exact to the millisecond. f is below [maxSeconds].
func instant(f float64) time.Time { return time.UnixMilli(int64(math.Round(f * 1000))) }

// claimsInput is what the rules about claims judge: the registered claims of a payload, and what they are held
// against. Anything else in the payload is ignored.
type claimsInput struct {
	iss, sub, aud, jti, iat, exp, nbf claim

	clientID ishare.PartyID
	audience []ishare.PartyID
	at       time.Time
	leeway   time.Duration
}

// rawClaims are the claims that the rules know, as they stand in a payload: nil for one that it lacks.
type rawClaims struct {
	Iss jsontext.Value `json:"iss"`
	Sub jsontext.Value `json:"sub"`
	Aud jsontext.Value `json:"aud"`
	JTI jsontext.Value `json:"jti"`
	Iat jsontext.Value `json:"iat"`
	Exp jsontext.Value `json:"exp"`
	Nbf jsontext.Value `json:"nbf"`
}

// scanClaims reads the payload that nearly every client sends, at a fraction of the cost of [jws.UnmarshalObject], and to
// the same claims: an object without white space that holds claims of the rules and no others, each once, as plain texts
// and whole numbers. It is not ok with any other.
func scanClaims(payload []byte) (_ rawClaims, ok bool) {
	var c rawClaims
	rest, ok := bytes.CutPrefix(payload, []byte("{"))
	for ok {
		var name []byte
		if name, rest, ok = plainjson.Text(rest); !ok || len(rest) == 0 || rest[0] != ':' {
			break
		}
		claim := c.named(string(name))
		if claim == nil || *claim != nil {
			break
		}
		if *claim, rest, ok = scanValue(rest[1:]); !ok {
			break
		}
		if string(rest) == "}" {
			return c, true
		}
		rest, ok = bytes.CutPrefix(rest, []byte(","))
	}
	return rawClaims{}, false
}

// named is the place of a claim, if the rules know it.
func (c *rawClaims) named(name string) *jsontext.Value {
	switch name {
	case "iss":
		return &c.Iss
	case "sub":
		return &c.Sub
	case "aud":
		return &c.Aud
	case "jti":
		return &c.JTI
	case "iat":
		return &c.Iat
	case "exp":
		return &c.Exp
	case "nbf":
		return &c.Nbf
	}
	return nil
}

// scanValue reads a plain text or a whole number, as it stands there.
func scanValue(s []byte) (value jsontext.Value, rest []byte, ok bool) {
	if _, rest, ok = plainjson.Text(s); !ok {
		_, rest, ok = plainjson.Digits(s)
	}
	return s[:len(s)-len(rest)], rest, ok
}

// decodeClaims: rule jwt.payload.
func (w *walk) decodeClaims(context.Context) error {
	if w.token == nil {
		return errSkipped
	}
	c, ok := scanClaims(w.token.Payload())
	if !ok {
		var general rawClaims
		if err := jws.UnmarshalObject(w.token.Payload(), &general); err != nil {
			return rule.JWTPayload.Because("the payload %v", err).From(err)
		}
		c = general
	}
	w.payload = &claimsInput{
		iss: parseClaim(c.Iss), sub: parseClaim(c.Sub), aud: parseClaim(c.Aud), jti: parseClaim(c.JTI),
		iat: parseClaim(c.Iat), exp: parseClaim(c.Exp), nbf: parseClaim(c.Nbf),
	}
	iss := w.payload.iss.text
	w.info.Issuer = iss[:min(len(iss), 255)]
	if w.payload.jti.isText {
		sum := sha256.Sum256([]byte(iss + "\x00" + w.payload.jti.text))
		w.info.JTIHash = hex.EncodeToString(sum[:8])
	}
	if w.trace != nil && w.clientID == "" {
		w.clientID, _ = ishare.ParsePartyID(iss)
	}
	return nil
}

// validClaims is what an assertion says when it keeps the rules claim.iss to claim.nbf. It is not proven yet.
type validClaims struct {
	jti               string
	issuedAt, expires time.Time
}

var claimChecks = []rule.Check[claimsInput]{
	{Rule: rule.ClaimIss, Apply: issIsClient},
	{Rule: rule.ClaimSub, Apply: subIsIss},
	{Rule: rule.ClaimAud, Apply: audIsThisServer},
	{Rule: rule.ClaimJTI, Apply: jtiIsPresent},
	{Rule: rule.ClaimIat, Apply: iatHasCome},
	{Rule: rule.ClaimExp, Apply: expHasNotCome},
	{Rule: rule.ClaimLifetime, Apply: lifeIsThirtySeconds},
	{Rule: rule.ClaimNbf, Apply: nbfHasCome},
}

func (w *walk) checkClaims(context.Context) error {
	if w.payload == nil {
		return errSkipped
	}
	in := *w.payload
	in.clientID, in.audience, in.at, in.leeway = w.clientID, w.v.config.Audience, w.at, w.v.leeway
	if err := rule.Evaluate(w.trace, in, claimChecks); err != nil {
		return err
	}
	w.claims = &validClaims{jti: in.jti.text, issuedAt: instant(in.iat.seconds), expires: instant(in.exp.seconds)}
	return nil
}

func issIsClient(in claimsInput) *rule.Rejection {
	iss, rejection := textOf(rule.ClaimIss, "iss", in.iss)
	switch {
	case rejection != nil:
		return rejection
	case in.clientID == "": // nobody but an explanation comes without one: it takes iss for it
		return rule.ClaimIss.Because("iss is %s, which is not a party identifier", rule.Quote(iss))
	case iss != string(in.clientID):
		return rule.ClaimIss.Because("iss is %s, and client_id is %s", rule.Quote(iss), rule.Quote(string(in.clientID)))
	}
	return nil
}

func subIsIss(in claimsInput) *rule.Rejection {
	sub, rejection := textOf(rule.ClaimSub, "sub", in.sub)
	if rejection == nil && sub != in.iss.text {
		return rule.ClaimSub.Because("sub is %s, and iss is %s", rule.Quote(sub), rule.Quote(in.iss.text))
	}
	return rejection
}

func audIsThisServer(in claimsInput) *rule.Rejection {
	hint := rule.ClaimAud.Hint
	if len(in.audience) > 0 {
		hint = "Set aud to " + string(in.audience[0]) + ", the party identifier of this server, as one string."
	}
	if in.aud.raw.Kind() == '[' {
		return rule.ClaimAud.Because("aud is an array, %s; it must be one string, because an assertion for several servers lets each pass as the client at the others",
			quoteArray(in.aud.raw)).WithHint("%s", hint+" Some libraries make an array even of one value: give them the text.")
	}
	aud, rejection := textOf(rule.ClaimAud, "aud", in.aud)
	switch {
	case rejection != nil:
		return rejection.WithHint("%s", hint)
	case slices.Contains(in.audience, ishare.PartyID(aud)):
		return nil
	case strings.Contains(aud, "://"):
		hint += " iSHARE names a server by its party identifier, and never by a URL."
		if len(in.audience) == 0 {
			return rule.ClaimAud.Because("aud is %s, a URL and not a party identifier", rule.Quote(aud)).WithHint("%s", hint)
		}
	}
	if len(in.audience) > 0 {
		return rule.ClaimAud.Because("aud is %s; this server is %s", rule.Quote(aud), in.audience[0]).WithHint("%s", hint)
	}
	if _, err := ishare.ParsePartyID(aud); err != nil { // whoever the server is
		return rule.ClaimAud.Because("aud is %s, which is %v", rule.Quote(aud), err).WithHint("%s", hint)
	}
	return nil
}

func jtiIsPresent(in claimsInput) *rule.Rejection {
	jti, rejection := textOf(rule.ClaimJTI, "jti", in.jti)
	if rejection == nil && len(jti) > maxJTI {
		return rule.ClaimJTI.Because("jti has %d bytes, more than %d", len(jti), maxJTI).
			WithHint("Set jti to a short random value, such as a UUID: it has 36 bytes.")
	}
	return rejection
}

// textOf refuses a claim that is missing, empty or not a string.
func textOf(reason *rule.Rule, name string, c claim) (string, *rule.Rejection) {
	switch {
	case c.raw == nil:
		return "", reason.Because("%s is missing", name)
	case !c.isText:
		return "", reason.Because("%s is %s, not a string", name, quoteJSON(c.raw))
	case c.text == "":
		return "", reason.Because("%s is empty", name)
	}
	return c.text, nil
}

// quoteJSON shows a value of any kind, in few bytes.
func quoteJSON(v jsontext.Value) string {
	switch s, isText := text(v); {
	case isText:
		return "the string " + rule.Quote(s)
	case v.Kind() == '0':
		return "the number " + strings.Trim(rule.Quote(string(v)), "'")
	case v.Kind() == '[':
		return "an array"
	case v.Kind() == '{':
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

// timeOf refuses a time that is no number, or that is in milliseconds.
func timeOf(reason *rule.Rule, name string, c claim) (time.Time, *rule.Rejection) {
	switch {
	case c.raw == nil:
		return time.Time{}, reason.Because("%s is missing", name).
			WithHint("Set %s to a time in seconds since 1970, as a JSON number.", name)
	case !c.isNumber:
		return time.Time{}, reason.Because("%s is %s, not a number of seconds", name, quoteJSON(c.raw)).
			WithHint("Set %s to a time in seconds since 1970, as a JSON number: without quotes.", name)
	case c.seconds < 0:
		return time.Time{}, reason.Because("%s is negative: %.15g", name, c.seconds)
	case c.seconds >= maxSeconds:
		return time.Time{}, reason.Because("%s is in milliseconds (%.15g); it must be in seconds", name, c.seconds).
			WithHint("Divide by 1000 and drop the fraction, in iat, exp and nbf alike.")
	}
	return instant(c.seconds), nil
}

// notAhead refuses a time that has not come.
func (in claimsInput) notAhead(reason *rule.Rule, name string, then time.Time) *rule.Rejection {
	early := then.Sub(in.at)
	if early <= in.leeway {
		return nil
	}
	rejection := reason.Because("%s is %s in the future: it says %s, and here it is %s", name, span(early), stamp(then), stamp(in.at))
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

func iatHasCome(in claimsInput) *rule.Rejection {
	iat, rejection := timeOf(rule.ClaimIat, "iat", in.iat)
	if rejection != nil {
		return rejection
	}
	return in.notAhead(rule.ClaimIat, "iat", iat)
}

func expHasNotCome(in claimsInput) *rule.Rejection {
	exp, rejection := timeOf(rule.ClaimExp, "exp", in.exp)
	if rejection == nil && !in.at.Before(exp.Add(in.leeway)) {
		return rule.ClaimExp.Because("the assertion expired %s ago: exp says %s, and here it is %s", span(in.at.Sub(exp)), stamp(exp), stamp(in.at))
	}
	return rejection
}

// lifeIsThirtySeconds compares to the millisecond, because clients in some languages send fractions of seconds.
func lifeIsThirtySeconds(in claimsInput) *rule.Rejection {
	switch life := math.Round((in.exp.seconds-in.iat.seconds)*1000) / 1000; {
	case !in.iat.isNumber || !in.exp.isNumber:
		return rule.ClaimLifetime.Because("iat or exp is missing or not a number")
	case life != Lifetime.Seconds():
		return rule.ClaimLifetime.Because("exp is iat + %.15g seconds, and must be iat + %d", life, Lifetime/time.Second).
			WithHint("Set exp to exactly iat + 30, whatever the library's default is, and both from one reading of the clock.")
	}
	return nil
}

func nbfHasCome(in claimsInput) *rule.Rejection {
	if in.nbf.raw == nil {
		return nil
	}
	nbf, rejection := timeOf(rule.ClaimNbf, "nbf", in.nbf)
	if rejection != nil {
		return rejection.WithHint("%s", rule.ClaimNbf.Hint)
	}
	return in.notAhead(rule.ClaimNbf, "nbf", nbf)
}
