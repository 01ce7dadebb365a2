package guard_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/ishare"
)

// A way is one of the ways to guard an API: it makes a handler that lets requests with the scope
// values through to GET /orders, which answers the caller's party.
type way struct {
	name  string
	guard func(tb testing.TB, checker guard.Checker, scopes []string) http.Handler
}

func ways() []way {
	return []way{
		{"middleware", func(_ testing.TB, checker guard.Checker, scopes []string) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /orders", guard.Require(checker, scopes...)(http.HandlerFunc(caller)))
			return mux
		}},
		{"forward-auth", func(tb testing.TB, checker guard.Checker, scopes []string) http.Handler {
			tb.Helper()
			auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: checker, Log: quiet})
			check(tb, err)
			return &gateway{auth: auth, upstream: orders(), query: url.Values{"scope": scopes, "status": {"exact"}}}
		}},
		{"proxy", func(tb testing.TB, checker guard.Checker, scopes []string) http.Handler {
			tb.Helper()
			return newProxy(tb, orders(), proxy.Config{
				Checker: checker, Routes: []proxy.Route{routeTo(tb, "/", "http://upstream.example", scopes...)},
			})
		}},
	}
}

// caller answers who calls, by the context.
func caller(w http.ResponseWriter, r *http.Request) {
	c, ok := guard.Caller(r.Context())
	if !ok {
		http.Error(w, "no caller", http.StatusTeapot)
		return
	}
	io.WriteString(w, string(c.Client)+" "+string(c.Party)+" "+c.Scope.String()+" "+c.Thumbprint)
}

// orders answers who calls, by the header, as a program does that knows nothing of us.
func orders() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		var values []string
		for _, name := range []string{proxy.HeaderClientID, proxy.HeaderPartyID, proxy.HeaderScope, proxy.HeaderThumbprint} {
			values = append(values, r.Header.Values(name)...)
		}
		io.WriteString(w, strings.Join(values, " "))
	})
	return mux
}

// A gateway asks forward-auth about each request, as nginx and its like do.
type gateway struct {
	auth, upstream http.Handler
	query          url.Values
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	question := httptest.NewRequest(http.MethodGet, "/auth?"+g.query.Encode(), nil)
	question.Header = r.Header.Clone()
	answer := httptest.NewRecorder()
	g.auth.ServeHTTP(answer, question)
	if answer.Code != http.StatusOK {
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
		return
	}
	for _, name := range []string{proxy.HeaderClientID, proxy.HeaderPartyID, proxy.HeaderScope, proxy.HeaderThumbprint} {
		r.Header[name] = answer.Header()[name]
	}
	g.upstream.ServeHTTP(w, r)
}

// The access-token cases of iSHARE's conformance test, and more, whichever way an API is guarded.
func TestEveryWay(t *testing.T) {
	type story struct {
		house *house
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
			return []string{"Bearer " + newHouse(t).token(t, "iSHARE")}
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
			check(t, err)
			check(t, s.house.revocations.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: c.ID, Expires: c.Expires}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
		{"another token is revoked", func(t *testing.T, s story) []string {
			check(t, s.house.revocations.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "ANOTHER"}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 200, ""},
		{"party revoked", func(t *testing.T, s story) []string {
			check(t, s.house.revocations.Revoke(t.Context(), accesstoken.TokenRevocation{Party: consumer}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
		{"party revoked, token from after", func(t *testing.T, s story) []string {
			check(t, s.house.revocations.Revoke(t.Context(), accesstoken.TokenRevocation{Party: consumer}))
			time.Sleep(time.Second)
			return []string{"Bearer " + s.house.token(t, "iSHARE")}
		}, nil, "GET", 200, ""},
		{"certificate revoked", func(t *testing.T, s story) []string {
			check(t, s.house.revocations.Revoke(t.Context(), accesstoken.TokenRevocation{Thumbprint: certificate}))
			return []string{"Bearer " + s.token}
		}, nil, "GET", 401, "invalid_token"},
	}
	for _, w := range ways() {
		for _, c := range cases {
			t.Run(w.name+"/"+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHouse(t)
					handler := w.guard(t, h, c.scopes)
					values := c.headers(t, story{h, h.token(t, "iSHARE"), h.token(t, "iSHARE", "orders")})
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
	for _, name := range []string{proxy.HeaderClientID, proxy.HeaderPartyID, proxy.HeaderScope, proxy.HeaderThumbprint} {
		h[name] = []string{"did:ishare:EU.NL.NTRNL-66666666"}
	}
}

func wantIdentity(t *testing.T, answer *httptest.ResponseRecorder) {
	t.Helper()
	got := answer.Body.String()
	start := string(alias) + " " + string(consumer) + " iSHARE"
	if !strings.HasPrefix(got, start) || !strings.HasSuffix(got, " "+certificate) || strings.Contains(got, "66666666") {
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
	if code == "" { // nor anything else about one
		if answer.Body.Len() != 0 || answer.Header().Get("Content-Length") != "0" || answer.Header().Get("Content-Type") != "" {
			t.Errorf("a body: %v %q", answer.Header(), answer.Body)
		}
		return
	}
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || body.Error != code || body.Description == "" {
		t.Errorf("body %s: %v", answer.Body, err)
	}
}

// nginx knows 401 and 403 only.
func TestForwardAuthForNginx(t *testing.T) {
	h := newHouse(t)
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, Log: quiet})
	check(t, err)
	for _, c := range []struct {
		name, value, query string
		status             int
	}{
		{"valid", "Bearer " + h.token(t, "iSHARE"), "", 200},
		{"not Bearer", "Basic eDp5", "", 401},
		{"not Bearer, exact", "Basic eDp5", "?status=exact", 400},
		{"narrow", "Bearer " + h.token(t, "iSHARE"), "?scope=orders", 403},
		{"one of two scopes", "Bearer " + h.token(t, "iSHARE", "orders"), "?scope=orders&scope=invoices", 403},
		{"the other of two scopes", "Bearer " + h.token(t, "iSHARE", "orders"), "?scope=invoices&scope=orders", 403},
		{"one of two scopes in one", "Bearer " + h.token(t, "iSHARE", "orders"), "?scope=orders%20invoices", 403},
		{"both scopes", "Bearer " + h.token(t, "iSHARE", "orders", "invoices"), "?scope=orders+invoices&scope=iSHARE", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/auth"+c.query, nil)
			r.Header.Set("Authorization", c.value)
			w := httptest.NewRecorder()
			auth.ServeHTTP(w, r)
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if c.status == http.StatusOK && w.Body.Len() != 0 {
				t.Errorf("a body: %s", w.Body)
			}
			if got := w.Header().Get("WWW-Authenticate"); (c.status != http.StatusOK) != strings.HasPrefix(got, "Bearer ") {
				t.Errorf("WWW-Authenticate: %q", got)
			}
		})
	}
}

// A slip of the pen in a proxy's configuration lets nobody in.
func TestForwardAuthAskedWrongly(t *testing.T) {
	h := newHouse(t)
	log, told := newLog()
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, Log: log})
	check(t, err)
	token := h.token(t, "iSHARE")
	for _, query := range []string{
		"?scopes=orders", "?Scope=orders", "?scope=", "?scope=%22", "?scope=a++b", "?scope=%zz", "?status=", "?status=200", "?status=exact&status=exact", "?x=1", "?scope=iSHARE;x", "?=",
	} {
		if w := get(auth, "/auth"+query, token); w.Code != http.StatusInternalServerError || w.Header().Get(proxy.HeaderPartyID) != "" {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	if !strings.Contains(told.String(), "forward-auth is asked wrongly") {
		t.Error("the log says nothing")
	}
}

// Envoy puts the client's path and query behind ours.
func TestForwardAuthVerbatim(t *testing.T) {
	h := newHouse(t)
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, Log: quiet, IgnoreURL: true})
	check(t, err)
	if w := get(auth, "/auth/orders?scope=nonsense&x=%zz", h.token(t, "iSHARE")); w.Code != http.StatusOK || w.Header().Get(proxy.HeaderPartyID) != string(consumer) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r := httptest.NewRequest(http.MethodPost, "/auth/orders", strings.NewReader("body"))
	r.Header.Set("Authorization", "Basic eDp5")
	w := httptest.NewRecorder()
	auth.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("not Bearer: %d", w.Code)
	}
}

func FuzzForwardAuth(f *testing.F) {
	h := newHouse(f)
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, Log: quiet})
	check(f, err)
	token := h.token(f, "iSHARE", "orders")
	for _, seed := range []string{"", "scope=orders", "scope=orders%20iSHARE&status=exact", "scope=&scope=x", "%zz", "scope=a;b", "status=exact"} {
		f.Add(seed, "Bearer "+token)
	}
	f.Add("", "Basic x")
	f.Add("", "Bearer a b")
	f.Fuzz(func(t *testing.T, query, authorization string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/auth", RawQuery: query}, Header: http.Header{"Authorization": {authorization}}}
		w := httptest.NewRecorder()
		auth.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return
		}
		_, got, _ := strings.Cut(authorization, " ")
		if got != token || w.Header().Get(proxy.HeaderPartyID) != string(consumer) {
			t.Fatalf("%q is let in as %q", authorization, w.Header().Get(proxy.HeaderPartyID))
		}
		asked, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q is understood", query)
		}
		for _, value := range asked["scope"] {
			if scope, err := ishare.ParseScope(value); err != nil || scope.Has("invoices") {
				t.Errorf("scope %q is granted", value)
			}
		}
	})
}
