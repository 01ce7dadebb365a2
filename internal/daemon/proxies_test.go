package daemon_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// What a client might send to pass as somebody else, and to be taken for what asks for
// another path, method or file. None of it reaches the API, which judge sees by the values.
var pretence = []string{
	"X-Ishare-Client-Id: evil", "X-Ishare-Party-Id: evil", "X-Ishare-Scope: evil", "X-Ishare-Certificate-Thumbprint: evil",
	"X-Ishare-Party-Id: evil again", "x-ISHARE-party-ID: evil", "x-ishare-scope: evil",
	"X_Ishare_Client_Id: evil", "X_Ishare_Party_Id: evil", "X_Ishare-Scope: evil", "X-Ishare_Certificate_Thumbprint: evil",
	"X.Ishare.Party.Id: evil", "X-Ishare-Foo: evil", "X-Ishare: evil", "X-Ishare-: evil",
	"X-Original-URL: /evil", "X-Original-URI: /evil", "X-Original-Method: evil", "X-Rewrite-URL: /evil", "X_Original_URL: /evil", "X.Original.Url: /evil",
	"X-HTTP-Method-Override: evil", "X-HTTP-Method: evil", "X-Method-Override: evil", "X-Override-Url: /evil", "X-Script-Name: /evil", "SCRIPT_NAME: /evil", "Daphne-Root-Path: /evil",
	"X-Accel-Redirect: /evil", "X-Accel-Mapping: /evil", "X-Sendfile: /evil", "X-Sendfile-Type: evil",
	"Client-Cert: evil", "Client-Cert-Chain: evil", "CLIENT_CERT: evil", "X-Client-Cert: evil", "X-Client-Verify: evil", "X-Client-DN: evil",
	"SSL-Client-Cert: evil", "Ssl_Client_Verify: evil", "X-SSL-Client-S-DN: evil", "X-Forwarded-Client-Cert: evil",
	"Remote-User: evil", "remote_user: evil", "X-Remote-User: evil", "X-Authenticated-User: evil", "X-WebAuth-User: evil", "X-Auth-Request-Email: evil", "X-Forwarded-User: evil",
	"X-Forwarded-For: evil", "X-Forwarded-URI: /evil", "X-Forwarded-Method: evil", "X-Forwarded-Prefix: /evil", "Forwarded: for=evil", "X-Real-IP: evil", "True-Client-IP: evil", "Client-IP: evil",
	"Proxy: evil",
}

// What is between client and API.
var harmless = []string{
	"X-Request-Id: kept", "X-Client-Version: kept", "Fiware-Service: kept", "NGSILD-Tenant: kept", "X-Accelerate: kept", "X-User: kept", "Proxy-Status: kept",
}

// A visit is a request to a gate and what must come of it.
type visit struct {
	name string
	question
	status int    // 0: any refusal of 4xx
	error  string // in the challenge
	scope  string // with which the API is reached; empty means not at all
}

// The three proxies that Debian has, each with the configuration that its page shows.
func TestProxies(t *testing.T) {
	t.Parallel()
	for _, f := range fronts() {
		t.Run(f.program, func(t *testing.T) {
			t.Parallel()
			f.find(t)
			all := callers()
			keys := "WAYBILL_TOKENS_KEYS=" + filepath.Join(t.TempDir(), "keys")
			s := startFor(t, all, keys)
			g := f.open(t, s, strings.TrimPrefix(s.internal, "http://"))
			token, wide := all[0].token(t, s, "iSHARE"), all[0].token(t, s, "iSHARE orders")
			for _, v := range slices.Concat(bearers(token, wide), pretenders(token), trespassers(token, wide)) {
				t.Run(v.name, func(t *testing.T) { g.visit(t, all[0], v) })
			}
			t.Run("fields", func(t *testing.T) { g.passesFields(t, all[0], token) })
			t.Run("body", func(t *testing.T) { g.passesBodies(t, all[0], token) })
			t.Run("one connection", func(t *testing.T) { g.forgets(t, token) })
			t.Run("upgrade", func(t *testing.T) { g.upgrades(t, all[0], token) })
			t.Run("expired", func(t *testing.T) { g.refusesExpired(t, all[0], keys) })
			t.Run("revoked", func(t *testing.T) { g.refusesRevoked(t, all) })
			t.Run("stopped", func(t *testing.T) { g.refusesWithoutWaybill(t, token) })
		})
	}
}

// bearers come with a token, good or bad, or without.
func bearers(token, wide string) []visit {
	half := len(token) / 2
	altered := token[:half] + map[bool]string{true: "B", false: "A"}[token[half] == 'A'] + token[half+1:]
	orders := "GET /orders/1?of=today HTTP/1.1"
	return []visit{
		{"valid", question{fields: []string{bearing(token)}}, 200, "", "iSHARE"},
		{"valid, wider than needed", question{fields: []string{bearing(wide)}}, 200, "", "iSHARE orders"},
		{"valid for orders", question{line: orders, fields: []string{bearing(wide)}}, 200, "", "iSHARE orders"},
		{"narrow", question{line: orders, fields: []string{bearing(token)}}, 403, "insufficient_scope", ""},
		{"narrow, with a body", question{
			line: "POST /orders HTTP/1.1", fields: []string{bearing(token), "Content-Length: 4"}, body: "body",
		}, 403, "insufficient_scope", ""},
		{"missing", question{}, 401, "", ""},
		{"missing, in HTTP/1.0", question{line: "GET /things HTTP/1.0"}, 401, "", ""},
		{"missing, with a body", question{line: "POST /things HTTP/1.1", fields: []string{"Content-Length: 4"}, body: "body"}, 401, "", ""},
		{"in the query", question{line: "GET /things?access_token=" + token + " HTTP/1.1"}, 401, "", ""},
		{"garbage", question{fields: []string{bearing("garbage")}}, 401, "invalid_token", ""},
		{"altered", question{fields: []string{bearing(altered)}}, 401, "invalid_token", ""},
		{"not Bearer", question{fields: []string{"Authorization: Basic eDp5"}}, 0, "invalid_request", ""},
		{"empty header", question{fields: []string{"Authorization:"}}, 0, "", ""},
		{"two tokens in one", question{fields: []string{bearing(token + ", Bearer " + token)}}, 0, "invalid_request", ""},
		{"two headers", question{fields: []string{bearing(token), bearing(token)}}, 0, "", ""},
		{"good header before a bad one", question{fields: []string{bearing(token), bearing("garbage")}}, 0, "", ""},
		{"bad header before a good one", question{fields: []string{"Authorization: Basic eDp5", bearing(token)}}, 0, "", ""},
	}
}

// pretenders send more than a token.
func pretenders(token string) []visit {
	good := func(fields ...string) question { return question{fields: append([]string{bearing(token)}, fields...)} }
	return []visit{
		{"client's own header", good(pretence...), 200, "", "iSHARE"},
		{"client's own header and no token", question{fields: pretence}, 401, "", ""},
		{"identity removed by Connection", good("Connection: X-Ishare-Party-Id, x-ishare-scope", "Connection: X-Ishare-Client-Id"), 200, "", "iSHARE"},
		{"token kept by Connection", good("Connection: close"), 200, "", "iSHARE"},
		{"HTTP/1.0 without Host", question{line: "GET /things HTTP/1.0", fields: []string{bearing(token)}}, 200, "", "iSHARE"},
		{"query for Waybill", question{line: "GET /things?scope=orders&status=x&x=%zz HTTP/1.1", fields: []string{bearing(token)}}, 200, "", "iSHARE"},
		{"upgrade to HTTP/2", good("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), 200, "", "iSHARE"},
		{"name with a blank", good("X-Ishare-Party-Id : evil"), 0, "", ""},
		{"line break in a value", good("X-Other: x\rX-Ishare-Party-Id: evil"), 0, "", ""},
	}
}

// trespassers want at /orders with a token that is not for it.
func trespassers(token, wide string) []visit {
	at := func(name, path string) visit {
		return visit{name, question{line: "GET " + path + " HTTP/1.1", fields: []string{bearing(token)}}, 403, "insufficient_scope", ""}
	}
	unread := func(name, path string) visit {
		return visit{name, question{line: "GET " + path + " HTTP/1.1", fields: []string{bearing(wide)}}, 400, "", ""}
	}
	return []visit{
		at("orders", "/orders"),
		at("orders, in another case", "/Orders/1"),
		at("orders, encoded", "/%6frders/1"),
		at("orders, with a scope of the client", "/orders?scope=iSHARE&status=exact"),
		at("orders, absolute", "http://api.example.com/orders/1"),
		unread("dots", "/things/../orders"),
		unread("dots at the end", "/things/.."),
		at("orders, in a format", "/orders.json"),
		at("orders, by its key", "/orders(1)"),
		unread("a session in the path", "/(S(abc))/orders"),
		unread("an encoded session in the path", "/%28S%28abc%29%29/orders"),
		unread("a dot at the end", "/orders."),
		unread("a blank at the end", "/orders%20/1"),
		unread("overlong encoding", "/things/%c0%ae%c0%ae/orders"),
		unread("encoded dots", "/things/%2e%2E/orders"),
		unread("encoded twice", "/%256frders"),
		unread("empty segment", "//orders"),
		unread("encoded slash", "/things%2f..%2Forders"),
		unread("backslash", `/things\..\orders`),
		unread("encoded backslash", "/things%5C..%5corders"),
		unread("path parameter", "/orders;x/1"),
		unread("encoded path parameter", "/orders%3Bx/1"),
		unread("number sign", "/things#/../orders"),
		unread("encoded control character", "/orders%00"),
		unread("absolute, with dots", "http://api.example.com/things/../orders"),
		{"tunnel", question{line: "CONNECT /orders HTTP/1.1", fields: []string{bearing(token)}}, 0, "", ""},
		{"tunnel to the API", question{line: "CONNECT api.example.com:80 HTTP/1.1", fields: []string{bearing(wide)}}, 0, "", ""},
	}
}

// visit asks, and judges the answer and what the API has seen.
func (g *gate) visit(t *testing.T, c caller, v visit) {
	t.Helper()
	a := g.ask(t, v.question)
	if a.StatusCode != v.status && (v.status != 0 || a.StatusCode/100 != 4) {
		t.Errorf("status %d, want %d: %s", a.StatusCode, v.status, a.body)
	}
	challenge := strings.Join(a.Header.Values("WWW-Authenticate"), " | ")
	switch {
	case v.status == http.StatusUnauthorized || v.status == http.StatusForbidden || v.error != "":
		if !strings.HasPrefix(challenge, `Bearer realm="iSHARE"`) || strings.Contains(challenge, "|") {
			t.Errorf("WWW-Authenticate: %s", challenge)
		}
		if (v.error != "") != strings.Contains(challenge, "error=") || !strings.Contains(challenge, v.error) {
			t.Errorf("WWW-Authenticate: %s, want %q in it", challenge, v.error)
		}
	case v.status == http.StatusOK:
		if challenge != "" || a.body != "served" {
			t.Errorf("WWW-Authenticate: %s; body %q", challenge, a.body)
		}
	}
	for name := range claimed(a.Header) {
		t.Errorf("the answer names the caller: %s", name)
	}
	g.judge(t, c, v.scope)
}

// judge looks at what the API has seen: one request of the caller with the scope, or none.
func (g *gate) judge(t *testing.T, c caller, scope string) (seen received) {
	t.Helper()
	all := g.api.take()
	if scope == "" {
		if len(all) != 0 {
			t.Errorf("the API has seen %s %s", all[0].Method, all[0].RequestURI)
		}
		return received{}
	}
	if len(all) != 1 {
		t.Fatalf("the API has seen %d requests, want 1", len(all))
	}
	seen = all[0]
	if diff := cmp.Diff(c.identity(scope), claimed(seen.Header)); diff != "" {
		t.Errorf("the API is told (-want +got):\n%s", diff)
	}
	for name, values := range seen.Header {
		if name == "Authorization" || strings.Contains(strings.Join(values, " "), "evil") {
			t.Errorf("the API gets %s: %s", name, values)
		}
	}
	if got := seen.Header["Upgrade"]; len(got) > 1 || len(got) == 1 && got[0] != "websocket" {
		t.Errorf("the API gets Upgrade: %s", got)
	}
	if named := strings.ToLower(strings.Join(seen.Header.Values("Connection"), " ")); strings.Contains(named, "ishare") {
		t.Errorf("the API gets Connection: %s", named)
	}
	return seen
}

// passesFields sends what is between client and API, of which nginx passes on only what its file names.
func (g *gate) passesFields(t *testing.T, c caller, token string) {
	t.Helper()
	g.ask(t, question{fields: append([]string{bearing(token), "Accept: kept"}, harmless...)})
	seen := g.judge(t, c, "iSHARE")
	if got := seen.Header.Get("Accept"); got != "kept" {
		t.Errorf("the API gets Accept: %s", got)
	}
	for _, field := range harmless {
		name, value, _ := strings.Cut(field, ": ")
		if got := seen.Header.Get(name); (got == value) != (g.program != "nginx") {
			t.Errorf("the API gets %s: %s", name, got)
		}
	}
}

// passesBodies sends some, with their length before them and in chunks.
func (g *gate) passesBodies(t *testing.T, c caller, token string) {
	t.Helper()
	want := strings.Repeat("0123456789abcdef", 20<<10)
	chunks := ""
	for chunk := range slices.Chunk([]byte(want), 10_000) {
		chunks += fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
	}
	for _, q := range []question{
		{fields: []string{fmt.Sprintf("Content-Length: %d", len(want))}, body: want},
		{fields: []string{"Transfer-Encoding: chunked"}, body: chunks + "0\r\n\r\n"},
		{fields: []string{"Transfer-Encoding: chunked", "Trailer: X-Ishare-Scope"}, body: chunks + "0\r\nX-Ishare-Scope: evil\r\nX-Ishare-Party-Id: evil\r\n\r\n"},
	} {
		q.line = "POST /things HTTP/1.1"
		q.fields = append(q.fields, bearing(token), "Content-Type: application/x-things")
		if a := g.ask(t, q); a.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d, %s", q.fields[0], a.StatusCode, a.body)
		}
		seen := g.judge(t, c, "iSHARE")
		if seen.body != want || seen.Method != http.MethodPost || seen.Header.Get("Content-Type") != "application/x-things" {
			t.Errorf("%s: the API has seen %s with %d bytes of %s", q.fields[0], seen.Method, len(seen.body), seen.Header.Get("Content-Type"))
		}
		// HAProxy passes trailers on. The page says so.
		if got := seen.Trailer.Get("X-Ishare-Party-Id") + seen.Trailer.Get("X-Ishare-Scope"); got != "" && g.program != "haproxy" {
			t.Errorf("the API gets the trailer %s", got)
		}
	}
}

// forgets sends requests over one connection: the yes to the first is none to the next.
func (g *gate) forgets(t *testing.T, token string) {
	t.Helper()
	conn := g.dial(t)
	for i, c := range []struct {
		question
		status int
	}{
		{question{fields: []string{bearing(token)}}, http.StatusOK},
		{question{fields: pretence}, http.StatusUnauthorized},
		{question{fields: []string{bearing(token)}}, http.StatusOK},
		{question{line: "GET /orders HTTP/1.1", fields: []string{bearing(token)}}, http.StatusForbidden},
		{question{}, http.StatusUnauthorized},
	} {
		if a := conn.ask(t, c.question); a.StatusCode != c.status {
			t.Errorf("request %d: status %d, want %d", i, a.StatusCode, c.status)
		}
	}
	if seen := g.api.take(); len(seen) != 2 {
		t.Errorf("the API has seen %d requests, want 2", len(seen))
	}
}

// upgrades asks for a WebSocket, which the API gets once the token was looked at, and for another
// upgrade beside it, which it does not get.
func (g *gate) upgrades(t *testing.T, c caller, token string) {
	t.Helper()
	handshake := []string{
		"Connection: Upgrade", "Connection: X-Ishare-Party-Id", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}
	g.visit(t, c, visit{"", question{fields: handshake}, 401, "", ""})
	conn := g.dial(t)
	a := conn.ask(t, question{fields: append(handshake, bearing(token))})
	seen := g.judge(t, c, "iSHARE")
	if got := seen.Header["Upgrade"]; a.StatusCode != http.StatusSwitchingProtocols || !slices.Equal(got, []string{"websocket"}) {
		t.Fatalf("status %d; the API gets Upgrade: %s", a.StatusCode, got)
	}
	fmt.Fprintln(conn, "hello")
	if line, err := conn.answers.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("the API says %q: %v", line, err)
	}
	g.ask(t, question{fields: append(handshake, bearing(token), "Upgrade: h2c")})
	g.judge(t, c, "iSHARE")
}

// refusesExpired takes a token of a second daemon, which shares its keys with the first and whose
// tokens live for a second.
func (g *gate) refusesExpired(t *testing.T, c caller, keys string) {
	t.Helper()
	short := startFor(t, []caller{c}, "WAYBILL_TOKENS_LIFETIME=1s", keys)
	token := c.token(t, short, "iSHARE")
	var last answer
	short.eventually(t, "the end of a token", func() bool {
		last = g.ask(t, question{fields: []string{bearing(token)}})
		return last.StatusCode != http.StatusOK
	})
	challenge := last.Header.Get("WWW-Authenticate")
	if last.StatusCode != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) || !strings.Contains(challenge, "expired") {
		t.Errorf("status %d, WWW-Authenticate: %s", last.StatusCode, challenge)
	}
	g.api.take()
}

// refusesRevoked withdraws tokens in every way, each from a caller of its own.
func (g *gate) refusesRevoked(t *testing.T, all []caller) {
	t.Helper()
	kept := all[0].token(t, g.waybill, "iSHARE")
	tokens := make([]string, len(all))
	for i, c := range all {
		tokens[i] = c.token(t, g.waybill, "iSHARE")
	}
	certificate := all[2].identity("")["X-Ishare-Certificate-Thumbprint"]
	for i, form := range []url.Values{
		{"token": {tokens[0]}},
		{"party_id": {string(all[1].party.ID())}},
		{"certificate": certificate},
	} {
		before := question{fields: []string{bearing(tokens[i])}}
		g.visit(t, all[i], visit{"before", before, 200, "", "iSHARE"})
		if status, _, body := g.waybill.post(t, "/revoke", form); status != http.StatusOK {
			t.Fatalf("revoking by %v: status %d, %s", form, status, body)
		}
		g.visit(t, all[i], visit{"after", before, 401, "invalid_token", ""})
		g.visit(t, all[0], visit{"another", question{fields: []string{bearing(kept)}}, 200, "", "iSHARE"})
	}
}

// refusesWithoutWaybill ends the daemon.
func (g *gate) refusesWithoutWaybill(t *testing.T, token string) {
	t.Helper()
	if err := g.waybill.stop(); err != nil {
		t.Fatal(err)
	}
	g.closed(t, token)
}

// closed wants every request refused as our failure, and none of them at the API.
func (g *gate) closed(t *testing.T, token string) {
	t.Helper()
	questions := []question{
		{},
		{fields: append([]string{bearing(token)}, pretence...)},
		{line: "POST /things HTTP/1.1", fields: []string{bearing(token), "Content-Length: 4"}, body: "body"},
	}
	wires := make([]wire, len(questions)) // at the same time, as a proxy may try for seconds
	for i, q := range questions {
		wires[i] = g.dial(t)
		wires[i].send(t, q)
	}
	for i, q := range questions {
		if a := wires[i].receive(t, q); a.StatusCode/100 != 5 {
			t.Errorf("status %d, %s", a.StatusCode, a.body)
		}
	}
	if seen := g.api.take(); len(seen) != 0 {
		t.Errorf("the API has seen %d requests", len(seen))
	}
}

// A mistake in the configuration, and an answer that is neither yes nor no, let nobody in.
func TestProxiesFailClosed(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	token := s.token(t)
	waybill := strings.TrimPrefix(s.internal, "http://")
	elsewhere := httptest.NewServer(http.RedirectHandler("/yes", http.StatusFound))
	t.Cleanup(elsewhere.Close)
	broken := []change{{"waybill.lua", "local function ask(txn, url)", "local function ask(txn, url)\nlocal x = nil .. url"}}
	for _, f := range fronts() {
		t.Run(f.program, func(t *testing.T) {
			t.Parallel()
			f.find(t)
			slip := change{f.files[0], "scope=", "scopes="}
			t.Run("asked wrongly", func(t *testing.T) { f.open(t, s, waybill, slip).closed(t, token) })
			if f.program == "haproxy" {
				t.Run("broken script", func(t *testing.T) { f.open(t, s, waybill, broken...).closed(t, token) })
			}
			t.Run("redirected", func(t *testing.T) {
				g := f.open(t, s, elsewhere.Listener.Addr().String())
				if a := g.ask(t, question{fields: []string{bearing(token)}}); a.StatusCode == http.StatusOK || len(g.api.take()) != 0 {
					t.Errorf("status %d, %s", a.StatusCode, a.body)
				}
			})
		})
	}
}

// A clerk stands between a proxy and Waybill, and writes down what is asked.
type clerk struct {
	http.Handler

	mu    sync.Mutex
	asked []string        // method, target and length of the body
	from  map[string]bool // addresses of the proxy
}

func newClerk(t *testing.T, s *server) (*clerk, string) {
	t.Helper()
	target, err := url.Parse(s.internal)
	if err != nil {
		t.Fatal(err)
	}
	c := &clerk{Handler: httputil.NewSingleHostReverseProxy(target), from: map[string]bool{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return c, server.Listener.Addr().String()
}

func (c *clerk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.asked = append(c.asked, fmt.Sprintf("%s %s %d", r.Method, r.RequestURI, r.ContentLength))
	c.from[r.RemoteAddr] = true
	c.mu.Unlock()
	c.Handler.ServeHTTP(w, r)
}

// Waybill is asked what the configuration says and nothing of the client's but its token, over a
// connection that is kept.
func TestProxiesAsk(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	token := s.token(t)
	for _, f := range fronts() {
		t.Run(f.program, func(t *testing.T) {
			t.Parallel()
			c, address := newClerk(t, s)
			g := f.open(t, s, address)
			for range 4 {
				g.ask(t, question{
					line:   "POST /things?scope=orders&x HTTP/1.1",
					fields: []string{bearing(token), "Content-Length: 4", "X-Original-URI: /auth?scope=x", "X-Forwarded-Uri: /x"}, body: "body",
				})
			}
			if got := g.api.take(); len(got) != 4 || got[3].body != "body" {
				t.Errorf("the API has seen %v", got)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			want := "GET /auth?status=exact&scope=iSHARE 0"
			if f.program == "nginx" {
				want = "GET /auth?scope=iSHARE 0"
			}
			if diff := cmp.Diff(slices.Repeat([]string{want}, 4), c.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if len(c.from) != 1 {
				t.Errorf("%d connections for 4 questions", len(c.from))
			}
		})
	}
}

// HAProxy takes HTTP/2 from whoever begins with it, where names and paths arrive otherwise.
func TestHAProxyOverHTTP2(t *testing.T) {
	t.Parallel()
	all := callers()[:1]
	s := startFor(t, all)
	i := slices.IndexFunc(fronts(), func(f front) bool { return f.program == "haproxy" })
	g := fronts()[i].open(t, s, strings.TrimPrefix(s.internal, "http://"))
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	token := all[0].token(t, s, "iSHARE")
	for path, want := range map[string]int{
		"/things": 200, "/orders": 403, "/%6frders": 403, "//orders": 400, "/things/%2e%2e/orders": 400,
		"/connect/token": 405, "/connect/token/../orders": 400,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		for _, field := range pretence {
			name, value, _ := strings.Cut(field, ": ")
			r.Header.Add(name, value)
		}
		status, _, body := exchange(t, &http.Client{Transport: transport}, r)
		if status != want {
			t.Errorf("%s: status %d, want %d: %s", path, status, want, body)
		}
		scope := ""
		if want == http.StatusOK {
			scope = "iSHARE"
		}
		g.judge(t, all[0], scope)
	}
}

// What the pages show passes the proxies' own checks.
func TestProxiesAreChecked(t *testing.T) {
	t.Parallel()
	for _, f := range fronts() {
		t.Run(f.program, func(t *testing.T) {
			t.Parallel()
			dir := f.install(t)
			output := &transcript{}
			if err := f.command(t, dir, f.check(dir), output).Run(); err != nil || strings.Contains(strings.ToLower(output.String()), "[warning]") {
				t.Errorf("%v:\n%s", err, output)
			}
		})
	}
}

// Each page shows its files as they are, and those that no test runs say so.
func TestGuardPages(t *testing.T) {
	t.Parallel()
	shown := map[string][]string{
		"nginx.md": {"nginx.conf"}, "caddy.md": {"Caddyfile"}, "haproxy.md": {"haproxy.cfg", "waybill.lua"},
		"traefik.md": {"traefik.yaml"}, "envoy.md": {"envoy.yaml"},
	}
	known := []string{"README.md"}
	for page, files := range shown {
		known = append(known, page)
		blocks := fenced(readDoc(t, page))
		for _, name := range files {
			known = append(known, name)
			text := readDoc(t, name)
			if !slices.Contains(blocks, text) {
				t.Errorf("%s does not show %s as it is", page, name)
			}
			if strings.HasSuffix(name, ".yaml") {
				wantUntried(t, page, name)
			}
		}
	}
	entries, err := os.ReadDir(guardDocs)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) {
			t.Errorf("%s belongs to no page", e.Name())
		}
	}
}

// wantUntried wants a page and its file to say that nobody has run them here.
func wantUntried(t *testing.T, page, name string) {
	t.Helper()
	for _, file := range []string{page, name} {
		if !strings.Contains(readDoc(t, file), "not run by Waybill's tests") {
			t.Errorf("%s does not say that it is not run", file)
		}
	}
	var content map[string]any
	if err := yaml.Unmarshal([]byte(readDoc(t, name)), &content); err != nil || len(content) == 0 {
		t.Errorf("%s: %v", name, err)
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(guardDocs, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fenced gives the fenced blocks of a page.
func fenced(page string) (blocks []string) {
	open := false
	var b strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(page)); lines.Scan(); {
		switch fence := strings.HasPrefix(lines.Text(), "```"); {
		case fence && open:
			blocks = append(blocks, b.String())
			b.Reset()
			open = false
		case fence:
			open = true
		case open:
			b.WriteString(lines.Text() + "\n")
		}
	}
	return blocks
}
