package provider

import (
	_ "embed"
	"net/http"

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
	return proxy.Config{Routes: c.Routes, Own: own, OwnPaths: append(ownPaths(), c.TokenPaths...), Checker: checker, Log: c.Log}
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
