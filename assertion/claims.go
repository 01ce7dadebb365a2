package assertion

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
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
		return nil, ishare.JWTPayload.Reject().From(err)
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

var claimTests = []ishare.Test[hearing]{
	{Rule: ishare.ClaimIss, Check: issIsClient},
	{Rule: ishare.ClaimSub, Check: subIsIss},
	{Rule: ishare.ClaimAud, Check: audIsThisServer},
	{Rule: ishare.ClaimJTI, Check: jtiIsPresent},
	{Rule: ishare.ClaimIat, Check: iatHasCome},
	{Rule: ishare.ClaimExp, Check: expHasNotCome},
	{Rule: ishare.ClaimLifetime, Check: lifeIsThirtySeconds},
	{Rule: ishare.ClaimNbf, Check: nbfHasCome},
}

func (v *Verifier) judgeClaims(c *claimSet, clientID ishare.PartyID, at time.Time, trail *ishare.Trail) (*stated, error) {
	h := hearing{claimSet: c, clientID: clientID, audience: v.config.Audience, at: at, leeway: v.config.Leeway}
	if err := ishare.Judge(trail, h, claimTests); err != nil {
		return nil, err
	}
	jti, _ := text(c.JTI)
	iat, _ := seconds(c.Iat)
	exp, _ := seconds(c.Exp)
	return &stated{issuer: clientID, jti: jti, issuedAt: instant(iat), expires: instant(exp)}, nil
}

func issIsClient(h hearing) *ishare.Rejection {
	iss, ok := text(h.Iss)
	switch {
	case !ok:
		return ishare.ClaimIss.Because("iss is missing or not a string")
	case iss != string(h.clientID) || iss == "":
		return ishare.ClaimIss.Because("iss is not the client_id of the request")
	}
	return nil
}

func subIsIss(h hearing) *ishare.Rejection {
	iss, _ := text(h.Iss)
	sub, ok := text(h.Sub)
	switch {
	case !ok:
		return ishare.ClaimSub.Because("sub is missing or not a string")
	case sub != iss:
		return ishare.ClaimSub.Because("sub is not the same as iss")
	}
	return nil
}

func audIsThisServer(h hearing) *ishare.Rejection {
	aud, ok := text(h.Aud)
	switch {
	case h.Aud.Kind() == '[':
		return ishare.ClaimAud.Because("aud is an array; it must be one string, because an assertion for several servers lets each pass as the client at the others")
	case !ok:
		return ishare.ClaimAud.Because("aud is missing or not a string")
	case !slices.Contains(h.audience, ishare.PartyID(aud)):
		return ishare.ClaimAud.Because("aud is %.100s; this server is %s", aud, h.audience[0])
	}
	return nil
}

func jtiIsPresent(h hearing) *ishare.Rejection {
	if jti, ok := text(h.JTI); !ok || jti == "" || len(jti) > maxJTI {
		return ishare.ClaimJTI.Reject()
	}
	return nil
}

// numberOf refuses a time that is no number, or that is in milliseconds.
func numberOf(rule *ishare.Rule, name string, v jsontext.Value) (time.Time, *ishare.Rejection) {
	f, ok := seconds(v)
	switch {
	case v == nil:
		return time.Time{}, rule.Because("%s is missing", name)
	case !ok:
		return time.Time{}, rule.Because("%s is not a number", name)
	case f < 0:
		return time.Time{}, rule.Because("%s is negative", name)
	case f >= maxSeconds:
		return time.Time{}, rule.Because("%s is in milliseconds; it must be in seconds", name)
	}
	return instant(f), nil
}

func iatHasCome(h hearing) *ishare.Rejection {
	iat, rejection := numberOf(ishare.ClaimIat, "iat", h.Iat)
	if rejection == nil && iat.After(h.at.Add(h.leeway)) {
		return ishare.ClaimIat.Because("iat is %s in the future", iat.Sub(h.at).Round(time.Second))
	}
	return rejection
}

func expHasNotCome(h hearing) *ishare.Rejection {
	exp, rejection := numberOf(ishare.ClaimExp, "exp", h.Exp)
	if rejection == nil && !h.at.Before(exp.Add(h.leeway)) {
		return ishare.ClaimExp.Because("the assertion expired %s ago", h.at.Sub(exp).Round(time.Second))
	}
	return rejection
}

// lifeIsThirtySeconds compares to the millisecond, because clients in some
// languages send fractions of seconds.
func lifeIsThirtySeconds(h hearing) *ishare.Rejection {
	iat, okIat := seconds(h.Iat)
	exp, okExp := seconds(h.Exp)
	if !okIat || !okExp || math.Round((exp-iat)*1000) != float64(Lifetime.Milliseconds()) {
		return ishare.ClaimLifetime.Reject()
	}
	return nil
}

func nbfHasCome(h hearing) *ishare.Rejection {
	if h.Nbf == nil {
		return nil
	}
	nbf, rejection := numberOf(ishare.ClaimNbf, "nbf", h.Nbf)
	if rejection == nil && nbf.After(h.at.Add(h.leeway)) {
		return ishare.ClaimNbf.Because("nbf is %s in the future", nbf.Sub(h.at).Round(time.Second))
	}
	return rejection
}
