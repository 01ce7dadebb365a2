package daemon

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/guard/tokenadmin"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
)

const (
	livePath          = "/livez"
	readyPath         = "/readyz"
	authPath          = "/auth"
	verbatimPath      = "/envoy/" // and below, where the rest of the path is the client's
	introspectionPath = "/introspect"
	revocationPath    = "/revoke"
)

// internals is what the internal listener serves: to those who run the server, and to
// their proxies.
func (d *Daemon) internals() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+livePath, live)     // the process answers
	mux.HandleFunc("GET "+readyPath, d.ready) // it may be sent requests
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { d.current.Load().desks.ServeHTTP(w, r) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, verbatimPath) { // which the mux would redirect when the client's path is not clean
			d.current.Load().verbatim.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// openDesks makes what concerns access tokens.
func (s *service) openDesks() (err error) {
	auth := proxy.ForwardAuthConfig{Checker: s.checker, Log: s.log}
	forwardAuth, err := proxy.NewForwardAuth(auth)
	if err != nil {
		return err
	}
	auth.IgnoreURL = true
	if s.verbatim, err = proxy.NewForwardAuth(auth); err != nil {
		return err
	}
	desk := tokenadmin.Config{
		Checker: s.issuer, Log: s.log, Canonical: s.from.canonical,
		Revocations: s.memory.revoked, Secret: s.config.Listen.Secret.Reveal(), Callers: s.callers,
	}
	introspection, err := tokenadmin.NewIntrospection(desk)
	if err != nil {
		return err
	}
	revocation, err := tokenadmin.NewRevocation(desk)
	if err != nil {
		return err
	}
	s.internal = []http.Handler{forwardAuth, introspection, revocation}
	mux := http.NewServeMux()
	mux.Handle(authPath, forwardAuth)
	mux.Handle(introspectionPath, introspection)
	mux.Handle(revocationPath, s.needing(revocation, desksOf))
	s.desks = mux
	return nil
}

// callers are those who may introspect and revoke with a secret of their own; nil when none are named.
func callers(cfg *config.Config) (secrets map[string]string, problems []config.Problem) {
	if cfg.Listen.InternalCallers == nil {
		return nil, nil
	}
	secrets = make(map[string]string)
	owners := map[string]string{cfg.Listen.Secret.Reveal(): "$WAYBILL_LISTEN_INTERNAL_SECRET"}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listen.InternalCallers)) {
		tell := func(message, mend string) {
			problems = append(problems, cfg.Problem(callerKey(string(name)), message, mend))
		}
		text, unread := keyfile.ReadSecret(string(cfg.Listen.InternalCallers[name]))
		owner, twice := owners[text]
		switch {
		case len(unread) > 0:
			tell(unread[0].File+": "+unread[0].Message, unread[0].Hint)
		case !config.IsSecret(text):
			tell(config.SecretWanted, config.MendSecret)
		case twice:
			tell("has the same secret as "+owner, config.MendSecret)
		}
		secrets[string(name)], owners[text] = text, string(name)
	}
	return secrets, problems
}

func callerKey(name string) string { return "listen.internal_callers." + name }

func desksOf(s *service) http.Handler { return s.desks }
