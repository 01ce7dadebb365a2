package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Where a registry answers besides its token endpoint. The trusted list is in another
// place in each version of the framework.
const (
	partiesPath      = "/parties"
	capabilitiesPath = "/capabilities"
)

// leeway of the registry's clock.
const leeway = 10 * time.Second

// A registry is the Participant Registry of the data space: it lets parties in as
// any server of the framework does, and tells them who takes part.
type registry struct {
	self     *member
	impostor *testca.Identity // who signs when the registry should have
	base     string           // URL
	dialect  dialect
	register *register
	trusted  *trustedList
	mood     *dial

	keys   *accesstoken.KeyRing
	store  *replay.Memory
	issuer *accesstoken.Issuer
	http.Handler
}

// registryConfig is what a registry is made of.
type registryConfig struct {
	self      *member
	other     *member // whose seal is misused
	register  *register
	dir       string
	url       string
	framework Framework
	trusted   *trustedList
	asked     *counters
	log       *slog.Logger
}

func openRegistry(c registryConfig) (*registry, error) {
	g := &registry{
		self: c.self, impostor: c.other.seal, base: c.url, dialect: dialectOf(c.framework),
		register: c.register, trusted: c.trusted,
		mood: newDial(&dial{name: "registry", about: "how the registry answers", choices: moods(), initial: normal}),
	}
	if err := g.openTokens(c); err != nil {
		return nil, errors.Join(fmt.Errorf("registry: %w", err), g.close())
	}
	endpoint, err := g.tokenEndpoint(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("registry: %w", err), g.close())
	}
	g.Handler = g.routes(endpoint, c.asked)
	return g, nil
}

// openTokens opens what the registry's own access tokens need.
func (g *registry) openTokens(c registryConfig) (err error) {
	g.store, err = replay.Open(replay.Config{Dir: filepath.Join(c.dir, "replay"), Leeway: leeway, NoHistory: c.self.newborn})
	if err != nil {
		return err
	}
	if g.keys, err = accesstoken.OpenKeys(filepath.Join(c.dir, "keys"), c.log); err != nil {
		return err
	}
	g.issuer, err = accesstoken.New(accesstoken.Config{Party: c.self.ID, Lifetime: time.Hour, Keys: g.keys})
	return err
}

// tokenEndpoint asks nobody about revocation, so that the registry and the status
// services can fail one at a time.
func (g *registry) tokenEndpoint(c registryConfig) (http.Handler, error) {
	verifier, err := assertion.NewVerifier(assertion.Config{
		Audience:   append([]ishare.PartyID{c.self.ID}, c.self.AlsoKnownAs...),
		Trust:      c.trusted.validator,
		Parties:    g.register,
		Revocation: revocation.Off{},
		Replay:     g.store,
		Leeway:     leeway,
	})
	if err != nil {
		return nil, err
	}
	return tokenendpoint.New(tokenendpoint.Config{Verifier: verifier, Issuer: g.issuer, Log: c.log})
}

func (g *registry) close() error {
	if g.store == nil {
		return nil
	}
	return g.store.Close()
}

func (g *registry) routes(endpoint http.Handler, asked *counters) http.Handler {
	guarded := guard.Require(g.issuer, ishare.ScopeISHARE)
	mux := http.NewServeMux()
	handle := func(pattern string, n *atomic.Uint64, h http.Handler) {
		mux.Handle(pattern, counted(n, failing(g.mood, h)))
	}
	handle(tokenendpoint.Path, &asked.tokens, endpoint)
	handle("GET "+partiesPath, &asked.parties, guarded(http.HandlerFunc(g.parties)))
	handle("GET "+partiesPath+"/{party}", &asked.parties, guarded(http.HandlerFunc(g.party)))
	handle("GET "+g.dialect.trustedListPath, &asked.trustedLists, guarded(http.HandlerFunc(g.trustedList)))
	handle("GET "+capabilitiesPath, &asked.capabilities, restrictedOr(guarded(g.capabilities(true)), g.capabilities(false)))
	return mux
}

// restrictedOr has requests with an Authorization header handled by the first, and the
// others by the second.
func restrictedOr(restricted, public http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values("Authorization")) > 0 {
			restricted.ServeHTTP(w, r)
			return
		}
		public.ServeHTTP(w, r)
	})
}

// party answers who goes by an identifier.
func (g *registry) party(w http.ResponseWriter, r *http.Request) {
	id := ishare.PartyID(r.PathValue("party"))
	m := mischiefOf(g.mood.get())
	find := g.register.find
	if m.party {
		find = g.register.otherThan
	}
	e, ok := find(id)
	if !ok {
		refuse(w, http.StatusNotFound, "there is no such party")
		return
	}
	g.say(w, r, g.dialect.party(e), m)
}

// parties answers who is found by a search.
func (g *registry) parties(w http.ResponseWriter, r *http.Request) {
	s, err := g.dialect.search(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	m := mischiefOf(g.mood.get())
	found := g.register.search(s)
	if m.party {
		if e, ok := g.register.otherThan(s.id); ok {
			found.entries = []entry{e}
		}
	}
	g.say(w, r, g.dialect.parties(found), m)
}

func (g *registry) trustedList(w http.ResponseWriter, r *http.Request) {
	g.say(w, r, g.dialect.trustedList(g.trusted.items()), mischiefOf(g.mood.get()))
}

func (g *registry) capabilities(restricted bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := offer{party: g.self.ID, base: g.base, restricted: restricted}
		g.say(w, r, g.dialect.capabilities(o), mischiefOf(g.mood.get()))
	})
}

// say signs an answer for the caller and sends it.
func (g *registry) say(w http.ResponseWriter, r *http.Request, a answer, m mischief) {
	var caller ishare.PartyID
	if c, ok := guard.Caller(r.Context()); ok {
		caller = c.Client
	}
	compact, err := g.sign(a, caller, m)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	body, err := json.Marshal(map[string]string{a.name: compact})
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	if m.body != nil {
		body = m.body(body)
	}
	respond.Encoded(w, http.StatusOK, body)
}

func (g *registry) sign(a answer, audience ishare.PartyID, m mischief) (string, error) {
	now := time.Now()
	e := envelope{
		Issuer: g.self.ID, Subject: g.self.ID, Audience: audience, ID: rand.Text(),
		IssuedAt: now.Unix(), Expires: now.Add(assertion.Lifetime).Unix(),
	}
	if m.envelope != nil {
		m.envelope(&e)
	}
	payload, err := json.Marshal(a.payload(e))
	if err != nil {
		return "", err
	}
	seal := g.self.seal
	if m.signer {
		seal = g.impostor
	}
	compact, err := jws.Sign(jws.RS256, seal.Key, seal.Chain, payload)
	if err == nil && m.forge != nil {
		compact = m.forge(compact)
	}
	return compact, err
}

// run looks after the registry's token keys until ctx is done.
func (g *registry) run(ctx context.Context) error { return g.keys.Run(ctx) }

// refuse answers with an error in the form that tokens are refused in.
func refuse(w http.ResponseWriter, status int, why string) {
	respond.Error(w, status, http.StatusText(status), why)
}
