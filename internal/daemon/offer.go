package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// ownPaths are the paths at which we answer ourselves on the public listener, whatever is configured.
func ownPaths() []string {
	return []string{tokenendpoint.Path, capabilities.Path, metadataPath, keySetPath, openAPIPath}
}

// tokenPaths are those at which the token endpoint answers.
func tokenPaths(cfg *config.Config) []string {
	paths := []string{tokenendpoint.Path}
	for _, path := range cfg.Listen.TokenPaths {
		paths = append(paths, string(path))
	}
	return paths
}

// pathProblems says which of the configured paths cannot be served.
func pathProblems(cfg *config.Config) []config.Problem {
	if problems := tokenPathProblems(cfg); len(problems) > 0 {
		return problems
	}
	return routeProblems(cfg)
}

// tokenPathProblems: on another path of ours, above or below one, a request could be meant for either.
func tokenPathProblems(cfg *config.Config) []config.Problem {
	var problems []config.Problem
	taken := append(ownPaths(), wellKnownPath)
	for i, path := range cfg.Listen.TokenPaths {
		nested := func(own string) bool { return below(string(path), own) || below(own, string(path)) }
		if at := slices.IndexFunc(taken, nested); at >= 0 && path != "" {
			problems = append(problems, cfg.Problem(fmt.Sprintf("listen.token_paths[%d]", i), "the server itself answers at "+taken[at], "Choose a path that is neither above nor below it."))
		}
		taken = append(taken, string(path))
	}
	return problems
}

// below reports whether a path is the other one or below it, case aside.
func below(path, other string) bool {
	return strings.HasPrefix(strings.ToLower(path)+"/", strings.ToLower(other)+"/")
}

// routed is what the configuration says of the programs behind us.
func routed(cfg *config.Config, checker guard.Checker, log *slog.Logger) proxy.Config {
	reverse := proxy.Config{OwnPaths: append(ownPaths(), tokenPaths(cfg)[1:]...), Checker: checker, Log: log}
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		reverse.Routes = append(reverse.Routes, proxy.Route{
			Path: r.Path, Upstream: &r.Upstream.URL, Scope: r.Scope, Paths: r.Paths, Preflight: r.Preflight, PassToken: r.PassToken,
		})
	}
	return reverse
}

// routeProblems says which routes the proxy refuses, by themselves or beside those before them.
func routeProblems(cfg *config.Config) []config.Problem {
	_, err := proxy.New(routed(cfg, nobody{}, slog.New(slog.DiscardHandler)))
	refused, _ := errors.AsType[proxy.RouteErrors](err)
	var problems []config.Problem
	for _, e := range refused {
		if r := cfg.Routes[e.Index]; r.Path != "" && r.Upstream.Host != "" { // what is absent is told elsewhere
			key, mend := fmt.Sprintf("routes[%d].path", e.Index), ""
			if errors.Is(e.Err, proxy.ErrPaths) {
				key, mend = key+"s", "Leave paths out, or give what asks for something else a host or port and a path of its own."
			}
			problems = append(problems, cfg.Problem(key, e.Err.Error(), mend))
		}
	}
	return problems
}

// nobody is a [guard.Checker] and a [capabilities.PartySource] for handlers that are made for a try.
type nobody struct{}

// Check knows no token.
func (nobody) Check(context.Context, string) (*accesstoken.Claims, error) {
	return nil, accesstoken.ErrInvalid
}

// Party knows nobody.
func (nobody) Party(context.Context, ishare.PartyID) (*ishare.Party, error) {
	return nil, ishare.ErrUnknownParty
}

// offered is what the configuration says of our services.
func offered(cfg *config.Config, base *url.URL, seal *keyfile.Pair, checker guard.Checker, log *slog.Logger) capabilities.Config {
	return capabilities.Config{
		Party: cfg.Party.ID, Key: seal.Signer(), Certificates: seal.Certificates,
		URL: base, Checker: checker, Log: log,
		Public: services(cfg.Capabilities.Public), Restricted: services(cfg.Capabilities.Restricted),
		Roles: cfg.Capabilities.Roles,
	}
}

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
