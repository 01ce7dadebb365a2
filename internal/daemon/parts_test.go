package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/rule"
)

const asksARegistry = `
party: {id: ` + isharetest.ProviderID + `, key: key.pem, certificates: chain.pem}
participants: {registry: {id: "did:ishare:EU.NL.NTRNL-10000003", url: "https://127.0.0.1:1"}}
trust: {anchors: [root.pem], trusted_list: true, revocation_allow_private: true}
`

// remembering are the values of parts that remember something, by a name for each.
func remembering(s *sources, verifier any) map[string]any {
	if listed, ok := verifier.(listedVerifier); ok {
		verifier = listed.Verifier
	}
	return map[string]any{
		"own chains": s.own, "revocation": s.revocation, "file": s.file, "registry": s.asked, "remote": s.remote,
		"records": s.cache, "list": s.clients, "headers": verifier,
	}
}

// saveSeal makes the seal of the provider.
func saveSeal(t *testing.T, dir string, ca *isharetest.CA) {
	t.Helper()
	p := ca.Party(isharetest.ProviderID, "Some Provider")
	if err := (&testca.Identity{Key: p.Key, Chain: p.Certificates}).Save(filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")); err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is made of the same is taken over, and nothing else is: neither what another configuration
// asked for, nor what it believed.
func TestWhatAReloadTakesOver(t *testing.T) {
	t.Parallel()
	ca, other := isharetest.NewCA(), isharetest.NewCA()
	all := []string{"file", "headers", "list", "own chains", "records", "registry", "remote", "revocation"}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(names, n) })
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string) (environ []string)
		kept   []string
	}{
		{"nothing", nil, all},
		{"what is not about clients", env("WAYBILL_SCOPES={orders: read orders}", "WAYBILL_TOKENS_LIFETIME=2h"), all},
		{"our seal", func(t *testing.T, dir string) []string { t.Helper(); saveSeal(t, dir, ca); return nil }, without("remote")},
		{"the anchors", func(t *testing.T, dir string) []string {
			t.Helper()
			save(t, filepath.Join(dir, "root.pem"), append(ca.RootPEM(), other.RootPEM()...))
			return nil
		}, []string{"file", "revocation"}},
		{"revocation", env("WAYBILL_TRUST_REVOCATION=prefer"), []string{"file", "own chains"}},
		{"the address of the registry", env("WAYBILL_PARTICIPANTS_REGISTRY_URL=https://127.0.0.1:2"), []string{"file", "own chains", "revocation"}},
		{"its seals", env("WAYBILL_PARTICIPANTS_REGISTRY_SEALS=" + strings.Repeat("ab", 32)), []string{"file", "own chains", "revocation"}},
		{"its version", env("WAYBILL_PARTICIPANTS_REGISTRY_VERSION=2"), []string{"file", "own chains", "revocation"}},
		{"our names", env("WAYBILL_PARTY_ALSO_KNOWN_AS=EU.EORI.NL000000000"), []string{"file", "own chains", "revocation"}},
		{"freshness", env("WAYBILL_PARTICIPANTS_CACHE=1m"), without("records", "headers")},
		{"how often the list is asked for", env("WAYBILL_TRUST_REFRESH=1m"), without("list", "headers")},
		{"no list", env("WAYBILL_TRUST_TRUSTED_LIST=false"), without("list", "headers")},
		{"roles", env("WAYBILL_POLICY_ROLES=ServiceConsumer"), without("headers")},
		{"extra header parameters", env("WAYBILL_POLICY_EXTRA_HEADER_PARAMETERS=allow"), without("headers")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			saveSeal(t, dir, ca)
			save(t, filepath.Join(dir, "root.pem"), ca.RootPEM())
			shared := newParts()
			before, old := openIn(t, dir, asksARegistry, shared)
			var environ []string
			if c.change != nil {
				environ = c.change(t, dir)
			}
			after, now := openIn(t, dir, asksARegistry, shared, environ...)
			is := remembering(after, now)
			var kept []string
			for name, was := range remembering(before, old) {
				if was == is[name] {
					kept = append(kept, name)
				}
			}
			slices.Sort(kept)
			if diff := cmp.Diff(c.kept, kept); diff != "" {
				t.Errorf("taken over (-want +got):\n%s", diff)
			}
			after.install()
			if got := after.asked.remote.Load(); got != after.remote {
				t.Error("the registry is asked with the seal of before")
			}
			if err := before.close(); err != nil {
				t.Fatal(err)
			}
			if _, err := after.asked.Party(t.Context(), "EU.EORI.NL000000001"); !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("what is taken over was closed: %v", err)
			}
			if err := after.close(); err != nil || len(shared.held) > 0 {
				t.Errorf("%v; %d parts are left", err, len(shared.held))
			}
		})
	}
}

func env(environ ...string) func(*testing.T, string) []string {
	return func(*testing.T, string) []string { return environ }
}

func openIn(t *testing.T, dir, text string, shared *parts, environ ...string) (*sources, any) {
	t.Helper()
	cfg := Must(config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(text), environ))(t)
	s := Must(openSources(cfg, slog.New(slog.DiscardHandler), shared))(t)
	store := Must(replay.Open(replay.Config{Leeway: cfg.Policy.Leeway}))(t)
	t.Cleanup(func() { store.Close() })
	return s, Must(s.verifier(store, &limits{}))(t)
}

// A counter is a part that counts what is done to it.
type counter struct {
	runs   chan struct{}
	closed int
}

func (c *counter) Run(ctx context.Context) error {
	c.runs <- struct{}{}
	<-ctx.Done()
	return nil
}

func (c *counter) Close() error {
	c.closed++
	return nil
}

// A part runs once, whoever takes it over, and until the last one gives it up.
func TestPartsRunOnce(t *testing.T) {
	t.Parallel()
	shared, value := newParts(), &counter{runs: make(chan struct{}, 3)}
	open := func() *sources {
		s := &sources{parts: shared}
		got := Must(share(s, "key", func() (*counter, error) { return value, nil }))(t)
		if got != value {
			t.Fatal("another value")
		}
		s.start(t.Context())
		return s
	}
	one := open()
	two := open()
	for i, s := range []*sources{one, two} {
		if err := s.close(); err != nil || value.closed != i {
			t.Errorf("closed %d times, %v", value.closed, err)
		}
	}
	if len(value.runs) != 1 {
		t.Errorf("it ran %d times", len(value.runs))
	}
	failed := errors.New("failed")
	if _, err := share(one, "other", func() (*counter, error) { return nil, failed }); !errors.Is(err, failed) || len(shared.held) > 0 {
		t.Errorf("%v, %d parts are left", err, len(shared.held))
	}
}

// Places are taken over by a reload that changes nothing about them, and a request for which there is none is refused before
// its body is read.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := func(inWork int, before *limits) *limits {
			l, err := newLimits(config.Limits{InWork: inWork}, before)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		first := limits(1, nil)
		if first.work == first.firstWork {
			t.Error("chains that are not known have no places of their own")
		}
		again, more := limits(1, first), limits(2, first)
		if again.work != first.work || again.firstWork != first.firstWork || more.work == first.work || more.firstWork == first.firstWork {
			t.Errorf("%+v, then %+v and %+v", first, again, more)
		}
		request := httptest.NewRequest(http.MethodPost, "/connect/token", nil)
		if err := first.screen(request); err != nil {
			t.Error(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		for range 1 + waiting {
			go func() { _ = first.work.Enter(ctx) }()
		}
		synctest.Wait()
		if _, outage := rule.Classify(first.screen(request)); outage == nil || outage.Rule != rule.UnavailableOverload {
			t.Errorf("with one more: %v", outage)
		}
		leave()
	})
}
