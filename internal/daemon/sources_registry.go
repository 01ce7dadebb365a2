package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/trust"
)

func (s *sources) registryKey() registryKey {
	r := s.config.Participants.Registry
	return registryKey{
		anchorsKey: s.anchorsKey(), revocationKey: s.revocationKey(),
		id: r.ID, url: r.URL.String(), version: r.Version, seals: strings.Join(seals(r), " "),
		ourIDs: fmt.Sprint(s.audience()), leeway: s.config.Policy.Leeway,
	}
}

func (s *sources) cacheKey() cacheKey {
	return cacheKey{s.registryKey(), s.config.Participants.Cache, s.config.Participants.MaxStale}
}

// An askedRegistry asks by the remote of the configuration that is in use.
type askedRegistry struct{ remote atomic.Pointer[askedRemote] }

// Party implements [registry.Source].
func (a *askedRegistry) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	r := a.take()
	defer r.using.RUnlock()
	return r.Party(ctx, id)
}

// TrustedList implements [registry.TrustedListSource].
func (a *askedRegistry) TrustedList(ctx context.Context) (trust.Anchors, error) {
	r := a.take()
	defer r.using.RUnlock()
	return r.TrustedList(ctx)
}

// RecallParty implements [registry.RecallingSource].
func (a *askedRegistry) RecallParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, time.Time) {
	r := a.take()
	defer r.using.RUnlock()
	return r.RecallParty(ctx, id)
}

// RecallTrustedList implements [registry.RecallingListSource].
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

	seal  *keyfile.Pair
	using sync.RWMutex // read-locked while it is asked
}

// Close waits for what is being asked.
func (r *askedRemote) Close() error {
	r.using.Lock()
	defer r.using.Unlock()
	return errors.Join(r.Remote.Close(), r.seal.Close())
}

func (s *sources) openRemote() (err error) {
	if s.asked, err = share(s, s.registryKey(), func() (*askedRegistry, error) { return &askedRegistry{}, nil }); err != nil {
		return err
	}
	seal, problems := keyfile.ReadSeal(sealFiles(s.config), time.Now())
	if err := problems.Err(); err != nil {
		return err
	}
	key := remoteKey{registryKey: s.registryKey(), certificates: rawCertificates(seal)}
	if keyfile.IsURI(string(s.config.Party.Key)) {
		key.hardware = seal
	}
	s.remote, err = share(s, key, func() (*askedRemote, error) { return s.newRemote(seal) })
	if err != nil || s.remote.seal != seal {
		err = errors.Join(err, seal.Close())
	}
	if err == nil {
		s.asked.remote.CompareAndSwap(nil, s.remote)
	}
	return err
}

func rawCertificates(seal *keyfile.Pair) string {
	var raw strings.Builder
	for _, c := range seal.Certificates {
		raw.Write(c.Raw)
	}
	return raw.String()
}

func (s *sources) newRemote(seal *keyfile.Pair) (*askedRemote, error) {
	cfg := s.config
	remote, err := registry.NewRemote(registry.RemoteConfig{
		ID:           cfg.Participants.Registry.ID,
		URL:          cfg.Participants.Registry.URL.String(),
		Version:      cfg.Participants.Registry.Version,
		Party:        s.audience(),
		Key:          seal.Signer(),
		Certificates: seal.Certificates,
		Seals:        seals(cfg.Participants.Registry),
		Trust:        s.own,
		Revocation:   s.revocationChecker(),
		Leeway:       cfg.Policy.Leeway,
		Dir:          s.keptFolder("registry"),
		Keep:         max(cfg.Participants.Cache, cfg.Trust.Refresh) + cfg.Participants.MaxStale,
		Log:          s.log,
	})
	if err != nil {
		return nil, err
	}
	return &askedRemote{Remote: remote, seal: seal}, nil
}

func seals(r *config.Registry) []string {
	var list []string
	for _, f := range r.Seals {
		list = append(list, string(f))
	}
	return list
}
