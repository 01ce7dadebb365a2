package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// sources are where the knowledge comes from by which assertions are judged. What they
// open is shared with the sources of the configuration before and after, as far as it is made of
// the same; the keys say of what.
type sources struct {
	config Config
	parts  *parts
	opened []*part // in this order

	anchorsKey, revocationKey, registryKey, partiesKey, clientsKey any

	own        *trust.Validator    // of the registry: by our own anchors only
	revocation *revocation.Checker // nil: nobody is asked
	parties    assertion.PartySource
	clients    *clientValidator

	file   *registry.File  // one of file and
	remote *drainingRemote // remote is set, unless Config.Parties is
	source *registrySource // of cache and list: it asks by remote, from when the configuration is in use
	cache  *registry.Cache // of source
}

// openSources asks nobody yet. What it returns must be closed.
func openSources(c Config, shared *parts) (*sources, error) {
	s := &sources{config: c, parts: shared}
	s.setKeys()
	for _, open := range []func() error{s.openTrust, s.openParties, s.openClients} {
		if err := open(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// setKeys says what parts are made of. What is remembered by a configuration that trusted others, or that asked in
// another way, is never taken over.
func (s *sources) setKeys() {
	c, r := &s.config, s.config.Registry
	var proxy string
	if c.Revocation.Proxy != nil {
		proxy = c.Revocation.Proxy.String()
	}
	s.anchorsKey = fmt.Sprint(c.Anchors) // which sorts them
	s.revocationKey = [...]any{c.Revocation.Mode, c.Revocation.AllowPrivate, proxy, c.Limits.KnownClients}
	s.clientsKey = s.anchorsKey
	switch {
	case r != nil:
		// All by which an answer of the registry is believed. Our own seal is not among it: records stay true when it
		// is renewed. Answers are addressed to the audience.
		s.registryKey = [...]any{
			s.anchorsKey, s.revocationKey, r.ID, r.URL, r.Version, strings.Join(r.Seals, " "),
			fmt.Sprint(c.audience()), c.Leeway,
		}
		s.partiesKey = [...]any{s.registryKey, r.Fresh, r.MaxStale}
		if r.TrustedList {
			s.clientsKey = [...]any{s.registryKey, r.Refresh, r.MaxStale}
		}
	case c.PartiesFile != "":
		s.partiesKey = c.PartiesFile
	case reflect.ValueOf(c.Parties).Comparable():
		s.partiesKey = c.Parties
	default:
		s.partiesKey = new(byte) // which nothing equals
	}
}

// openTrust opens what judges certificates. An answer of a status service is about a certificate and its issuer, and
// true whoever is trusted.
func (s *sources) openTrust() (err error) {
	s.own, err = share(s, s.anchorsKey, func() (*trust.Validator, error) { return trust.New(s.config.Anchors) })
	c := s.config.Revocation
	if err != nil || c.Mode == revocation.ModeOff {
		return s.config.problem("Anchors", err)
	}
	s.revocation, err = share(s, s.revocationKey, func() (*revocation.Checker, error) {
		return revocation.New(revocation.Config{
			Mode: c.Mode, AllowPrivate: c.AllowPrivate, Proxy: c.Proxy, Dir: s.keptFolder("revocation"),
			Certificates: s.config.Limits.KnownClients, Log: s.config.Log, Hint: c.Hint, Observe: s.config.observe(ToRevocation),
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

func (s *sources) openParties() (err error) {
	c := &s.config
	switch {
	case c.Parties != nil:
		s.parties = c.Parties
		return nil
	case c.Registry != nil:
		if err := s.openRemote(); err != nil {
			return c.problem("Registry", err)
		}
		s.cache, err = share(s, s.partiesKey, func() (*registry.Cache, error) {
			return registry.NewCache(registry.CacheConfig{
				Source: s.source, Fresh: c.Registry.Fresh, MaxStale: c.Registry.MaxStale, Log: c.Log,
				Size: max(c.Limits.KnownClients, registry.DefaultCacheSize),
			})
		})
		s.parties = s.cache
		return c.problem("Registry.Fresh", err)
	}
	opened := false
	s.file, err = share(s, s.partiesKey, func() (*registry.File, error) {
		opened = true
		return registry.OpenFile(c.PartiesFile, c.Log)
	})
	if err == nil && !opened { // which is read whether it was read before or not
		err = s.file.Reload()
	}
	s.parties = s.file
	return c.problem("PartiesFile", err)
}

// A clientValidator is what chains of clients are judged by.
type clientValidator struct {
	*trust.Validator // by our own anchors, and what list grants

	list *registry.TrustedList // nil: not asked for
}

// Run keeps the list.
func (v *clientValidator) Run(ctx context.Context) error {
	if v.list == nil {
		return nil
	}
	return v.list.Run(ctx)
}

func (s *sources) openClients() (err error) {
	s.clients, err = share(s, s.clientsKey, func() (*clientValidator, error) {
		validator, err := trust.New(s.config.Anchors)
		if err != nil {
			return nil, s.config.problem("Anchors", err)
		}
		r := s.config.Registry
		if r == nil || !r.TrustedList {
			return &clientValidator{Validator: validator}, nil
		}
		list, err := registry.NewTrustedList(registry.TrustedListConfig{
			Source: s.source, Own: s.config.Anchors, Clients: validator,
			Refresh: r.Refresh, MaxStale: r.MaxStale, Log: s.config.Log,
		})
		if err != nil {
			return nil, s.config.problem("Registry.TrustedList", err)
		}
		return &clientValidator{validator, list}, nil
	})
	return err
}

// revocationChecker is the one that the configuration asks for.
func (s *sources) revocationChecker() assertion.RevocationChecker {
	if s.revocation == nil {
		return revocation.Off{}
	}
	return s.revocation
}

// canonical finds the canonical identifier of a party, by any that it is known by.
func (s *sources) canonical(ctx context.Context, id ishare.PartyID) (ishare.PartyID, error) {
	party, err := s.parties.Party(ctx, id)
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
		Parties:          s.parties,
		Revocation:       s.revocationChecker(),
		AllowExtraHeader: s.config.AllowExtraHeader,
		KnownClients:     s.config.Limits.KnownClients,
		Roles:            s.config.Roles,
		Dataspaces:       s.config.Dataspaces,
		Observe:          s.config.Events.Stage,
	}
}

// verifier judges assertions, and remembers the used ones in the store, which must be
// the same for all sources that share parts.
func (s *sources) verifier(used replay.Store, within *limits) (*assertion.Verifier, error) {
	key := [...]any{
		s.clientsKey, s.revocationKey, s.partiesKey, within.work, within.seals,
		fmt.Sprint(s.config.audience()), s.config.Leeway, s.config.AllowExtraHeader, s.config.Limits.KnownClients,
		fmt.Sprintf("%q", s.config.Roles), fmt.Sprintf("%q", s.config.Dataspaces),
	}
	return share(s, key, func() (*assertion.Verifier, error) {
		c := s.verifierConfig()
		c.Replay, c.Work, c.FirstWork = used, within.work, within.firstWork
		if within.seals != nil {
			c.Seals = within.seals
		}
		return assertion.NewVerifier(c)
	})
}

// start keeps the knowledge fresh until it is closed. A part runs once, whichever service was the first to open it.
func (s *sources) start(ctx context.Context) {
	for _, p := range s.opened {
		runner, ok := p.value.(interface {
			Run(ctx context.Context) error
		})
		if !ok {
			continue
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
}

// close releases the parts: what asks another goes before it.
func (s *sources) close() error {
	var errs []error
	for _, p := range slices.Backward(s.opened) {
		errs = append(errs, s.parts.release(p))
	}
	return errors.Join(errs...)
}

// parts are what services can share, each by a comparable key that says all that it is made
// of. A part is closed when the last service that opened it is closed, so what has the same key in
// the next configuration keeps what it remembers.
type parts struct {
	keep bool // signed answers in the data folder, for the next start: a server does, [Explain] and [Preflight] do not

	mu    sync.Mutex
	byKey map[any]*part
}

func newParts() *parts { return &parts{byKey: map[any]*part{}} }

// A part does what its value can: Run from when a service that opened it runs, and Close.
type part struct {
	key   any
	value any
	users int // guarded by parts.mu

	starting sync.Once
	stop     context.CancelFunc // nil: it does not run
	done     chan struct{}
}

// share gives sources the part with the key among those of its type, and opens it if there is none. Two calls at
// once would open two.
func share[T any](s *sources, key any, open func() (T, error)) (T, error) {
	key = [...]any{reflect.TypeFor[T](), key}
	s.parts.mu.Lock()
	p := s.parts.byKey[key]
	if p != nil {
		p.users++
	}
	s.parts.mu.Unlock()
	if p == nil {
		value, err := open()
		if err != nil {
			return value, err
		}
		p = &part{key: key, value: value, users: 1}
		s.parts.mu.Lock()
		s.parts.byKey[key] = p
		s.parts.mu.Unlock()
	}
	s.opened = append(s.opened, p)
	value, _ := p.value.(T) // as the key says
	return value, nil
}

// release closes a part when no other sources use it.
func (ps *parts) release(p *part) error {
	ps.mu.Lock()
	p.users--
	last := p.users == 0
	if last {
		delete(ps.byKey, p.key)
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
