package tokenendpoint_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

const multipartForm = "--b\r\nContent-Disposition: form-data; name=\"scope\"\r\n\r\niSHARE\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"client_id\"\r\n\r\ndid:ishare:EU.NL.NTRNL-10000001\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"client_assertion_type\"\r\n\r\nurn:ietf:params:oauth:client-assertion-type:jwt-bearer\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"client_assertion\"\r\n\r\na.b;c\r\n--b--\r\n"

// What was sent is read in whatever form, as the endpoint reads it where it does.
func TestSent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ mediaType, body, name, want string }{
		{"application/x-www-form-urlencoded", "a=1&b=2", "b", "2"},
		{"application/x-www-form-urlencoded", "a=1;b=2", "a", "1;b=2"},
		{"application/x-www-form-urlencoded", "a=&a=1&a=2", "a", "1"},
		{"application/x-www-form-urlencoded", "%zz&a=1", "a", "1"},
		{"application/json", `{"a":"1","b":2}`, "a", "1"},
		{"multipart/form-data; boundary=b", multipartForm, "client_assertion", "a.b;c"},
		{"multipart/form-data; boundary=other", multipartForm, "client_assertion", ""},
	} {
		if got := tokenendpoint.Sent(http.Header{"Content-Type": {test.mediaType}}, []byte(test.body)).Get(test.name); got != test.want {
			t.Errorf("%s of %q as %s: %q", test.name, test.body, test.mediaType, got)
		}
	}
}

// A parameter that was sent in the wrong form is not said to be missing besides.
func TestExplainMultipart(t *testing.T) {
	t.Parallel()
	trace := &rule.Trace{}
	asked := tokenendpoint.Explain(&http.Request{
		Method: http.MethodPost, URL: &url.URL{}, Header: http.Header{"Content-Type": {"multipart/form-data; boundary=b"}},
		Body: io.NopCloser(strings.NewReader(multipartForm)), ContentLength: int64(len(multipartForm)),
	}, []string{"iSHARE"}, trace)
	if asked.Assertion != "a.b;c" || asked.ClientID != "did:ishare:EU.NL.NTRNL-10000001" {
		t.Errorf("%+v", asked)
	}
	for _, r := range rule.All() {
		if rejection, _ := trace.Outcome(r); (rejection != nil) != (r == rule.RequestMediaType) {
			t.Errorf("%s: %v", r.ID, rejection)
		}
	}
}
