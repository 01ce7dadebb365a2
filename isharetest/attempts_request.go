package isharetest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// requestAttempts break the rules about the HTTP request and its form.
func (s *Attempts) requestAttempts() []Attempt {
	method := func(name string) func(*Request) { return func(r *Request) { r.Method = name } }
	mediaType := func(value string) func(*Request) { return func(r *Request) { r.Header.Set("Content-Type", value) } }
	return slices.Concat(
		s.breaking(rule.RequestMethod, []variant{
			{name: "GET", about: "The method is GET, with the parameters in the URL.", official: "wrong method", edit: func(r *Request) {
				r.Method, r.InURL = http.MethodGet, true
				r.Header.Del("Content-Type")
			}},
			{name: "PUT", about: "The method is PUT.", edit: method(http.MethodPut)},
			{name: "PATCH", about: "The method is PATCH.", edit: method(http.MethodPatch)},
			{name: "DELETE", about: "The method is DELETE.", edit: method(http.MethodDelete)},
			{name: "OPTIONS", about: "The method is OPTIONS.", edit: method(http.MethodOptions)},
			{name: "lower case", about: "The method is post: methods are compared with regard to case.", edit: method("post")},
		}),
		s.breaking(rule.RequestMediaType, []variant{
			{name: "JSON", about: "The parameters are sent as a JSON object.", official: "body of another media type", edit: (*Request).AsJSON},
			{name: "JSON by name only", about: "A right form is called application/json.", edit: mediaType("application/json")},
			{name: "multipart", about: "A right form is called multipart/form-data.", edit: mediaType("multipart/form-data; boundary=x")},
			{name: "text", about: "A right form is called text/plain.", edit: mediaType("text/plain")},
			{name: "longer name", about: "The media type only begins rightly.", edit: mediaType(MediaType + "-2")},
			{name: "two in one", about: "The header names two media types.", edit: mediaType(MediaType + ", application/json")},
			{name: "two headers", about: "There are two Content-Type headers.", edit: func(r *Request) { r.Header.Add("Content-Type", "application/json") }},
			{name: "missing", about: "There is no Content-Type header.", edit: func(r *Request) { r.Header.Del("Content-Type") }},
		}),
		s.breaking(rule.RequestSize, []variant{
			{name: "one byte too many", about: "The body has 64 KiB and one byte.", body: padTo(maxBody + 1)},
			{name: "one byte too many, no length", about: "The body has 64 KiB and one byte, and does not say so.", body: padTo(maxBody + 1), edit: func(r *Request) { r.Chunked = true }},
			{name: "twice the limit", about: "The body has 128 KiB.", body: padTo(2 * maxBody)},
		}),
		s.breaking(rule.RequestMalformed, []variant{
			{name: "bad escape", about: "A percent sign is followed by letters that are no hex digits.", suffix: "&state=%zz"},
			{name: "short escape", about: "The form ends in the middle of an escape.", suffix: "&state=%4"},
			{name: "bad escape in a name", about: "A parameter's name holds a percent sign that begins no escape.", suffix: "&st%ate=1"},
			{name: "value not UTF-8", about: "A value decodes to bytes that are not UTF-8.", suffix: "&state=%ff%fe"},
			{name: "name not UTF-8", about: "A name decodes to bytes that are not UTF-8.", suffix: "&%c3%28=1"},
			{name: "bytes not UTF-8", about: "The form holds bytes that are not UTF-8, not encoded.", suffix: "&state=\xff"},
		}),
		s.parameterCounts(),
	)
}

// parameterAttempts break the rules about the values of the parameters.
func (s *Attempts) parameterAttempts() []Attempt {
	goBy := func(id string) func(*Request) { return func(r *Request) { r.As(ishare.PartyID(id)) } }
	return slices.Concat(
		s.breaking(rule.RequestGrantType, []variant{
			{name: "authorization_code", about: "grant_type is authorization_code.", official: "grant_type wrong", form: Form{{"grant_type", "authorization_code"}}},
			{name: "jwt-bearer", about: "grant_type is the one of RFC 7523 section 2.1, where the assertion is the grant.", form: Form{{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"}}},
			{name: "refresh_token", about: "grant_type is refresh_token.", form: Form{{"grant_type", "refresh_token"}}},
			{name: "capitals", about: "grant_type is right but for capitals.", form: Form{{"grant_type", "Client_Credentials"}}},
			{name: "blank", about: "grant_type has a blank behind it.", form: Form{{"grant_type", GrantType + " "}}},
		}),
		s.breaking(rule.RequestScope, []variant{
			{name: "openid", about: "scope lacks iSHARE.", official: "scope wrong", form: Form{{"scope", "openid"}}},
			{name: "lower case", about: "scope is ishare.", form: Form{{"scope", "ishare"}}},
			{name: "capitals", about: "scope is ISHARE.", form: Form{{"scope", "ISHARE"}}},
			{name: "unknown value", about: "scope holds a value besides iSHARE that the server does not know.", form: Form{{"scope", "dsgo iSHARE"}}},
			{name: "comma", about: "The values of scope are separated by a comma.", form: Form{{"scope", "iSHARE,openid"}}},
			{name: "leading blank", about: "scope begins with a blank.", form: Form{{"scope", " iSHARE"}}},
			{name: "two blanks", about: "The values of scope are separated by two blanks.", form: Form{{"scope", "iSHARE " + " iSHARE"}}},
			{name: "line break", about: "scope ends with a line break.", form: Form{{"scope", "iSHARE\n"}}},
			{name: "quotes", about: "scope stands in quotes.", form: Form{{"scope", `"iSHARE"`}}},
		}),
		s.breaking(rule.RequestClientID, []variant{
			{name: "no identifier", about: "client_id, iss and sub are a name.", edit: goBy("some-consumer")},
			{name: "URL", about: "client_id, iss and sub are a URL.", edit: goBy("https://consumer.example.org/")},
			{name: "blank", about: "client_id, iss and sub are an identifier with a blank behind it.", edit: goBy("did:ishare:EU.NL.NTRNL-90000001 ")},
			{name: "no value", about: "client_id, iss and sub are a method without a value.", edit: goBy("did:")},
			{name: "line break", about: "client_id, iss and sub hold a line break, which would forge a log line.", edit: goBy("did:ishare:EU.NL\nNTRNL-90000001")},
			{name: "too long", about: "client_id, iss and sub have 256 bytes.", edit: goBy("did:web:" + strings.Repeat("x", 248))},
		}),
		s.breaking(rule.RequestAssertionType, []variant{
			{name: "SAML", about: "client_assertion_type is that of SAML assertions.", official: "client_assertion_type wrong", form: Form{{"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}}},
			{name: "short", about: "client_assertion_type is jwt-bearer without the rest of the URN.", form: Form{{"client_assertion_type", "jwt-bearer"}}},
			{name: "encoded twice", about: "client_assertion_type is percent-encoded twice.", form: Form{{"client_assertion_type", strings.ReplaceAll(AssertionType, ":", "%3A")}}},
			{name: "grant type", about: "client_assertion_type is the URN of the grant type.", form: Form{{"client_assertion_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"}}},
		}),
		s.breaking(rule.RequestClientAuthentication, []variant{
			{name: "basic", about: "An Authorization header carries the client's identifier and a secret.", edit: func(r *Request) {
				r.Header.Set("Authorization", "Basic ZXhhbXBsZTpzZWNyZXQ=") // example:secret
			}},
			{name: "bearer", about: "An Authorization header carries an access token.", edit: func(r *Request) { r.Header.Set("Authorization", "Bearer example") }},
			{name: "secret", about: "The form carries client_secret.", form: Form{{"client_secret", "secret"}}},
		}),
	)
}

// parameterCounts break the rules about how often a parameter occurs.
func (s *Attempts) parameterCounts() []Attempt {
	duplicate := []variant{
		{name: "unknown parameter", about: "A parameter that means nothing to the server occurs twice.", suffix: "&state=1&state=2"},
		{name: "another scope", about: "scope occurs twice, with different values.", edit: func(r *Request) { r.Form.Add("scope", "openid") }},
		{name: "encoded name", about: "scope occurs twice, once with its name percent-encoded.", suffix: "&%73cope=iSHARE"},
	}
	missing := []variant{
		{name: "all in the URL", about: "The parameters are in the URL, not in the body.", edit: func(r *Request) { r.InURL = true }},
		{name: "empty body", about: "The body is empty.", edit: func(r *Request) { r.Form = nil }},
	}
	for _, name := range []string{"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"} {
		duplicate = append(
			duplicate,
			variant{name: name, about: name + " occurs twice, with the same value.", edit: func(r *Request) { r.Form.Add(name, r.Form.Get(name)) }},
		)
		missing = append(
			missing,
			variant{name: name, about: name + " is missing.", official: name + " missing", edit: func(r *Request) { r.Form.Delete(name) }},
			variant{name: name + " empty", about: name + " is empty.", form: Form{{name, ""}}},
			variant{name: name + " in other letters", about: name + " is written in capitals.", edit: func(r *Request) {
				i := slices.IndexFunc(r.Form, func(p Parameter) bool { return p.Name == name })
				r.Form[i].Name = strings.ToUpper(name)
			}},
		)
	}
	return append(s.breaking(rule.RequestDuplicateParameter, duplicate), s.breaking(rule.RequestMissingParameter, missing)...)
}

// maxBody is the size of the largest body that must be read.
const maxBody = 64 << 10

// right are the requests that must get a token, however unusual they look.
func (s *Attempts) right() []Attempt {
	aliases := []variant{{
		name: "client by its other identifier", about: "client_id, iss and sub are an identifier that the client's record lists under alsoKnownAs.",
		edit: func(r *Request) { r.As(s.Consumer.Record.AlsoKnownAs[0]) },
	}}
	for _, alias := range s.audience[1:] {
		aliases = append(aliases, variant{
			name: "server by its other identifier " + string(alias), about: "aud is an identifier that the server's record lists under alsoKnownAs.", claims: Object{{"aud", alias}},
		})
	}
	return slices.Concat(
		s.breaking(nil, []variant{
			{name: "plain", about: "Nothing is wrong.", official: "valid request"},
			{name: "RS384", about: "alg is RS384.", header: Object{{"alg", "RS384"}}},
			{name: "RS512", about: "alg is RS512.", header: Object{{"alg", "RS512"}}},
			{name: "typ in lower case", about: "typ is jwt, which differs in case only.", header: Object{{"typ", "jwt"}}},
			{name: "header in another order", about: "The header's members stand in another order.", edit: func(r *Request) { slices.Reverse(r.Assertion.Header) }},
			{name: "payload with white space", about: "The payload has white space between its members.", edit: func(r *Request) {
				r.Assertion.PayloadText = " " + strings.ReplaceAll(r.Assertion.Payload.String(), `,"`, ",\r\n\t\"") + "\n"
			}},
			{name: "more claims", about: "The payload holds claims that mean nothing to the server.", claims: Object{{"azp", "somebody"}, {"roles", []string{"admin"}}, {"nested", Object{{"a", Object{{"b", nil}}}}}}},
			{name: "claims that differ in case", about: "The payload holds other parties' identifiers under names that differ from claims in case only.", claims: Object{{"SUB", s.Other.ID()}, {"Iss", s.Other.ID()}, {"AUD", "EU.EORI.NL000000000"}, {"ſub", s.Other.ID()}, {"EXP", 0}}},
			{name: "fractions of seconds", about: "iat and exp are numbers with a fraction, exactly 30 seconds apart.", edit: func(r *Request) {
				now := time.Now()
				fraction := func(t time.Time) Raw { return Raw(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1e6)) }
				setTimes(r, fraction(now), fraction(now.Add(30*time.Second)))
			}},
			{name: "nbf", about: "nbf is the same as iat.", edit: func(r *Request) { r.Assertion.Payload.Set("nbf", r.Assertion.Payload.Get("iat")) }},
			{name: "longest jti", about: "jti has 255 bytes.", edit: func(r *Request) { r.Assertion.Payload.Set("jti", uuid()+strings.Repeat("j", 255-36)) }},
			{name: "old", about: "The assertion is 20 seconds old.", edit: shift(-20 * time.Second)},
		}),
		inRequest(s.breaking(nil, []variant{
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
			{name: "repeated scope value", about: "scope holds iSHARE twice, which asks for nothing more.", form: Form{{"scope", ishare.ScopeISHARE + " " + ishare.ScopeISHARE}}},
			{name: "largest body", about: "The body has exactly 64 KiB.", body: padTo(maxBody)},
			{name: "no length", about: "The body does not say how long it is.", edit: func(r *Request) { r.Chunked = true }},
			{name: "everything percent-encoded", about: "Every character of the form is percent-encoded, half of them in lower case.", body: percentEncode},
		})),
		s.breaking(nil, aliases),
		s.rightRows(),
	)
}

// shift moves the times of the assertion.
func shift(by time.Duration) func(*Request) {
	return func(r *Request) {
		now := time.Now().Add(by).Unix()
		setTimes(r, now, now+30)
	}
}

func setTimes(r *Request, iat, exp any) {
	r.Assertion.Payload.Set("iat", iat)
	r.Assertion.Payload.Set("exp", exp)
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

// rightRows are rows of requests of which the last must get a token, whatever became of those before.
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
		"chain":     {rule.ChainUntrusted, func(r *Request) { r.Assertion.Header.Set("x5c", X5C(s.Consumer.Certificates[0])) }},
		"audience":  {rule.ClaimAud, func(r *Request) { r.Assertion.Payload.Set("aud", s.Other.ID()) }},
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
