package provider

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// A registrySource asks by the remote of the configuration that is in use.
type registrySource struct {
	remote atomic.Pointer[drainingRemote]
}

// Cache and trusted list look for these, to recall what was kept.
var (
	_ registry.PersistentSource     = (*registrySource)(nil)
	_ registry.PersistentListSource = (*registrySource)(nil)
)

// Party implements [registry.Source].
func (s *registrySource) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	r := s.acquire()
	defer r.inFlight.RUnlock()
	return r.Party(ctx, id)
}

// TrustedList implements [registry.TrustedListSource].
func (s *registrySource) TrustedList(ctx context.Context) (trust.Anchors, error) {
	r := s.acquire()
	defer r.inFlight.RUnlock()
	return r.TrustedList(ctx)
}

// RecallParty implements [registry.PersistentSource].
func (s *registrySource) RecallParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, time.Time) {
	r := s.acquire()
	defer r.inFlight.RUnlock()
	return r.RecallParty(ctx, id)
}

// RecallTrustedList implements [registry.PersistentListSource].
func (s *registrySource) RecallTrustedList(ctx context.Context) (trust.Anchors, time.Time) {
	r := s.acquire()
	defer r.inFlight.RUnlock()
	return r.RecallTrustedList(ctx)
}

// acquire read-locks the present remote. One that closes has a successor, but for the last one, which
// then says that it is closed.
func (s *registrySource) acquire() *drainingRemote {
	for {
		r := s.remote.Load()
		if r.inFlight.TryRLock() {
			return r
		}
		if r == s.remote.Load() {
			r.inFlight.RLock()
			return r
		}
	}
}

// A drainingRemote asks with a seal, and closes after the calls in flight.
type drainingRemote struct {
	*registry.Remote

	inFlight sync.RWMutex // read-locked by each call
}

// Close waits for the calls in flight.
func (r *drainingRemote) Close() error {
	r.inFlight.Lock()
	defer r.inFlight.Unlock()
	return r.Remote.Close()
}

// openRemote opens what asks the registry with our seal, and what asks by it or its successor.
func (s *sources) openRemote() (err error) {
	newSource := func() (*registrySource, error) { return &registrySource{}, nil }
	if s.source, err = share(s, s.registryKey, newSource); err != nil {
		return err
	}
	var certificates strings.Builder // of our seal, and so its key
	for _, c := range s.config.Certificates {
		certificates.Write(c.Raw)
	}
	key := [...]any{s.registryKey, certificates.String(), nil}
	if _, closes := s.config.Key.(io.Closer); closes {
		key[2] = s // whose key is closed with them: the remote is never taken over
	}
	s.remote, err = share(s, key, func() (*drainingRemote, error) {
		c := s.config.Registry
		remote, err := registry.NewRemote(registry.RemoteConfig{
			ID: c.ID, URL: c.URL, Version: c.Version, Seals: c.Seals,
			Party: s.config.audience(), Key: s.config.Key, Certificates: s.config.Certificates,
			Trust: s.own, Revocation: s.revocationChecker(), Leeway: s.config.Leeway,
			Dir: s.keptFolder("registry"), Keep: max(c.Fresh, c.Refresh) + c.MaxStale,
			Log: s.config.Log, Observe: s.config.observe(ToRegistry),
		})
		return &drainingRemote{Remote: remote}, err
	})
	if err == nil {
		s.source.remote.CompareAndSwap(nil, s.remote)
	}
	return err
}

// preparation is how long a reload waits at most for a registry that was not asked before, and withdrawal how long
// one that takes an anchor away.
const (
	preparation = 10 * time.Second
	withdrawal  = time.Second
)

// prepare asks the registry for what the old sources know and these do not, so that no client
// is turned away by the exchange. On an error they are less able than the old ones.
func (s *sources) prepare(ctx context.Context, old *sources) error {
	limit, withdraws := preparation, s.withdraws(old)
	if withdraws {
		limit = withdrawal
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.learn(ctx, old)
	if err == nil {
		return nil
	}
	if withdraws {
		s.config.Log.WarnContext(ctx, "the new configuration takes an anchor away and is used, although the registry has not answered it yet", slog.Any("error", err))
		return nil
	}
	return fmt.Errorf("the new configuration would know less than the old one: %w", err)
}

func (s *sources) learn(ctx context.Context, old *sources) error {
	if list := s.clients.list; list != nil && !list.InForce() && old.clients.list != nil && old.clients.list.InForce() {
		if err := list.Update(ctx); err != nil {
			return s.config.problem("Registry.TrustedList", err)
		}
		return nil
	}
	if s.cache == nil || s.cache == old.cache || old.cache != nil && old.cache.Stats().Parties == 0 {
		return nil
	}
	if _, err := s.cache.Party(ctx, s.config.Party); err != nil && !rule.IsUnknownParty(err) {
		return s.config.problem("Registry", err)
	}
	return nil
}

// withdraws reports whether an anchor of the old sources is none of these.
func (s *sources) withdraws(old *sources) bool {
	for fingerprint := range old.config.Anchors {
		if _, still := s.config.Anchors[fingerprint]; !still {
			return true
		}
	}
	return false
}

// install makes the remote of this configuration, and so its seal, the one that cache and list ask by.
func (s *sources) install() {
	if s.source != nil {
		s.source.remote.Store(s.remote)
	}
}
