package provider

import (
	"context"
	"crypto"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// remembering are the values of parts that remember something, by a name for each.
func remembering(s *sources, verifier any) map[string]any {
	if listed, ok := verifier.(listedVerifier); ok {
		verifier = listed.Verifier
	}
	return map[string]any{
		"own chains": s.own, "revocation": s.revocation, "file": s.file, "registry": s.source, "remote": s.remote,
		"records": s.cache, "list": s.clients, "headers": verifier,
	}
}

// authorities are two, made once.
var authorities = sync.OnceValue(func() [2]*testca.CA {
	var cas [2]*testca.CA
	for i := range cas {
		ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
		if err != nil {
			panic(err)
		}
		cas[i] = ca
	}
	return cas
})

// anchor trusts CAs.
func anchor(cas ...*testca.CA) trust.Anchors {
	anchors := trust.Anchors{}
	for _, ca := range cas {
		anchors[trust.FingerprintOf(ca.Authority(testca.Root).Certificate())] = "root"
	}
	return anchors
}

const providerID = "did:ishare:EU.NL.NTRNL-10000000"

// seal gives the configuration a new seal.
func seal(t *testing.T, c *Config) {
	t.Helper()
	made := Must(authorities()[0].Seal(testca.SealRequest{Organization: "Some Provider", Country: "NL", Identifier: "NTRNL-10000000"}))(t)
	c.Key, c.Certificates = made.Key, made.Chain
}

// A closingKey is one in hardware.
type closingKey struct{ crypto.Signer }

func (closingKey) Close() error { return nil }

// What is made of the same is taken over, and nothing else is: neither what another configuration
// asked for, nor what it believed.
func TestWhatAReloadTakesOver(t *testing.T) {
	t.Parallel()
	all := []string{"file", "headers", "list", "own chains", "records", "registry", "remote", "revocation"}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(names, n) })
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, c *Config)
		kept   []string
	}{
		{"nothing", func(*testing.T, *Config) {}, all},
		{"what is not about clients", func(_ *testing.T, c *Config) { c.Scopes, c.Tokens.Lifetime = []string{"orders"}, 2*time.Hour }, all},
		{"our seal", seal, without("remote")},
		{"a key in hardware", func(_ *testing.T, c *Config) { c.Key = closingKey{c.Key} }, without("remote")},
		{"the anchors", func(_ *testing.T, c *Config) { c.Anchors = anchor(authorities()[0], authorities()[1]) }, []string{"file", "revocation"}},
		{"revocation", func(_ *testing.T, c *Config) { c.Revocation.Mode = revocation.Prefer }, []string{"file", "own chains"}},
		{"the address of the registry", func(_ *testing.T, c *Config) { c.Registry.URL = "https://127.0.0.1:2" }, []string{"file", "own chains", "revocation"}},
		{"its seals", func(_ *testing.T, c *Config) { c.Registry.Seals = []string{strings.Repeat("ab", 32)} }, []string{"file", "own chains", "revocation"}},
		{"its version", func(_ *testing.T, c *Config) { c.Registry.Version = registry.Version2 }, []string{"file", "own chains", "revocation"}},
		{"our names", func(_ *testing.T, c *Config) { c.AlsoKnownAs = []ishare.PartyID{"EU.EORI.NL000000000"} }, []string{"file", "own chains", "revocation"}},
		{"freshness", func(_ *testing.T, c *Config) { c.Registry.Fresh = time.Minute }, without("records", "headers")},
		{"how often the list is asked for", func(_ *testing.T, c *Config) { c.Registry.Refresh = time.Minute }, without("list", "headers")},
		{"no list", func(_ *testing.T, c *Config) { c.Registry.TrustedList = false }, without("list", "headers")},
		{"roles", func(_ *testing.T, c *Config) { c.Roles = []string{"ServiceConsumer"} }, without("headers")},
		{"extra header parameters", func(_ *testing.T, c *Config) { c.AllowExtraHeader = true }, without("headers")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			first := Config{
				Party: providerID, Anchors: anchor(authorities()[0]), Revocation: Revocation{AllowPrivate: true},
				Registry: &Registry{ID: "did:ishare:EU.NL.NTRNL-10000003", URL: "https://127.0.0.1:1", TrustedList: true},
			}.withDefaults()
			seal(t, &first)
			shared := newParts()
			before, old := openIn(t, first, shared)
			second, asked := first, *first.Registry
			second.Registry = &asked
			c.change(t, &second)
			after, now := openIn(t, second, shared)
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
			if got := after.source.remote.Load(); got != after.remote {
				t.Error("the registry is asked with the seal of before")
			}
			if err := before.close(); err != nil {
				t.Fatal(err)
			}
			if _, err := after.source.Party(t.Context(), "EU.EORI.NL000000001"); !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("what is taken over was closed: %v", err)
			}
			if err := after.close(); err != nil || len(shared.byKey) > 0 {
				t.Errorf("%v; %d parts are left", err, len(shared.byKey))
			}
		})
	}
}

func openIn(t *testing.T, c Config, shared *parts) (*sources, any) {
	t.Helper()
	s := Must(openSources(c, shared))(t)
	store := Must(replay.Open(replay.Config{Leeway: c.Leeway}))(t)
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
	if _, err := share(one, "other", func() (*counter, error) { return nil, failed }); !errors.Is(err, failed) || len(shared.byKey) > 0 {
		t.Errorf("%v, %d parts are left", err, len(shared.byKey))
	}
}

// Places are taken over by a reload that changes nothing about them, and a request for which there is none is refused before
// its body is read.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := func(inWork int, before *limits) *limits {
			l, err := newLimits(Limits{InWork: inWork}, before)
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

// What hangs is not waited for without end.
func TestWithTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := withTimeout(func() error { return io.EOF }); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
		hanging := make(chan struct{})
		if err := withTimeout(func() error { <-hanging; return nil }); err == nil {
			t.Error("no error")
		}
		close(hanging)
	})
}
