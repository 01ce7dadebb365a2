package proxy_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
)

// What a client says of itself, of the way that it came, or of what it asks for, other than by the
// request line: proxies say it, and programs believe it.
func TestHeadersOfStrangers(t *testing.T) {
	h := guardtest.NewIssuer(t)
	var got http.Header
	reverse := newProxy(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }),
		proxy.Config{Checker: h, Routes: []proxy.Route{routeTo(t, "/", "http://x")}})
	token := h.Token(t, "iSHARE")
	for name, passes := range map[string]bool{
		// Certificates.
		"Client-Cert": false, "Client-Cert-Chain": false, "X-Client-Cert": false, "X-Client-Certificate": false, "X-Client-Verify": false, "X-Client-Dn": false,
		"Ssl-Client-Cert": false, "Ssl-Client-Verify": false, "X-Ssl-Client-Cert": false, "X-Ssl-Client-S-Dn": false, "X-Ssl-Cert": false, "X-Forwarded-Client-Cert": false,
		"X-Forwarded-Tls-Client-Cert": false, "X-Arr-Clientcert": false, "X-Amzn-Mtls-Clientcert-Leaf": false, "Wl-Proxy-Client-Cert": false,
		// Users.
		"Remote-User": false, "X-Remote-User": false, "X-Auth-Request-User": false, "X-Webauth-User": false, "X-Amzn-Oidc-Data": false, "X-Goog-Iap-Jwt-Assertion": false,
		"X-Goog-Authenticated-User-Email": false, "X-Ms-Client-Principal": false, "X-Ms-Client-Principal-Id": false, "X-Forwarded-User": false,
		"Remote-Groups": false, "Remote-Email": false, "Remote-Name": false, "X-Authenticated-Userid": false, "X-Authenticated-Groups": false, "$wsru": false,
		// Paths, methods, hosts.
		"X-Original-Uri": false, "X-Original-Url": false, "X-Original-Method": false, "X-Original-Host": false, "X-Original-Forwarded-For": false, "X-Rewrite-Url": false, "X-Override-Url": false,
		"X-Http-Method-Override": false, "X-Http-Method": false, "X-Method-Override": false, "X-Envoy-Original-Path": false, "X-Script-Name": false, "X-Host": false, "X-Http-Host-Override": false,
		"Script-Name": false, "Path-Info": false, "Daphne-Root-Path": false, "X-Waws-Unencoded-Url": false,
		"X-Forwarded-Uri": false, "X-Forwarded-Method": false, "X-Forwarded-Prefix": false,
		// Addresses.
		"X-Real-Ip": false, "True-Client-Ip": false, "Client-Ip": false, "X-Client-Ip": false, "X-Cluster-Client-Ip": false, "Cf-Connecting-Ip": false, "X-Envoy-External-Address": false,
		"Fastly-Client-Ip": false, "X-Remote-Addr": false, "X-Forwarded": false, "X-Originating-Ip": false, "X-Scheme": false, "Front-End-Https": false,
		// How files are sent.
		"X-Accel-Redirect": false, "X-Accel-Mapping": false, "X-Sendfile": false, "X-Sendfile-Type": false, "X-Lighttpd-Send-File": false,
		"Proxy": false, "Forwarded": false, "Http2-Settings": false,
		// What is the program's.
		"X-Request-Id": true, "X-Client-Version": true, "Cookie": true, "X-Api-Key": true, "Link": true, "Fiware-Service": true, "Ngsild-Tenant": true, "X-Auth-Token": true, "Origin": true,
		"Client": true, "X-Accelerate": true, "X-Http-Methods": true, "X-Original": true, "Remote-Users": true, "Proxy-Status": true, "X-Ssl": true, "Path": true, "Script": true, "Ws": true, "Destination": true,
	} {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_"), strings.ToUpper(strings.ReplaceAll(name, "-", ".")), strings.Replace(name, "-", "_", 1)} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header[spelling] = []string{"evil"}
			reverse.ServeHTTP(httptest.NewRecorder(), r)
			if passed := slices.Equal(got[spelling], []string{"evil"}); passed != passes {
				t.Errorf("%s passes: %t", spelling, passed)
			}
		}
	}
}

// COPY and MOVE write to Destination. It passes only where no path is anybody else's.
func TestDestination(t *testing.T) {
	h := guardtest.NewIssuer(t)
	admin := routeTo(t, "/admin", "http://x")
	admin.Scope = []string{"admin"}
	exact := routeTo(t, "/", "http://x")
	exact.Paths = proxy.PathsExact
	for name, c := range map[string]struct {
		routes []proxy.Route
		passes bool
	}{
		"the whole upstream": {[]proxy.Route{routeTo(t, "/", "http://x")}, true},
		"another demand":     {[]proxy.Route{routeTo(t, "/", "http://x"), admin}, false},
		"exact":              {[]proxy.Route{exact}, false},
		"below a path":       {[]proxy.Route{routeTo(t, "/files", "http://x")}, false},
		"a part of it":       {[]proxy.Route{routeTo(t, "/", "http://x/base")}, false},
	} {
		var got http.Header
		reverse := newProxy(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }), proxy.Config{Checker: h, Routes: c.routes})
		r := httptest.NewRequest("COPY", "/files/a", nil)
		r.Header.Set("Authorization", "Bearer "+h.Token(t, "iSHARE"))
		r.Header.Set("Destination", "http://example.com/admin/a")
		r.Header.Set("Depth", "0")
		reverse.ServeHTTP(httptest.NewRecorder(), r)
		if got.Get("Depth") == "" || got.Get("Destination") != "" != c.passes {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An upstream may have a server before us send a file as the body of its answer, but not to a preflight request,
// whose answer has no body: a stranger sends it.
func TestAnswersThatFetchFiles(t *testing.T) {
	h := guardtest.NewIssuer(t)
	fetch := []string{"X-Accel-Redirect", "X-Sendfile", "X-Sendfile2", "X-Lighttpd-Send-File", "X-LIGHTTPD-send-tempfile", "X-Reproxy-Url", "X-Reproxy-File"}
	others := []string{"X-Accel-Buffering", "X-Accel-Expires", "Location", "Access-Control-Allow-Origin", "X-Ratelimit-Limit"}
	route := routeTo(t, "/", "http://x")
	route.Preflight = true
	reverse := newProxy(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range slices.Concat(fetch, others) {
			w.Header()[name] = []string{"/internal"}
		}
	}), proxy.Config{Checker: h, Routes: []proxy.Route{route}})
	preflight := httptest.NewRecorder()
	reverse.ServeHTTP(preflight, preflightRequest("/"))
	answer := guardtest.Get(reverse, "/", h.Token(t, "iSHARE"))
	for _, name := range slices.Concat(fetch, others) {
		if answer.Header().Get(name) != "/internal" {
			t.Errorf("%s does not pass", name)
		}
		if passes := preflight.Header().Get(name) != ""; passes == slices.Contains(fetch, name) {
			t.Errorf("%s passes in the answer to a preflight request: %t", name, passes)
		}
	}
}

// The token goes on where the route says so, as it came, and nowhere else.
func TestPassToken(t *testing.T) {
	h := guardtest.NewIssuer(t)
	var got http.Header
	route := routeTo(t, "/passes", "http://x")
	route.PassToken, route.Preflight = true, true
	reverse := newProxy(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }),
		proxy.Config{Checker: h, Routes: []proxy.Route{route, routeTo(t, "/", "http://x")}})
	value := "bEARER " + h.Token(t, "iSHARE")
	for path, passes := range map[string]bool{"/passes/x": true, "/other": false} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header = http.Header{"Authorization": {value}, "authorization_": {"evil"}, "Connection": {"Authorization"}, "X-Ishare-Party-Id": {"evil"}}
		got = nil
		reverse.ServeHTTP(httptest.NewRecorder(), r)
		if values := got["Authorization"]; passes != slices.Equal(values, []string{value}) || !passes && values != nil {
			t.Errorf("%s: %q", path, values)
		}
		if got.Get(proxy.HeaderPartyID) != string(guardtest.Consumer) {
			t.Errorf("%s: %v", path, got)
		}
	}
	for _, value := range []string{"", "Bearer x", "Basic eDp5"} {
		got = nil
		r := httptest.NewRequest(http.MethodGet, "/passes", nil)
		r.Header.Set("Authorization", value)
		w := httptest.NewRecorder()
		reverse.ServeHTTP(w, r)
		if got != nil || w.Code == http.StatusOK {
			t.Errorf("%q: %d, the upstream got %v", value, w.Code, got)
		}
	}
}

// preflightRequest is one as browsers send it, with what a stranger may add.
func preflightRequest(target string) *http.Request {
	r := httptest.NewRequest(http.MethodOptions, target, nil)
	r.Header = http.Header{
		"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"authorization"},
		"Accept": {"*/*"}, "User-Agent": {"browser"},
		"Cookie": {"evil"}, "X-Ishare-Party-Id": {"evil"}, "X_Ishare_Party_Id": {"evil"}, "X-Forwarded-For": {"evil"}, "X-Http-Method-Override": {"DELETE"},
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"x"}, "X-Anything": {"evil"},
	}
	return r
}

func TestPreflight(t *testing.T) {
	h := guardtest.NewIssuer(t)
	var got *http.Request
	open := routeTo(t, "/open", "http://x")
	open.Preflight = true
	reverse := newProxy(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Access-Control-Allow-Origin", "https://app.example")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Accel-Redirect", "/x")
		io.WriteString(w, "secret data")
	}), proxy.Config{Checker: h, Routes: []proxy.Route{open, routeTo(t, "/closed", "http://x")}})
	for _, c := range []struct {
		name   string
		target string
		change func(*http.Request)
		passes bool
		status int
	}{
		{"preflight", "/open/x?y", func(*http.Request) {}, true, 200},
		{"another route", "/closed", func(*http.Request) {}, false, 401},
		{"another method", "/open", func(r *http.Request) { r.Method = http.MethodGet }, false, 401},
		{"no origin", "/open", func(r *http.Request) { r.Header.Del("Origin") }, false, 401},
		{"two origins", "/open", func(r *http.Request) { r.Header.Add("Origin", "x") }, false, 401},
		{"no method asked for", "/open", func(r *http.Request) { r.Header.Del("Access-Control-Request-Method") }, false, 401},
		{"no method", "/open", func(r *http.Request) { r.Header.Set("Access-Control-Request-Method", "G T") }, false, 401},
		{"two methods", "/open", func(r *http.Request) { r.Header.Add("Access-Control-Request-Method", "GET") }, false, 401},
		{"bad token", "/open", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, false, 401},
		{"body", "/open", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1 }, false, 401},
		{"body of unknown length", "/open", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), -1 }, false, 401},
		{"a query that breaks the line", "/open", func(r *http.Request) { r.URL.RawQuery = "x HTTP/1.0" }, false, 400},
		{"a path out", "/open/..%2Fclosed", func(*http.Request) {}, false, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			got = nil
			r := preflightRequest(c.target)
			c.change(r)
			w := httptest.NewRecorder()
			reverse.ServeHTTP(w, r)
			if w.Code != c.status || (got != nil) != c.passes || strings.Contains(w.Body.String(), "secret") {
				t.Fatalf("%d %s, passes %t", w.Code, w.Body, got != nil)
			}
			if !c.passes {
				return
			}
			want := http.Header{
				"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"authorization"},
				"Accept": {"*/*"}, "User-Agent": {"browser"}, "X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"example.com"}, "X-Forwarded-Proto": {"http"},
			}
			for name, values := range got.Header {
				if !slices.Equal(want[name], values) {
					t.Errorf("%s: %q", name, values)
				}
			}
			if len(got.Header) != len(want) || got.URL.RequestURI() != c.target {
				t.Errorf("the upstream got %s with %v", got.URL, got.Header)
			}
			header := w.Header()
			if header.Get("Access-Control-Allow-Origin") == "" || header.Get("Cache-Control") != "no-store" || header.Get("X-Accel-Redirect") != "" || header.Get("Content-Type") != "" || w.Body.Len() > 0 {
				t.Errorf("the client got %v %s", header, w.Body)
			}
		})
	}
	r := preflightRequest("/open")
	r.Header.Set("Authorization", "Bearer "+h.Token(t, "iSHARE"))
	w := httptest.NewRecorder()
	reverse.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Body.String() != "secret data" || got.Header.Get(proxy.HeaderPartyID) != string(guardtest.Consumer) {
		t.Errorf("with a token: %d %s", w.Code, w.Body)
	}
}

// A stranger makes no tunnel by a preflight request.
func TestPreflightMakesNoWebSocket(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	}))
	t.Cleanup(upstream.Close)
	s := newSocketFixture(t, false, func(c *proxy.Config) {
		c.Routes = []proxy.Route{{Path: "/", Upstream: parseURL(t, upstream.URL), Preflight: true}}
	})
	if status := s.raw(t, "OPTIONS / HTTP/1.1", "Host: x", "Origin: https://app.example", "Access-Control-Request-Method: PUT", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "", ""); status != http.StatusBadGateway {
		t.Errorf("status %d", status)
	}
}

// An upstream that is down is told of by those who may use it, not by every stranger.
func TestPreflightOfAnUpstreamThatIsDown(t *testing.T) {
	log, told := guardtest.NewLog()
	reverse := newProxy(t, nil, proxy.Config{
		Checker: guardtest.NewIssuer(t), Log: log, Transport: failing{io.ErrUnexpectedEOF},
		Routes: []proxy.Route{{Path: "/", Upstream: &url.URL{Scheme: "http", Host: "x"}, Preflight: true}},
	})
	w := httptest.NewRecorder()
	reverse.ServeHTTP(w, preflightRequest("/"))
	if text := told.String(); w.Code != http.StatusBadGateway || strings.Contains(text, `"WARN"`) || !strings.Contains(text, "out of reach") {
		t.Errorf("%d, log: %s", w.Code, text)
	}
}

// slowTransport answers when the request is given up.
type slowTransport struct{ began chan struct{} }

func (s slowTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	s.began <- struct{}{}
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// Strangers hold a bounded number of connections to the upstream, for a bounded time, and write nothing to the log.
func TestPreflightsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, told := guardtest.NewLog()
		transport := slowTransport{make(chan struct{})}
		reverse := newProxy(t, nil, proxy.Config{
			Checker: guardtest.NewIssuer(t), Log: log, Transport: transport,
			Routes: []proxy.Route{{Path: "/", Upstream: &url.URL{Scheme: "http", Host: "x"}, Preflight: true}},
		})
		codes := make(chan int)
		start := time.Now()
		ask := func() {
			w := httptest.NewRecorder()
			reverse.ServeHTTP(w, preflightRequest("/"))
			codes <- w.Code
		}
		for range 64 {
			go ask()
			<-transport.began
		}
		go ask()
		if code := <-codes; code != http.StatusServiceUnavailable {
			t.Errorf("one more: %d", code)
		}
		for range 64 {
			if code := <-codes; code != http.StatusGatewayTimeout {
				t.Errorf("status %d", code)
			}
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("for %s", took)
		}
		go ask()
		<-transport.began
		<-codes
		if text := told.String(); strings.Contains(text, `"WARN"`) || strings.Contains(text, `"ERROR"`) {
			t.Errorf("log: %s", text)
		}
	})
}

// A host that holds more than a name and a port is nobody's.
func TestHost(t *testing.T) {
	s := newSocketFixture(t, false, nil)
	for lines, status := range map[[2]string]int{
		{"GET / HTTP/1.1", "Host: x"}:             200,
		{"GET / HTTP/1.1", "Host: x:80"}:          200,
		{"GET / HTTP/1.1", "Host: [::1]:80"}:      200,
		{"GET / HTTP/1.0", "X-Other: x"}:          200,
		{"GET http://x/ HTTP/1.1", "Host: y"}:     200,
		{"GET / HTTP/1.1", "Host: x/admin"}:       400,
		{"GET / HTTP/1.1", "Host: user@x"}:        400,
		{"GET / HTTP/1.1", "Host: x,y"}:           400,
		{"GET / HTTP/1.1", "Host: x;y"}:           400,
		{"GET / HTTP/1.1", "Host: x'y"}:           400,
		{"GET / HTTP/1.1", "Host: x%2Fy"}:         400,
		{"GET / HTTP/1.1", "Host: x:y"}:           400,
		{"GET / HTTP/1.1", "Host: (x)"}:           400,
		{"GET http://u@x/ HTTP/1.1", "Host: x"}:   400,
		{"GET http://u:p@x/ HTTP/1.1", "Host: x"}: 400,
		{"GET http://x,y/ HTTP/1.1", "Host: x"}:   400,
		{"GET http://x'y/ HTTP/1.1", "Host: x"}:   400,
		{"GET http:/x HTTP/1.1", "Host: x/y"}:     400,
	} {
		got := s.raw(t, lines[0], lines[1], s.bearer(t), "Connection: close", "", "")
		if got != status {
			t.Errorf("%q: %d, want %d", lines, got, status)
		}
		if got == http.StatusOK {
			<-s.got
		}
	}
}

// Over HTTP/2 the host comes as :authority, and nobody else looks at it.
func TestHostOverHTTP2(t *testing.T) {
	s := newSocketFixture(t, true, nil)
	for host, status := range map[string]int{"x": 200, "x,y": 400, "x'y": 400, "(x)": 400} {
		r := s.request(t, http.MethodGet, "/", nil)
		r.Host = host
		answer, err := s.proxy.Client().Do(r)
		guardtest.NoError(t, err)
		answer.Body.Close()
		if answer.ProtoMajor != 2 || answer.StatusCode != status {
			t.Errorf("%q: %s %d", host, answer.Proto, answer.StatusCode)
		}
		if answer.StatusCode == http.StatusOK {
			<-s.got
		}
	}
	for _, change := range []func(*http.Request){ // which the client of this test does not send
		func(r *http.Request) { r.Host = "x/admin" },
		func(r *http.Request) { r.Host = "user@x" },
		func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", "evil" }, // :path is a whole URL
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+s.Token(t, "iSHARE"))
		change(r)
		w := httptest.NewRecorder()
		s.proxy.Config.Handler.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s %s: %d", r.Host, r.URL, w.Code)
		}
	}
}
