package sandbox

import (
	"net/http"
	"sync/atomic"
)

// Counters are how often the servers were asked since they started, whatever they
// answered.
type Counters struct {
	Tokens       uint64 `json:"tokens"`  // of the registry
	Parties      uint64 `json:"parties"` // one or a search
	TrustedLists uint64 `json:"trusted_lists"`
	Capabilities uint64 `json:"capabilities"`
	OCSP         uint64 `json:"ocsp"`
	CRL          uint64 `json:"crl"`
}

// counters are a tally in the making.
type counters struct {
	tokens, parties, trustedLists, capabilities, ocsp, crl atomic.Uint64
}

func (c *counters) tally() Counters {
	return Counters{
		Tokens: c.tokens.Load(), Parties: c.parties.Load(), TrustedLists: c.trustedLists.Load(),
		Capabilities: c.capabilities.Load(), OCSP: c.ocsp.Load(), CRL: c.crl.Load(),
	}
}

// counted counts what comes to the next handler.
func counted(n *atomic.Uint64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		next.ServeHTTP(w, r)
	})
}
