package isharetest

import (
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/waybill-token/waybill/registry"
)

// WithFault puts a fault before a handler.
func WithFault(f Fault, next http.Handler) http.Handler {
	var s faultSwitch
	s.set(f, RegistryFaults())
	return s.wrap(new(atomic.Uint64), next)
}

// Search reads the query of GET /parties in a version of the framework, and counts who is found
// among nobody.
func Search(v registry.Version, q url.Values) (number, perPage, found int, err error) {
	s, err := (&Registry{config: RegistryConfig{Version: v}}).parseSearch(q)
	if err != nil {
		return 0, 0, 0, err
	}
	page, _ := s.find(nil)
	return s.page, s.perPage, len(page), nil
}

// MatchesName reports whether a name is found by a pattern.
func MatchesName(pattern, name string) bool { return matchesName(pattern, name) }
