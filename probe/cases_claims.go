package probe

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// claimCases break the rules about who the assertion is of and for.
func claimCases() []Case {
	another := func(names ...string) func(*draft) {
		return func(d *draft) {
			for _, name := range names {
				d.Assertion.Payload.Set(name, otherParty(d.seal.ClientID))
			}
		}
	}
	aud := func(change func(right ishare.PartyID, d *draft) any) func(*draft) {
		return func(d *draft) {
			right, _ := d.Assertion.Payload.Get("aud").(ishare.PartyID)
			d.Assertion.Payload.Set("aud", change(right, d))
		}
	}
	return slices.Concat(refused(rule.ClaimIss, []Case{
		{Name: "missing", Official: "iss missing", Sends: "iss is missing.", change: withoutClaim("iss")},
		{Name: "another-party", Official: "iss not client_id", Sends: "iss and sub are another party.", change: another("iss", "sub")},
		{Name: "another-client_id", Official: "client_id other than the assertion's", Sends: "client_id is another party: the client asks for somebody else's token.", change: func(d *draft) {
			d.Form.Set("client_id", string(otherParty(d.seal.ClientID)))
		}},
		{Name: "no-identifier", Sends: "iss and sub are a name, and no party identifier.", change: func(d *draft) {
			claim("iss", "some-consumer")(d)
			claim("sub", "some-consumer")(d)
		}},
		{Name: "array", Sends: "iss is an array with the client's identifier.", change: func(d *draft) { d.Assertion.Payload.Set("iss", []ishare.PartyID{d.seal.ClientID}) }},
	}), refused(rule.ClaimSub, []Case{
		{Name: "missing", Official: "sub missing", Sends: "sub is missing.", change: withoutClaim("sub")},
		{Name: "another-party", Official: "sub not iss", Sends: "sub is another party.", change: another("sub")},
		{Name: "in-capitals", Sends: "The claim is called SUB.", Spec: "RFC 7519 section 10.1.1: names are compared with regard to case", change: func(d *draft) {
			withoutClaim("sub")(d)
			claim("SUB", d.seal.ClientID)(d)
		}},
	}), refused(rule.ClaimAud, []Case{
		{Name: "missing", Official: "aud missing", Sends: "aud is missing.", change: withoutClaim("aud")},
		{Name: "another-party", Official: "aud not the server", Sends: "aud is another party: the assertion was meant for another server.", change: another("aud")},
		{Name: "array-of-one", Weight: Should, Sends: "aud is an array that holds the server's identifier only.", Spec: "iSHARE 3.0, client assertion: one text; RFC 7519 section 4.1.3 knows both", change: aud(func(right ishare.PartyID, _ *draft) any { return []ishare.PartyID{right} })},
		{Name: "array-of-two", Sends: "aud is an array of the server and another party, who could use the assertion here.", change: aud(func(right ishare.PartyID, d *draft) any {
			return []ishare.PartyID{right, otherParty(d.seal.ClientID)}
		})},
		{Name: "URL", Sends: "aud is the URL of a token endpoint, as other frameworks have it.", change: func(d *draft) { d.Assertion.Payload.Set("aud", d.forge.endpointURL()) }},
		{Name: "longer", Sends: "aud begins with the server's identifier and goes on.", change: aud(func(right ishare.PartyID, _ *draft) any { return right + "1" })},
		{Name: "client", Sends: "aud is the client itself.", change: aud(func(_ ishare.PartyID, d *draft) any { return d.seal.ClientID })},
	}))
}

// By how much clocks may differ: RFC 7519 allows "usually no more than a few minutes".
const (
	beyondLeeway = 10 * time.Minute // is more than that
	muchLeeway   = 2 * time.Minute  // is far more than an assertion's life
)

// timeCases break the rules about how often and how long the assertion may be used.
func timeCases() []Case {
	lasting := func(life time.Duration) func(*draft) {
		return func(d *draft) { d.times(ago(0), ago(-life)) }
	}
	asText := func(name string) func(*draft) {
		return func(d *draft) {
			if seconds, ok := d.Assertion.Payload.Get(name).(int64); ok {
				d.Assertion.Payload.Set(name, strconv.FormatInt(seconds, 10))
			}
		}
	}
	shifted := func(by time.Duration) func(*draft) {
		return func(d *draft) { d.times(ago(by), ago(by-30*time.Second)) }
	}
	milliseconds := func(d *draft) { d.times(time.Now().UnixMilli(), time.Now().UnixMilli()+30_000) }
	const (
		number = "RFC 7519 section 2: a NumericDate is a JSON number of seconds"
		leeway = "RFC 7519 section 4.1.4: usually no more than a few minutes of leeway, and an assertion lives for half a minute"
	)
	return slices.Concat(refused(rule.ClaimJTI, []Case{
		{Name: "missing", Official: "jti missing", Sends: "jti is missing.", change: withoutClaim("jti")},
		{Name: "empty", Sends: "jti is empty.", change: claim("jti", "")},
		{Name: "number", Weight: Should, Sends: "jti is a number.", Spec: "RFC 7519 section 4.1.7: a string", change: func(d *draft) {
			d.Assertion.Payload.Set("jti", time.Now().UnixNano()/1000)
		}},
		{Name: "too-long", Weight: Ours, Sends: "jti has 4096 bytes.", change: func(d *draft) {
			d.Assertion.Payload.Set("jti", strconv.FormatInt(time.Now().UnixNano(), 10)+strings.Repeat(" jti", 1024))
		}},
	}), refused(rule.ClaimIat, []Case{
		{Name: "missing", Official: "iat missing", Sends: "iat is missing.", change: withoutClaim("iat")},
		{Name: "in-the-future", Official: "iat in the future", Sends: "iat is ten minutes ahead, and exp 30 seconds later.", change: shifted(-beyondLeeway)},
		{Name: "two-minutes-ahead", Weight: Should, Sends: "iat is two minutes ahead, and exp 30 seconds later.", Spec: leeway, change: shifted(-muchLeeway)},
		{Name: "text", Weight: Should, Sends: "iat is the right number as a text.", Spec: number, change: asText("iat")},
		{Name: "milliseconds", Sends: "iat and exp are in milliseconds.", Spec: number, change: milliseconds},
	}), refused(rule.ClaimExp, []Case{
		{Name: "missing", Official: "exp missing", Sends: "exp is missing.", change: withoutClaim("exp")},
		{Name: "in-the-past", Sends: "The assertion expired ten minutes ago.", change: shifted(beyondLeeway + 30*time.Second)},
		{Name: "two-minutes-ago", Weight: Should, Sends: "The assertion expired two minutes ago.", Spec: leeway, change: shifted(muchLeeway + 30*time.Second)},
		{Name: "text", Weight: Should, Sends: "exp is the right number as a text.", Spec: number, change: asText("exp")},
	}), refused(rule.ClaimLifetime, []Case{
		{Name: "an-hour", Official: "exp not iat+30", Sends: "exp is iat and an hour.", change: lasting(time.Hour)},
		{Name: "31-seconds", Sends: "exp is iat and 31 seconds.", change: lasting(31 * time.Second)},
		{Name: "29-seconds", Sends: "exp is iat and 29 seconds.", change: lasting(29 * time.Second)},
		{Name: "old-iat", Sends: "iat is a day ago, and exp is now and 30 seconds.", change: func(d *draft) { d.times(ago(24*time.Hour), ago(-30*time.Second)) }},
	}), refused(rule.ClaimNbf, []Case{
		{Name: "in-the-future", Sends: "nbf is ten minutes ahead.", change: func(d *draft) { d.Assertion.Payload.Set("nbf", ago(-beyondLeeway)) }},
		{Name: "two-minutes-ahead", Weight: Should, Sends: "nbf is two minutes ahead.", Spec: leeway, change: func(d *draft) { d.Assertion.Payload.Set("nbf", ago(-muchLeeway)) }},
		{Name: "text", Weight: Should, Sends: "nbf is a number as a text.", Spec: number, change: func(d *draft) {
			d.Assertion.Payload.Set("nbf", strconv.FormatInt(ago(0), 10))
		}},
	}))
}

// replayCases break the rule jti.replayed.
func replayCases() []Case {
	const another = "iSHARE 3.0, JWT: each has a jti of its own, and none is accepted twice; these are two"
	return refused(rule.JTIReplayed, []Case{
		{Name: "same-assertion", Sends: "The same assertion is sent twice, one after the other.", Wants: "a token, then a refusal", steps: twice(func(*draft) {})},
		{Name: "at-once", Sends: "The same assertion is sent twenty times at once.", Wants: "exactly one token", steps: atOnce},
		{Name: "same-jti", Weight: Should, Spec: another, Sends: "A new assertion has the jti of one that got a token, and another iat.", Wants: "a token, then a refusal", steps: twice(func(d *draft) {
			d.times(ago(2*time.Second), ago(-28*time.Second))
		})},
		{Name: "another-algorithm", Weight: Should, Spec: another, Sends: "A new assertion has the jti of one that got a token, and is signed with another algorithm.", Wants: "a token, then a refusal", steps: twice(func(d *draft) {
			alg := "RS512"
			if d.algorithm() == "RS512" {
				alg = "RS256"
			}
			d.Assertion.Header.Set("alg", alg)
		})},
		{
			Name: "not-burned", Weight: Ours, Sends: "The jti was seen before in an assertion with a bad signature, which was refused.", Wants: "a refusal, then a token",
			Spec: "the specification is silent; a stranger must not be able to use up the jti of others", steps: notBurned,
		},
	})
}

// twice sends a right request, and then another one with the same jti, that is the same assertion unless something of it is changed.
func twice(change func(*draft)) func(Case, *runner) *finding {
	return func(c Case, r *runner) *finding {
		var d *draft
		a, f := r.send(func() *draft {
			d = r.draft()
			d.Form.Set("client_assertion", d.Assertion.Compact())
			return d
		})
		switch {
		case f != nil:
			return f
		case a.token == "":
			return skip("the first of the two requests, which is right, got no token: %s", a.told())
		}
		before := d.shown()
		change(d)
		if d.shown() != before { // a new assertion
			d.Form.Set("client_assertion", isharetest.Signed)
		}
		if a, f = r.send(again(d)); f != nil {
			return f
		}
		return new(mustRefuse(c, a))
	}
}

// notBurned sends an assertion with a bad signature, and then the right one with the same jti.
func notBurned(c Case, r *runner) *finding {
	right := r.draft()
	a, f := r.send(func() *draft {
		right = r.draft()
		bad := r.draft()
		bad.Assertion.Payload = slices.Clone(right.Assertion.Payload)
		key := bad.Assertion.Key
		bad.Assertion.Sign = func(signed string) []byte { return signWith(key, "", signed+" ") }
		return bad
	})
	switch {
	case f != nil:
		return f
	case a.token != "":
		return skip("the first of the two requests, whose signature is bad, got a token")
	}
	if a, f = r.send(again(right)); f != nil {
		return f
	}
	return new(mustAccept(c, a))
}
