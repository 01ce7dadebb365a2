package provider

import (
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
)

// Stats tells how a provider is doing, for metrics. What the configuration does not have is nil. The numbers of a part begin
// anew when a [Provider.Reload] makes another of it.
type Stats struct {
	Assertions  assertion.Stats
	Records     *registry.CacheStats       // of a Participant Registry
	Registry    *registry.RemoteStats      // itself
	TrustedList *registry.TrustedListStats // for clients
	File        *registry.Status           // of party records
	Revocation  *revocation.Stats
	State       *StoreStats // of a store that servers share

	UsedAssertions int       // that are remembered; negative: a shared store knows
	RevokedTokens  int       // revocations of access tokens that still hit some
	Seal           time.Time // when the certificate of our own ends; zero: there is none
}

// StoreStats tells how a shared store is doing.
type StoreStats struct {
	revocation.Calls

	Err error // why it cannot be used now
}

// Stats returns the present numbers.
func (p *Provider) Stats() Stats {
	current := p.current.Load()
	sources := current.sources
	s := Stats{UsedAssertions: -1, Assertions: current.verifier.Stats()}
	if sources.cache != nil {
		s.Records = new(sources.cache.Stats())
	}
	if sources.remote != nil {
		s.Registry = new(sources.remote.Stats())
	}
	if list := sources.clients.list; list != nil {
		s.TrustedList = new(list.Stats())
	}
	if sources.file != nil {
		s.File = new(sources.file.Status())
	}
	if sources.revocation != nil {
		s.Revocation = new(sources.revocation.Stats())
	}
	if shared := p.state.shared; shared != nil {
		s.State = &StoreStats{Calls: shared.Calls(), Err: p.state.problem()}
		s.RevokedTokens = shared.Revocations().Len()
	} else {
		s.UsedAssertions, s.RevokedTokens = p.state.memory.used.Len(), p.state.memory.revoked.Len()
	}
	if certificates := current.config.Certificates; len(certificates) > 0 {
		s.Seal = certificates[0].NotAfter
	}
	return s
}

// TokenKeys are the identifiers (kid) of the keys of access tokens, sorted.
func (p *Provider) TokenKeys() []string { return p.current.Load().keys.IDs() }
