package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/datafolder"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

// settings are a configuration with the contents of the files that it names.
type settings struct {
	config      *config.Config
	provider    provider.Config
	certificate *tls.Certificate // of the public listener; nil: plain HTTP
	loaded      time.Time
	files       fileSet // as they were before they were read
}

// readSettings reads the files. The public listener must have its address.
func (d *Daemon) readSettings(cfg *config.Config) (*settings, error) {
	s := &settings{
		config: cfg, provider: providerConfig(cfg, d.public.Addr().String(), d.options.Log), loaded: time.Now(),
		files: statFiles(watchedFiles(cfg)),
	}
	d.tell(&s.provider)
	s.provider.Secured = d.options.Secured
	if d.tracer != nil {
		s.provider.Events = provider.Join(s.provider.Events, d.tracer.Events())
		s.provider.Outgoing = d.tracer.Transport
	}
	secrets, unfit := callers(cfg)
	s.provider.Callers = secrets
	if problems := slices.Concat(pathProblems(cfg), unfit); len(problems) > 0 {
		return nil, &config.Error{Problems: problems}
	}
	seal, unusable := keyfile.ReadSeal(sealFiles(cfg), time.Now())
	if err := unusable.Err(); err != nil {
		return nil, fmt.Errorf("party: %w", err)
	}
	s.provider.Key, s.provider.Certificates = seal.Signer(), seal.Certificates
	var err error
	if s.provider.Anchors, err = loadAnchors(cfg); err != nil {
		return nil, errors.Join(err, seal.Close())
	}
	if cfg.Listen.TLS != nil {
		pair, problems := keyfile.ReadTLS(tlsFiles(cfg), time.Now())
		if err := problems.Err(); err != nil {
			return nil, errors.Join(fmt.Errorf("listen.tls: %w", err), seal.Close())
		}
		s.certificate = new(pair.TLS())
	}
	return s, nil
}

// Explain judges an assertion as a server with this configuration would at that
// time, and admits nobody: see [provider.Explain].
func Explain(ctx context.Context, cfg *config.Config, log *slog.Logger, request assertion.Request, at time.Time) (_ *provider.Explanation, err error) {
	c := providerConfig(cfg, string(cfg.Listen.Public), log)
	c.URL = nil // which wants a seal
	if c.Anchors, err = loadAnchors(cfg); err != nil {
		return nil, err
	}
	if c.Registry != nil {
		seal, problems := keyfile.ReadSeal(sealFiles(cfg), time.Now())
		if err := problems.Err(); err != nil {
			return nil, fmt.Errorf("participants.registry: %w", err)
		}
		defer func() { err = errors.Join(err, seal.Close()) }()
		c.Key, c.Certificates = seal.Signer(), seal.Certificates
	}
	return provider.Explain(ctx, c, request, at)
}

// ExplainToken judges an access token as a server with this configuration would: see [provider.ExplainToken].
func ExplainToken(ctx context.Context, cfg *config.Config, token string, at time.Time) (*accesstoken.Explanation, error) {
	return provider.ExplainToken(ctx, providerConfig(cfg, string(cfg.Listen.Public), nil), token, at)
}

// providerConfig is what stands in the configuration itself. The address is that of the public listener.
func providerConfig(cfg *config.Config, address string, log *slog.Logger) provider.Config {
	c := provider.Config{
		Party: cfg.Party.ID, AlsoKnownAs: cfg.Party.AlsoKnownAs,
		Revocation:  provider.Revocation{Mode: cfg.Trust.Revocation, AllowPrivate: cfg.Trust.RevocationAllowPrivate, Hint: RevocationHint},
		PartiesFile: string(cfg.Participants.File),
		Data:        string(cfg.Data),
		State:       provider.State{URL: cfg.State.URL, WaitReplicas: cfg.StateWaitReplicas},
		URL:         ownURL(cfg, address),
		Capabilities: provider.Capabilities{
			Public: services(cfg.Capabilities.Public), Restricted: services(cfg.Capabilities.Restricted), Roles: cfg.Capabilities.Roles,
		},
		Tokens: provider.Tokens{
			Format: cfg.Tokens.Format, IssuerIsURL: cfg.Tokens.Issuer == config.IssuerURL, Lifetime: cfg.Tokens.Lifetime, Keys: string(cfg.Tokens.Keys),
		},
		Roles: cfg.Policy.Roles, Dataspaces: cfg.Policy.Dataspaces,
		Leeway:           orNone(cfg.Policy.Leeway),
		AllowExtraHeader: cfg.Policy.ExtraHeaderParameters == config.ExtraHeadersAllow,
		Limits: provider.Limits{
			InWork: cfg.Limits.InWork, KnownClients: cfg.Limits.KnownClients, PerAddress: provider.Rate(cfg.Limits.PerAddress.Rate), PerParty: provider.Rate(cfg.Limits.PerParty.Rate),
		},
		Secret: cfg.Listen.Secret.Reveal(),
		Log:    log, LogGuarded: cfg.Log.Guarded,
		Name: keyOf,
	}
	if cfg.Trust.RevocationProxy.Host != "" {
		c.Revocation.Proxy = &cfg.Trust.RevocationProxy.URL
	}
	if r := cfg.Participants.Registry; r != nil {
		c.Registry = &provider.Registry{
			ID: r.ID, URL: r.URL.String(), Version: r.Version,
			Fresh: orNone(cfg.Participants.Cache), MaxStale: orNone(cfg.Participants.MaxStale),
			TrustedList: cfg.Trust.TrustedList, Refresh: cfg.Trust.Refresh,
		}
		for _, seal := range r.Seals {
			c.Registry.Seals = append(c.Registry.Seals, string(seal))
		}
	}
	for _, path := range cfg.Listen.TokenPaths {
		c.TokenPaths = append(c.TokenPaths, string(path))
	}
	for name := range cfg.Scopes {
		c.Scopes = append(c.Scopes, string(name))
	}
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		c.Routes = append(c.Routes, proxy.Route{
			Path: r.Path, Upstream: &r.Upstream.URL, Scope: r.Scope, Paths: r.Paths, Preflight: r.Preflight, PassToken: r.PassToken,
		})
	}
	for _, n := range cfg.Limits.TrustedProxies {
		c.Limits.TrustedProxies = append(c.Limits.TrustedProxies, n.Prefix)
	}
	return c
}

// orNone keeps a zero of the configuration from being taken for one that was left out.
func orNone(d time.Duration) time.Duration { return cmp.Or(d, -1) }

// keyOf is the key of the configuration for a field of [provider.Config].
func keyOf(field string) string {
	name, rest := field, ""
	if at := strings.IndexByte(field, '['); at >= 0 {
		name, rest = field[:at], strings.ToLower(field[at:])
	}
	keys := map[string]string{
		"Party": "party.id", "Key": "party.key", "Certificates": "party.certificates",
		"Anchors": "trust.anchors", "Revocation": "trust.revocation", "Revocation.Proxy": "trust.revocation_proxy",
		"Parties": "participants", "PartiesFile": "participants.file",
		"Registry": "participants.registry", "Registry.ID": "participants.registry.id", "Registry.URL": "participants.registry.url",
		"Registry.Fresh": "participants", "Registry.TrustedList": "trust.trusted_list",
		"Data": "data", "State": "state", "Tokens.Keys": "tokens.keys", "Leeway": "policy.leeway",
		"URL": "listen.url", "TokenPaths": "listen.token_paths", "Routes": "routes",
	}
	return cmp.Or(keys[name], name) + rest
}

// located gives the problems that a provider finds in its configuration their places in the file.
func located(cfg *config.Config, err error) error {
	problems, ok := errors.AsType[provider.FieldErrors](err)
	if !ok {
		return err
	}
	return &config.Error{Problems: inFile(cfg, problems)}
}

func inFile(cfg *config.Config, problems provider.FieldErrors) (located []config.Problem) {
	for _, p := range problems {
		located = append(located, cfg.Problem(p.Field, p.Err.Error(), p.Hint))
	}
	return located
}

// pathProblems says which of the configured paths cannot be served. What is absent is reported elsewhere.
func pathProblems(cfg *config.Config) []config.Problem {
	problems := inFile(cfg, providerConfig(cfg, string(cfg.Listen.Public), nil).PathProblems())
	for i, r := range cfg.Routes {
		if r.Path == "" || r.Upstream.Host == "" {
			problems = slices.DeleteFunc(problems, func(p config.Problem) bool { return strings.HasPrefix(p.Key, fmt.Sprintf("routes[%d].", i)) })
		}
	}
	return append(problems, loops(cfg)...)
}

// loops are routes to this server itself, round which a request would go without end.
func loops(cfg *config.Config) (problems []config.Problem) {
	for i := range cfg.Routes {
		upstream := &cfg.Routes[i].Upstream
		host, port := upstream.Hostname(), cmp.Or(upstream.Port(), map[string]string{"http": "80", "https": "443"}[upstream.Scheme])
		for key, address := range map[string]config.Address{"listen.public": cfg.Listen.Public, "listen.internal": cfg.Listen.Internal} {
			ownHost, ownPort, err := net.SplitHostPort(string(address))
			ip, _ := netip.ParseAddr(ownHost)
			here := ownHost == host || loopback.Is(host) && (ownHost == "" || ip.IsUnspecified() || loopback.Is(ownHost))
			if err == nil && port == ownPort && port != "0" && here {
				problems = append(problems, cfg.Problem(fmt.Sprintf("routes[%d].upstream", i), "is this server itself: it is the address of "+key,
					"Give the address of the program behind it, which needs a port of its own."))
			}
		}
	}
	return problems
}

// loadAnchors reads the files that hold anchors.
func loadAnchors(cfg *config.Config) (trust.Anchors, error) {
	anchors, err := trust.LoadAnchors(anchorItems(cfg.Trust.Anchors))
	if err != nil {
		return nil, fmt.Errorf("trust.anchors: %w", err)
	}
	return anchors, nil
}

// anchorItems gives anchors as trust reads them.
func anchorItems(anchors []config.Anchor) []string {
	items := make([]string, len(anchors))
	for i, a := range anchors {
		items[i] = cmp.Or(a.Fingerprint, string(a.File))
	}
	return items
}

func sealFiles(cfg *config.Config) keyfile.Files {
	return keyfile.Files{
		Key: string(cfg.Party.Key), Certificates: string(cfg.Party.Certificates), Password: cfg.Party.Password.Reveal(),
		PasswordFrom: "WAYBILL_PARTY_KEY_PASSWORD, or in the file that WAYBILL_PARTY_KEY_PASSWORD_FILE names",
	}
}

func tlsFiles(cfg *config.Config) keyfile.Files {
	return keyfile.Files{Key: string(cfg.Listen.TLS.Key), Certificates: string(cfg.Listen.TLS.Certificate)}
}

// callers are those who may introspect and revoke with a secret of their own; nil when none are named.
func callers(cfg *config.Config) (secrets map[string]string, problems []config.Problem) {
	if cfg.Listen.InternalCallers == nil {
		return nil, nil
	}
	secrets = make(map[string]string)
	owners := map[string]string{cfg.Listen.Secret.Reveal(): "$WAYBILL_LISTEN_INTERNAL_SECRET"}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listen.InternalCallers)) {
		add := func(message, hint string) {
			problems = append(problems, cfg.Problem(callerKey(string(name)), message, hint))
		}
		text, unread := keyfile.ReadSecret(string(cfg.Listen.InternalCallers[name]))
		owner, twice := owners[text]
		switch {
		case len(unread) > 0:
			add(unread[0].File+": "+unread[0].Message, unread[0].Hint)
		case !config.IsSecret(text):
			add(config.SecretWanted, config.SecretHint)
		case twice:
			add("has the same secret as "+owner, config.SecretHint)
		}
		secrets[string(name)], owners[text] = text, string(name)
	}
	return secrets, problems
}

func callerKey(name string) string { return "listen.internal_callers." + name }

// ownURL is the base address that we name in what we sign. It is never what a
// request says: a stranger would have us sign that our token endpoint is theirs.
// When it is not configured it is the address where we listen; where that is every
// address of the machine, it serves clients on the machine only.
func ownURL(cfg *config.Config, address string) *url.URL {
	if cfg.Listen.URL.Host != "" {
		return &cfg.Listen.URL.URL
	}
	u := &url.URL{Scheme: "http", Host: address}
	if cfg.Listen.TLS != nil {
		u.Scheme = "https"
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if everywhere := u.Hostname() == "" || err == nil && ip.IsUnspecified(); everywhere {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	return u
}

func services(list []config.Service) []capabilities.Service {
	offer := make([]capabilities.Service, 0, len(list))
	for _, s := range list {
		offer = append(offer, capabilities.Service{
			Identifier: s.Identifier, Title: s.Title, Description: s.Description,
			EndpointDescription: s.EndpointDescription, EndpointURL: s.EndpointURL, TokenEndpoint: s.TokenEndpoint,
			Status: s.Status, Type: s.Type, Methods: s.Methods,
			Roles: s.Roles, Dataspaces: s.Dataspaces,
			Version: capabilities.Version{Frameworks: s.FrameworkVersions, Dataspaces: s.DataspaceVersions, Capability: s.Version},
		})
	}
	return offer
}

// RevocationHint is what an operator can do about the cause why a revocation status cannot be found
// out, when it stays until somebody does; empty when it may be gone in a moment.
func RevocationHint(cause error) string {
	switch {
	case errors.Is(cause, revocation.ErrNotPublic):
		return "If the address is on a network of your own, set trust.revocation_allow_private; otherwise its CA has to name another."
	case errors.Is(cause, revocation.ErrNoSource):
		return "Its CA has to issue another certificate, that names an OCSP responder or a revocation list by http. " +
			"A CA whose own certificate names neither can be an anchor, which is not asked about (trust.anchors)."
	}
	return ""
}

// folder is where the configuration has its state.
func folder(cfg *config.Config) datafolder.Folder {
	return datafolder.Folder{Path: string(cfg.Data), KeysPath: string(cfg.Tokens.Keys)}
}

// FirstStart is nil when nothing shows that the party has served before: see [datafolder.Folder.CheckFirstStart].
// Only then may [Options.NoHistory] be set on an operator's word.
func FirstStart(cfg *config.Config) error { return folder(cfg).CheckFirstStart() }
