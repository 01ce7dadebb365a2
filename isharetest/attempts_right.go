package isharetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// maxBody is the size of the largest body that must be read.
const maxBody = 64 << 10

// right are the requests that must get a token, however unusual they look.
func (s *Attempts) right() []Attempt {
	return slices.Concat(
		s.breaking(nil, s.rightAssertions()...),
		inRequest(s.breaking(nil, rightForms()...)),
		s.rightAliases(),
		s.rightRows(),
	)
}

func (s *Attempts) rightAssertions() []variant {
	return []variant{
		{name: "plain", about: "Nothing is wrong.", official: "valid request"},
		{name: "RS384", about: "alg is RS384.", edit: setHeader("alg", "RS384")},
		{name: "RS512", about: "alg is RS512.", edit: setHeader("alg", "RS512")},
		{name: "typ in lower case", about: "typ is jwt, which differs in case only.", edit: setHeader("typ", "jwt")},
		{name: "header in another order", about: "The header's members stand in another order.", edit: func(r *Request) { slices.Reverse(r.Assertion.Header) }},
		{name: "payload with white space", about: "The payload has white space between its members.", edit: func(r *Request) {
			r.Assertion.PayloadText = " " + strings.ReplaceAll(r.Assertion.Payload.String(), `,"`, ",\r\n\t\"") + "\n"
		}},
		{name: "more claims", about: "The payload holds claims that mean nothing to the server.", edit: both(
			set("azp", "somebody"), set("roles", []string{"admin"}), set("nested", Object{{"a", Object{{"b", nil}}}}),
		)},
		{name: "claims that differ in case", about: "The payload holds other parties' identifiers under names that differ from claims in case only.", edit: both(
			set("SUB", s.Other.ID()), set("Iss", s.Other.ID()), set("AUD", "EU.EORI.NL000000000"), set("ſub", s.Other.ID()), set("EXP", 0),
		)},
		{name: "fractions of seconds", about: "iat and exp are numbers with a fraction, exactly 30 seconds apart.", edit: func(r *Request) {
			now := time.Now()
			fraction := func(t time.Time) Raw { return Raw(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1e6)) }
			both(set("iat", fraction(now)), set("exp", fraction(now.Add(30*time.Second))))(r)
		}},
		{name: "nbf", about: "nbf is the same as iat.", edit: func(r *Request) { r.Assertion.Payload.Set("nbf", r.Assertion.Payload.Get("iat")) }},
		{name: "longest jti", about: "jti has 255 bytes.", edit: func(r *Request) { r.Assertion.Payload.Set("jti", uuid()+strings.Repeat("j", 255-36)) }},
		{name: "old", about: "The assertion is 20 seconds old.", edit: shift(-20 * time.Second)},
	}
}

// shift moves the times of the assertion.
func shift(by time.Duration) func(*Request) {
	return func(r *Request) {
		now := time.Now().Add(by).Unix()
		both(set("iat", now), set("exp", now+30))(r)
	}
}

func rightForms() []variant {
	return []variant{
		{name: "additional parameters", about: "The form holds parameters that mean nothing to the server.", official: "additional parameters", edit: func(r *Request) {
			r.Form = append(Form{{"resource", "https://example.org/"}}, append(r.Form, Parameter{"état", "é"}, Parameter{"empty", ""})...)
		}},
		{name: "parameters without a value", about: "scope and client_secret are there without a value, which is as if they were not.", edit: func(r *Request) {
			r.Form = append(Form{{"scope", ""}}, append(r.Form, Parameter{"client_secret", ""}, Parameter{"client_secret", ""})...)
		}},
		{name: "several resources", about: "resource occurs twice, as RFC 8707 allows.", edit: func(r *Request) {
			r.Form = append(r.Form, Parameter{"resource", "https://example.org/"}, Parameter{"resource", "https://example.org/orders"})
		}},
		{name: "empty Authorization", about: "The Authorization header is empty.", edit: func(r *Request) { r.Header.Set("Authorization", "") }},
		{name: "parameters in another order", about: "The parameters stand in another order.", edit: func(r *Request) { slices.Reverse(r.Form) }},
		{name: "media type with charset", about: "The media type has a charset and capitals.", edit: func(r *Request) {
			r.Header.Set("Content-Type", "Application/X-WWW-Form-URLencoded; charset=UTF-8")
		}},
		{name: "repeated scope value", about: "scope holds iSHARE twice, which asks for nothing more.", edit: setForm("scope", ishare.ScopeISHARE+" "+ishare.ScopeISHARE)},
		{name: "largest body", about: "The body has exactly 64 KiB.", edit: func(r *Request) { r.Rewrite = padTo(maxBody) }},
		{name: "no length", about: "The body does not say how long it is.", edit: func(r *Request) { r.Chunked = true }},
		{name: "everything percent-encoded", about: "Every character of the form is percent-encoded, half of them in lower case.", edit: func(r *Request) { r.Rewrite = percentEncode }},
	}
}

// padTo fills a form up to so many bytes with a parameter that means nothing.
func padTo(size int) func(string) string {
	return func(form string) string {
		form += "&padding="
		return form + strings.Repeat("x", size-len(form))
	}
}

func percentEncode(form string) string {
	var b strings.Builder
	for i := range len(form) {
		switch c := form[i]; {
		case strings.IndexByte("=&%+", c) >= 0:
			b.WriteByte(c)
		case i >= 1 && form[i-1] == '%' || i >= 2 && form[i-2] == '%': // inside of an escape
			b.WriteByte(c)
		case i%2 == 0:
			fmt.Fprintf(&b, "%%%02x", c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// rightAliases: parties may go by any identifier of their records.
func (s *Attempts) rightAliases() []Attempt {
	attempts := s.breaking(nil, variant{
		name: "client by its other identifier", about: "client_id, iss and sub are an identifier that the client's record lists under alsoKnownAs.",
		edit: func(r *Request) { r.As(s.Consumer.Record.AlsoKnownAs[0]) },
	})
	for _, alias := range s.audience[1:] {
		attempts = append(attempts, s.breaking(nil, variant{
			name: "server by its other identifier " + string(alias), about: "aud is an identifier that the server's record lists under alsoKnownAs.", edit: set("aud", alias),
		})...)
	}
	return attempts
}

// rightRows: what happened before must not matter.
func (s *Attempts) rightRows() []Attempt {
	attempts := []Attempt{inRow(nil, "jti of another issuer", "The jti was used before, by another client: it is unique to its issuer only.", func() []*Request {
		first, second := s.Other.Request(s.audience[0]), s.Consumer.Request(s.audience[0])
		second.Assertion.Payload.Set("jti", first.Assertion.Payload.Get("jti"))
		return []*Request{first, second}
	})}
	spoils := map[string]struct {
		rule  *rule.Rule
		spoil func(*Request)
	}{
		"signature": {rule.JWTSignature, func(r *Request) { r.Assertion.Key = s.stranger.Key }},
		"chain":     {rule.ChainUntrusted, setHeader("x5c", X5C(s.Consumer.Certificates[0]))},
		"audience":  {rule.ClaimAud, set("aud", s.Other.ID())},
		"standing":  {rule.PartyCertificate, s.signedBy(s.Other)},
	}
	for _, what := range slices.Sorted(maps.Keys(spoils)) {
		attempts = append(attempts, inRow(nil, "jti of a refused assertion, "+what,
			"The jti was seen before in an assertion that was refused, and so is not used up: a stranger must not burn it.",
			func() []*Request {
				first, second := s.Consumer.Request(s.audience[0]), s.Consumer.Request(s.audience[0])
				first.Assertion.Payload.Set("jti", second.Assertion.Payload.Get("jti"))
				first.Expect = spoils[what].rule
				spoils[what].spoil(first)
				return []*Request{first, second}
			}))
	}
	return attempts
}

// signedBy presents and uses the seal of another party.
func (s *Attempts) signedBy(p *Party) func(*Request) {
	return func(r *Request) {
		r.Assertion.Key = p.Key
		r.Assertion.Header.Set("x5c", X5C(p.Certificates...))
	}
}
