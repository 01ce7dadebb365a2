package bench_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"testing"

	"github.com/waybill-token/waybill/internal/bench"
)

// A name is worth what it resolves to; one that resolves elsewhere has to be said once more.
func TestResolve(t *testing.T) {
	t.Parallel()
	hosts := map[string][]string{
		"127.0.0.1": {"127.0.0.1"}, "::1": {"::1"}, "localhost": {"::1", "127.0.0.1"}, "mapped.test": {"::ffff:127.0.0.1"},
		"here.test": {"127.0.0.2"}, "elsewhere.test": {"192.0.2.1"}, "both.test": {"127.0.0.1", "192.0.2.1"}, "0.0.0.0": {"0.0.0.0"},
		"192.0.2.1": {"192.0.2.1"},
	}
	lookup := func(_ context.Context, network, host string) ([]netip.Addr, error) {
		var found []netip.Addr
		for _, a := range hosts[host] {
			found = append(found, netip.MustParseAddr(a))
		}
		if found == nil || network != "ip" {
			return nil, errors.New("no such host")
		}
		return found, nil
	}
	for _, c := range []struct {
		url      string
		loadable []string
		want     string // the first address; empty: refused
	}{
		{"http://127.0.0.1:8080", nil, "127.0.0.1:8080"},
		{"http://[::1]:8080", nil, "[::1]:8080"},
		{"http://localhost", nil, "[::1]:80"},
		{"https://here.test/connect/token", nil, "127.0.0.2:443"},
		{"http://mapped.test", nil, "127.0.0.1:80"},
		{"https://elsewhere.test", nil, ""},
		{"https://both.test", nil, ""},
		{"http://0.0.0.0:8080", nil, ""},
		{"https://192.0.2.1", nil, ""},
		{"https://192.0.2.1", []string{"elsewhere.test"}, ""},
		{"https://elsewhere.test:8443", []string{"Elsewhere.test"}, "192.0.2.1:8443"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := bench.Resolve(t.Context(), u, c.loadable, lookup)
		_, elsewhere := errors.AsType[*bench.ElsewhereError](err)
		if (c.want == "") != elsewhere || c.want != "" && (err != nil || got[0].String() != c.want) {
			t.Errorf("%s with %v: %v, %v; want %q", c.url, c.loadable, got, err, c.want)
		}
	}
	if _, err := bench.Resolve(t.Context(), &url.URL{Scheme: "http", Host: "nowhere.test"}, []string{"nowhere.test"}, lookup); err == nil {
		t.Error("a host that is nowhere was found")
	}
}
