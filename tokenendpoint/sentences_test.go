package tokenendpoint_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/tokenendpoint"
)

// A refusal tells the value that was seen, and the log has the hint that mends it.
func TestSentencesAndHints(t *testing.T) {
	const jwtBearerGrant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	header := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Add(pairs[i], pairs[i+1])
			}
		}
	}
	for _, test := range []struct {
		name           string
		changes        []string
		change         func(*http.Request)
		sentence, hint string
	}{
		{"method", nil, func(r *http.Request) { r.Method = "PUT" }, "request.method: this endpoint answers POST, not 'PUT'", "body of a POST"},
		{"JSON", nil, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, "request.media-type: the content type is 'application/json', not application/x-www-form-urlencoded", "not as JSON"},
		{"no type", nil, func(r *http.Request) { r.Header.Del("Content-Type") }, "request.media-type: the request has no content type", "Set Content-Type"},
		{"two types", nil, header("Content-Type", "text/plain"), "request.media-type: the request has 2 content types", "once"},
		{"gzip", nil, header("Content-Encoding", "gzip"), "request.media-type: the body is compressed ('gzip')", "without Content-Encoding"},
		{"size", nil, func(r *http.Request) { r.ContentLength = 70_000 }, "request.size: the body has 70000 bytes, more than 65536", "five parameters"},
		{"shorter", nil, func(r *http.Request) { r.ContentLength++ }, "request.malformed: the body has ", "Content-Length is in bytes"},
		{"missing", []string{"scope", ""}, nil, "request.missing-parameter: the parameter scope is missing or empty", "in the body, not in the URL"},
		{"in the URL", []string{"scope", ""}, func(r *http.Request) { r.URL.RawQuery = "scope=iSHARE" }, "request.missing-parameter: the parameter scope is missing in the body; it stands in the URL", "Move all parameters"},
		{"grant", []string{"grant_type", "password"}, nil, "request.grant-type: grant_type is 'password', not client_credentials", "grant_type=client_credentials"},
		{"jwt-bearer grant", []string{"grant_type", jwtBearerGrant}, nil, "request.grant-type: grant_type is '" + jwtBearerGrant + "'", "is no grant"},
		{"scope in small letters", []string{"scope", "ishare"}, nil, "request.scope: scope is 'ishare', which lacks iSHARE: it is written", "capitals matter"},
		{"scopes with a comma", []string{"scope", "iSHARE,orders"}, nil, "request.scope: scope is 'iSHARE,orders', which lacks iSHARE as a value", "by blanks"},
		{"scope with two blanks", []string{"scope", "iSHARE  orders"}, nil, "request.scope: scope is 'iSHARE  orders': ", "one blank each"},
		{"unknown scope", []string{"scope", "iSHARE dsgo"}, nil, "request.scope: this server does not know the scope value 'dsgo'", "scopes_supported"},
		{"client_id", []string{"client_id", "https://example.com"}, nil, "request.client-id: client_id is 'https://example.com', which is not a party identifier", "did:ishare:"},
		{"client_id with a line feed", []string{"client_id", "EU.EORI.NL1\n"}, nil, "request.client-id: client_id is 'EU.EORI.NL1<U+000A>', which is not a party identifier: it ends with a line feed", "Take it off"},
		{"assertion in client_id", []string{"client_id", "eyJhbGciOiJSUzI1NiJ9.e30.AA\x00"}, nil, "request.client-id: client_id is 'eyJ...'", "did:ishare:"},
		{"assertion type", []string{"client_assertion_type", jwtBearerGrant}, nil, "request.assertion-type: client_assertion_type is '" + jwtBearerGrant + "', not urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client-assertion-type:jwt-bearer"},
		{"Basic", nil, header("Authorization", "Basic geheim"), "request.client-authentication: the request carries HTTP Basic credentials", "in place of client_secret_basic"},
		{"Bearer", nil, header("Authorization", "bearer geheim"), "request.client-authentication: the request carries a Bearer token", "no token yet"},
		{"another scheme", nil, header("Authorization", "geheim"), "request.client-authentication: the request carries an Authorization header", "the assertion authenticates"},
		{"client_secret", []string{"client_secret", "geheim"}, nil, "request.client-authentication: the request carries client_secret", "in place of client_secret_post"},
		{"assertion", []string{"client_assertion", "a.b"}, nil, "jwt.compact: client_assertion is not a compact JWT: it has 2 parts", "header.payload.signature"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEndpoint(t)
			body := e.form(e.client.Assertion(provider), test.changes...).Encode()
			r := httptest.NewRequest(http.MethodPost, tokenendpoint.Path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if test.change != nil {
				test.change(r)
			}
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if got := decode(t, w).Description; !strings.HasPrefix(got, test.sentence) {
				t.Errorf("%q, want %q", got, test.sentence)
			}
			var event struct{ Cause, Hint string }
			check(t, json.Unmarshal([]byte(e.log.String()), &event, json.MatchCaseInsensitiveNames(true)))
			if !strings.HasPrefix(event.Cause, test.sentence) || !strings.Contains(event.Hint, test.hint) {
				t.Errorf("the log has %+v, want the hint %q", event, test.hint)
			}
			if strings.Contains(w.Body.String()+e.log.String(), "geheim") {
				t.Errorf("a secret is told: %s %s", w.Body, e.log)
			}
		})
	}
}
