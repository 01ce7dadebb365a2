package provider

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/respond"
)

const (
	livePath          = "/livez"
	readyPath         = "/readyz"
	authPath          = "/auth"
	verbatimPath      = "/envoy/" // and below, where the rest of the path is the client's
	introspectionPath = "/introspect"
	revocationPath    = "/revoke"
)

// Internal serves those who run the provider, and their proxies: /livez and /readyz for health, /auth and /envoy/… for
// forward-auth, /introspect and /revoke. It must not be reachable for others.
func (p *Provider) Internal() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+livePath, func(w http.ResponseWriter, _ *http.Request) { // the process answers
		respond.JSON(w, http.StatusOK, struct {
			Live bool `json:"live"`
		}{true})
	})
	mux.HandleFunc("GET "+readyPath, func(w http.ResponseWriter, _ *http.Request) { p.Readiness().Answer(w) }) // it may be sent requests
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.current.Load().internal.ServeHTTP(w, r) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, verbatimPath) { // which the mux would redirect when the client's path is not clean
			p.current.Load().verbatim.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready      bool      `json:"ready"`   // requests may be sent
	Parties    int       `json:"parties"` // records that are at hand
	Loaded     time.Time `json:"parties_loaded,omitzero"`
	TokensFrom time.Time `json:"tokens_from,omitzero"` // when tokens are given from; zero: they are
	Problems   []string  `json:"problems,omitempty"`   // what an operator should see to
}

// Answer writes it, with status 503 when it is not ready.
func (r Readiness) Answer(w http.ResponseWriter) {
	status := http.StatusOK
	if !r.Ready {
		status = http.StatusServiceUnavailable
	}
	respond.JSON(w, status, r)
}

// Readiness says whether the provider can take requests. Others that are out of reach are a problem and no
// reason to stop sending requests: clients whose records are at hand still get tokens.
func (p *Provider) Readiness() Readiness {
	current := p.current.Load()
	r := Readiness{Ready: true}
	add := func(field string, err error) {
		if err != nil {
			r.Problems = append(r.Problems, field+": "+err.Error())
		}
	}
	name := current.config.Name
	if file := current.sources.file; file != nil {
		status := file.Status()
		r.Parties, r.Loaded = status.Parties, status.Loaded
		if status.Err != nil {
			add(name("PartiesFile"), fmt.Errorf("the records read before are in use: %w", status.Err))
		}
	}
	if cache := current.sources.cache; cache != nil {
		stats := cache.Stats()
		r.Parties, r.Loaded = stats.Parties, stats.Answered
		add(name("Registry"), stats.Err)
	}
	if list := current.sources.clients.list; list != nil {
		add(name("Registry.TrustedList"), list.Stats().Err)
	}
	if from := p.state.tokensFrom(); time.Now().Before(from) {
		r.Ready, r.TokensFrom = false, from
		add("state", errors.New("tokens are given from "+from.Format(time.RFC3339)+" on: assertions issued before may have been used"))
	}
	add("state", p.state.revoked.RecoveryError())
	add(name("Tokens.Keys"), current.keys.Problem())
	for _, w := range []*watch{p.folders, p.clock.watch} {
		add(w.key, w.Err())
	}
	return r
}
