package isharetest

import (
	"slices"
	"strings"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// An Attempt is a token request, or a row of them, at the server that the [Attempts] were made for.
type Attempt struct {
	// Rule is the one by which the server must refuse, or nil when it must give a token.
	Rule *rule.Rule
	// Name tells attempts at one rule apart.
	Name string
	// About says what is wrong, or what is unusual and right, in a sentence.
	About string
	// Official is the name of the official conformance case, if it is one.
	Official string
	// Alone says that the assertion shows by itself what there is to see, without the rest of the request.
	Alone bool

	steps func() []*Request
}

// String is unique among the attempts of a server, such as claim.aud/missing.
func (a Attempt) String() string {
	if a.Rule == nil {
		return "right/" + a.Name
	}
	return a.Rule.ID + "/" + a.Name
}

// Requests makes the requests to send, one after the other, the last of which is the attempt. Each has its own
// expectation: a replay is a right request before it is a wrong one. They are made of the present time and are good for
// half a minute. Each call makes new ones.
func (a Attempt) Requests() []*Request { return a.steps() }

// Assertion makes the assertion of the last request.
func (a Attempt) Assertion() string {
	steps := a.steps()
	return steps[len(steps)-1].Assertion.Compact()
}

// Attempts are token requests at one server: right ones, and for each rule of the
// catalogue that needs no network, wrong ones.
//
// The server must trust the CA, demand that clients hold [RoleServiceConsumer], know the parties of [Attempts.Parties]
// and no others of their identifiers, grant the scope iSHARE alone, refuse extra header parameters, and allow clocks a
// leeway of at most a minute. A [Provider] is such a server.
//
// Attempts are safe for concurrent use, and take a second to make: tests had better share them.
type Attempts struct {
	// Consumer is the party in good standing that makes most of the attempts.
	Consumer *Party
	// Other is another one in good standing.
	Other *Party

	ca       *CA
	audience []ishare.PartyID
	stranger *Party // has a seal, is in no record
	parties  []*Party
	all      []Attempt
}

// NewAttempts makes attempts at the server that goes by these identifiers, the canonical one first.
func NewAttempts(ca *CA, audience ishare.PartyID, aliases ...ishare.PartyID) *Attempts {
	s := &Attempts{ca: ca, audience: append([]ishare.PartyID{audience}, aliases...)}
	s.Consumer = ca.Party("did:ishare:EU.NL.NTRNL-90000001", "Test Consumer", AlsoKnownAs("EU.EORI.NL900000001"))
	s.Other = ca.Party("did:ishare:EU.NL.NTRNL-90000002", "Other Consumer")
	s.stranger = ca.Party("did:ishare:EU.NL.NTRNL-90000003", "Stranger")
	s.parties = []*Party{s.Consumer, s.Other}
	s.all = slices.Concat(
		s.right(), s.requestAttempts(), s.parameterAttempts(), s.jwtAttempts(), s.headerAttempts(), s.x5cAndPayloadAttempts(),
		s.claimAttempts(), s.timeAttempts(), s.certificateAttempts(), s.signatureAttempts(), s.partyAttempts(), s.replayAttempts(),
	)
	return s
}

// Parties lists those that the server must know.
func (s *Attempts) Parties() []*Party { return slices.Clone(s.parties) }

// All lists every attempt, the right ones first and the others in the order of the catalogue.
func (s *Attempts) All() []Attempt {
	order := rule.All()
	return slices.SortedStableFunc(slices.Values(s.all), func(a, b Attempt) int {
		return slices.Index(order, a.Rule) - slices.Index(order, b.Rule)
	})
}

// Breaking lists the attempts that must be refused by this rule, or for nil those that must get a token.
func (s *Attempts) Breaking(reason *rule.Rule) []Attempt {
	return slices.DeleteFunc(slices.Clone(s.all), func(a Attempt) bool { return a.Rule != reason })
}

// A variant is one way of breaking a rule: what is changed of a right request, in this order.
type variant struct {
	name, about string
	official    string

	noHeader, noClaim string                      // the member of the assertion that is left out
	header, claims    Object                      // members of the assertion that are set
	form              Form                        // parameters that are set
	suffix            string                      // added to the encoded form
	jwt, body         func(encoded string) string // rewrite the assertion, and the encoded form
	edit              func(*Request)
}

func (v variant) apply(r *Request) {
	a := r.Assertion
	a.Header.Delete(v.noHeader)
	a.Payload.Delete(v.noClaim)
	for _, m := range v.header {
		a.Header.Set(m.Name, m.Value)
	}
	for _, m := range v.claims {
		a.Payload.Set(m.Name, m.Value)
	}
	for _, p := range v.form {
		r.Form.Set(p.Name, p.Value)
	}
	a.Rewrite, r.Rewrite = v.jwt, v.body
	if v.suffix != "" {
		r.Rewrite = func(form string) string { return form + v.suffix }
	}
	if v.edit != nil {
		v.edit(r)
	}
}

// breaking makes attempts of the consumer at a rule.
func (s *Attempts) breaking(reason *rule.Rule, variants []variant) []Attempt {
	attempts := make([]Attempt, len(variants))
	for i, v := range variants {
		attempts[i] = s.attempt(reason, s.Consumer, v)
	}
	return attempts
}

// attempt makes an attempt of a client. What concerns the assertion shows in it, unless [inRequest] says otherwise.
func (s *Attempts) attempt(reason *rule.Rule, client *Party, v variant) Attempt {
	return Attempt{
		Rule: reason, Name: v.name, About: v.about, Official: v.official,
		Alone: reason == nil || !strings.HasPrefix(reason.ID, "request."),
		steps: func() []*Request {
			r := client.Request(s.audience[0])
			r.Expect = reason
			v.apply(r)
			return []*Request{r}
		},
	}
}

// inRequest marks attempts that only the whole request tells from right ones.
func inRequest(attempts []Attempt) []Attempt {
	for i := range attempts {
		attempts[i].Alone = false
	}
	return attempts
}

// inRow makes an attempt of several requests.
func inRow(reason *rule.Rule, name, about string, steps func() []*Request) Attempt {
	return Attempt{Rule: reason, Name: name, About: about, steps: func() []*Request {
		row := steps()
		row[len(row)-1].Expect = reason
		return row
	}}
}
