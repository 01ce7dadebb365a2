package guard_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
)

// The access-token cases of iSHARE's conformance test, and more, whichever way an API is guarded.
func TestEveryWay(t *testing.T) {
	type story struct {
		house *guardtest.Issuer
		token string // good, with the scope iSHARE
		wide  string // good, with orders besides
	}
	cases := []struct {
		name    string
		headers func(t *testing.T, s story) []string // values of Authorization
		scopes  []string
		method  string
		status  int
		error   string // the error code in challenge and body
	}{
		{"valid", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.token} }, []string{"iSHARE"}, "GET", 200, ""},
		{"valid, scheme in another case", func(_ *testing.T, s story) []string { return []string{"bEARER " + s.token} }, nil, "GET", 200, ""},
		{"valid, wider than needed", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.wide} }, []string{"iSHARE"}, "GET", 200, ""},
		{"valid, several scopes", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.wide} }, []string{"orders", "iSHARE"}, "GET", 200, ""},
		{"wrong method", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.token} }, nil, "POST", 405, ""},
		{"expired ten minutes ago", func(_ *testing.T, s story) []string {
			time.Sleep(time.Hour + 10*time.Minute)
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
		{"expired this second", func(_ *testing.T, s story) []string {
			time.Sleep(time.Hour)
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
		{"tampered", func(_ *testing.T, s story) []string {
			return []string{"Bearer " + s.token[:len(s.token)-4] + flip(s.token[len(s.token)-4:])}
		}, nil, "GET", 401, "invalid_token"},
		{"signature missing", func(_ *testing.T, s story) []string {
			return []string{"Bearer " + s.token[:strings.LastIndexByte(s.token, '.')]}
		}, nil, "GET", 401, "invalid_token"},
		{"signature empty", func(_ *testing.T, s story) []string {
			return []string{"Bearer " + s.token[:strings.LastIndexByte(s.token, '.')+1]}
		}, nil, "GET", 401, "invalid_token"},
		{"of another server", func(t *testing.T, _ story) []string {
			return []string{"Bearer " + guardtest.NewIssuer(t).Token(t, "iSHARE")}
		}, nil, "GET", 401, "invalid_token"},
		{"too long", func(*testing.T, story) []string { return []string{"Bearer " + strings.Repeat("a", 9<<10)} }, nil, "GET", 401, "invalid_token"},
		{"missing", func(*testing.T, story) []string { return nil }, nil, "GET", 401, ""},
		{"not Bearer", func(*testing.T, story) []string { return []string{"Basic Zm9vOmJhcg=="} }, nil, "GET", 400, "invalid_request"},
		{"no scheme", func(_ *testing.T, s story) []string { return []string{s.token} }, nil, "GET", 400, "invalid_request"},
		{"empty header", func(*testing.T, story) []string { return []string{""} }, nil, "GET", 401, ""},
		{"header of blanks", func(*testing.T, story) []string { return []string{" \t"} }, nil, "GET", 401, ""},
		{"two headers, one empty", func(_ *testing.T, s story) []string { return []string{"", "Bearer " + s.token} }, nil, "GET", 400, "invalid_request"},
		{"no token", func(*testing.T, story) []string { return []string{"Bearer "} }, nil, "GET", 400, "invalid_request"},
		{"two headers", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.token, "Bearer " + s.token} }, nil, "GET", 400, "invalid_request"},
		{"two tokens", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.token + ", Bearer " + s.token} }, nil, "GET", 400, "invalid_request"},
		{"token behind two blanks", func(_ *testing.T, s story) []string { return []string{"Bearer  " + s.token} }, nil, "GET", 200, ""},
		{"token behind many blanks", func(_ *testing.T, s story) []string { return []string{"bearer" + strings.Repeat(" ", 20) + s.token} }, nil, "GET", 200, ""},
		{"blanks around the value", func(_ *testing.T, s story) []string { return []string{"\t Bearer " + s.token + " \t"} }, nil, "GET", 200, ""},
		{"token behind a tab", func(_ *testing.T, s story) []string { return []string{"Bearer\t" + s.token} }, nil, "GET", 400, "invalid_request"},
		{"token behind a blank and a tab", func(_ *testing.T, s story) []string { return []string{"Bearer \t" + s.token} }, nil, "GET", 400, "invalid_request"},
		{"nothing but blanks behind Bearer", func(*testing.T, story) []string { return []string{"Bearer   "} }, nil, "GET", 400, "invalid_request"},
		{"something behind the token", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.token + " x"} }, nil, "GET", 400, "invalid_request"},
		{"narrow", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.token} }, []string{"orders"}, "GET", 403, "insufficient_scope"},
		{"scope in another case", func(_ *testing.T, s story) []string { return []string{"Bearer " + s.wide} }, []string{"Orders"}, "GET", 403, "insufficient_scope"},
		{"revoked", func(t *testing.T, s story) []string {
			c, err := s.house.Check(t.Context(), s.token)
			guardtest.NoError(t, err)
			guardtest.NoError(t, s.house.Revocations.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: c.ID, Expires: c.Expires}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
		{"another token is revoked", func(t *testing.T, s story) []string {
			guardtest.NoError(t, s.house.Revocations.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "ANOTHER"}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 200, ""},
		{"party revoked", func(t *testing.T, s story) []string {
			guardtest.NoError(t, s.house.Revocations.Revoke(t.Context(), accesstoken.TokenRevocation{Party: guardtest.Consumer}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
		{"party revoked, token from after", func(t *testing.T, s story) []string {
			guardtest.NoError(t, s.house.Revocations.Revoke(t.Context(), accesstoken.TokenRevocation{Party: guardtest.Consumer}))
			time.Sleep(time.Second)
			return []string{"Bearer " + s.house.Token(t, "iSHARE")}
		}, nil, "GET", 200, ""},
		{"certificate revoked", func(t *testing.T, s story) []string {
			guardtest.NoError(t, s.house.Revocations.Revoke(t.Context(), accesstoken.TokenRevocation{Thumbprint: guardtest.Certificate}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
	}
	for _, w := range guardtest.Ways() {
		for _, c := range cases {
			t.Run(w.Name+"/"+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := guardtest.NewIssuer(t)
					handler := w.Guard(t, h, nil, c.scopes...)
					values := c.headers(t, story{h, h.Token(t, "iSHARE"), h.Token(t, "iSHARE", "orders")})
					r := httptest.NewRequest(c.method, "/orders", nil)
					if values != nil {
						r.Header["Authorization"] = values
					}
					spoof(r.Header)
					answer := httptest.NewRecorder()
					handler.ServeHTTP(answer, r)
					if answer.Code != c.status {
						t.Fatalf("status %d, want %d: %s", answer.Code, c.status, answer.Body)
					}
					switch c.status {
					case http.StatusOK:
						wantIdentity(t, answer)
					case http.StatusMethodNotAllowed:
					default:
						wantRefusal(t, answer, c.error, c.scopes)
					}
				})
			})
		}
	}
}

// spoof adds what a client might send to pass as somebody else.
func spoof(h http.Header) {
	for _, name := range guardtest.IdentityHeaders {
		h[name] = []string{"did:ishare:EU.NL.NTRNL-66666666"}
	}
}

func wantIdentity(t *testing.T, answer *httptest.ResponseRecorder) {
	t.Helper()
	got := answer.Body.String()
	start := string(guardtest.Alias) + " " + string(guardtest.Consumer) + " iSHARE"
	if !strings.HasPrefix(got, start) || !strings.HasSuffix(got, " "+guardtest.Certificate) || strings.Contains(got, "66666666") {
		t.Errorf("caller %q", got)
	}
}

func wantRefusal(t *testing.T, answer *httptest.ResponseRecorder, code string, scopes []string) {
	t.Helper()
	challenge := answer.Header().Get("WWW-Authenticate")
	if !strings.HasPrefix(challenge, `Bearer realm="iSHARE"`) {
		t.Errorf("WWW-Authenticate: %s", challenge)
	}
	// RFC 6750 section 3.1: without a token, no error code.
	if (code != "") != strings.Contains(challenge, "error=") || !strings.Contains(challenge, code) {
		t.Errorf("WWW-Authenticate: %s, want %q in it", challenge, code)
	}
	if want := `scope="` + strings.Join(scopes, " ") + `"`; (code == "insufficient_scope") != strings.Contains(challenge, want) {
		t.Errorf("WWW-Authenticate: %s", challenge)
	}
	if got := answer.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %q", got)
	}
	for name := range answer.Header() {
		if strings.HasPrefix(name, "X-Ishare-") {
			t.Errorf("a refusal names the caller: %s", name)
		}
	}
	id := answer.Header().Get("X-Request-Id")
	if id == "" || id == "chosen" {
		t.Errorf("X-Request-Id: %q", id)
	}
	if code == "" { // nor anything else about one
		if answer.Body.Len() != 0 || answer.Header().Get("Content-Length") != "0" || answer.Header().Get("Content-Type") != "" {
			t.Errorf("a body: %v %q", answer.Header(), answer.Body)
		}
		return
	}
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Correlation string `json:"correlation"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || body.Error != code || body.Description == "" || body.Correlation != id {
		t.Errorf("body %s: %v", answer.Body, err)
	}
}
