package isharetest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// A RegistryConfig says what a [Registry] is like. CA, or all of Self, Impostor and TrustedList, must be set.
type RegistryConfig struct {
	// CA issued the seals of the registry and of the parties.
	CA *CA
	// Self is the registry as a party: a new one of the CA with the identifier [Registrar] unless set.
	Self *Party
	// Impostor signs under [FaultWrongSigner]: a new party of the CA unless set.
	Impostor *Party
	// Parties are known from the start. The registry says of itself what it is told here, and by default nothing.
	Parties []*Party
	// TrustedList is what the registry says of authorities, and goes by itself: that the CA is granted unless set.
	TrustedList []TrustedCA
	// Version is the framework's, and registry.Version3 unless set.
	Version registry.Version
	// URL is where the registry is served by somebody else. Empty: it listens on a port of this machine.
	URL string
	// Dir keeps the keys of the registry's tokens and the assertions that it has seen. Empty: it keeps neither.
	Dir string
	// NoHistory says that Dir is new: no assertion was ever used at this registry.
	NoHistory bool
	// Name is what the registry's capabilities call it: "the test registry" unless set.
	Name string
	// Log gets an event for each token request: nowhere unless set.
	Log *slog.Logger
}

// A TrustedCA is an item of a trusted list: a root, which is granted unless it is withdrawn.
type TrustedCA struct {
	Certificate *x509.Certificate
	Withdrawn   bool
}

// A Registry is a Participant Registry: a token endpoint at [TokenPath], /parties, the trusted list and /capabilities,
// as the frameworks 3.0 and 2.x have them. Whoever asks needs a token of it, for which it judges clients as any server
// does, but for revocation: about that it asks nobody. Its answers are signed with its seal.
//
// What it says, and the [Fault] that it has, can be changed while it runs. It is safe for concurrent use.
type Registry struct {
	// URL is the registry's base URL.
	URL string
	// ID is the registry's canonical identifier: the aud of assertions, and the iss of what it says.
	ID ishare.PartyID
	// Parties are what the registry knows, and can be changed while it runs.
	Parties *List

	config  RegistryConfig
	trusted *trust.Validator
	handler http.Handler
	fault   faultSwitch
	closers []func() error // of what was opened, the last of which is closed first

	tokens, parties, trustedLists, capabilities atomic.Uint64

	mu   sync.Mutex
	list []TrustedCA
}

// RegistryCounters are how often a [Registry] was asked, whatever it answered.
type RegistryCounters struct {
	Tokens       uint64
	Parties      uint64 // one or a search
	TrustedLists uint64
	Capabilities uint64
}

// registryLeeway is that of the registry's clock.
const registryLeeway = 10 * time.Second

// NewRegistry starts a registry of framework 3.0 that knows these parties and grants the CA. Close it when it is no
// longer needed. It panics when it cannot be started.
func NewRegistry(ca *CA, parties ...*Party) *Registry {
	return must(StartRegistry(RegistryConfig{CA: ca, Parties: parties}))
}

// StartRegistry starts a registry. Close it when it is no longer needed. The error says what is wrong with the
// configuration. With a URL, it does not listen: serve it there as a handler.
func StartRegistry(c RegistryConfig) (*Registry, error) {
	switch {
	case c.CA == nil && (c.Self == nil || c.Impostor == nil || c.TrustedList == nil):
		return nil, errors.New("isharetest: registry: no CA")
	case c.Version != "" && c.Version != registry.Version3 && c.Version != registry.Version2:
		return nil, fmt.Errorf("isharetest: registry: the version is %s or %s, not %.20q", registry.Version3, registry.Version2, c.Version)
	}
	c.Version = cmp.Or(c.Version, registry.Version3)
	c.Name = cmp.Or(c.Name, "the test registry")
	if c.Self == nil {
		c.Self = c.CA.Party(Registrar, "Test Registry")
	}
	if c.Impostor == nil {
		c.Impostor = c.CA.Party(nobody, "Impostor")
	}
	if c.TrustedList == nil {
		c.TrustedList = []TrustedCA{{Certificate: c.CA.Root()}}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	trusted, err := trust.New(anchorsOf(c.TrustedList))
	if err != nil {
		return nil, fmt.Errorf("isharetest: registry: %w", err)
	}
	g := &Registry{
		URL: c.URL, ID: c.Self.ID(), Parties: NewList(c.Parties...),
		config: c, trusted: trusted, list: slices.Clone(c.TrustedList),
	}
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("isharetest: registry: %w", errors.Join(err, g.Close()))
	}
	if c.URL == "" {
		url, start, stop := listen(g)
		g.URL = url
		g.closers = append(g.closers, func() error {
			stop()
			return nil
		})
		start()
	}
	return g, nil
}

// open makes what the registry serves.
func (g *Registry) open() error {
	keys, memory := filepath.Join(g.config.Dir, "keys"), filepath.Join(g.config.Dir, "replay")
	if g.config.Dir == "" {
		dir, err := os.MkdirTemp("", "isharetest-")
		if err != nil {
			return err
		}
		g.closers = append(g.closers, func() error { return os.RemoveAll(dir) })
		keys, memory = dir, ""
	}
	store, err := replay.Open(replay.Config{Dir: memory, Leeway: registryLeeway, NoHistory: memory == "" || g.config.NoHistory})
	if err != nil {
		return err
	}
	g.closers = append(g.closers, store.Close)
	tokenKeys, err := accesstoken.OpenKeys(keys, g.config.Log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = tokenKeys.Run(ctx) }) // its errors are in the log
	g.closers = append(g.closers, func() error {
		cancel()
		running.Wait()
		return nil
	})
	issuer, err := accesstoken.New(accesstoken.Config{Party: g.ID, Lifetime: time.Hour, Keys: tokenKeys})
	if err != nil {
		return err
	}
	verifier, err := assertion.NewVerifier(assertion.Config{
		Audience:   append([]ishare.PartyID{g.ID}, g.config.Self.Record.AlsoKnownAs...),
		Trust:      g.trusted,
		Parties:    register3{g.Parties},
		Revocation: revocation.Off{},
		Replay:     store,
	})
	if err != nil {
		return err
	}
	endpoint, err := tokenendpoint.New(tokenendpoint.Config{Verifier: verifier, Issuer: issuer, Log: g.config.Log})
	if err != nil {
		return err
	}
	g.handler = g.routes(endpoint, guard.Require(issuer, ishare.ScopeISHARE))
	return nil
}

func (g *Registry) routes(endpoint http.Handler, guarded func(http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, count *atomic.Uint64, h http.Handler) {
		mux.Handle(pattern, g.fault.wrap(count, h))
	}
	handle(tokenendpoint.Path, &g.tokens, endpoint)
	handle("GET "+partiesPath, &g.parties, guarded(http.HandlerFunc(g.serveSearch)))
	handle("GET "+partiesPath+"/{party}", &g.parties, guarded(http.HandlerFunc(g.serveParty)))
	handle("GET /"+g.word("trustedList"), &g.trustedLists, guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		list := slices.Clone(g.list)
		g.mu.Unlock()
		g.respondSigned(w, r, "trustedListToken", "trustedList", g.trustedList(list))
	})))
	capabilities := func(restricted bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.respondSigned(w, r, "capabilitiesToken", "capabilitiesInfo", g.capabilitiesOf(restricted))
		})
	}
	public, restricted := capabilities(false), guarded(capabilities(true))
	handle("GET "+capabilitiesPath, &g.capabilities, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values("Authorization")) > 0 {
			restricted.ServeHTTP(w, r)
			return
		}
		public.ServeHTTP(w, r)
	}))
	return mux
}

// ServeHTTP answers as the registry, for whoever serves it at the URL of its configuration.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// Close stops the registry and removes what it left behind, but for the folder of its configuration. The error says
// that the folder does not hold everything that the registry has to know when it starts again.
func (g *Registry) Close() error {
	var errs []error
	for _, f := range slices.Backward(g.closers) {
		errs = append(errs, f())
	}
	g.closers = nil
	return errors.Join(errs...)
}

// Fail has the registry fail, or say what is wrong, from now on; [NoFault] ends it. It panics at a fault that is none
// of [RegistryFaults].
func (g *Registry) Fail(f Fault) { g.fault.set(f, RegistryFaults()) }

// SetTrustedList replaces what the registry says of authorities, and whose parties it gives a token.
func (g *Registry) SetTrustedList(list ...TrustedCA) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = slices.Clone(list)
	g.trusted.SetAnchors(anchorsOf(list))
}

func anchorsOf(list []TrustedCA) trust.Anchors {
	anchors := trust.Anchors{}
	for _, ca := range list {
		if !ca.Withdrawn {
			anchors[trust.FingerprintOf(ca.Certificate)] = ca.Certificate.Subject.String()
		}
	}
	return anchors
}

// Counters tell how often the registry was asked so far.
func (g *Registry) Counters() RegistryCounters {
	return RegistryCounters{
		Tokens: g.tokens.Load(), Parties: g.parties.Load(),
		TrustedLists: g.trustedLists.Load(), Capabilities: g.capabilities.Load(),
	}
}

// serveParty answers who goes by an identifier.
func (g *Registry) serveParty(w http.ResponseWriter, r *http.Request) {
	id := ishare.PartyID(r.PathValue("party"))
	records, err := g.Parties.all()
	if err != nil {
		respond.Error(w, http.StatusServiceUnavailable, http.StatusText(http.StatusServiceUnavailable), err.Error())
		return
	}
	other := g.fault.get() == FaultOtherParty
	i := slices.IndexFunc(records, func(record *ishare.Party) bool { return record.KnownAs(id) != other })
	if i < 0 {
		respond.Error(w, http.StatusNotFound, http.StatusText(http.StatusNotFound), "there is no such party")
		return
	}
	g.respondSigned(w, r, "partyToken", "partyInfo", g.party(records[i]))
}

// serveSearch answers who is found by the query.
func (g *Registry) serveSearch(w http.ResponseWriter, r *http.Request) {
	query, err := g.parseSearch(r.URL.Query())
	if err != nil {
		respond.Error(w, http.StatusBadRequest, http.StatusText(http.StatusBadRequest), err.Error())
		return
	}
	records, err := g.Parties.all()
	if err != nil {
		respond.Error(w, http.StatusServiceUnavailable, http.StatusText(http.StatusServiceUnavailable), err.Error())
		return
	}
	page, total := query.find(records)
	if g.fault.get() == FaultOtherParty {
		if i := slices.IndexFunc(records, func(record *ishare.Party) bool { return !record.KnownAs(query.id) }); i >= 0 {
			page = records[i : i+1]
		}
	}
	data := []any{}
	for _, record := range page {
		data = append(data, g.party(record))
	}
	content := Object{{g.word("totalCount"), total}, {"count", len(page)}, {"data", data}}
	if g.config.Version == registry.Version3 {
		content = append(Object{
			{"currentPage", query.page},
			{"pageSize", query.perPage},
			{"totalPages", (total + query.perPage - 1) / query.perPage},
		}, content...)
	}
	g.respondSigned(w, r, "partiesToken", "partiesInfo", content)
}

// nobody is a party that does not exist.
const nobody ishare.PartyID = "did:ishare:EU.NL.NTRNL-99999999"

// respondSigned answers with a JWT for the caller (iSHARE 3.0, iSHARE JWT) that holds the content, changed as the
// fault demands. Names are those of 3.0.
func (g *Registry) respondSigned(w http.ResponseWriter, r *http.Request, token, member string, content any) {
	var audience ishare.PartyID // none: for everybody
	if c, ok := guard.Caller(r.Context()); ok {
		audience = c.Client
	}
	now, issuer, signer, fault := time.Now(), g.ID, g.config.Self, g.fault.get()
	switch {
	case fault == FaultWrongIssuer:
		issuer = nobody
	case fault == FaultWrongAudience:
		audience = nobody
	case fault == FaultWrongSigner:
		signer = g.config.Impostor
	case fault == FaultExpired, fault == FaultOldTrustedList && member == "trustedList":
		now = now.Add(-time.Hour)
	}
	payload := Object{{"iss", issuer}, {"sub", issuer}}
	if audience != "" {
		payload.Add("aud", audience)
	}
	payload = append(payload, Object{
		{"jti", rand.Text()}, {"iat", now.Unix()}, {"exp", now.Add(assertion.Lifetime).Unix()}, {g.word(member), content},
	}...)
	compact, err := jws.Sign(jws.RS256, signer.Key, signer.Certificates, []byte(payload.String()))
	if err != nil {
		respond.Error(w, http.StatusInternalServerError, http.StatusText(http.StatusInternalServerError), err.Error())
		return
	}
	if fault == FaultWrongSignature { // in its first character
		start := strings.LastIndexByte(compact, '.') + 1
		wrong := "A"
		if compact[start:start+1] == wrong {
			wrong = "B"
		}
		compact = compact[:start] + wrong + compact[start+1:]
	}
	body := Object{{g.word(token), compact}}.String()
	if fault == FaultMalformed {
		body = body[:len(body)/2]
	}
	respond.Encoded(w, http.StatusOK, []byte(body))
}
