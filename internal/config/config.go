// Package config reads Waybill's configuration: a YAML file, of which every key can
// also be given by an environment variable. It reports everything that is wrong at
// once, each with its place and a way to mend it.
//
// The structs below define the keys. The tags say what cannot be said by a type:
// `yaml` is the name; `default` is the text that stands for an absent key; `required`
// marks a key that must be there; `min` and `max` bound a duration or a number. What depends on several keys is in check.go.
package config

import (
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
)

// Config is the configuration of a server. Only [Load] and [Parse] make one that
// has been checked.
type Config struct {
	Party        Party                `yaml:"party"`
	Listen       Listen               `yaml:"listen"`
	Participants Participants         `yaml:"participants"`
	Trust        Trust                `yaml:"trust"`
	Data         Path                 `yaml:"data" default:"data/"`   // what must outlive a restart
	State        State                `yaml:"state" default:"memory"` // where used assertions and revoked tokens are remembered
	Tokens       Tokens               `yaml:"tokens"`
	Scopes       map[ScopeName]string `yaml:"scopes"` // scope values known besides iSHARE, and what they are for
	Policy       Policy               `yaml:"policy"`
	Routes       []Route              `yaml:"routes"`
	Capabilities Capabilities         `yaml:"capabilities"`
	Limits       Limits               `yaml:"limits"`
	Log          Log                  `yaml:"log"`
	Audit        *Audit               `yaml:"audit"`                  // nil: there is no trail
	Metrics      bool                 `yaml:"metrics" default:"true"` // on the internal listener
	Profiling    bool                 `yaml:"profiling"`              // likewise
	Tracing      *Tracing             `yaml:"tracing"`                // nil: off

	StateWaitReplicas int `yaml:"state_wait_replicas" default:"0" min:"0" max:"16"` // of Redis, which must have an assertion before it counts as used for the first time

	places places
}

// Party is who we are.
type Party struct {
	ID           ishare.PartyID   `yaml:"id" required:"true"`
	AlsoKnownAs  []ishare.PartyID `yaml:"also_known_as"`
	Key          Path             `yaml:"key" required:"true"` // PEM, PKCS#12, or the pkcs11: URI of a key in hardware
	Certificates Path             `yaml:"certificates"`        // leaf first; empty: in the key's file
	Password     Secret           `yaml:"-"`                   // of PKCS#12 or hardware; only ever from the environment
}

// Listen says where to listen.
type Listen struct {
	Public   Address  `yaml:"public" default:"127.0.0.1:8080"`
	TLS      *TLS     `yaml:"tls"` // nil: plain HTTP, behind a proxy
	Internal Address  `yaml:"internal" default:"127.0.0.1:9090"`
	URL      Endpoint `yaml:"url"` // by which clients reach us; absent: the address of Public
	Secret   Secret   `yaml:"-"`   // for introspection and revocation; only ever from the environment

	// InternalCallers are those who may introspect and revoke besides, and the files of their secrets; nil: nobody is named.
	InternalCallers map[CallerName]Path `yaml:"internal_callers"`

	// TokenPaths are further paths at which the token endpoint answers, for clients of 2.x that call
	// one with a version.
	TokenPaths []TokenPath `yaml:"token_paths"`

	HTTP2         bool          `yaml:"http2"`                                         // true: the public listener offers HTTP/2 with TLS
	ShutdownDelay time.Duration `yaml:"shutdown_delay" default:"0s" min:"0s" max:"5m"` // how long requests are still taken, and /readyz says no, before a stop
	Drain         time.Duration `yaml:"drain" default:"15s" min:"0s" max:"10m"`        // how long a stop then waits for the requests under way
}

// Limits bound the resources that unauthenticated clients can take up. Zero: what suits the machine.
type Limits struct {
	Connections    int       `yaml:"connections" min:"16" max:"100000"`     // on the public listener at once
	InWork         int       `yaml:"in_work" min:"1" max:"100000"`          // assertions that are judged at once
	KnownClients   int       `yaml:"known_clients" min:"100" max:"1000000"` // whose certificate chains need not be validated again
	PerAddress     Rate      `yaml:"per_address"`                           // token requests of each IP address
	PerParty       Rate      `yaml:"per_party"`                             // token requests that each seal has signed
	TrustedProxies []Network `yaml:"trusted_proxies"`                       // which are believed where a request comes from
}

// TLS names the certificate of the public listener.
type TLS struct {
	Certificate Path `yaml:"certificate" required:"true"`
	Key         Path `yaml:"key" required:"true"`
}

// Participants says where party records come from: exactly one of File and Registry.
type Participants struct {
	File     Path          `yaml:"file"`
	Registry *Registry     `yaml:"registry"`
	Cache    time.Duration `yaml:"cache" default:"5m" min:"0s" max:"1h"`      // how long a record is fresh
	MaxStale time.Duration `yaml:"max_stale" default:"1h" min:"0s" max:"24h"` // how long it may be used while the registry is out of reach
}

// Registry is a Participant Registry to ask.
type Registry struct {
	ID      ishare.PartyID   `yaml:"id" required:"true"`
	URL     Endpoint         `yaml:"url" required:"true"`
	Version registry.Version `yaml:"version" default:"auto"`
	Seals   []Fingerprint    `yaml:"seals"` // by which it may sign; absent: any that names ID
}

// Trust says whom to trust.
type Trust struct {
	Anchors                []Anchor        `yaml:"anchors" required:"true"`
	TrustedList            bool            `yaml:"trusted_list"` // true: for clients, also what the registry's trusted list grants
	Refresh                time.Duration   `yaml:"refresh" default:"1h" min:"1s" max:"24h"`
	Revocation             revocation.Mode `yaml:"revocation"`
	RevocationAllowPrivate bool            `yaml:"revocation_allow_private"` // true: addresses on private networks are followed
	RevocationProxy        Proxy           `yaml:"revocation_proxy"`         // by which OCSP and CRL addresses are called; absent: none
}

// Tokens are the access tokens to issue.
type Tokens struct {
	Format   accesstoken.Format `yaml:"format" default:"opaque"`
	Issuer   TokenIssuer        `yaml:"issuer"`
	Lifetime time.Duration      `yaml:"lifetime" default:"1h" min:"1s" max:"24h"` // whole seconds
	Keys     Path               `yaml:"keys"`                                     // a folder, or a JWK Set as a file or in the variable; absent: the folder keys in Data
}

// Policy is what is asked of a client beyond the framework.
type Policy struct {
	Roles                 []string      `yaml:"roles"`                                  // framework roles, all of which it must hold
	Dataspaces            []string      `yaml:"dataspaces"`                             // data spaces, of all of which it must be a member
	Leeway                time.Duration `yaml:"leeway" default:"10s" min:"0s" max:"1m"` // for clocks that differ
	ExtraHeaderParameters ExtraHeaders  `yaml:"extra_header_parameters"`
}

// Route puts an upstream behind tokens.
type Route struct {
	Path     string       `yaml:"path" required:"true"` // it takes this path and every path below
	Upstream Upstream     `yaml:"upstream" required:"true"`
	Scope    ishare.Scope `yaml:"scope" default:"iSHARE"`

	Paths     proxy.Paths `yaml:"paths"`
	Preflight bool        `yaml:"preflight"`  // true: CORS preflight requests pass without a token
	PassToken bool        `yaml:"pass_token"` // true: the upstream gets the access token
}

// Capabilities are the services that we tell of, besides those that the framework defines.
type Capabilities struct {
	Roles      []string  `yaml:"roles"`      // our framework roles, as clients of 2.x are told; absent: ServiceProvider
	Public     []Service `yaml:"public"`     // to everybody
	Restricted []Service `yaml:"restricted"` // to those with a token
}

// Service is a service that we offer. What the keys mean, and what stands for one that is absent, is
// told at capabilities.Service.
type Service struct {
	Identifier          string              `yaml:"identifier" required:"true"`
	Title               string              `yaml:"title"`
	Description         string              `yaml:"description"`
	EndpointDescription string              `yaml:"endpoint_description"`
	EndpointURL         string              `yaml:"endpoint_url" required:"true"`
	TokenEndpoint       string              `yaml:"token_endpoint"`
	Status              capabilities.Status `yaml:"status"`
	Type                capabilities.Type   `yaml:"type"`
	FrameworkVersions   []string            `yaml:"framework_versions"`
	DataspaceVersions   []string            `yaml:"dataspace_versions"`
	Version             string              `yaml:"version"`
	Methods             []string            `yaml:"methods"`
	Roles               []string            `yaml:"roles"`      // of restricted ones: framework roles, all of which a caller must hold to be told
	Dataspaces          []string            `yaml:"dataspaces"` // of restricted ones: data spaces, of all of which it must be a member
}
