package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/internal/work"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// sources are where the knowledge comes from by which assertions are judged. What they
// hold is shared with the sources of the configuration before and after, as far as it is made of
// the same; the keys below say of what.
type sources struct {
	config  Config
	parts   *parts
	held    []*part          // in the order in which they were opened
	anchors trust.Anchors    // of our own choice
	own     *trust.Validator // of the registry: by these anchors only
	clients *clientTrust

	revocation *revocation.Checker // nil: nobody is asked

	file   *registry.File  // one of file and
	remote *askedRemote    // remote is set
	asked  *askedRegistry  // by cache and list: remote, from when the configuration is in use
	cache  *registry.Cache // of asked
}

// The keys of parts. What is remembered by a configuration that trusted others, or that asked in
// another way, is never taken over.
type (
	anchorsKey    struct{ anchors string }
	revocationKey struct {
		mode         revocation.Mode
		allowPrivate bool
		proxy        string
	}
	fileKey struct{ path string }
	// registryKey is all by which an answer of the registry is believed. Our own seal is not
	// among it: records stay true when it is renewed.
	registryKey struct {
		anchorsKey
		revocationKey

		id      ishare.PartyID
		url     string
		version registry.Version
		seals   string
		ourIDs  string // to whom answers are addressed
		leeway  time.Duration
	}
	remoteKey struct {
		registryKey

		certificates string   // of our seal, and so its key
		closer       *sources // whose key is closed with them, and whose remote is never taken over; nil: nothing is closed
	}
	cacheKey struct {
		registryKey

		fresh, maxStale time.Duration
	}
	clientTrustKey struct {
		anchorsKey

		list listKey // zero: none
	}
	listKey struct {
		registryKey

		refresh, maxStale time.Duration
	}
	verifierKey struct {
		clientTrustKey
		revocationKey

		parties           any
		extraHeader       bool
		ourIDs            string
		leeway            time.Duration
		roles, dataspaces string
		work              *work.Gate
		seals             *bucket.Set[string]
	}
)

// openSources asks nobody yet. What it returns must be closed.
func openSources(c Config, shared *parts) (*sources, error) {
	s := &sources{config: c, anchors: c.Anchors, parts: shared}
	for _, open := range []func() error{s.openTrust, s.openRevocation, s.openParticipants, s.openClientTrust} {
		if err := open(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *sources) openTrust() (err error) {
	s.own, err = share(s, s.anchorsKey(), func() (*trust.Validator, error) { return trust.New(s.anchors) })
	return s.config.problem("Anchors", err)
}

func (s *sources) anchorsKey() anchorsKey { return anchorsKey{fmt.Sprint(s.anchors)} } // which sorts them

// openRevocation: an answer is about a certificate and its issuer, and true whoever is trusted.
func (s *sources) openRevocation() (err error) {
	c := s.config.Revocation
	if c.Mode == revocation.ModeOff {
		return nil
	}
	s.revocation, err = share(s, s.revocationKey(), func() (*revocation.Checker, error) {
		return revocation.New(revocation.Config{
			Mode: c.Mode, AllowPrivate: c.AllowPrivate, Proxy: c.Proxy, Dir: s.keptFolder("revocation"),
			Log: s.config.Log, Hint: c.Hint,
		})
	})
	return s.config.problem("Revocation", err)
}

// keptFolder is where signed answers of a kind are kept over a restart; empty: nowhere.
func (s *sources) keptFolder(kind string) string {
	if !s.parts.keep {
		return ""
	}
	return s.config.folder().Kept(kind)
}

func (s *sources) revocationKey() revocationKey {
	c := s.config.Revocation
	key := revocationKey{mode: c.Mode, allowPrivate: c.AllowPrivate}
	if c.Proxy != nil {
		key.proxy = c.Proxy.String()
	}
	return key
}

func (s *sources) openParticipants() (err error) {
	switch c := s.config.Registry; {
	case s.config.Parties != nil:
		return nil
	case c == nil:
		return s.config.problem("PartiesFile", s.openFile())
	default:
		if err := s.openRemote(); err != nil {
			return s.config.problem("Registry", err)
		}
		s.cache, err = share(s, s.cacheKey(), func() (*registry.Cache, error) {
			return registry.NewCache(registry.CacheConfig{Source: s.asked, Fresh: c.Fresh, MaxStale: c.MaxStale, Log: s.config.Log})
		})
		return s.config.problem("Registry.Fresh", err)
	}
}

// openFile reads the file, whether it was read before or not.
func (s *sources) openFile() (err error) {
	opened := false
	path := s.config.PartiesFile
	s.file, err = share(s, fileKey{path}, func() (*registry.File, error) {
		opened = true
		return registry.OpenFile(path, s.config.Log)
	})
	if err == nil && !opened {
		err = s.file.Reload()
	}
	return err
}

// clientTrust is what chains of clients are judged by.
type clientTrust struct {
	*trust.Validator // by our own anchors, and what list grants

	list *registry.TrustedList // nil: not asked for
}

// Run keeps the list.
func (t *clientTrust) Run(ctx context.Context) error {
	if t.list == nil {
		return nil
	}
	return t.list.Run(ctx)
}

func (s *sources) openClientTrust() (err error) {
	s.clients, err = share(s, s.clientTrustKey(), s.newClientTrust)
	return err
}

func (s *sources) clientTrustKey() clientTrustKey {
	key := clientTrustKey{anchorsKey: s.anchorsKey()}
	if c := s.config.Registry; c != nil && c.TrustedList {
		key.list = listKey{s.registryKey(), c.Refresh, c.MaxStale}
	}
	return key
}

func (s *sources) newClientTrust() (*clientTrust, error) {
	validator, err := trust.New(s.anchors)
	if err != nil {
		return nil, s.config.problem("Anchors", err)
	}
	c := s.config.Registry
	if c == nil || !c.TrustedList {
		return &clientTrust{Validator: validator}, nil
	}
	list, err := registry.NewTrustedList(registry.TrustedListConfig{
		Source: s.asked, Own: s.anchors, Clients: validator,
		Refresh: c.Refresh, MaxStale: c.MaxStale, Log: s.config.Log,
	})
	if err != nil {
		return nil, s.config.problem("Registry.TrustedList", err)
	}
	return &clientTrust{validator, list}, nil
}

// revocationChecker is the one that the configuration asks for.
func (s *sources) revocationChecker() assertion.RevocationChecker {
	if s.revocation == nil {
		return revocation.Off{}
	}
	return s.revocation
}

func (s *sources) parties() assertion.PartySource {
	switch {
	case s.config.Parties != nil:
		return s.config.Parties
	case s.cache != nil:
		return s.cache
	}
	return s.file
}

// canonical finds the canonical identifier of a party, by any that it is known by.
func (s *sources) canonical(ctx context.Context, id ishare.PartyID) (ishare.PartyID, error) {
	party, err := s.parties().Party(ctx, id)
	switch {
	case rule.IsUnknownParty(err):
		return id, nil
	case err != nil:
		return "", err
	}
	return party.ID, nil
}

// verifierConfig is what the configuration says about judging assertions.
func (s *sources) verifierConfig() assertion.Config {
	return assertion.Config{
		Audience:         s.config.audience(),
		Trust:            s.clients.Validator,
		Parties:          s.parties(),
		Revocation:       s.revocationChecker(),
		AllowExtraHeader: s.config.AllowExtraHeader,
		Roles:            s.config.Roles,
		Dataspaces:       s.config.Dataspaces,
	}
}

// verifier judges assertions, and remembers the used ones in the store, which must be
// the same for all sources that share parts.
func (s *sources) verifier(used replay.Store, within *limits) (tokenendpoint.Verifier, error) {
	key := verifierKey{
		clientTrustKey: s.clientTrustKey(), revocationKey: s.revocationKey(), parties: s.partiesKey(),
		extraHeader: s.config.AllowExtraHeader, ourIDs: fmt.Sprint(s.config.audience()), leeway: s.config.Leeway,
		roles: fmt.Sprintf("%q", s.config.Roles), dataspaces: fmt.Sprintf("%q", s.config.Dataspaces),
		work: within.work, seals: within.seals,
	}
	verifier, err := share(s, key, func() (*assertion.Verifier, error) {
		c := s.verifierConfig()
		c.Replay, c.Work, c.FirstWork = used, within.work, within.firstWork
		if within.seals != nil {
			c.Seals = within.seals
		}
		return assertion.NewVerifier(c)
	})
	if err != nil || s.clients.list == nil {
		return verifier, err
	}
	return listedVerifier{verifier, s.clients.list}, nil
}

// partiesKey tells apart where party records come from.
func (s *sources) partiesKey() any {
	switch {
	case s.cache != nil:
		return s.cacheKey()
	case s.file != nil:
		return fileKey{s.config.PartiesFile}
	case reflect.ValueOf(s.config.Parties).Comparable():
		return s.config.Parties
	}
	return new(byte) // which nothing equals
}

// start keeps the knowledge fresh until it is closed.
func (s *sources) start(ctx context.Context) {
	for _, p := range s.held {
		p.start(ctx)
	}
}

// close gives up what is being asked, in the order in which one asks the other.
func (s *sources) close() error {
	var errs []error
	for _, p := range slices.Backward(s.held) {
		errs = append(errs, s.parts.release(p))
	}
	return errors.Join(errs...)
}

// parts are what services can share, each by a comparable key that tells all that it is made
// of. A part is closed when the last service that holds it is closed, so what has the same key in
// the next configuration keeps what it remembers.
type parts struct {
	keep bool // also over a restart, in the data folder: what a server does, and who only looks does not

	mu   sync.Mutex
	held map[any]*part
}

func newParts() *parts { return &parts{held: map[any]*part{}} }

// A part does what its value can: Run from when a service that holds it runs, and Close.
type part struct {
	key   any
	value any
	users int // guarded by parts.mu

	starting sync.Once
	stop     context.CancelFunc // nil: it does not run
	done     chan struct{}
}

// share gives sources the part with the key, and opens it if there is none. Two calls at
// once would open two.
func share[T any](s *sources, key any, open func() (T, error)) (T, error) {
	p := s.parts.take(key)
	if p == nil {
		value, err := open()
		if err != nil {
			return value, err
		}
		p = s.parts.add(key, value)
	}
	s.held = append(s.held, p)
	value, _ := p.value.(T) // a key is of a type of its own for each T
	return value, nil
}

func (ps *parts) take(key any) *part {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.held[key]
	if p != nil {
		p.users++
	}
	return p
}

func (ps *parts) add(key, value any) *part {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := &part{key: key, value: value, users: 1}
	ps.held[key] = p
	return p
}

// release gives a part up, and closes it when nobody else holds it.
func (ps *parts) release(p *part) error {
	ps.mu.Lock()
	p.users--
	last := p.users == 0
	if last {
		delete(ps.held, p.key)
	}
	ps.mu.Unlock()
	if !last {
		return nil
	}
	if p.stop != nil {
		p.stop()
		<-p.done
	}
	switch closer := p.value.(type) {
	case io.Closer:
		return closer.Close()
	case interface{ Close() }:
		closer.Close()
	}
	return nil
}

// start has the part run until it is closed, whichever service was the first to hold it.
func (p *part) start(ctx context.Context) {
	runner, ok := p.value.(interface {
		Run(ctx context.Context) error
	})
	if !ok {
		return
	}
	p.starting.Do(func() {
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		p.stop = stop
		p.done = make(chan struct{})
		go func() {
			defer close(p.done)
			_ = runner.Run(running) // nil: it was stopped
		}()
	})
}
