package provider

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/datafolder"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	store "github.com/waybill-token/waybill/state"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// What stands for a duration of a [Config] that is zero. A negative one stands for none.
const (
	DefaultLeeway   = 10 * time.Second
	DefaultLifetime = time.Hour
	DefaultFresh    = 5 * time.Minute
	DefaultMaxStale = time.Hour
	DefaultRefresh  = time.Hour
)

// A Config says what a provider is like. Party, Anchors, Data and one of Parties, PartiesFile and
// Registry must be set; Key and Certificates must be with URL or Registry, for which they sign. What is
// left out of the rest is never less strict than what is written there.
type Config struct {
	// Party is our own identifier, and AlsoKnownAs are others by which assertions may be addressed to us.
	Party       ishare.PartyID
	AlsoKnownAs []ishare.PartyID
	// Key and Certificates are our seal, leaf first. A key that is an [io.Closer] is closed when it is not
	// needed any more, also when New or Reload fail.
	Key          crypto.Signer
	Certificates []*x509.Certificate

	// Anchors are the CAs that are trusted: see [trust.LoadAnchors].
	Anchors trust.Anchors
	// Revocation says how certificates are checked for revocation.
	Revocation Revocation

	// Parties knows the participants, or PartiesFile names a list of party records, which is read again
	// when it changes (see [registry.OpenFile]), or Registry is asked. Exactly one must be set.
	Parties     assertion.PartySource
	PartiesFile string
	Registry    *Registry

	// Data is the folder of what must outlive a restart; it is made when it is missing, and belongs to one
	// process at a time.
	Data string
	// NoHistory says that the party came into being with this start, so that no assertion to it can have been
	// used before. Otherwise a first start, or one after a crash, gives no tokens for as long as Leeway.
	// It is ignored when Data shows an earlier life.
	NoHistory bool

	// State is a store that several providers of the party share. Without one, this process alone knows which assertions were used and which
	// access tokens were revoked, and keeps it in Data.
	State State

	// URL is the base address by which clients reach us; our capabilities and metadata hold it. Nil: there are
	// neither. Where it has a path, whoever passes requests on to Public cuts that off.
	URL *url.URL
	// TokenPaths are further paths at which the token endpoint answers.
	TokenPaths []string
	// Secured are handlers by patterns of [http.ServeMux] that Public serves to bearers of an access token only.
	Secured map[string]http.Handler
	// Routes put programs behind access tokens.
	Routes []proxy.Route
	// Capabilities are the services that we publish besides those that the framework defines.
	Capabilities Capabilities

	// Tokens says how access tokens are made.
	Tokens Tokens
	// Scopes are the values that clients may ask for besides iSHARE.
	Scopes []string
	// Roles and Dataspaces are framework roles and data spaces, all of which a client must have.
	Roles, Dataspaces []string
	// Leeway is for clocks that differ.
	Leeway time.Duration
	// AllowExtraHeader is [assertion.Config.AllowExtraHeader].
	AllowExtraHeader bool

	// Limits bound what strangers can make the provider do.
	Limits Limits

	// Secret is good with any client identifier for introspection and revocation, and Callers are the secrets
	// of those who may ask besides, by client identifier. With neither, whoever reaches Internal may ask.
	Secret  string
	Callers map[string]string

	// Events are told what the provider does.
	Events Events
	// Trail keeps what was decided and done, before it is answered. Optional.
	Trail Trail
	// Log is where events are written. Unset, they are not.
	Log *slog.Logger
	// LogGuarded writes an event for each request to our handlers that was let in or refused by its access token: who,
	// where to, and what came of it. Of refusals there are the first few in each ten seconds.
	LogGuarded bool
	// Outgoing wraps what calls others over HTTP, for traces. What a reload takes over stays wrapped as it was. Optional.
	Outgoing func(to Dependency, base http.RoundTripper) http.RoundTripper
	// Name gives the name by which a field of the Config is called in errors, log and /readyz, for programs that
	// read it from a file with names of its own. Its own name unless set.
	Name func(field string) string
}

// A Registry is a Participant Registry to ask. ID and URL must be set.
type Registry struct {
	ID      ishare.PartyID
	URL     string // https, or plain http to a loopback address
	Version registry.Version
	Seals   []string // [ishare.Thumbprint]s of the seals by which it may sign; empty: any that names ID

	Fresh    time.Duration // how long a record is used without asking again
	MaxStale time.Duration // for how long beyond that while the registry is out of reach

	TrustedList bool          // for clients, also what the registry's trusted list grants is trusted
	Refresh     time.Duration // how often the list is asked for
}

// A State is a store that providers share, and NoHistory counts for nothing with it. The zero value is none.
type State struct {
	URL          store.URL
	WaitReplicas int // see [store.Config]
}

// Revocation is how certificates are checked for revocation. The zero value is the strictest.
type Revocation struct {
	Mode         revocation.Mode
	AllowPrivate bool     // see [revocation.Config]
	Proxy        *url.URL // see [revocation.Config]
	// Hint may tell what can be done about a status that cannot be found out: see [revocation.Config].
	Hint func(cause error) string
}

// Tokens says how access tokens are made.
type Tokens struct {
	Format      accesstoken.Format
	IssuerIsURL bool          // the claim iss is URL and not Party
	Lifetime    time.Duration // whole seconds
	Keys        string        // their folder, or a JWK Set: see [accesstoken.OpenKeys]; empty: keys in Data
}

// Capabilities are services to publish, and our framework roles, which only clients of 2.x are shown.
type Capabilities struct {
	Public, Restricted []capabilities.Service
	Roles              []string
}

// Limits bound what strangers can make a provider do. Zero: InWork is what suits the machine, KnownClients is
// [assertion.DefaultKnownClients], and there are no others.
type Limits struct {
	InWork         int            // assertions that are judged at once
	KnownClients   int            // whose certificate chains need not be validated again, in about 1.5 KB each
	PerAddress     Rate           // token requests of each IP address
	PerParty       Rate           // token requests that each seal has signed
	TrustedProxies []netip.Prefix // which are believed where a request comes from
}

// A Rate is how often something may happen. The zero Rate does not limit.
type Rate struct {
	Events int // in each period
	Period time.Duration
	Burst  int // at once
}

// A FieldError is something that is wrong with a field of a [Config], or that it asks for.
type FieldError struct {
	Field string // as Config.Name calls it, such as Anchors or Routes[2].Path
	Err   error
	Hint  string // what to do about it; empty: Err says it
	// Warning says that it keeps nothing from working. Only [Preflight] warns.
	Warning bool
}

// Error is the field and what is wrong with it.
func (p *FieldError) Error() string { return p.Field + ": " + p.Err.Error() }

// Unwrap is what is wrong.
func (p *FieldError) Unwrap() error { return p.Err }

// FieldErrors are several.
type FieldErrors []*FieldError

// Error is all of them, one a line.
func (ps FieldErrors) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// problem makes one of an error; nil of nil.
func (c *Config) problem(field string, err error) error {
	if err == nil {
		return nil
	}
	return &FieldError{Field: c.Name(field), Err: err}
}

func (c Config) withDefaults() Config {
	fill := func(d *time.Duration, standard time.Duration) { *d = max(cmp.Or(*d, standard), 0) }
	fill(&c.Leeway, DefaultLeeway)
	fill(&c.Tokens.Lifetime, DefaultLifetime)
	if c.Registry != nil {
		r := *c.Registry
		fill(&r.Fresh, DefaultFresh)
		fill(&r.MaxStale, DefaultMaxStale)
		fill(&r.Refresh, DefaultRefresh)
		c.Registry = &r
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Name == nil {
		c.Name = func(field string) string { return field }
	}
	return c
}

// A Dependency is whom we call over HTTP.
type Dependency string

// The kinds of these. Where to call the status services stands in certificates, and is the word of their issuers.
const (
	ToRegistry   Dependency = "registry"
	ToRevocation Dependency = "revocation"
	ToUpstream   Dependency = "upstream"
)

// observe is how the transport to a dependency is wrapped, so that its calls are logged and traced.
func (c *Config) observe(to Dependency) func(http.RoundTripper) http.RoundTripper {
	var wrap func(http.RoundTripper) http.RoundTripper
	if outgoing := c.Outgoing; outgoing != nil {
		wrap = func(base http.RoundTripper) http.RoundTripper { return outgoing(to, base) }
	}
	log := cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return func(base http.RoundTripper) http.RoundTripper { return outbound.Observed(base, string(to), log, wrap) }
}

// closeKey ends the session with a key in hardware.
func (c *Config) closeKey() error {
	if closer, ok := c.Key.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

func (c *Config) folder() datafolder.Folder {
	return datafolder.Folder{Path: c.Data, KeysPath: c.Tokens.Keys}
}

// audience lists our own identifiers, the canonical one first.
func (c *Config) audience() []ishare.PartyID {
	return append([]ishare.PartyID{c.Party}, c.AlsoKnownAs...)
}

// scopes are the values that may be asked for, iSHARE first.
func (c *Config) scopes() []string {
	return append([]string{ishare.ScopeISHARE}, slices.Sorted(slices.Values(c.Scopes))...)
}

var (
	errRequired  = errors.New("is required")
	errOneSource = errors.New("exactly one of Parties, PartiesFile and Registry must be set")
)

// missing are the fields that must be set to judge assertions.
func (c *Config) missing() (problems FieldErrors) {
	sources := 0
	for _, given := range []bool{c.Parties != nil, c.PartiesFile != "", c.Registry != nil} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		problems = append(problems, &FieldError{Field: c.Name("Parties"), Err: errOneSource})
	}
	signs := c.Registry != nil || c.URL != nil
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"Party", c.Party == ""},
		{"Anchors", len(c.Anchors) == 0},
		{"Key", signs && c.Key == nil},
		{"Certificates", signs && len(c.Certificates) == 0},
		{"Registry.ID", c.Registry != nil && c.Registry.ID == ""},
		{"Registry.URL", c.Registry != nil && c.Registry.URL == ""},
	} {
		if field.missing {
			problems = append(problems, &FieldError{Field: c.Name(field.name), Err: errRequired})
		}
	}
	return problems
}

// Problems are the mistakes that show without opening anything. [New] begins by refusing them.
func (c Config) Problems() FieldErrors {
	c = c.withDefaults()
	problems := c.missing()
	if c.Data == "" {
		problems = append(problems, &FieldError{Field: c.Name("Data"), Err: errRequired})
	}
	if c.Tokens.IssuerIsURL && c.URL == nil {
		problems = append(problems, &FieldError{Field: c.Name("URL"), Err: errors.New("is required, as tokens name it as their issuer")})
	}
	return append(problems, c.PathProblems()...)
}

// PathProblems are the part of Problems that is about TokenPaths and Routes: paths that cannot be told apart.
func (c Config) PathProblems() (problems FieldErrors) {
	c = c.withDefaults()
	// On another path of ours, above or below one, a request could be meant for either. Case does not tell paths apart.
	taken := append(ownPaths(), wellKnownPath)
	for i, path := range c.TokenPaths {
		nested := func(own string) bool {
			below, above := strings.ToLower(path)+"/", strings.ToLower(own)+"/"
			return strings.HasPrefix(below, above) || strings.HasPrefix(above, below)
		}
		if at := slices.IndexFunc(taken, nested); at >= 0 && path != "" {
			problems = append(problems, &FieldError{
				Field: c.Name(fmt.Sprintf("TokenPaths[%d]", i)), Err: errors.New("the server itself answers at " + taken[at]),
				Hint: "Choose a path that is neither above nor below it.",
			})
		}
		taken = append(taken, path)
	}
	if len(problems) > 0 || len(c.Routes) == 0 {
		return problems
	}
	_, err := proxy.New(c.proxyConfig(tokens{}, nil)) // which checks no token, as it serves nobody
	refused, _ := errors.AsType[proxy.RouteErrors](err)
	for _, e := range refused {
		p := &FieldError{Field: fmt.Sprintf("Routes[%d].Path", e.Index), Err: e.Err}
		if errors.Is(e.Err, proxy.ErrPaths) {
			p.Field += "s"
			p.Hint = "Leave paths out, or give what asks for something else a host or port and a path of its own."
		}
		p.Field = c.Name(p.Field)
		problems = append(problems, p)
	}
	return problems
}

// ownPaths are the paths at which we answer ourselves, whatever is configured.
func ownPaths() []string {
	return []string{tokenendpoint.Path, capabilities.Path, metadataPath, keySetPath, openAPIPath}
}

// CapabilitiesProblem is why our capabilities cannot be published. They are signed to find out.
func (c Config) CapabilitiesProblem() error {
	c = c.withDefaults()
	_, err := capabilities.New(c.capabilitiesConfig(tokens{}, new(registry.File))) // of which neither is asked anything
	return err
}
