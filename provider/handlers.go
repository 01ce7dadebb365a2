package provider

import (
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/authority"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// openAPI describes what Public serves.
//
//go:embed openapi.json
var openAPI []byte

const (
	wellKnownPath = "/.well-known" // RFC 8615
	metadataPath  = wellKnownPath + "/oauth-authorization-server"
	keySetPath    = wellKnownPath + "/jwks.json"
	openAPIPath   = "/openapi.json"
)

// Public serves everybody: the token endpoint, capabilities, metadata, the keys of JWT tokens, the
// OpenAPI description, and what [Config] secures and puts behind routes.
func (p *Provider) Public() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reason := authority.Check(r); reason != "" {
			respond.Error(w, http.StatusBadRequest, rule.CodeInvalidRequest, reason)
			return
		}
		p.current.Load().public.ServeHTTP(w, r)
	})
}

// proxyConfig is what the configuration says of the programs behind us.
func (c *Config) proxyConfig(checker guard.Checker, own http.Handler) proxy.Config {
	return proxy.Config{Routes: c.Routes, Own: own, OwnPaths: append(ownPaths(), c.TokenPaths...), Checker: checker, Log: c.Log, UpstreamFailed: c.Events.UpstreamFailed, Observe: c.observe(ToUpstream)}
}

// capabilitiesConfig is what the configuration says of our services.
func (c *Config) capabilitiesConfig(checker guard.Checker, parties assertion.PartySource) capabilities.Config {
	return capabilities.Config{
		Party: c.Party, Key: c.Key, Certificates: c.Certificates, URL: c.URL, Checker: checker, Parties: parties, Log: c.Log,
		Public: c.Capabilities.Public, Restricted: c.Capabilities.Restricted, Roles: c.Capabilities.Roles,
	}
}

// metadata answers also at the plain place, whatever the issuer's path: a proxy may cut it off. As in
// what we sign, the Host header of a request decides nothing.
func (s *service) metadata(w http.ResponseWriter, r *http.Request) {
	// RFC 8414 section 3.1 puts the metadata of an issuer with a path here.
	if at := r.URL.Path; at != metadataPath && at != metadataPath+s.config.URL.Path {
		http.NotFound(w, r)
		return
	}
	type metadata struct { // RFC 8414 section 2
		Issuer         string           `json:"issuer"`
		TokenEndpoint  string           `json:"token_endpoint"`
		JWKSURI        string           `json:"jwks_uri"`
		Scopes         []string         `json:"scopes_supported"`
		ResponseTypes  []string         `json:"response_types_supported"`
		GrantTypes     []string         `json:"grant_types_supported"`
		AuthMethods    []string         `json:"token_endpoint_auth_methods_supported"`
		AuthAlgorithms []jws.Algorithm  `json:"token_endpoint_auth_signing_alg_values_supported"`
		Party          ishare.PartyID   `json:"ishare_party_id"` // the audience of assertions
		AlsoKnownAs    []ishare.PartyID `json:"ishare_also_known_as,omitempty"`
	}
	base := s.config.URL.String()
	respond.JSON(w, http.StatusOK, metadata{
		Issuer:         base,
		TokenEndpoint:  base + tokenendpoint.Path,
		JWKSURI:        base + keySetPath,
		Scopes:         s.config.scopes(),
		ResponseTypes:  []string{}, // there is no authorization endpoint
		GrantTypes:     []string{"client_credentials"},
		AuthMethods:    []string{"private_key_jwt"},
		AuthAlgorithms: []jws.Algorithm{jws.RS256, jws.RS384, jws.RS512},
		Party:          s.config.Party,
		AlsoKnownAs:    s.config.AlsoKnownAs,
	})
}

// Paths of [Provider.Internal] by which the process says how it is.
const (
	LivePath  = "/livez"
	ReadyPath = "/readyz"
)

const (
	authPath          = "/auth"
	verbatimPath      = "/envoy/" // and below, where the rest of the path is the client's
	introspectionPath = "/introspect"
	revocationPath    = "/revoke"
)

// IsForwardAuth reports whether a request to Internal is one of a proxy, for what somebody asks of it.
func IsForwardAuth(r *http.Request) bool {
	return r.URL.Path == authPath || strings.HasPrefix(r.URL.Path, verbatimPath)
}

// Internal serves those who run the provider, and their proxies: /livez and /readyz for health, /auth and /envoy/… for
// forward-auth, /introspect and /revoke. It must not be reachable for others.
func (p *Provider) Internal() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+LivePath, func(w http.ResponseWriter, _ *http.Request) { // the process answers
		respond.JSON(w, http.StatusOK, struct {
			Live bool `json:"live"`
		}{true})
	})
	mux.HandleFunc("GET "+ReadyPath, func(w http.ResponseWriter, _ *http.Request) { p.Readiness().Answer(w) }) // it may be sent requests
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.current.Load().internal.ServeHTTP(w, r) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == authPath: // each request to whatever stands behind a proxy comes here, and nothing else as often
			p.current.Load().auth.ServeHTTP(w, r)
		case strings.HasPrefix(path, verbatimPath): // which the mux would redirect when the client's path is not clean
			p.current.Load().verbatim.ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
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
	if err := p.state.problem(); err != nil {
		r.Ready = false
		add("state", err)
	}
	add("state", p.state.recoveryError())
	add(name("Tokens.Keys"), current.keys.Problem())
	for _, w := range []*watch{p.folders, p.clock.watch} {
		add(w.key, w.Err())
	}
	return r
}
