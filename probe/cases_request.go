package probe

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// rightCases are requests that must get a token, however unusual they look.
func rightCases() []Case {
	const (
		ignored    = "iSHARE 3.0, access token: what is not known is ignored"
		algorithms = "iSHARE 3.0, developer portal: RS256, RS384 or RS512; its framework page, and all of 2.x: RS256"
	)
	return accepted([]Case{
		{Name: "plain", Official: "valid request", Sends: "Nothing is wrong.", Spec: "iSHARE 3.0, access token", change: func(*draft) {}},
		{
			Name: "additional-parameters", Official: "additional parameters", Sends: "The form holds two parameters that mean nothing to the server.",
			Spec: ignored + "; RFC 6749 section 3.2", change: func(d *draft) {
				d.Form.Add("probe", "https://example.org/")
				d.Form.Add("état", "é")
			},
		},
		{Name: "parameters-in-another-order", Sends: "The parameters stand in another order.", Spec: "RFC 6749 appendix B", change: func(d *draft) { slices.Reverse(d.Form) }},
		{Name: "media-type-with-charset", Weight: Should, Sends: "The media type has a charset.", Spec: "RFC 9110 section 8.3.1", change: httpHeader("Content-Type", isharetest.MediaType+"; charset=UTF-8")},
		{Name: "empty-parameter", Weight: Should, Sends: "An optional parameter is there without a value.", Spec: "RFC 6749 section 3.2: as if it were not there", change: func(d *draft) { d.Form.Add("probe", "") }},
		{Name: "RS384", Weight: Should, Sends: "alg is RS384.", Spec: algorithms, change: header("alg", "RS384")},
		{Name: "RS512", Weight: Should, Sends: "alg is RS512.", Spec: algorithms, change: header("alg", "RS512")},
		{Name: "typ-in-lower-case", Weight: Ours, Sends: "typ is jwt, which differs in case only.", Spec: "iSHARE's conformance test compares without regard to case; RFC 7519 section 5.1", change: header("typ", "jwt")},
		{Name: "header-in-another-order", Sends: "The members of the header stand in another order.", Spec: "RFC 8259 section 4: an object is unordered", change: func(d *draft) { slices.Reverse(d.Assertion.Header) }},
		{Name: "payload-with-white-space", Sends: "The payload has white space between its members.", Spec: "RFC 8259 section 2", change: func(d *draft) {
			d.Assertion.PayloadText = strings.ReplaceAll(d.Assertion.Payload.String(), `,"`, ",\r\n\t\"") + "\n"
		}},
		{Name: "more-claims", Sends: "The payload holds claims that mean nothing to the server.", Spec: "RFC 7519 section 4: claims that are not understood are ignored", change: func(d *draft) {
			d.Assertion.Payload.Set("azp", "somebody")
			d.Assertion.Payload.Set("nested", isharetest.Object{{Name: "a", Value: []int{1}}})
		}},
		{Name: "nbf", Weight: Should, Sends: "nbf is the same as iat.", Spec: "RFC 7519 section 4.1.5", change: func(d *draft) {
			d.Assertion.Payload.Set("nbf", d.Assertion.Payload.Get("iat"))
		}},
		{Name: "fractions-of-seconds", Weight: Ours, Sends: "iat and exp are numbers with a fraction, exactly 30 seconds apart.", Spec: "RFC 7519 section 2, NumericDate; the OpenAPI description has integers", change: func(d *draft) {
			now := time.Now()
			fraction := func(t time.Time) isharetest.Raw {
				return isharetest.Raw(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1e6))
			}
			d.times(fraction(now), fraction(now.Add(30*time.Second)))
		}},
		{Name: "fifteen-seconds-old", Weight: Should, Sends: "The assertion is 15 seconds old, half of its life.", Spec: "iSHARE 3.0, client assertion: good until exp", change: func(d *draft) { d.times(ago(15*time.Second), ago(-15*time.Second)) }},
		{Name: "jti-of-any-form", Sends: "jti is a text that is no UUID.", Spec: "iSHARE 3.0, client assertion: not necessarily a UUID", change: func(d *draft) {
			d.Assertion.Payload.Set("jti", fmt.Sprintf("probe/%d:ä", time.Now().UnixNano()))
		}},
	})
}

// requestCases break the rules about the HTTP request and the shape of its form.
func requestCases() []Case {
	method := func(name string) func(*draft) { return func(d *draft) { d.Method = name } }
	elsewhere := []int{http.StatusNotFound, http.StatusUnsupportedMediaType}
	cases := slices.Concat(refused(rule.RequestMethod, []Case{
		{Name: "GET", Official: "wrong method", Sends: "The method is GET, with the parameters in the URL.", Wants: "405 or 404", judge: mustRefuseMethod, alone: true, change: func(d *draft) {
			d.Method, d.InURL = http.MethodGet, true
			d.Header.Del("Content-Type")
		}},
		{Name: "PUT", Weight: Should, Sends: "The method is PUT.", Wants: "405 or 404", judge: mustRefuseMethod, alone: true, change: method(http.MethodPut)},
	}), refused(rule.RequestMediaType, []Case{
		{Name: "JSON", Official: "body of another media type", Sends: "The parameters are sent as a JSON object.", statuses: elsewhere, change: func(d *draft) { d.AsJSON() }},
		{Name: "JSON-by-name", Weight: Should, Sends: "A right form is called application/json.", statuses: elsewhere, change: httpHeader("Content-Type", "application/json")},
		{Name: "text", Weight: Should, Sends: "A right form is called text/plain.", statuses: elsewhere, change: httpHeader("Content-Type", "text/plain")},
		{Name: "missing", Weight: Should, Sends: "There is no Content-Type header.", statuses: elsewhere, change: func(d *draft) { d.Header.Del("Content-Type") }},
	}), refused(rule.RequestSize, []Case{
		{Name: "a-megabyte", Weight: Ours, Sends: "The body has a megabyte, nearly all of it in a parameter that means nothing.", judge: mustRefuseSize, change: suffix("&padding=" + strings.Repeat("x", 1<<20))},
	}), refused(rule.RequestMalformed, []Case{
		{Name: "bad-escape", Weight: Ours, Sends: "A percent sign is followed by letters that are no hex digits.", change: suffix("&state=%zz")},
		{Name: "not-UTF-8", Weight: Ours, Sends: "A value decodes to bytes that are not UTF-8.", change: suffix("&state=%ff%fe")},
	}), countCases())
	return cases
}

// countCases break the rules about how often a parameter occurs.
func countCases() []Case {
	var twice, missing []Case
	for _, name := range []string{"grant_type", "scope", "client_id", "client_assertion_type", "client_assertion"} {
		twice = append(twice, Case{Name: name, Sends: name + " occurs twice, with the same value.", change: func(d *draft) { d.Form.Add(name, d.Form.Get(name)) }})
		missing = append(
			missing,
			Case{Name: name, Official: name + " missing", Sends: name + " is missing.", change: withoutParameter(name)},
			Case{Name: name + "-empty", Sends: name + " is empty.", Spec: "RFC 6749 section 3.2: as if it were not there", change: parameter(name, "")},
		)
	}
	twice = append(
		twice,
		Case{Name: "another-client_id", Sends: "client_id occurs twice, the second time with another party's identifier.", change: func(d *draft) { d.Form.Add("client_id", string(otherParty(d.seal.ClientID))) }},
		Case{Name: "unknown-parameter", Weight: Should, Sends: "A parameter that means nothing to the server occurs twice.", change: suffix("&state=1&state=2")},
	)
	missing = append(missing, Case{
		Name: "all-in-the-URL", Sends: "The parameters are in the URL, not in the body.",
		Spec: "RFC 6749 section 2.3.1: not in the request URI", statuses: []int{http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge}, change: func(d *draft) { d.InURL = true },
	})
	return slices.Concat(refused(rule.RequestDuplicateParameter, twice), refused(rule.RequestMissingParameter, missing))
}

// parameterCases break the rules about the values of the parameters.
func parameterCases() []Case {
	goBy := func(id ishare.PartyID) func(*draft) { return func(d *draft) { d.As(id) } }
	return slices.Concat(refused(rule.RequestGrantType, []Case{
		{Name: "authorization_code", Official: "grant_type wrong", Sends: "grant_type is authorization_code.", change: parameter("grant_type", "authorization_code")},
		{Name: "capitals", Weight: Should, Sends: "grant_type is right but for capitals.", change: parameter("grant_type", "CLIENT_CREDENTIALS")},
	}), refused(rule.RequestScope, []Case{
		{Name: "openid", Official: "scope wrong", Sends: "scope lacks iSHARE.", change: parameter("scope", "openid")},
		{Name: "lower-case", Weight: Should, Sends: "scope is ishare in small letters.", Spec: "iSHARE 3.0, access token: compared with regard to case; clients of DSGO send it so", change: parameter("scope", "ishare")},
		{Name: "comma", Weight: Should, Sends: "The values of scope are separated by a comma.", change: parameter("scope", "iSHARE,openid")},
	}), refused(rule.RequestClientID, []Case{
		{Name: "no-identifier", Sends: "client_id, iss and sub are a name.", change: goBy("some-consumer")},
	}), refused(rule.RequestAssertionType, []Case{
		{Name: "SAML", Official: "client_assertion_type wrong", Sends: "client_assertion_type is that of SAML assertions.", change: parameter("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")},
		{Name: "short", Sends: "client_assertion_type is jwt-bearer without the rest of the URN.", change: parameter("client_assertion_type", "jwt-bearer")},
	}), refused(rule.RequestClientAuthentication, []Case{
		{Name: "basic", Weight: Should, Sends: "An Authorization header carries a name and a secret besides.", change: httpHeader("Authorization", "Basic ZXhhbXBsZTpzZWNyZXQ=")},
		{Name: "secret", Weight: Should, Sends: "The form carries a client_secret besides.", change: parameter("client_secret", "secret")},
	}))
}

// otherParty is an identifier of the same form as the client's, which is nobody's: its number is nothing but nines. A real
// one could be that of somebody who would then stand in the server's log.
func otherParty(id ishare.PartyID) ishare.PartyID {
	end := strings.LastIndexAny(string(id), "0123456789") + 1
	if end == 0 {
		return id + "1"
	}
	digits := id[:end]
	begin := len(strings.TrimRight(string(digits), "0123456789"))
	other := id[:begin] + ishare.PartyID(strings.Repeat("9", end-begin)) + id[end:]
	if other == id {
		other = id[:end-1] + "8" + id[end:]
	}
	return other
}
