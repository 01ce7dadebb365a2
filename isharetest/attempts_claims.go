package isharetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// beyondLeeway is further off than any server lets a clock be.
const beyondLeeway = 2 * time.Minute

// claimAttempts break the rules about who and whom the assertion is for.
func (s *Attempts) claimAttempts() []Attempt {
	capitals := strings.ToUpper(string(s.Consumer.ID()))
	server := s.audience[0]
	otherCase := strings.ToUpper(string(server))
	if otherCase == string(server) {
		otherCase = strings.ToLower(otherCase)
	}
	return slices.Concat(
		s.breaking(rule.ClaimIss, []variant{
			{name: "missing", about: "iss is missing.", official: "iss missing", noClaim: "iss"},
			{name: "empty", about: "iss is empty.", claims: Object{{"iss", ""}}},
			{name: "null", about: "iss is null.", claims: Object{{"iss", nil}}},
			{name: "array", about: "iss is an array with the client's identifier.", claims: Object{{"iss", []ishare.PartyID{s.Consumer.ID()}}}},
			{name: "number", about: "iss is a number.", claims: Object{{"iss", 90000001}}},
			{name: "in capitals", about: "The claim is called ISS.", noClaim: "iss", claims: Object{{"ISS", s.Consumer.ID()}}},
		}),
		inRequest(s.breaking(rule.ClaimIss, []variant{
			{name: "another party", about: "iss and sub are another party in good standing.", official: "iss not client_id", claims: Object{{"iss", s.Other.ID()}, {"sub", s.Other.ID()}}},
			{name: "another client_id", about: "client_id is another party in good standing: the client asks for somebody else's token.", official: "client_id other than the assertion's", form: Form{{"client_id", string(s.Other.ID())}}},
			{name: "other identifier", about: "client_id is another identifier of the same party than iss.", form: Form{{"client_id", string(s.Consumer.Record.AlsoKnownAs[0])}}},
			{name: "other letters", about: "iss and sub differ from client_id in case.", claims: Object{{"iss", capitals}, {"sub", capitals}}},
			{name: "blank", about: "iss and sub have a blank behind the identifier.", claims: Object{{"iss", s.Consumer.ID() + " "}, {"sub", s.Consumer.ID() + " "}}},
		})),
		s.breaking(rule.ClaimSub, []variant{
			{name: "missing", about: "sub is missing.", official: "sub missing", noClaim: "sub"},
			{name: "another party", about: "sub is another party.", official: "sub not iss", claims: Object{{"sub", s.Other.ID()}}},
			{name: "empty", about: "sub is empty.", claims: Object{{"sub", ""}}},
			{name: "null", about: "sub is null.", claims: Object{{"sub", nil}}},
			{name: "array", about: "sub is an array with the client's identifier.", claims: Object{{"sub", []ishare.PartyID{s.Consumer.ID()}}}},
			{name: "other identifier", about: "sub is another identifier of the same party than iss.", claims: Object{{"sub", s.Consumer.Record.AlsoKnownAs[0]}}},
			{name: "in capitals", about: "The claim is called SUB.", noClaim: "sub", claims: Object{{"SUB", s.Consumer.ID()}}},
			{name: "with a long s", about: "The claim is called ſub, which some parsers take for sub.", noClaim: "sub", claims: Object{{"ſub", s.Consumer.ID()}}},
		}),
		s.breaking(rule.ClaimAud, []variant{
			{name: "missing", about: "aud is missing.", official: "aud missing", noClaim: "aud"},
			{name: "another party", about: "aud is another party: the assertion was meant for another server.", official: "aud not the server", claims: Object{{"aud", s.Other.ID()}}},
			{name: "array of one", about: "aud is an array that holds the server's identifier only.", claims: Object{{"aud", []ishare.PartyID{server}}}},
			{name: "array of several", about: "aud is an array of the server and another party, who could use the assertion here.", claims: Object{{"aud", []ishare.PartyID{server, s.Other.ID()}}}},
			{name: "empty array", about: "aud is an empty array.", claims: Object{{"aud", []string{}}}},
			{name: "URL", about: "aud is the URL of the token endpoint, as other frameworks have it.", claims: Object{{"aud", "https://provider.example.org" + TokenPath}}},
			{name: "object", about: "aud is an object.", claims: Object{{"aud", Object{{"id", server}}}}},
			{name: "null", about: "aud is null.", claims: Object{{"aud", nil}}},
			{name: "empty", about: "aud is empty.", claims: Object{{"aud", ""}}},
			{name: "client", about: "aud is the client itself.", claims: Object{{"aud", s.Consumer.ID()}}},
			{name: "longer", about: "aud begins with the server's identifier.", claims: Object{{"aud", server + "1"}}},
			{name: "blank", about: "aud has a blank behind the identifier.", claims: Object{{"aud", server + " "}}},
			{name: "other letters", about: "aud differs from the server's identifier in case.", claims: Object{{"aud", otherCase}}},
			{name: "two in one", about: "aud is the server's identifier and another one, separated by a blank.", claims: Object{{"aud", server + " " + s.Other.ID()}}},
		}),
	)
}

// timeAttempts break the rules about how often and how long the assertion may be used.
func (s *Attempts) timeAttempts() []Attempt {
	lasting := func(d time.Duration) func(*Request) {
		return func(r *Request) {
			now := time.Now().Unix()
			setTimes(r, now, now+int64(d/time.Second))
		}
	}
	return slices.Concat(
		s.breaking(rule.ClaimJTI, []variant{
			{name: "missing", about: "jti is missing.", official: "jti missing", noClaim: "jti"},
			{name: "empty", about: "jti is empty.", claims: Object{{"jti", ""}}},
			{name: "null", about: "jti is null.", claims: Object{{"jti", nil}}},
			{name: "number", about: "jti is a number.", claims: Object{{"jti", Raw("42")}}},
			{name: "array", about: "jti is an array.", claims: Object{{"jti", []string{"42"}}}},
			{name: "too long", about: "jti has 256 bytes.", edit: func(r *Request) { r.Assertion.Payload.Set("jti", uuid()+strings.Repeat("j", 256-36)) }},
		}),
		s.breaking(rule.ClaimIat, append(
			notANumber("iat"),
			variant{name: "missing", about: "iat is missing.", official: "iat missing", noClaim: "iat"},
			variant{name: "in the future", about: "iat is two minutes ahead, and exp 30 seconds later.", official: "iat in the future", edit: shift(beyondLeeway)},
			variant{name: "in milliseconds", about: "iat and exp are in milliseconds.", edit: func(r *Request) {
				now := time.Now().UnixMilli()
				setTimes(r, now, now+30_000)
			}},
			variant{name: "beyond all numbers", about: "iat is a number that no computer's clock can show.", claims: Object{{"iat", Raw("1e400")}}},
		)),
		s.breaking(rule.ClaimExp, append(
			notANumber("exp"),
			variant{name: "missing", about: "exp is missing.", official: "exp missing", noClaim: "exp"},
			variant{name: "in the past", about: "The assertion expired two minutes ago.", edit: shift(-beyondLeeway - 30*time.Second)},
			variant{name: "last year", about: "The assertion expired a year ago.", edit: shift(-365 * 24 * time.Hour)},
			variant{name: "in milliseconds", about: "exp is in milliseconds, iat in seconds.", edit: func(r *Request) { r.Assertion.Payload.Set("exp", time.Now().UnixMilli()+30_000) }},
		)),
		s.breaking(rule.ClaimLifetime, []variant{
			{name: "an hour", about: "exp is iat and an hour.", official: "exp not iat+30", edit: lasting(time.Hour)},
			{name: "60 seconds", about: "exp is iat and 60 seconds.", edit: lasting(60 * time.Second)},
			{name: "31 seconds", about: "exp is iat and 31 seconds.", edit: lasting(31 * time.Second)},
			{name: "29 seconds", about: "exp is iat and 29 seconds.", edit: lasting(29 * time.Second)},
			{name: "10 years", about: "exp is iat and ten years.", edit: lasting(10 * 365 * 24 * time.Hour)},
			{name: "10 ms too long", about: "exp is iat and 30.01 seconds.", edit: func(r *Request) {
				now := time.Now().Unix()
				setTimes(r, now, Raw(fmt.Sprintf("%d.01", now+30)))
			}},
		}),
		s.breaking(rule.ClaimNbf, []variant{
			{name: "in the future", about: "nbf is two minutes ahead.", edit: func(r *Request) { r.Assertion.Payload.Set("nbf", time.Now().Add(beyondLeeway).Unix()) }},
			{name: "in milliseconds", about: "nbf is in milliseconds.", edit: func(r *Request) { r.Assertion.Payload.Set("nbf", time.Now().UnixMilli()) }},
			{name: "string", about: "nbf is a number as a string.", edit: func(r *Request) { r.Assertion.Payload.Set("nbf", strconv.FormatInt(time.Now().Unix(), 10)) }},
			{name: "null", about: "nbf is null.", claims: Object{{"nbf", nil}}},
			{name: "boolean", about: "nbf is false.", claims: Object{{"nbf", false}}},
			{name: "array", about: "nbf is an array.", claims: Object{{"nbf", []int{0}}}},
		}),
	)
}

// notANumber are values that look like a time and are none.
func notANumber(claim string) []variant {
	return []variant{
		{name: "string", about: claim + " is the right number as a string.", edit: func(r *Request) {
			r.Assertion.Payload.Set(claim, fmt.Sprint(r.Assertion.Payload.Get(claim)))
		}},
		{name: "date", about: claim + " is a date of RFC 3339.", edit: func(r *Request) { r.Assertion.Payload.Set(claim, time.Now().UTC().Format(time.RFC3339)) }},
		{name: "null", about: claim + " is null.", claims: Object{{claim, nil}}},
		{name: "boolean", about: claim + " is true.", claims: Object{{claim, true}}},
		{name: "array", about: claim + " is an array.", claims: Object{{claim, []int{0}}}},
	}
}

// partyAttempts break the rules about the party. The parties are right in
// everything but what the server's records say of them.
func (s *Attempts) partyAttempts() []Attempt {
	attempts := []Attempt{
		s.attempt(rule.PartyUnknown, s.stranger, variant{name: "not a participant", about: "The client has a seal of a trusted CA and is in no record.", official: "unknown client"}),
		s.attempt(rule.PartyCertificate, s.Consumer, variant{
			name: "of another party", about: "The client signs with the seal of another party in good standing.",
			official: "certificate of another party", edit: s.signedBy(s.Other),
		}),
		s.attempt(rule.PartyCertificate, s.Consumer, variant{
			name: "not registered yet", about: "The client signs with a new seal that has the same subject as the registered one, and another key.",
			edit: s.signedBy(s.Consumer.Resealed(nil)),
		}),
	}
	for i, b := range []struct {
		rule     *rule.Rule
		standing Standing
		variant
	}{
		{rule.PartyNotActive, Inactive, variant{name: "inactive", about: "The client's compliance is inactive.", official: "client not active"}},
		{rule.PartyNotActive, Suspended, variant{name: "suspended", about: "The client's compliance is suspended."}},
		{rule.PartyNotActive, Revoked, variant{name: "revoked", about: "The client's compliance is revoked."}},
		{rule.PartyNotActive, Ended, variant{name: "ended", about: "The client's compliance is active, and ended yesterday."}},
		{rule.PartyNotActive, NotYetBegun, variant{name: "not yet begun", about: "The client's compliance is active, and begins tomorrow."}},
		{rule.PartyNotActive, WithoutDates, variant{name: "without dates", about: "The client's compliance is active, and states no dates."}},
		{rule.PartyNotActive, WithoutCompliance, variant{name: "no compliance", about: "The client's record does not speak of compliance."}},
		{rule.PartyNotActive, OtherFramework, variant{name: "another framework", about: "The client complies with another framework."}},
		{rule.PartyCertificate, WithoutCertificate, variant{name: "none registered", about: "No certificate is registered for the client."}},
		{rule.PartyCertificate, OtherCertificate, variant{name: "another registered", about: "Another seal with the same subject is registered for the client."}},
		{rule.PartyCertificate, InactiveCertificate, variant{name: "inactive", about: "The client's certificate is registered as inactive."}},
		{rule.PartyCertificate, EndedCertificate, variant{name: "registration ended", about: "The registration of the client's certificate ended yesterday."}},
		{rule.PartyPolicy, WithoutRole, variant{name: "no role", about: "The client does not hold the role that the server demands."}},
		{rule.PartyPolicy, InactiveRole, variant{name: "inactive role", about: "The client's role is inactive."}},
	} {
		id := ishare.PartyID(fmt.Sprintf("did:ishare:EU.NL.NTRNL-%08d", 90000010+i))
		client := s.ca.Party(id, "Consumer: "+b.name, b.standing)
		s.parties = append(s.parties, client)
		attempts = append(attempts, s.attempt(b.rule, client, b.variant))
	}
	return attempts
}

// replayAttempts break the rule jti.replayed.
func (s *Attempts) replayAttempts() []Attempt {
	second := s.Consumer.Resealed(nil)
	register(s.Consumer.Record, second.Certificates[0])
	again := func(edit func(*Request)) func() []*Request {
		return func() []*Request {
			first, second := s.Consumer.Request(s.audience[0]), s.Consumer.Request(s.audience[0])
			second.Assertion.Payload = append(Object{}, first.Assertion.Payload...)
			edit(second)
			return []*Request{first, second}
		}
	}
	return []Attempt{
		inRow(rule.JTIReplayed, "same assertion", "The same assertion is sent twice.", again(func(*Request) {})),
		inRow(rule.JTIReplayed, "same jti", "A new assertion has the jti of the one before.", again(func(r *Request) {
			r.Assertion.Payload.Set("note", "another payload")
		})),
		inRow(rule.JTIReplayed, "same jti, another algorithm", "A new assertion has the jti of the one before and is signed with RS512.", again(func(r *Request) { r.Assertion.Header.Set("alg", "RS512") })),
		inRow(rule.JTIReplayed, "same jti, another seal", "A new assertion has the jti of the one before and is signed with another registered seal of the party.", again(s.signedBy(second))),
	}
}
