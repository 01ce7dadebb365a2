package revocation

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// proxied serves a PKI to whoever comes through it as a proxy, whatever the host.
func proxied(t *testing.T, p *pki) (proxy *url.URL, hosts *sync.Map) {
	t.Helper()
	hosts = &sync.Map{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts.Store(r.Method+" "+r.Host, true)
		if r.Method == http.MethodConnect {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	proxy, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return proxy, hosts
}

func TestThroughAProxy(t *testing.T) {
	for _, test := range []struct {
		base  string // of the addresses in the certificates
		asked string // of the proxy; empty: it is not
		want  string // empty: it has an answer
	}{
		{"http://status.example", "POST status.example", ""},
		{"http://status.example:8080", "POST status.example:8080", ""},
		{"https://status.example", "CONNECT status.example:443", "Proxy Authentication Required"},
		{"http://127.0.0.1:1", "", "not on a public network: 127.0.0.1"},
		{"http://localhost", "", "not on a public network"},
	} {
		p := newPKI(t, test.base, nil).pinned()
		proxy, hosts := proxied(t, p)
		r, err := New(Config{Proxy: proxy})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Check(t.Context(), p.chain())
		r.Close()
		if test.want == "" {
			mustPass(t, err)
		} else {
			mustBeUnavailable(t, err, test.want)
		}
		_, asked := hosts.Load(test.asked)
		hosts.Range(func(key, _ any) bool {
			if test.asked == "" {
				t.Errorf("%s: the proxy was asked for %v", test.base, key)
			}
			return true
		})
		if test.asked != "" && !asked {
			t.Errorf("%s: the proxy was not asked", test.base)
		}
	}
}

func TestProxiesThatAreRefused(t *testing.T) {
	for _, proxy := range []string{"", "proxy.test:3128", "socks5://proxy.test", "http:///", "http://user:geheim-42@proxy.test"} {
		u, err := url.Parse(proxy)
		if err != nil {
			u = &url.URL{}
		}
		r, err := New(Config{Proxy: u})
		if err == nil {
			r.Close()
			t.Errorf("%q is accepted", proxy)
		} else if strings.Contains(err.Error(), "geheim-42") {
			t.Errorf("the error tells a password: %v", err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
