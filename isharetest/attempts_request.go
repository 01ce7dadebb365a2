package isharetest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// requestAttempts break the rules about the HTTP request.
func (s *Attempts) requestAttempts() []Attempt {
	return slices.Concat(
		s.breaking(rule.RequestMethod, wrongMethods()...),
		s.breaking(rule.RequestMediaType, wrongMediaTypes()...),
		s.breaking(rule.RequestSize, wrongSizes()...),
		s.breaking(rule.RequestMalformed, malformedForms()...),
		s.breaking(rule.RequestDuplicateParameter, duplicateParameters()...),
		s.breaking(rule.RequestMissingParameter, missingParameters()...),
		s.breaking(rule.RequestGrantType, wrongGrantTypes()...),
		s.breaking(rule.RequestScope, wrongScopes()...),
		s.breaking(rule.RequestClientID, wrongClientIDs()...),
		s.breaking(rule.RequestAssertionType, wrongAssertionTypes()...),
		s.breaking(rule.RequestClientAuthentication, s.secondAuthentications()...),
	)
}

func method(name string) func(*Request) { return func(r *Request) { r.Method = name } }

func wrongMethods() []variant {
	return []variant{
		{name: "GET", about: "The method is GET, with the parameters in the URL.", official: "wrong method", edit: both(method(http.MethodGet), func(r *Request) {
			r.InURL = true
			r.Header.Del("Content-Type")
		})},
		{name: "PUT", about: "The method is PUT.", edit: method(http.MethodPut)},
		{name: "PATCH", about: "The method is PATCH.", edit: method(http.MethodPatch)},
		{name: "DELETE", about: "The method is DELETE.", edit: method(http.MethodDelete)},
		{name: "OPTIONS", about: "The method is OPTIONS.", edit: method(http.MethodOptions)},
		{name: "lower case", about: "The method is post: methods are compared with regard to case.", edit: method("post")},
	}
}

func mediaType(value string) func(*Request) {
	return func(r *Request) { r.Header.Set("Content-Type", value) }
}

func wrongMediaTypes() []variant {
	return []variant{
		{name: "JSON", about: "The parameters are sent as a JSON object.", official: "body of another media type", edit: both(mediaType("application/json"), func(r *Request) {
			r.Rewrite = func(string) string {
				var o Object
				for _, p := range r.Form {
					o.Add(p.Name, strings.Replace(p.Value, Signed, r.Assertion.Compact(), 1))
				}
				return o.String()
			}
		})},
		{name: "JSON by name only", about: "A right form is called application/json.", edit: mediaType("application/json")},
		{name: "multipart", about: "A right form is called multipart/form-data.", edit: mediaType("multipart/form-data; boundary=x")},
		{name: "text", about: "A right form is called text/plain.", edit: mediaType("text/plain")},
		{name: "longer name", about: "The media type only begins rightly.", edit: mediaType(MediaType + "-2")},
		{name: "two in one", about: "The header names two media types.", edit: mediaType(MediaType + ", application/json")},
		{name: "two headers", about: "There are two Content-Type headers.", edit: func(r *Request) { r.Header.Add("Content-Type", "application/json") }},
		{name: "missing", about: "There is no Content-Type header.", edit: func(r *Request) { r.Header.Del("Content-Type") }},
	}
}

func wrongSizes() []variant {
	return []variant{
		{name: "one byte too many", about: "The body has 64 KiB and one byte.", edit: func(r *Request) { r.Rewrite = padTo(maxBody + 1) }},
		{name: "one byte too many, no length", about: "The body has 64 KiB and one byte, and does not say so.", edit: func(r *Request) {
			r.Rewrite, r.Chunked = padTo(maxBody+1), true
		}},
		{name: "twice the limit", about: "The body has 128 KiB.", edit: func(r *Request) { r.Rewrite = padTo(2 * maxBody) }},
	}
}

func suffix(text string) func(*Request) {
	return func(r *Request) { r.Rewrite = func(form string) string { return form + text } }
}

func malformedForms() []variant {
	return []variant{
		{name: "bad escape", about: "A percent sign is followed by letters that are no hex digits.", edit: suffix("&state=%zz")},
		{name: "short escape", about: "The form ends in the middle of an escape.", edit: suffix("&state=%4")},
		{name: "bad escape in a name", about: "A parameter's name holds a percent sign that begins no escape.", edit: suffix("&st%ate=1")},
		{name: "value not UTF-8", about: "A value decodes to bytes that are not UTF-8.", edit: suffix("&state=%ff%fe")},
		{name: "name not UTF-8", about: "A name decodes to bytes that are not UTF-8.", edit: suffix("&%c3%28=1")},
		{name: "bytes not UTF-8", about: "The form holds bytes that are not UTF-8, not encoded.", edit: suffix("&state=\xff")},
	}
}

// required are the parameters of every token request.
func required() []string {
	return []string{"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"}
}

func duplicateParameters() []variant {
	variants := []variant{
		{name: "unknown parameter", about: "A parameter that means nothing to the server occurs twice.", edit: suffix("&state=1&state=2")},
		{name: "another scope", about: "scope occurs twice, with different values.", edit: func(r *Request) { r.Form.Add("scope", "openid") }},
		{name: "encoded name", about: "scope occurs twice, once with its name percent-encoded.", edit: suffix("&%73cope=iSHARE")},
	}
	for _, name := range required() {
		variants = append(variants, variant{name: name, about: name + " occurs twice, with the same value.", edit: func(r *Request) { r.Form.Add(name, r.Form.Get(name)) }})
	}
	return variants
}

func missingParameters() []variant {
	variants := []variant{
		{name: "all in the URL", about: "The parameters are in the URL, not in the body.", edit: func(r *Request) { r.InURL = true }},
		{name: "empty body", about: "The body is empty.", edit: func(r *Request) { r.Form = nil }},
	}
	for _, name := range required() {
		variants = append(
			variants,
			variant{name: name, about: name + " is missing.", official: name + " missing", edit: func(r *Request) { r.Form.Delete(name) }},
			variant{name: name + " empty", about: name + " is empty.", edit: setForm(name, "")},
			variant{name: name + " in other letters", about: name + " is written in capitals.", edit: func(r *Request) {
				r.Form[r.Form.index(name)].Name = strings.ToUpper(name)
			}},
		)
	}
	return variants
}

func wrongGrantTypes() []variant {
	return []variant{
		{name: "authorization_code", about: "grant_type is authorization_code.", official: "grant_type wrong", edit: setForm("grant_type", "authorization_code")},
		{name: "jwt-bearer", about: "grant_type is the one of RFC 7523 section 2.1, where the assertion is the grant.", edit: setForm("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")},
		{name: "refresh_token", about: "grant_type is refresh_token.", edit: setForm("grant_type", "refresh_token")},
		{name: "capitals", about: "grant_type is right but for capitals.", edit: setForm("grant_type", "Client_Credentials")},
		{name: "blank", about: "grant_type has a blank behind it.", edit: setForm("grant_type", GrantType+" ")},
	}
}

func wrongScopes() []variant {
	return []variant{
		{name: "openid", about: "scope lacks iSHARE.", official: "scope wrong", edit: setForm("scope", "openid")},
		{name: "lower case", about: "scope is ishare.", edit: setForm("scope", "ishare")},
		{name: "capitals", about: "scope is ISHARE.", edit: setForm("scope", "ISHARE")},
		{name: "unknown value", about: "scope holds a value besides iSHARE that the server does not know.", edit: setForm("scope", "dsgo iSHARE")},
		{name: "comma", about: "The values of scope are separated by a comma.", edit: setForm("scope", "iSHARE,openid")},
		{name: "leading blank", about: "scope begins with a blank.", edit: setForm("scope", " iSHARE")},
		{name: "two blanks", about: "The values of scope are separated by two blanks.", edit: setForm("scope", "iSHARE "+" iSHARE")},
		{name: "line break", about: "scope ends with a line break.", edit: setForm("scope", "iSHARE\n")},
		{name: "quotes", about: "scope stands in quotes.", edit: setForm("scope", `"iSHARE"`)},
	}
}

func goBy(id string) func(*Request) { return func(r *Request) { r.As(ishare.PartyID(id)) } }

func wrongClientIDs() []variant {
	return []variant{
		{name: "no identifier", about: "client_id, iss and sub are a name.", edit: goBy("some-consumer")},
		{name: "URL", about: "client_id, iss and sub are a URL.", edit: goBy("https://consumer.example.org/")},
		{name: "blank", about: "client_id, iss and sub are an identifier with a blank behind it.", edit: goBy("did:ishare:EU.NL.NTRNL-90000001 ")},
		{name: "no value", about: "client_id, iss and sub are a method without a value.", edit: goBy("did:")},
		{name: "line break", about: "client_id, iss and sub hold a line break, which would forge a log line.", edit: goBy("did:ishare:EU.NL\nNTRNL-90000001")},
		{name: "too long", about: "client_id, iss and sub have 256 bytes.", edit: goBy("did:web:" + strings.Repeat("x", 248))},
	}
}

func wrongAssertionTypes() []variant {
	const name = "client_assertion_type"
	return []variant{
		{name: "SAML", about: "client_assertion_type is that of SAML assertions.", official: "client_assertion_type wrong", edit: setForm(name, "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")},
		{name: "short", about: "client_assertion_type is jwt-bearer without the rest of the URN.", edit: setForm(name, "jwt-bearer")},
		{name: "encoded twice", about: "client_assertion_type is percent-encoded twice.", edit: setForm(name, strings.ReplaceAll(AssertionType, ":", "%3A"))},
		{name: "grant type", about: "client_assertion_type is the URN of the grant type.", edit: setForm(name, "urn:ietf:params:oauth:grant-type:jwt-bearer")},
	}
}

func (s *Attempts) secondAuthentications() []variant {
	return []variant{
		{name: "basic", about: "An Authorization header carries the client's identifier and a secret.", edit: func(r *Request) {
			r.Header.Set("Authorization", "Basic ZXhhbXBsZTpzZWNyZXQ=") // example:secret
		}},
		{name: "bearer", about: "An Authorization header carries an access token.", edit: func(r *Request) { r.Header.Set("Authorization", "Bearer example") }},
		{name: "secret", about: "The form carries client_secret.", edit: setForm("client_secret", "secret")},
	}
}
