package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
)

// seen is a request as the upstream got it.
type seen struct {
	*http.Request
	body string
}

// A socketFixture is an upstream and a proxy before it, both on sockets.
type socketFixture struct {
	*guardtest.Issuer
	proxy    *httptest.Server
	upstream *httptest.Server
	got      chan seen
}

// newSocketFixture serves the proxy, over HTTP/2 if asked to.
func newSocketFixture(t *testing.T, http2 bool, change func(*proxy.Config)) *socketFixture {
	t.Helper()
	s := &socketFixture{Issuer: guardtest.NewIssuer(t), got: make(chan seen, 1)}
	s.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.got <- seen{r, string(body)}
		w.Header().Set("X-Upstream", "yes")
		io.WriteString(w, "answered")
	}))
	t.Cleanup(s.upstream.Close)
	c := proxy.Config{Checker: s, Routes: []proxy.Route{routeTo(t, "/", s.upstream.URL, "iSHARE")}}
	if change != nil {
		change(&c)
	}
	reverse, err := proxy.New(c)
	guardtest.NoError(t, err)
	s.proxy = httptest.NewUnstartedServer(reverse)
	s.proxy.EnableHTTP2 = http2
	if http2 {
		s.proxy.StartTLS()
	} else {
		s.proxy.Start()
	}
	t.Cleanup(s.proxy.Close)
	return s
}

// request makes one with a good token.
func (s *socketFixture) request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.proxy.URL+path, body)
	guardtest.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.Token(t, "iSHARE"))
	return r
}

// send wants an answer of 200, and returns what the upstream saw.
func (s *socketFixture) send(t *testing.T, r *http.Request) seen {
	t.Helper()
	answer, err := s.proxy.Client().Do(r)
	guardtest.NoError(t, err)
	defer answer.Body.Close()
	if got := readAll(t, answer.Body); answer.StatusCode != http.StatusOK || got != "answered" {
		t.Fatalf("%d %s", answer.StatusCode, got)
	}
	return <-s.got
}

// raw sends a request as text, and returns the status of the answer.
func (s *socketFixture) raw(t *testing.T, lines ...string) int {
	t.Helper()
	conn, err := net.Dial("tcp", s.proxy.Listener.Addr().String())
	guardtest.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, strings.Join(lines, "\r\n"))
	guardtest.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	guardtest.NoError(t, err)
	defer answer.Body.Close()
	return answer.StatusCode
}

func (s *socketFixture) bearer(t *testing.T) string {
	t.Helper()
	return "Authorization: Bearer " + s.Token(t, "iSHARE")
}

func wantCaller(t *testing.T, h http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		proxy.HeaderClientID: string(guardtest.Alias), proxy.HeaderPartyID: string(guardtest.Consumer),
		proxy.HeaderScope: "iSHARE", proxy.HeaderThumbprint: guardtest.Certificate,
	} {
		if got := h.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for name, values := range h {
		if strings.Contains(strings.Join(values, ""), "evil") {
			t.Errorf("%s: %q reaches the upstream", name, values)
		}
		folded := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if strings.HasPrefix(folded, "x-ishare-") && !slices.Contains([]string{proxy.HeaderClientID, proxy.HeaderPartyID, proxy.HeaderScope, proxy.HeaderThumbprint}, name) {
			t.Errorf("%s reaches the upstream", name)
		}
	}
	if h.Get("Authorization") != "" {
		t.Error("the token reaches the upstream")
	}
}

// A client cannot be somebody else, come from elsewhere or ask for another path, however it
// spells it.
func TestClientCannotNameItself(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2 %v", http2), func(t *testing.T) {
			s := newSocketFixture(t, http2, nil)
			r := s.request(t, http.MethodPost, "/orders", strings.NewReader("body"))
			for _, name := range []string{
				"X-Ishare-Party-Id", "x-ishare-client-id", "X-ISHARE-SCOPE", "X_Ishare_Party_Id", "x-ishare_certificate-thumbprint",
				"X-Ishare-Anything-New", "X.Ishare.Party.Id", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
				"X-Forwarded-Prefix", "X_Forwarded_For", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Client-Cert",
			} {
				r.Header[name] = []string{"evil", "evil too"}
			}
			r.Header.Set("Accept", "text/plain")
			got := s.send(t, r)
			wantCaller(t, got.Header)
			scheme := "http"
			if http2 {
				scheme = "https"
			}
			for name, want := range map[string]string{
				"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": s.proxy.Listener.Addr().String(), "X-Forwarded-Proto": scheme, "Accept": "text/plain",
			} {
				if values := got.Header.Values(name); !slices.Equal(values, []string{want}) {
					t.Errorf("%s: %q, want %q", name, values, want)
				}
			}
			if got.body != "body" || got.Host != s.upstream.Listener.Addr().String() {
				t.Errorf("host %q, body %q", got.Host, got.body)
			}
		})
	}
}

// What a client lists in Connection is hop-by-hop, but ours is not the client's to list.
func TestConnectionCannotRemoveIdentity(t *testing.T) {
	s := newSocketFixture(t, false, nil)
	status := s.raw(t, "GET / HTTP/1.1", "Host: x", s.bearer(t),
		"Connection: close, X-Ishare-Party-Id, X-Ishare-Client-Id, X-Forwarded-For, X-Private", "X-Private: 1", "Keep-Alive: 1", "Proxy-Authorization: evil", "", "")
	got := <-s.got
	if status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	wantCaller(t, got.Header)
	for _, name := range []string{"X-Private", "Keep-Alive", "Proxy-Authorization", "Connection"} {
		if got.Header.Get(name) != "" {
			t.Errorf("%s reaches the upstream", name)
		}
	}
	if got.Header.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("X-Forwarded-For: %q", got.Header.Get("X-Forwarded-For"))
	}
}

func TestTrailersCannotNameAnybody(t *testing.T) {
	s := newSocketFixture(t, false, nil)
	status := s.raw(t, "POST / HTTP/1.1", "Host: x", s.bearer(t), "Connection: close", "Transfer-Encoding: chunked",
		"Trailer: X-Ishare-Party-Id, X-Other", "", "4", "body", "0", "X-Ishare-Party-Id: evil", "X-Other: 1", "X-Ishare-Scope: evil", "", "")
	got := <-s.got
	if status != http.StatusOK || got.body != "body" {
		t.Errorf("status %d, body %q", status, got.body)
	}
	wantCaller(t, got.Header)
	if len(got.Trailer) > 0 {
		t.Errorf("trailers %v", got.Trailer)
	}
}

// With an upgrade to h2c a client would speak to the upstream unseen.
func TestOnlyWebSocketsUpgrade(t *testing.T) {
	s := newSocketFixture(t, false, nil)
	for _, protocol := range []string{"h2c", "websocket, h2c", "websocket/13", "TLS/1.0", "\tx"} {
		status := s.raw(t, "GET / HTTP/1.1", "Host: x", s.bearer(t), "Connection: Upgrade, HTTP2-Settings", "Upgrade: "+protocol, "HTTP2-Settings: AAMAAABkAAQAAP__", "", "")
		got := <-s.got
		if status != http.StatusOK || got.Header.Get("Upgrade") != "" || got.Header.Get("Connection") != "" || got.Header.Get("Http2-Settings") != "" {
			t.Errorf("%q: %d, %v", protocol, status, got.Header)
		}
	}
}

// An upstream that switches protocols without being asked would turn the connection into a tunnel.
func TestUpstreamCannotSwitchUnasked(t *testing.T) {
	for _, fields := range []string{"", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n"+fields+"\r\n")
		}))
		t.Cleanup(upstream.Close)
		s := newSocketFixture(t, false, func(c *proxy.Config) { c.Routes = []proxy.Route{routeTo(t, "/", upstream.URL)} })
		if status := s.raw(t, "GET / HTTP/1.1", "Host: x", s.bearer(t), "", ""); status != http.StatusBadGateway {
			t.Errorf("%q: %d", fields, status)
		}
	}
}

// The traversal table, through the whole proxy: the upstream is never asked.
func TestSuspiciousRequestsAreRefused(t *testing.T) {
	s := newSocketFixture(t, false, func(c *proxy.Config) {
		c.Routes = []proxy.Route{{Path: "/", Upstream: c.Routes[0].Upstream}, {Path: "/admin", Upstream: c.Routes[0].Upstream, Scope: []string{"admin"}}}
	})
	for _, path := range []string{
		"/public/../admin", "/public/%2e%2e/admin", "/public/..%2fadmin", "//admin", "/public//admin", "/%2fadmin", "/public/..;/admin", "/;x/admin",
		`/public\..\admin`, "/public/%5c..%5cadmin", "/%252e%252e/admin", "/ADMIN", "/admin%20", "/admin./", "/%2541dmin", "/x%00", "/%c0%ae%c0%ae/admin", "*",
	} {
		if status := s.raw(t, "GET "+path+" HTTP/1.1", "Host: x", s.bearer(t), "Connection: close", "", ""); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", path, status)
		}
	}
	if status := s.raw(t, "CONNECT admin:80 HTTP/1.1", "Host: x", s.bearer(t), "", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT: status %d", status)
	}
	for _, path := range []string{"/admin", "/admin/", "/admin/x", "/%61dmin"} {
		if status := s.raw(t, "GET "+path+" HTTP/1.1", "Host: x", s.bearer(t), "Connection: close", "", ""); status != http.StatusForbidden {
			t.Errorf("%s: status %d", path, status)
		}
	}
	select {
	case r := <-s.got:
		t.Errorf("the upstream was asked for %s", r.RequestURI)
	default:
	}
}

func TestRoutes(t *testing.T) {
	h := guardtest.NewIssuer(t)
	var asked string
	reverse := newProxy(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r.URL.String() }), proxy.Config{
		Checker: h,
		Routes: []proxy.Route{
			routeTo(t, "/api/", "http://one"), routeTo(t, "/api/v2", "https://two/base/", "orders"), routeTo(t, "/x", "http://three/base"), routeTo(t, "/connect", "http://four"),
		},
		Own:      http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") }),
		OwnPaths: []string{"/connect/token", "/.well-known/jwks.json"},
	})
	for _, c := range []struct {
		path, asked, body string
		status            int
	}{
		{"/api/a?b=c", "http://one/api/a?b=c", "", 200},
		{"/api", "http://one/api", "", 200},
		{"/api/v2/a%20b", "https://two/base/api/v2/a%20b", "", 200},
		{"/x/", "http://three/base/x/", "", 200},
		{"/connect/token", "", "own", 200},
		{"/connect/token/", "", "own", 200},
		{"/connect/x", "http://four/connect/x", "", 200},
		{"/other", "", "own", 200},
		{"/.well-known/jwks.json", "", "own", 200},
		{"/CONNECT/token", "", "", 400},
		{"/connect//token", "", "", 400},
	} {
		asked = ""
		w := guardtest.Get(reverse, c.path, h.Token(t, "iSHARE", "orders"))
		if w.Code != c.status || asked != c.asked || c.body != "" && w.Body.String() != c.body {
			t.Errorf("%s: %d %s, the upstream was asked for %q", c.path, w.Code, w.Body, asked)
		}
	}
	asked = ""
	if w := guardtest.Get(reverse, "/api/v2", h.Token(t, "iSHARE")); w.Code != http.StatusForbidden || asked != "" {
		t.Errorf("without the scope: %d", w.Code)
	}
	if w := guardtest.Get(reverse, "/connect/token", ""); w.Body.String() != "own" {
		t.Errorf("our own path wants a token: %d", w.Code)
	}
}

func TestRoutesThatCollide(t *testing.T) {
	for name, change := range map[string]func(*proxy.Config){
		"twice":        func(c *proxy.Config) { c.Routes = append(c.Routes, routeTo(t, "/api/", "http://x")) },
		"by case":      func(c *proxy.Config) { c.Routes = append(c.Routes, routeTo(t, "/API", "http://x")) },
		"with our own": func(c *proxy.Config) { c.OwnPaths = []string{"/api"} },
		"bad path":     func(c *proxy.Config) { c.Routes = append(c.Routes, routeTo(t, "x", "http://x")) },
	} {
		c := proxy.Config{Checker: guardtest.NewIssuer(t), Routes: []proxy.Route{routeTo(t, "/api", "http://x")}}
		change(&c)
		if _, err := proxy.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNothingAtThisPath(t *testing.T) {
	reverse := newProxy(t, nil, proxy.Config{Checker: guardtest.NewIssuer(t), Routes: []proxy.Route{routeTo(t, "/api", "http://x")}})
	if w := guardtest.Get(reverse, "/other", ""); w.Code != http.StatusNotFound || !jsontext.Value(w.Body.Bytes()).IsValid() {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestUpstreamDown(t *testing.T) {
	const address = "127.0.0.1:1" // nobody listens there, and no system gives it to others
	log, told := guardtest.NewLog()
	s := newSocketFixture(t, false, func(c *proxy.Config) {
		c.Routes = []proxy.Route{routeTo(t, "/api", "http://"+address)}
		c.Log = log
	})
	answer, err := s.proxy.Client().Do(s.request(t, http.MethodGet, "/api/secret-path?secret=1", nil))
	guardtest.NoError(t, err)
	defer answer.Body.Close()
	body := readAll(t, answer.Body)
	var decoded struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(body), &decoded); err != nil || answer.StatusCode != http.StatusBadGateway || decoded.Error != "temporarily_unavailable" {
		t.Errorf("%d %s: %v", answer.StatusCode, body, err)
	}
	if strings.Contains(body, address) || answer.Header.Get("Content-Type") != "application/json" || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s", answer.Header, body)
	}
	if text := told.String(); !strings.Contains(text, address+": ") || strings.Contains(text, "secret") || strings.Contains(text, "Bearer") {
		t.Errorf("log: %s", text)
	}
}

// An upstream that hangs up in the middle of its answer leaves no answer that looks whole.
func TestUpstreamBreaksOff(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer upstream.Close()
	s := newSocketFixture(t, false, func(c *proxy.Config) { c.Routes = []proxy.Route{routeTo(t, "/", upstream.URL)} })
	answer, err := s.proxy.Client().Do(s.request(t, http.MethodGet, "/", nil))
	guardtest.NoError(t, err)
	defer answer.Body.Close()
	if b, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("a whole answer: %q", b)
	}
}

func TestBodyLimit(t *testing.T) {
	s := newSocketFixture(t, false, func(c *proxy.Config) { c.MaxBody = 10 })
	got := s.send(t, s.request(t, http.MethodPost, "/", strings.NewReader("0123456789")))
	if got.body != "0123456789" {
		t.Errorf("body %q", got.body)
	}
	for name, body := range map[string]io.Reader{
		"known before": strings.NewReader("0123456789x"), "found out": io.MultiReader(strings.NewReader("0123456789x"), bytes.NewReader(make([]byte, 1<<20))),
	} {
		answer, err := s.proxy.Client().Do(s.request(t, http.MethodPost, "/", body))
		guardtest.NoError(t, err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", name, answer.StatusCode)
		}
		select { // the upstream may have seen the beginning
		case <-s.got:
		default:
		}
	}
}

func TestNoBodyLimitByDefault(t *testing.T) {
	s := newSocketFixture(t, false, nil)
	got := s.send(t, s.request(t, http.MethodPut, "/", bytes.NewReader(make([]byte, 8<<20))))
	if len(got.body) != 8<<20 {
		t.Errorf("%d bytes arrive", len(got.body))
	}
}

// A body that breaks off is the client's fault, and no news about the upstream.
func TestBodyThatBreaksOff(t *testing.T) {
	log, told := guardtest.NewLog()
	s := newSocketFixture(t, false, func(c *proxy.Config) { c.Log = log })
	status := s.raw(t, "POST / HTTP/1.1", "Host: x", s.bearer(t), "Transfer-Encoding: chunked", "", "no length", "")
	if status != http.StatusBadRequest {
		t.Errorf("status %d", status)
	}
	if strings.Contains(told.String(), "out of reach") {
		t.Errorf("log: %s", told)
	}
}

// What an upstream says about caching stands, and silence becomes explicit. What a middleware
// in front of us said does not get between.
func TestCaching(t *testing.T) {
	h := guardtest.NewIssuer(t)
	for _, c := range []struct {
		status     int
		says, want []string
	}{
		{200, nil, []string{"no-store"}},
		{200, []string{"max-age=60"}, []string{"max-age=60"}},
		{404, nil, []string{"no-store"}},
		{304, nil, nil},
	} {
		reverse := newProxy(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Cache-Control"] = c.says
			w.Header().Set("Alt-Svc", `h3=":8443"`)
			w.WriteHeader(c.status)
		}), proxy.Config{Checker: h, Routes: []proxy.Route{routeTo(t, "/", "http://x")}})
		w := guardtest.Get(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Pragma", "no-cache")
			reverse.ServeHTTP(w, r)
		}), "/", h.Token(t, "iSHARE"))
		if got := w.Header().Values("Cache-Control"); w.Code != c.status || !slices.Equal(got, c.want) {
			t.Errorf("%d %q: %d %q, want %q", c.status, c.says, w.Code, got, c.want)
		}
		if w.Header().Get("Pragma") != "" || w.Header().Get("Alt-Svc") != "" {
			t.Errorf("%v", w.Header())
		}
	}
}

// Compression is between client and upstream.
func TestEncodingIsLeftAlone(t *testing.T) {
	s := newSocketFixture(t, false, nil)
	r := s.request(t, http.MethodGet, "/", nil)
	r.Header.Set("Accept-Encoding", "br")
	if got := s.send(t, r); got.Header.Get("Accept-Encoding") != "br" {
		t.Errorf("Accept-Encoding: %q", got.Header.Get("Accept-Encoding"))
	}
	s.raw(t, "GET / HTTP/1.1", "Host: x", s.bearer(t), "Connection: close", "", "")
	if got := <-s.got; got.Header.Values("Accept-Encoding") != nil {
		t.Errorf("Accept-Encoding: %q, of which the client knows nothing", got.Header.Values("Accept-Encoding"))
	}
}

// echo is a WebSocket server as far as the proxy can tell: it switches, and gives back what
// it gets.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-Websocket-Key") == "" || r.Header.Get(proxy.HeaderPartyID) != string(guardtest.Consumer) {
		http.Error(w, fmt.Sprint(r.Header), http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
	io.Copy(conn, buffered)
})

// A webSocket is the client's end.
type webSocket struct {
	net.Conn
	buffered *bufio.Reader
}

func askForWebSocket(t *testing.T, conn net.Conn, token string) {
	t.Helper()
	_, err := io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Ishare-Party-Id: evil\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	guardtest.NoError(t, err)
}

func openWebSocket(t *testing.T, conn net.Conn, token string) *webSocket {
	t.Helper()
	askForWebSocket(t, conn, token)
	w := &webSocket{conn, bufio.NewReader(conn)}
	answer, err := http.ReadResponse(w.buffered, nil)
	guardtest.NoError(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-Websocket-Accept") != "x" {
		t.Fatalf("%d %v %s", answer.StatusCode, answer.Header, readAll(t, answer.Body))
	}
	return w
}

func (w *webSocket) wantEcho(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(w, text)
	guardtest.NoError(t, err)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(w.buffered, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestWebSocket(t *testing.T) {
	upstream := httptest.NewServer(echo)
	defer upstream.Close()
	s := newSocketFixture(t, false, func(c *proxy.Config) { c.Routes = []proxy.Route{routeTo(t, "/", upstream.URL)} })
	conn, err := net.Dial("tcp", s.proxy.Listener.Addr().String())
	guardtest.NoError(t, err)
	defer conn.Close()
	w := openWebSocket(t, conn, s.Token(t, "iSHARE"))
	w.wantEcho(t, "\x81\x05hello")
	w.wantEcho(t, "GET /admin HTTP/1.1\r\n\r\n")
	if status := s.raw(t, "GET /socket HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "", ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
}

// When the upstream ends its side, the client can still say something.
func TestWebSocketThatEndsOnOneSide(t *testing.T) {
	got := make(chan string, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		if half, ok := conn.(*net.TCPConn); ok {
			half.CloseWrite()
		}
		last, _ := io.ReadAll(buffered)
		got <- string(last)
	}))
	defer upstream.Close()
	s := newSocketFixture(t, false, func(c *proxy.Config) { c.Routes = []proxy.Route{routeTo(t, "/", upstream.URL)} })
	conn, err := net.Dial("tcp", s.proxy.Listener.Addr().String())
	guardtest.NoError(t, err)
	defer conn.Close()
	w := openWebSocket(t, conn, s.Token(t, "iSHARE"))
	if rest := readAll(t, w.buffered); rest != "" {
		t.Errorf("the client gets %q", rest)
	}
	_, err = io.WriteString(conn, "last words")
	guardtest.NoError(t, err)
	conn.Close()
	if last := <-got; last != "last words" {
		t.Errorf("the upstream gets %q", last)
	}
}

func TestFailingTransport(t *testing.T) {
	h := guardtest.NewIssuer(t)
	for err, status := range map[error]int{
		errors.New("x"):                          http.StatusBadGateway,
		timeout{}:                                http.StatusGatewayTimeout,
		&net.OpError{Op: "dial", Err: timeout{}}: http.StatusBadGateway,
		&net.OpError{Op: "read", Err: timeout{}}: http.StatusGatewayTimeout,
	} {
		reverse := newProxy(t, nil, proxy.Config{Checker: h, Transport: failing{err}, Routes: []proxy.Route{routeTo(t, "/", "http://x")}})
		if w := guardtest.Get(reverse, "/", h.Token(t, "iSHARE")); w.Code != status || !jsontext.Value(w.Body.Bytes()).IsValid() {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
}

type timeout struct{}

func (timeout) Error() string   { return "too late" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return false }

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// FuzzProxyHeaders sends one header field of any name and value.
func FuzzProxyHeaders(f *testing.F) {
	h := guardtest.NewIssuer(f)
	var got http.Header
	reverse := newProxy(f, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }),
		proxy.Config{Checker: h, Routes: []proxy.Route{{Path: "/", Upstream: &url.URL{Scheme: "http", Host: "x"}}}})
	token := h.Token(f, "iSHARE")
	for _, name := range []string{"X-Ishare-Party-Id", "x_ishare_party_id", "Connection", "X-Ishare-", "Upgrade", "Trailer", "Te"} {
		f.Add(name, "evil")
	}
	f.Add("Connection", "X-Ishare-Party-Id, upgrade")
	f.Fuzz(func(t *testing.T, name, value string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header[name] = []string{value, "evil"}
		r.Header["Authorization"] = []string{"Bearer " + token}
		got = nil
		w := httptest.NewRecorder()
		reverse.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return
		}
		for name, want := range map[string]string{proxy.HeaderPartyID: string(guardtest.Consumer), proxy.HeaderClientID: string(guardtest.Alias)} {
			if values := got[name]; !slices.Equal(values, []string{want}) {
				t.Errorf("%s: %q", name, values)
			}
		}
		ours := 0
		for name := range got {
			if strings.HasPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "x-ishare-") {
				ours++
			}
		}
		if ours != 4 || got["Authorization"] != nil {
			t.Errorf("%v", got)
		}
	})
}

// All routes that cannot be used are named at once, and a good one beside them is not.
func TestRouteErrors(t *testing.T) {
	_, err := proxy.New(proxy.Config{Checker: guardtest.NewIssuer(t), OwnPaths: []string{"/own"}, Routes: []proxy.Route{
		routeTo(t, "/api", "http://x"), routeTo(t, "/API/", "http://x"), routeTo(t, "x", "http://x"), routeTo(t, "/own/x", "http://x"), routeTo(t, "/good", "http://x"),
	}})
	refused, _ := errors.AsType[proxy.RouteErrors](err)
	var indexes []int
	for _, e := range refused {
		indexes = append(indexes, e.Index)
	}
	if !slices.Equal(indexes, []int{1, 2, 3}) {
		t.Errorf("%v: %v", indexes, err)
	}
}

// What goes wrong for every request that comes is logged once while it lasts.
func TestFailuresAreSummedUp(t *testing.T) {
	h := guardtest.NewIssuer(t)
	token := h.Token(t, "iSHARE")
	t.Run("an upstream is down", func(t *testing.T) {
		guardtest.CheckSummedUp(t, "an upstream is out of reach", func(log *slog.Logger) (http.Handler, error) {
			return proxy.New(proxy.Config{
				Checker: h, Log: log, Transport: &ports{},
				Routes: []proxy.Route{{Path: "/", Upstream: &url.URL{Scheme: "http", Host: "x"}}},
			})
		}, func(handler http.Handler) { guardtest.Get(handler, "/", token) })
	})
	t.Run("a proxy asks wrongly", func(t *testing.T) {
		guardtest.CheckSummedUp(t, "forward-auth is asked wrongly", func(log *slog.Logger) (http.Handler, error) {
			return proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, Log: log})
		}, func(handler http.Handler) { guardtest.Get(handler, "/auth?scop=orders", "") })
	})
}

// ports fails as a dialer does, each time with another port of its own.
type ports struct{ last int }

func (p *ports) RoundTrip(*http.Request) (*http.Response, error) {
	p.last++
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: p.last}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Source: at, Addr: at, Err: errors.Join(syscall.ECONNREFUSED, errors.New(strconv.Itoa(p.last)))}
}

// A guard is never made without somebody who checks, nor with routes or limits that make no sense.
func TestConfigurationsThatGuardNothing(t *testing.T) {
	h := guardtest.NewIssuer(t)
	route := []proxy.Route{routeTo(t, "/", "http://127.0.0.1:1")}
	_, noChecker := proxy.NewForwardAuth(proxy.ForwardAuthConfig{})
	_, reverse := proxy.New(proxy.Config{Routes: route})
	_, noRoutes := proxy.New(proxy.Config{Checker: h})
	_, negative := proxy.New(proxy.Config{Routes: route, Checker: h, MaxBody: -1})
	for field, err := range map[string]error{"field Checker": noChecker, "the field Checker": reverse, "field Routes": noRoutes, "MaxBody": negative} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// The identifier of a request is ours in refusals, and in an answer unless the upstream has one. An upstream gets it when the
// client has sent none.
func TestCorrelation(t *testing.T) {
	var got string // by the upstream
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("X-Request-Id")
		if r.URL.Query().Has("echo") {
			w.Header().Set("X-Request-Id", got)
		}
	})
	issuer := guardtest.NewIssuer(t)
	var decided string
	checker := guard.LogOutages(issuer, nil)
	checker.Decided = func(_ *http.Request, d guard.Decision) { decided = d.Correlation() }
	p := newProxy(t, upstream, proxy.Config{Checker: checker, Routes: []proxy.Route{routeTo(t, "/orders", "http://upstream.example", "iSHARE")}})
	for _, c := range []struct {
		name, query, sent, token string
		upstream, answer         string // sent, ours or none
	}{
		{"none sent", "", "", issuer.Token(t, "iSHARE"), "ours", "ours"},
		{"none sent, echoed", "?echo", "", issuer.Token(t, "iSHARE"), "ours", "ours"},
		{"sent", "", "theirs", issuer.Token(t, "iSHARE"), "sent", "ours"},
		{"sent, echoed", "?echo", "theirs", issuer.Token(t, "iSHARE"), "sent", "sent"},
		{"refused", "", "theirs", "", "none", "ours"},
	} {
		got, decided = "", ""
		r := httptest.NewRequest(http.MethodGet, "/orders"+c.query, nil)
		if c.sent != "" {
			r.Header.Set("X-Request-Id", c.sent)
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		means := map[string]string{"sent": c.sent, "ours": decided, "none": ""}
		if decided == "" || got != means[c.upstream] || len(w.Header()["X-Request-Id"]) != 1 || w.Header().Get("X-Request-Id") != means[c.answer] {
			t.Errorf("%s: ours is %q, the upstream got %q, the client %q", c.name, decided, got, w.Header()["X-Request-Id"])
		}
	}
}
