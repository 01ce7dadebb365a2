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

func (s *sources) registryKey() registryKey {
	c := s.config.Registry
	return registryKey{
		anchorsKey: s.anchorsKey(), revocationKey: s.revocationKey(),
		id: c.ID, url: c.URL, version: c.Version, seals: strings.Join(c.Seals, " "),
		ourIDs: fmt.Sprint(s.config.audience()), leeway: s.config.Leeway,
	}
}

func (s *sources) cacheKey() cacheKey {
	return cacheKey{s.registryKey(), s.config.Registry.Fresh, s.config.Registry.MaxStale}
}

// An askedRegistry asks by the remote of the configuration that is in use.
type askedRegistry struct{ remote atomic.Pointer[askedRemote] }

// Party implements [registry.Source].
func (a *askedRegistry) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	r := a.take()
	defer r.using.RUnlock()
	return r.Party(ctx, id)
}

// What is kept is looked for by these.
var (
	_ registry.PersistentSource     = (*askedRegistry)(nil)
	_ registry.PersistentListSource = (*askedRegistry)(nil)
)

// TrustedList implements [registry.TrustedListSource].
func (a *askedRegistry) TrustedList(ctx context.Context) (trust.Anchors, error) {
	r := a.take()
	defer r.using.RUnlock()
	return r.TrustedList(ctx)
}

// RecallParty implements [registry.PersistentSource].
func (a *askedRegistry) RecallParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, time.Time) {
	r := a.take()
	defer r.using.RUnlock()
	return r.RecallParty(ctx, id)
}

// RecallTrustedList implements [registry.PersistentListSource].
func (a *askedRegistry) RecallTrustedList(ctx context.Context) (trust.Anchors, time.Time) {
	r := a.take()
	defer r.using.RUnlock()
	return r.RecallTrustedList(ctx)
}

// take read-locks the present remote. One that closes has a successor, but for the last one, which
// then says that it is closed.
func (a *askedRegistry) take() *askedRemote {
	for {
		r := a.remote.Load()
		if r.using.TryRLock() {
			return r
		}
		if r == a.remote.Load() {
			r.using.RLock()
			return r
		}
	}
}

// An askedRemote asks with a seal.
type askedRemote struct {
	*registry.Remote

	using sync.RWMutex // read-locked while it is asked
}

// Close waits for what is being asked.
func (r *askedRemote) Close() error {
	r.using.Lock()
	defer r.using.Unlock()
	return r.Remote.Close()
}

func (s *sources) openRemote() (err error) {
	if s.asked, err = share(s, s.registryKey(), func() (*askedRegistry, error) { return &askedRegistry{}, nil }); err != nil {
		return err
	}
	var certificates strings.Builder
	for _, c := range s.config.Certificates {
		certificates.Write(c.Raw)
	}
	key := remoteKey{registryKey: s.registryKey(), certificates: certificates.String()}
	if _, closes := s.config.Key.(io.Closer); closes {
		key.closer = s
	}
	if s.remote, err = share(s, key, s.newRemote); err != nil {
		return err
	}
	s.asked.remote.CompareAndSwap(nil, s.remote)
	return nil
}

func (s *sources) newRemote() (*askedRemote, error) {
	c := s.config.Registry
	remote, err := registry.NewRemote(registry.RemoteConfig{
		ID: c.ID, URL: c.URL, Version: c.Version, Seals: c.Seals,
		Party:        s.config.audience(),
		Key:          s.config.Key,
		Certificates: s.config.Certificates,
		Trust:        s.own,
		Revocation:   s.revocationChecker(),
		Leeway:       s.config.Leeway,
		Dir:          s.keptFolder("registry"),
		Keep:         max(c.Fresh, c.Refresh) + c.MaxStale,
		Log:          s.config.Log,
	})
	if err != nil {
		return nil, err
	}
	return &askedRemote{Remote: remote}, nil
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
	for fingerprint := range old.anchors {
		if _, still := s.anchors[fingerprint]; !still {
			return true
		}
	}
	return false
}

// install has the registry asked with our seal of this configuration, also by what is taken over.
func (s *sources) install() {
	if s.asked != nil {
		s.asked.remote.Store(s.remote)
	}
}
