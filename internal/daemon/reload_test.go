package daemon_test

import (
	"context"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/sandbox"
)

// A dataSpace has a registry and status services that can fail, and a provider that is not the
// sandbox's own, and that goes by what it was told for longer than a test lasts.
type dataSpace struct {
	*sandbox.Sandbox
	*server

	data          string
	known, listed *isharetest.Party // under our own anchor, and under one that the trusted list grants
}

func startDataSpace(t *testing.T) *dataSpace {
	t.Helper()
	space, err := sandbox.Open(t.Context(), sandbox.Config{
		Dir: t.TempDir(), Listen: "127.0.0.1:0", CAKeyBits: 2048, Log: discard, Progress: func(string) {},
		Freshness: time.Hour, // no answer about a certificate ends meanwhile, however slow the machine is
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- space.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s := &dataSpace{Sandbox: space, data: t.TempDir()}
	s.set(t, "other-ca", "granted")
	s.known, s.listed = s.party(t, "consumer"), s.party(t, "untrusted-consumer")
	s.server = start(t, daemon.Options{NoHistory: true}, s.configured(t))
	s.eventually(t, "the trusted list", func() bool { return s.ask(t, s.listed) == "" })
	if rule := s.ask(t, s.known); rule != "" {
		t.Fatal(rule)
	}
	return s
}

// configured is the configuration of the provider with variables that change it.
func (s *dataSpace) configured(t *testing.T, environ ...string) *config.Config {
	t.Helper()
	c, err := config.Load(s.ConfigFile, append([]string{
		"WAYBILL_DATA=" + s.data, "WAYBILL_PARTICIPANTS_CACHE=1h", "WAYBILL_PARTICIPANTS_MAX_STALE=24h", "WAYBILL_TRUST_REFRESH=1h", "WAYBILL_LISTEN_INTERNAL=127.0.0.1:0",
	}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *dataSpace) party(t *testing.T, folder string) *isharetest.Party {
	t.Helper()
	for _, p := range s.Everybody {
		if p.Folder == folder {
			id, err := testca.LoadIdentity(p.KeyFile, p.ChainFile)
			if err != nil {
				t.Fatal(err)
			}
			key, _ := id.Key.(*rsa.PrivateKey)
			return &isharetest.Party{Record: &ishare.Party{ID: p.ID}, Key: key, Certificates: id.Chain}
		}
	}
	t.Fatalf("nobody lives in %s", folder)
	return nil
}

// set turns switches.
func (s *dataSpace) set(t *testing.T, switches ...string) {
	t.Helper()
	for i := 0; i < len(switches); i += 2 {
		if err := s.Set(switches[i], switches[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

// recover ends an outage.
func (s *dataSpace) recover(t *testing.T) {
	t.Helper()
	s.Reset()
	s.set(t, "other-ca", "granted")
}

// ask makes a token request, and returns the rule that refuses it.
func (s *dataSpace) ask(t *testing.T, p *isharetest.Party) string {
	t.Helper()
	a := s.send(t, p.Request(s.Provider.ID))
	if a.Status != http.StatusOK && a.RuleID() == "" {
		t.Fatalf("%d %s", a.Status, a.Description)
	}
	return a.RuleID()
}

// everybody sees that the client under our own anchor is served, and what the one under the trusted list is told.
func (s *dataSpace) everybody(t *testing.T, when, listed string) {
	t.Helper()
	for i := range 2 { // the second time nothing is new
		if got := s.ask(t, s.known); got != "" {
			t.Errorf("%s, %d: under our own anchor: %q", when, i, got)
		}
		if got := s.ask(t, s.listed); got != listed {
			t.Errorf("%s, %d: under the trusted list: %q, want %q", when, i, got, listed)
		}
	}
}

// Everybody's keys take their time, so there is one data space for all that reloads must not do.
func TestReloadForgetsNothing(t *testing.T) {
	t.Parallel()
	s := startDataSpace(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{{"in outages", s.inOutages}, {"under load", s.storm}, {"with an anchor less", s.takingAnAnchorAway}, {"over a restart", s.overARestart}} {
		t.Run(step.name, func(t *testing.T) { step.run(t) })
	}
}

// A reload in an outage turns nobody away who was served before it.
func (s *dataSpace) inOutages(t *testing.T) {
	t.Helper()
	for _, outage := range [][]string{
		{"registry", "off"},
		{"registry", "slow"},
		{"registry", "error"},
		{"ocsp", "off", "crl", "off"},
		{"ocsp", "slow", "crl", "slow"},
		{"ocsp", "error", "crl", "error"},
		{"registry", "off", "ocsp", "off", "crl", "off"},
	} {
		name := strings.Join(outage, " ")
		s.set(t, outage...)
		for _, environ := range [][]string{
			nil, {"WAYBILL_SCOPES={orders: read, invoices: read}"}, {"WAYBILL_PARTY_CERTIFICATES=" + s.Provider.RenewedFile}, {"WAYBILL_POLICY_ROLES=ServiceConsumer"}, nil,
		} {
			if err := s.Reload(t.Context(), s.configured(t, environ...)); err != nil {
				t.Fatalf("%s, %s: %v", name, environ, err)
			}
			s.everybody(t, name, "")
		}
		s.recover(t)
	}
	// What the registry cannot be asked for by the new configuration keeps the old one.
	s.set(t, "registry", "off")
	for _, environ := range []string{
		"WAYBILL_TRUST_REFRESH=2h", "WAYBILL_PARTICIPANTS_CACHE=50m", "WAYBILL_PARTICIPANTS_REGISTRY_URL=" + nowhere,
		"WAYBILL_PARTICIPANTS_REGISTRY_VERSION=2",
	} {
		err := s.Reload(t.Context(), s.configured(t, environ))
		if err == nil || !strings.Contains(err.Error(), "would know less") {
			t.Errorf("%s: %v", environ, err)
		}
		s.everybody(t, environ, "")
	}
	s.recover(t)
	// With the registry, the first request after a reload finds what the one before it found.
	for _, environ := range []string{"WAYBILL_TRUST_REFRESH=2h", "WAYBILL_PARTICIPANTS_CACHE=50m", "WAYBILL_PARTICIPANTS_REGISTRY_VERSION=3.0"} {
		s.reloaded(t, environ)
		s.everybody(t, environ, "")
	}
}

// reloaded has the configuration in use when it returns.
func (s *dataSpace) reloaded(t *testing.T, environ ...string) {
	t.Helper()
	if err := s.Reload(t.Context(), s.configured(t, environ...)); err != nil {
		t.Fatalf("%s: %v", environ, err)
	}
}

// An anchor that the operator takes away is not trusted any more, unless the registry's list grants it. What
// the registry signed before is believed by the anchors that are left.
func (s *dataSpace) takingAnAnchorAway(t *testing.T) {
	t.Helper()
	own, other := filepath.Join(filepath.Dir(s.ConfigFile), "..", "ca", "root.pem"), filepath.Join(filepath.Dir(s.ConfigFile), "..", "other-ca", "root.pem")
	s.reloaded(t, "WAYBILL_TRUST_ANCHORS="+own+","+other)
	s.everybody(t, "both anchors", "")
	s.set(t, "registry", "slow")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // a reload that takes no anchor away waits for ten
	defer cancel()
	if err := s.Reload(ctx, s.configured(t, "WAYBILL_TRUST_ANCHORS="+own)); err != nil {
		t.Fatal(err)
	}
	s.set(t, "registry", "off")
	s.everybody(t, "one anchor, and no registry", "")
	s.Reset() // with which the list does not grant the other one either
	s.eventually(t, "the trusted list", func() bool { return s.ask(t, s.listed) == "chain.untrusted" })
	s.everybody(t, "one anchor", "chain.untrusted")
}

// The trusted list of before a restart is in force before anybody is answered.
func (s *dataSpace) overARestart(t *testing.T) {
	t.Helper()
	s.recover(t)
	s.reloaded(t, "WAYBILL_TRUST_REFRESH=2h") // which asks for the list
	s.eventually(t, "the trusted list", func() bool { return s.ask(t, s.listed) == "" })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.set(t, "registry", "off")
	d, err := daemon.Open(t.Context(), s.configured(t, "WAYBILL_TRUST_REFRESH=2h"), daemon.Options{Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	d.Public().ServeHTTP(w, s.listed.Request(s.Provider.ID).HTTP("http://"+d.PublicAddr().String()))
	if w.Code != http.StatusOK {
		t.Errorf("it is not in force: %d %s", w.Code, w.Body)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(over); err != nil {
		t.Error(err)
	}
}

// reloads is how many there are in a storm; more by WAYBILL_TEST_RELOADS.
func reloads(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("WAYBILL_TEST_RELOADS"))
	if err != nil {
		return 40
	}
	return n
}

// However often the configuration is exchanged under load, no known client is refused, and nothing piles up.
func (s *dataSpace) storm(t *testing.T) {
	t.Helper()
	var asked atomic.Int64
	var over atomic.Bool
	var load sync.WaitGroup
	for _, p := range []*isharetest.Party{s.known, s.listed} {
		load.Go(func() {
			for ; !over.Load(); asked.Add(1) {
				if rule := s.ask(t, p); rule != "" {
					t.Errorf("%s: %s", p.Record.ID, rule)
				}
			}
		})
	}
	renewed := "WAYBILL_PARTY_CERTIFICATES=" + s.Provider.RenewedFile
	s.set(t, "provider.certificate", "replaced") // the other one is refused from now on
	defer s.recover(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := range reloads(t) {
		environ := [][]string{{renewed}, {renewed, "WAYBILL_TRUST_REFRESH=" + strconv.Itoa(61+i) + "m"}, {renewed, "WAYBILL_SCOPES={}"}}
		s.reloaded(t, environ[i%len(environ)]...)
		<-tick.C
	}
	over.Store(true)
	load.Wait()
	t.Logf("%d requests", asked.Load())
}
