package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlyPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"0.0.0.0":         false,
		"0.1.2.3":         false,
		"9.255.255.255":   true,
		"10.0.0.1":        false,
		"100.63.255.255":  true,
		"100.64.0.1":      false,
		"100.127.255.255": false,
		"127.0.0.1":       false,
		"127.255.255.254": false,
		"169.254.169.254": false, // where clouds hand out credentials
		"172.15.255.255":  true,
		"172.16.0.1":      false,
		"172.31.255.255":  false,
		"192.0.0.170":     false,
		"192.0.2.1":       false,
		"192.88.99.1":     false,
		"192.168.1.1":     false,
		"198.18.0.1":      false,
		"198.51.100.1":    false,
		"203.0.113.1":     false,
		"224.0.0.1":       false,
		"239.255.255.255": false,
		"240.0.0.1":       false,
		"255.255.255.255": false,
		"1.1.1.1":         true,
		"8.8.8.8":         true,

		"::":                                     false,
		"::1":                                    false,
		"::7f00:1":                               false, // IPv4-compatible
		"::ffff:127.0.0.1":                       false, // IPv4-mapped
		"::ffff:10.1.2.3":                        false,
		"::ffff:8.8.8.8":                         true,
		"64:ff9b::7f00:1":                        false, // NAT64 of 127.0.0.1
		"64:ff9b::a9fe:a9fe":                     false, // NAT64 of 169.254.169.254
		"64:ff9b::808:808":                       true,  // NAT64 of 8.8.8.8
		"64:ff9b:1::808:808":                     false, // NAT64 of a network's own
		"100::1":                                 false, // discard
		"2001::1":                                false, // Teredo
		"2001:db8::1":                            false,
		"2002:7f00:1::":                          false, // 6to4 of 127.0.0.1
		"2002:808:808::":                         false,
		"3fff::1":                                false,
		"fc00::1":                                false,
		"fdff::1":                                false,
		"fe80::1":                                false,
		"fe80::1%eth0":                           false,
		"fec0::1":                                false, // site-local
		"ff02::1":                                false,
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff": false,
		"2606:4700:4700::1111":                   true,
		"2a00:1450::1":                           true,
	} {
		if got := isPublic(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is public: %v, want %v", address, got, want)
		}
		err := refusePrivate("tcp", netip.AddrPortFrom(netip.MustParseAddr(address), 80).String(), nil)
		if (err == nil) != want || err != nil && !errors.Is(err, ErrNotPublic) {
			t.Errorf("a connection to %s: %v", address, err)
		}
	}
	if err := refusePrivate("unix", "/run/secret.sock", nil); !errors.Is(err, ErrNotPublic) {
		t.Errorf("a connection to a socket that is no address: %v", err)
	}
}

// What a proxy is asked for cannot be resolved here.
func TestHostsThatNoProxyIsAskedFor(t *testing.T) {
	for host, want := range map[string]bool{
		"crl.example.com":   true,
		"crl.example.com.":  true,
		"8.8.8.8":           true,
		"8.8.8.8:8080":      true,
		"[2a00:1450::1]":    true,
		"localhost.com":     true,
		"internal.example":  true,
		"lan.example":       true,
		"crl.mylan.example": true,
		"crl.homes":         true,

		"127.0.0.1":                false,
		"127.0.0.1:80":             false,
		"127.0.0.1.":               false,
		"10.1.2.3":                 false,
		"169.254.169.254":          false,
		"[::1]":                    false,
		"[::ffff:10.1.2.3]":        false,
		"[64:ff9b::7f00:1]":        false,
		"[fe80::1%25eth0]":         false,
		"127.1":                    false, // what inet_aton takes for 127.0.0.1
		"2130706433":               false,
		"0x7f000001":               false,
		"0x7f.0.0.1":               false,
		"127.0.0.0x1":              false,
		"0177.0.0.1":               false,
		"010.8.8.8":                false,
		"8.8.8.8..":                false,
		"localhost":                false,
		"LOCALHOST":                false,
		"localhost.":               false,
		"a.LocalHost":              false,
		"metadata":                 false,
		"metadata.google.internal": false,
		"printer.local":            false,
		"router.home.arpa":         false,
		"api.default.svc":          false,
		"vault.svc.cluster.local":  false,
		"printer.lan":              false,
		"wiki.CORP.":               false,
		"nas.home":                 false,
		"www.intranet":             false,
		"db.private":               false,
		"ca.test":                  false,
		"facebookcorewwwi.onion":   false,
	} {
		u, err := ParseAddress("http://" + host + "/list.crl")
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if err := refusePrivateHost(u); (err == nil) != want || err != nil && !errors.Is(err, ErrNotPublic) {
			t.Errorf("%s: %v, want it public: %v", host, err, want)
		}
	}
	for _, host := range []string{"１２７.0.0.1", "localhost。", "ⓛocalhost.example"} {
		if _, err := ParseAddress("http://" + host + "/"); err == nil || !strings.Contains(err.Error(), "ASCII") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// FuzzAddress takes what certificates and redirects name.
func FuzzAddress(f *testing.F) {
	for _, address := range []string{"http://crl.example/a?b#c", "https://8.8.8.8:1/", "http://127.1/", "http://[::1%25lo]/", "http://a.localhost./", "http://x%c3%a9.test/"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		u, err := ParseAddress(address)
		if err != nil || refusePrivateHost(u) != nil {
			return
		}
		again, err := ParseAddress(u.String())
		if err != nil || again.Host != u.Host {
			t.Errorf("%q is called as %q: %v", address, u, err)
		}
		host := strings.ToLower(strings.TrimRight(u.Hostname(), "."))
		if ip, err := netip.ParseAddr(host); err == nil && !isPublic(ip) || host == "localhost" || strings.HasSuffix(host, ".localhost") {
			t.Errorf("a proxy is asked for %q", host)
		}
	})
}

// asks is a call of the kind that a method stands for.
func asks(method, address string) Call {
	c := Call{Method: method, Address: address, Limit: 1 << 10, Timeout: 10 * time.Second}
	if method == http.MethodPost {
		c.MediaType, c.Body = "application/ocsp-request", []byte("question")
	}
	return c
}

func TestRedirects(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		get    string // what comes of it; an error's text, or the answer
		post   string
	}{
		{"moved", http.StatusMovedPermanently, "GET ", "POST question"},
		{"found", http.StatusFound, "GET ", "POST question"},
		{"see other", http.StatusSeeOther, "GET ", "HTTP status 303"},
		{"temporary", http.StatusTemporaryRedirect, "GET ", "POST question"},
		{"permanent", http.StatusPermanentRedirect, "GET ", "POST question"},
		{"choices", http.StatusMultipleChoices, "HTTP status 300", "HTTP status 300"},
		{"not modified", http.StatusNotModified, "HTTP status 304", "HTTP status 304"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/old", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "new?x=1")
				w.WriteHeader(test.status)
			})
			mux.HandleFunc("/new", func(w http.ResponseWriter, r *http.Request) {
				question, _ := io.ReadAll(r.Body)
				if r.Header.Get("Referer") != "" || (r.Header.Get("Content-Type") != "") != (r.Method == http.MethodPost) {
					t.Errorf("the header is %v", r.Header)
				}
				fmt.Fprintf(w, "%s %s", r.Method, question)
			})
			server := httptest.NewServer(mux)
			defer server.Close()
			f := NewFetcher(true, nil)
			defer f.Client.CloseIdleConnections()
			for method, want := range map[string]string{http.MethodGet: test.get, http.MethodPost: test.post} {
				answer, err := f.Fetch(t.Context(), asks(method, server.URL+"/old"))
				if err == nil && string(answer) != want || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q, %v, want %q", method, answer, err, want)
				}
			}
		})
	}
}

// hops answers with redirects to where they lead, by address, and with "done" at any other.
type hops map[string]string

func (h hops) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if to, ok := h[r.URL.String()]; ok {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusMovedPermanently)
	} else {
		w.WriteString("done")
	}
	response := w.Result()
	response.Request = r
	return response, nil
}

func TestRedirectsStayWithinTheBounds(t *testing.T) {
	for _, test := range []struct {
		name string
		hops hops
		want string // empty: an answer
	}{
		{"to https", hops{"http://a.example/": "https://a.example/"}, ""},
		{"from https to http", hops{"http://a.example/": "https://b.example/", "https://b.example/": "http://c.example/"}, ""},
		{"three times", hops{"http://a.example/": "/1", "http://a.example/1": "/2", "http://a.example/2": "/3"}, ""},
		{"four times", hops{"http://a.example/": "/1", "http://a.example/1": "/2", "http://a.example/2": "/3", "http://a.example/3": "/4"}, "more than 3 redirects"},
		{"in a circle", hops{"http://a.example/": "http://b.example/", "http://b.example/": "http://a.example/"}, "more than 3 redirects"},
		{"to another scheme", hops{"http://a.example/": "file:///etc/passwd"}, "http and https are followed"},
		{"with credentials", hops{"http://a.example/": "http://user:geheim-42@b.example/"}, "holds credentials"},
		{"to no host", hops{"http://a.example/": "http:///"}, "names no host"},
		{"to nowhere", hops{"http://a.example/": ""}, "no address to go to"},
		{"to this machine", hops{"http://a.example/": "http://127.0.0.1/"}, "not on a public network: 127.0.0.1"},
		{"to this machine by its name", hops{"http://a.example/": "http://b.example/", "http://b.example/": "http://localhost/"}, `not on a public network: "localhost"`},
		{"to a metadata service", hops{"http://a.example/": "http://169.254.169.254/latest"}, "redirected to \"http://169.254.169.254/latest\""},
	} {
		f := NewFetcher(false, &url.URL{Scheme: "http", Host: "proxy.example"})
		f.Client.Transport = test.hops
		answer, err := f.Fetch(t.Context(), asks(http.MethodGet, "http://a.example/"))
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "geheim-42")) {
			t.Errorf("%s: %q, %v, want %q", test.name, answer, err, test.want)
		}
	}
}

// Without a proxy it is the connection that is judged, that of each redirect too.
func TestRedirectToAPrivateNetwork(t *testing.T) {
	var called atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost"} {
		f := NewFetcher(false, nil)
		direct := f.Client.Transport
		f.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "a.test" {
				return hops{"http://a.test/": "http://" + host + ":" + port + "/"}.RoundTrip(r)
			}
			return direct.RoundTrip(r)
		})
		_, err := f.Fetch(t.Context(), asks(http.MethodGet, "http://a.test/"))
		if !errors.Is(err, ErrNotPublic) || called.Load() {
			t.Errorf("%s: %v; the server was called: %v", host, err, called.Load())
		}
	}
}

// One time and one circuit for the address in the certificate, however often it redirects.
func TestRedirectsTakeTheTimeOfOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFetcher(true, nil)
		f.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(4 * time.Second):
				return hops{r.URL.String(): "/next"}.RoundTrip(r)
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})
		c := asks(http.MethodGet, "http://a.test/")
		for range FetchFailures {
			begin := time.Now()
			if _, err := f.Fetch(t.Context(), c); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != c.Timeout {
				t.Errorf("after %s: %v", time.Since(begin), err)
			}
		}
		if _, err := f.Fetch(t.Context(), c); !errors.Is(err, ErrCircuitOpen) {
			t.Errorf("after %d failures: %v", FetchFailures, err)
		}
	})
}

func TestAProxyThatWantsCredentials(t *testing.T) {
	f := NewFetcher(true, nil)
	f.Client.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusProxyAuthRequired, Body: http.NoBody}, nil
	})
	if _, err := f.Fetch(t.Context(), asks(http.MethodGet, "http://a.test/")); err == nil || !strings.Contains(err.Error(), "the proxy wants credentials") {
		t.Error(err)
	}
}

// An address that must not be called does not count as failing, so that its certificate is
// not asked about again every second.
func TestPrivateAddressIsNoFailure(t *testing.T) {
	server := httptest.NewServer(body(nil))
	defer server.Close()
	f := NewFetcher(false, nil)
	defer f.Client.CloseIdleConnections()
	for range 2 * FetchFailures {
		_, err := f.Fetch(t.Context(), Call{Method: http.MethodGet, Address: server.URL, Limit: 1, Timeout: time.Minute})
		if !errors.Is(err, ErrNotPublic) || errors.As(err, new(*UnreachableError)) {
			t.Fatalf("fetch = %v", err)
		}
	}
}

// The environment must not decide through whom a certificate's address is called.
func TestNoProxy(t *testing.T) {
	var called bool
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	f := NewFetcher(true, nil)
	defer f.Client.CloseIdleConnections()
	if transport, ok := f.Client.Transport.(*http.Transport); !ok || transport.Proxy != nil {
		t.Error("a proxy is asked")
	}
	_, err := f.Fetch(t.Context(), Call{Method: http.MethodGet, Address: "http://status.invalid/", Limit: 1, Timeout: time.Second})
	if err == nil || called {
		t.Errorf("a name that does not exist: %v; the proxy was called: %v", err, called)
	}
}

func TestTLSIsVerified(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	f := NewFetcher(true, nil)
	defer f.Client.CloseIdleConnections()
	_, err := f.Fetch(t.Context(), Call{Method: http.MethodGet, Address: server.URL, Limit: 1, Timeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server with a certificate of its own making: %v", err)
	}
}

// A connection that the server closed while it was idle is no failure.
func TestRestartedServer(t *testing.T) {
	server := httptest.NewServer(body([]byte("1")))
	defer server.Close()
	f := NewFetcher(true, nil)
	defer f.Client.CloseIdleConnections()
	ask := Call{
		Method: http.MethodPost, Address: server.URL, MediaType: "text/plain", Body: []byte("?"), Limit: 1, Timeout: time.Minute,
	}
	for range 20 {
		if _, err := f.Fetch(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		server.CloseClientConnections()
	}
	// Whether a closed connection is taken depends on luck; whether net/http then
	// asks again does not.
	f.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if key, ok := r.Header["Idempotency-Key"]; !ok || len(key) > 0 {
			t.Errorf("Idempotency-Key is %q, %v", key, ok)
		}
		if r.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("Content-Type is %q", r.Header.Get("Content-Type"))
		}
		return nil, io.EOF
	})
	if _, err := f.Fetch(t.Context(), ask); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// body answers with the same body to everything.
func body(content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(content) })
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
