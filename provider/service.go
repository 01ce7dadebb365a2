package provider

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/guard/tokenadmin"
	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/internal/forwarded"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/internal/work"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// A service is everything that one configuration stands for. It does not change:
// a reload makes another.
type service struct {
	config   Config
	state    *state
	sources  *sources
	limits   *limits
	verifier *assertion.Verifier
	keys     *accesstoken.KeyRing
	issuer   *accesstoken.Issuer
	tokens   guard.Checker // the issuer, of whose checks is told
	checker  guard.Checker // tokens, which logs why it cannot check
	guarded  *guardedLog   // nil: guarded requests are not logged

	public   http.Handler
	internal http.Handler // what concerns access tokens, besides forward-auth
	auth     http.Handler // forward-auth
	verbatim http.Handler // forward-auth for a proxy that appends the client's path
	closers  []func()     // in the order in which they were made

	inFlight sync.RWMutex    // read-locked by requests that need what close closes; locked when the service has retired
	current  func() *service // answers when this one has retired
}

// newService opens all of it, or nothing.
func (p *Provider) newService(c Config) (_ *service, err error) {
	s := &service{config: c, state: p.state, current: p.current.Load}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var before *limits
	if old := p.current.Load(); old != nil {
		before = old.limits
	}
	if s.limits, err = newLimits(s.config.Limits, before); err != nil {
		return nil, err
	}
	if s.sources, err = openSources(s.config, p.parts); err != nil {
		return nil, err
	}
	if s.keys, err = accesstoken.OpenKeys(s.config.folder().Keys(), s.config.Log); err != nil {
		return nil, fmt.Errorf("token keys: %w", err)
	}
	issuer := accesstoken.Config{
		Party: s.config.Party, Format: s.config.Tokens.Format, Lifetime: s.config.Tokens.Lifetime,
		Keys: s.keys, Revoked: s.state.revoked,
	}
	if s.config.Tokens.IssuerIsURL {
		issuer.IssuerURL = s.config.URL.String()
	}
	if s.issuer, err = accesstoken.New(issuer); err != nil {
		return nil, err
	}
	s.tokens = s.issuer
	if told := s.config.Events.Checked; told != nil {
		s.tokens = toldChecker{s.issuer, told}
	}
	checker := guard.LogOutages(s.tokens, s.config.Log)
	checker.Decided = s.config.Events.Guarded
	s.checker, s.closers = checker, append(s.closers, checker.Close)
	if s.config.LogGuarded {
		s.guarded = newGuardedLog(s.config.Log)
		s.closers = append(s.closers, s.guarded.sums.Close)
		checker.Decided = Join(Events{Guarded: s.guarded.decided}, s.config.Events).Guarded
	}
	if err := s.openInternal(); err != nil {
		return nil, err
	}
	if err := s.openPublic(); err != nil {
		return nil, err
	}
	return s, nil
}

// openInternal makes what concerns access tokens.
func (s *service) openInternal() error {
	auth := proxy.ForwardAuthConfig{Checker: s.checker, Log: s.config.Log}
	forwardAuth, err := proxy.NewForwardAuth(auth)
	if err != nil {
		return err
	}
	s.auth, s.closers = s.logged(forwardAuth), append(s.closers, forwardAuth.Close)
	auth.IgnoreURL = true
	verbatim, err := proxy.NewForwardAuth(auth)
	if err != nil {
		return err
	}
	s.verbatim, s.closers = s.logged(verbatim), append(s.closers, verbatim.Close)
	admin := tokenadmin.Config{
		Checker: s.tokens, Log: s.config.Log, Canonical: s.sources.canonical,
		Revocations: s.revocations(), Secret: s.config.Secret, Callers: s.config.Callers,
	}
	if s.config.Trail != nil {
		admin.Record = s.config.Trail.Revocation
	}
	introspection, err := tokenadmin.NewIntrospection(admin)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, introspection.Close)
	revocation, err := tokenadmin.NewRevocation(admin)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, revocation.Close)
	mux := http.NewServeMux()
	mux.Handle(introspectionPath, introspection)
	mux.Handle(revocationPath, s.guardInFlight(revocation, func(s *service) http.Handler { return s.internal }))
	s.internal = mux
	return nil
}

// revocations are those of the state, of which is told.
func (s *service) revocations() accesstoken.TokenRevocations {
	if told := s.config.Events.Revoked; told != nil {
		return toldRevocations{s.state.revoked, told}
	}
	return s.state.revoked
}

// openPublic makes what everybody may reach.
func (s *service) openPublic() error {
	var err error
	if s.verifier, err = s.sources.verifier(s.state.used, s.limits); err != nil {
		return err
	}
	var verifier tokenendpoint.Verifier = s.verifier
	if list := s.sources.clients.list; list != nil {
		verifier = listedVerifier{s.verifier, list}
	}
	tokens := tokenendpoint.Config{
		Verifier: verifier, Issuer: s.issuer, Scopes: s.config.scopes(), Screen: s.limits.screen, Log: s.config.Log,
		Decided: s.config.Events.Decided, Observe: s.config.Events.Stage,
	}
	if s.config.Trail != nil {
		tokens.Record = s.config.Trail.Token
	}
	endpoint, err := tokenendpoint.New(tokens)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, endpoint.Close)
	public := func(s *service) http.Handler { return s.public }
	mux := http.NewServeMux()
	for _, path := range append([]string{tokenendpoint.Path}, s.config.TokenPaths...) {
		mux.Handle(path, s.guardInFlight(endpoint, public))
		mux.HandleFunc(path+"/{$}", func(w http.ResponseWriter, r *http.Request) { // who asks here is close
			respond.Error(w, http.StatusNotFound, rule.CodeInvalidRequest,
				"the token endpoint is "+strings.TrimSuffix(r.URL.Path, "/")+", without a slash at its end")
		})
	}
	if s.config.URL != nil {
		offer, err := capabilities.New(s.config.capabilitiesConfig(s.checker, s.sources.parties))
		if err != nil {
			return err
		}
		s.closers = append(s.closers, offer.Close)
		mux.Handle(capabilities.Path, s.guardInFlight(offer, public))
		mux.HandleFunc("GET "+metadataPath, s.metadata)
		mux.HandleFunc("GET "+metadataPath+"/{issuer...}", s.metadata)
	}
	mux.HandleFunc("GET "+keySetPath, func(w http.ResponseWriter, _ *http.Request) { respond.Encoded(w, http.StatusOK, s.keys.PublicJWKS()) })
	mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) { respond.Encoded(w, http.StatusOK, openAPI) })
	protect := guard.Require(s.checker, ishare.ScopeISHARE)
	for pattern, handler := range s.config.Secured {
		mux.Handle(pattern, protect(handler))
	}
	s.public = mux
	if len(s.config.Routes) > 0 {
		reverse, err := proxy.New(s.config.proxyConfig(s.checker, mux))
		if err != nil {
			return err
		}
		s.closers = append(s.closers, reverse.Close)
		s.public = reverse
	}
	s.public = s.limits.proxies.Attribute(s.logged(s.public))
	return nil
}

// logged makes a handler whose guarded requests are logged, if they are to be.
func (s *service) logged(next http.Handler) http.Handler {
	if s.guarded == nil {
		return next
	}
	return s.guarded.wrap(next)
}

// guardInFlight makes a handler that keeps the service from closing under it. The successor's handler answers when
// the service has retired.
func (s *service) guardInFlight(next http.Handler, successor func(*service) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.inFlight.TryRLock() { // retired since the request was given to it
			successor(s.current()).ServeHTTP(w, r)
			return
		}
		defer s.inFlight.RUnlock()
		next.ServeHTTP(w, r)
	})
}

// close closes what the service opened.
func (s *service) close() error {
	var errs []error
	if s.sources != nil {
		errs = append(errs, s.sources.close())
	}
	if s.keys != nil {
		errs = append(errs, s.keys.Close())
	}
	errs = append(errs, s.config.closeKey())
	for _, closePart := range slices.Backward(s.closers) {
		closePart()
	}
	return errors.Join(errs...)
}

const (
	waiting = 8 // requests for each place
	dearer  = 8 // times what a seal costs that is known: one place for each eight
)

// limits bound what strangers can make the server do for tokens.
type limits struct {
	work      *work.Gate
	firstWork *work.Gate              // for seals that are not known yet
	addresses *bucket.Set[netip.Addr] // nil: without a limit
	seals     *bucket.Set[string]     // likewise
	proxies   forwarded.Proxies
}

// newLimits takes over from the limits before, if any, what is to be as it was: a reload gives nobody a full bucket.
func newLimits(c Limits, before *limits) (*limits, error) {
	if before == nil {
		before = &limits{}
	}
	l := &limits{work: before.work, firstWork: before.firstWork, proxies: c.TrustedProxies}
	if places := cmp.Or(c.InWork, work.DefaultPlaces()); l.work == nil || l.work.Places() != places {
		l.work, l.firstWork = work.NewGate(places, waiting*places), work.NewGate(places/dearer, waiting*places)
	}
	var err1, err2 error
	l.addresses, err1 = buckets(c.PerAddress, before.addresses)
	l.seals, err2 = buckets(c.PerParty, before.seals)
	return l, errors.Join(err1, err2)
}

func buckets[K comparable](r Rate, before *bucket.Set[K]) (*bucket.Set[K], error) {
	switch {
	case r == Rate{}:
		return nil, nil //nolint:nilnil // there is no limit
	case before != nil && before.Rate() == bucket.Rate(r):
		return before, nil
	}
	return bucket.New[K](bucket.Rate(r))
}

// screen refuses a token request by where it comes from, or when too many are in work. It costs next to nothing.
func (l *limits) screen(r *http.Request) error {
	if l.addresses != nil {
		if wait := l.addresses.Take(origin(r.RemoteAddr)); wait > 0 {
			return &rule.Outage{Rule: rule.Limited, RetryAfter: wait, Cause: errEager}
		}
	}
	if l.work.Busy() {
		return &rule.Outage{Rule: rule.UnavailableOverload, RetryAfter: time.Second, Cause: work.ErrBusy}
	}
	return nil
}

var errEager = errors.New("too many token requests of one address")

// origin is what counts as one address. Of IPv6 that is a network of 64 bits, as one host can have all of its addresses
// (RFC 4291 section 2.5.4).
func origin(remote string) netip.Addr {
	peer, _ := netip.ParseAddrPort(remote) // one that cannot be read shares a bucket with its like
	a := peer.Addr().Unmap()
	if a.Is6() {
		network, _ := a.Prefix(64)
		return network.Addr()
	}
	return a
}
