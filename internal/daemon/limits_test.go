package daemon_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/isharetest"
)

// limited is the configuration with these limits.
func limited(t *testing.T, dir, limits string) *config.Config {
	t.Helper()
	c, err := config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(configuration+"limits: {"+limits+"}\n"), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// from sends a right request, as a proxy does for a client with this address, and returns the rule that refuses it.
func (s *server) from(t *testing.T, address string) string {
	t.Helper()
	r := players().consumer.Request(providerID)
	if address != "" {
		r.Header.Set("X-Forwarded-For", address)
	}
	return ruleOf(s.send(t, r))
}

// ruleOf is the rule that an answer names; empty when it is a token.
func ruleOf(a *isharetest.Answer) string {
	rule, _, _ := strings.Cut(a.Description, ":")
	return rule
}

// The buckets of addresses are kept apart where a trusted proxy tells them, for all of a network of IPv6 together, and a
// reload fills none.
func TestLimitsOfAddresses(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	const believing = "per_address: 1/h burst 2, trusted_proxies: [127.0.0.1]"
	s := start(t, daemon.Options{NoHistory: true}, limited(t, dir, believing))
	check := func(address, want string) {
		t.Helper()
		if got := s.from(t, address); got != want {
			t.Errorf("from %q: refused by %q, want %q", address, got, want)
		}
	}
	check("192.0.2.1", "")
	check("192.0.2.9, 192.0.2.1", "")
	check("192.0.2.1", "limited")
	check("192.0.2.2", "")
	check("2001:db8::1", "")
	check("2001:db8::2", "")
	check("2001:db8::3", "limited")
	if err := s.Reload(t.Context(), limited(t, dir, believing+", in_work: 3")); err != nil {
		t.Fatal(err)
	}
	check("192.0.2.1", "limited")
	check("192.0.2.2", "")
	check("192.0.2.2", "limited")
	// Nobody is believed any more.
	if err := s.Reload(t.Context(), limited(t, dir, "per_address: 1/h burst 2")); err != nil {
		t.Fatal(err)
	}
	check("192.0.2.3", "")
	check("192.0.2.4", "")
	check("192.0.2.5", "limited")
	if err := s.Reload(t.Context(), limited(t, dir, "per_address: 1/h burst 3")); err != nil {
		t.Fatal(err)
	}
	check("", "")
	remotes := map[any]bool{}
	for _, event := range s.log.records(t, "token request") {
		remotes[event["remote"]] = true
	}
	for _, want := range []string{"192.0.2.1:0", "192.0.2.2:0", "[2001:db8::3]:0"} {
		if !remotes[want] {
			t.Errorf("the log does not tell of %s: %v", want, remotes)
		}
	}
	if remotes["192.0.2.9:0"] || remotes["192.0.2.4:0"] {
		t.Errorf("the log believes what nobody vouches for: %v", remotes)
	}
}

// What a seal has used up is not given back by a reload.
func TestLimitsOfParties(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, limited(t, dir, "per_party: 1/h burst 2"))
	for i, want := range []string{"", "", "limited"} {
		if got := s.from(t, ""); got != want {
			t.Errorf("request %d: refused by %q, want %q", i, got, want)
		}
	}
	if err := s.Reload(t.Context(), limited(t, dir, "per_party: 1/h burst 2")); err != nil {
		t.Fatal(err)
	}
	a := s.send(t, players().consumer.Request(providerID))
	if ruleOf(a) != "limited" || a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("after a reload: %+v", a)
	}
}

// An upstream is told the address that the proxy before us tells, and not the proxy's.
func TestUpstreamsAreToldWhoAsks(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q", r.Header["X-Forwarded-For"])
	}))
	t.Cleanup(upstream.Close)
	for limits, want := range map[string]string{
		"trusted_proxies: [127.0.0.1, 192.0.2.0/24]": `["198.51.100.7"]`,
		"trusted_proxies: [192.0.2.0/24]":            `["127.0.0.1"]`,
	} {
		cfg := limited(t, newHome(t), limits)
		if err := cfg.Protect(upstream.URL); err != nil {
			t.Fatal(err)
		}
		s := start(t, daemon.Options{NoHistory: true}, cfg)
		_, _, body := get(t, plain(t), s.url+"/orders", "Authorization", "Bearer "+s.token(t), "X-Forwarded-For", "203.0.113.1, 198.51.100.7, 192.0.2.3")
		if string(body) != want {
			t.Errorf("%s: the upstream gets %s, want %s", limits, body, want)
		}
	}
}
