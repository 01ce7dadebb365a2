package trust

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
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
		if (err == nil) != want || err != nil && !errors.Is(err, errNotPublic) {
			t.Errorf("a connection to %s: %v", address, err)
		}
	}
	if err := refusePrivate("unix", "/run/secret.sock", nil); !errors.Is(err, errNotPublic) {
		t.Errorf("a connection to a socket that is no address: %v", err)
	}
}

// An address that must not be called does not count as failing, so that its certificate is
// not asked about again every second.
func TestPrivateAddressIsNoFailure(t *testing.T) {
	server := httptest.NewServer(body(nil))
	defer server.Close()
	f := newFetcher(false)
	defer f.close()
	for range 2 * circuitFailures {
		_, err := f.fetch(t.Context(), call{method: http.MethodGet, address: server.URL, limit: 1, timeout: time.Minute})
		if !errors.Is(err, errNotPublic) || errors.As(err, new(*unreachableError)) {
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
	f := newFetcher(true)
	defer f.close()
	if transport, ok := f.client.Transport.(*http.Transport); !ok || transport.Proxy != nil {
		t.Error("a proxy is asked")
	}
	_, err := f.fetch(t.Context(), call{method: http.MethodGet, address: "http://status.invalid/", limit: 1, timeout: time.Second})
	if err == nil || called {
		t.Errorf("a name that does not exist: %v; the proxy was called: %v", err, called)
	}
}

func TestTLSIsVerified(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	f := newFetcher(true)
	defer f.close()
	_, err := f.fetch(t.Context(), call{method: http.MethodGet, address: server.URL, limit: 1, timeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server with a certificate of its own making: %v", err)
	}
}

// A connection that the server closed while it was idle is no failure.
func TestRestartedServer(t *testing.T) {
	server := httptest.NewServer(body([]byte("1")))
	defer server.Close()
	f := newFetcher(true)
	defer f.close()
	ask := call{
		method: http.MethodPost, address: server.URL, media: "text/plain", body: []byte("?"), limit: 1, timeout: time.Minute,
	}
	for range 20 {
		if _, err := f.fetch(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		server.CloseClientConnections()
	}
	// Whether a closed connection is taken depends on luck; whether net/http then
	// asks again does not.
	f.client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if key, ok := r.Header["Idempotency-Key"]; !ok || len(key) > 0 {
			t.Errorf("Idempotency-Key is %q, %v", key, ok)
		}
		if r.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("Content-Type is %q", r.Header.Get("Content-Type"))
		}
		return nil, io.EOF
	})
	if _, err := f.fetch(t.Context(), ask); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c circuits
		down := &unreachableError{errors.New("down")}
		admitted := func() bool { return c.admit("a", time.Now()) == nil }

		for range circuitFailures - 1 {
			c.report("a", down, time.Now())
		}
		if !admitted() || c.open() != 0 {
			t.Error("left alone too early")
		}
		c.report("a", down, time.Now())
		if admitted() || c.open() != 1 {
			t.Error("not left alone")
		}
		if c.admit("b", time.Now()) != nil {
			t.Error("another address is left alone")
		}
		time.Sleep(circuitPause)
		if !admitted() {
			t.Error("not tried again")
		}
		if admitted() {
			t.Error("tried by two at once")
		}
		c.report("a", fmt.Errorf("wrapped: %w", down), time.Now())
		if admitted() {
			t.Error("the failed try does not count")
		}
		time.Sleep(circuitPause)
		if !admitted() {
			t.Error("not tried again")
		}
		c.report("a", errors.New("nonsense"), time.Now()) // but an answer
		for range circuitFailures - 1 {
			if !admitted() {
				t.Error("left alone although it answers")
			}
			c.report("a", down, time.Now())
		}
		if !admitted() {
			t.Error("failures from before the answer count")
		}
	})
}

func TestWhatFailsTogether(t *testing.T) {
	name := func(address string) string { return call{address: address}.circuit() }
	if name("http://a/list?ca=1") != name("http://a/list?ca=2") {
		t.Error("a query keeps an address from being spared")
	}
	for _, other := range []string{"http://a/ocsp", "http://a:8080/list", "http://b/list", "https://a/list"} {
		if name(other) == name("http://a/list") {
			t.Errorf("%s fails with http://a/list", other)
		}
	}
}

func TestFailingAddressesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c circuits
		down := &unreachableError{errors.New("down")}
		for i := range 3 * maxCircuits {
			c.report(fmt.Sprint(i), down, time.Now())
		}
		if len(c.failing) > maxCircuits {
			t.Errorf("%d addresses are remembered", len(c.failing))
		}
		time.Sleep(2 * circuitPause)
		c.report("new", down, time.Now())
		if len(c.failing) != 1 {
			t.Errorf("%d addresses are remembered after the pause", len(c.failing))
		}
	})
}
