package isharetest

import (
	"fmt"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

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
	for i, b := range badStandings() {
		id := ishare.PartyID(fmt.Sprintf("did:ishare:EU.NL.NTRNL-%08d", 90000010+i))
		client := s.ca.Party(id, "Consumer: "+b.name, b.standing)
		s.parties = append(s.parties, client)
		attempts = append(attempts, s.attempt(b.rule, client, b.variant))
	}
	return attempts
}

// A badStanding is a standing for which a rule refuses.
type badStanding struct {
	rule     *rule.Rule
	standing Standing
	variant
}

func badStandings() []badStanding {
	return []badStanding{
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
	}
}

// replayAttempts break the rule jti.replayed.
func (s *Attempts) replayAttempts() []Attempt {
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
		inRow(rule.JTIReplayed, "same jti, another algorithm", "A new assertion has the jti of the one before and is signed with RS512.", again(setHeader("alg", "RS512"))),
		inRow(rule.JTIReplayed, "same jti, another seal", "A new assertion has the jti of the one before and is signed with another registered seal of the party.", again(s.signedBy(s.second))),
	}
}
