package daemon

import (
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/guard"
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
	auth := guard.ForwardAuthConfig{Checker: s.issuer, Log: s.log}
	forwardAuth, err := guard.NewForwardAuth(auth)
	if err != nil {
		return err
	}
	auth.Verbatim = true
	if s.verbatim, err = guard.NewForwardAuth(auth); err != nil {
		return err
	}
	desk := guard.DeskConfig{Checker: s.issuer, Log: s.log, Secret: s.config.Listen.Secret.Reveal(), Canonical: s.from.canonical}
	introspection, err := guard.NewIntrospection(desk)
	if err != nil {
		return err
	}
	revocation, err := guard.NewRevocation(desk, s.memory.revoked)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(authPath, forwardAuth)
	mux.Handle(introspectionPath, introspection)
	mux.Handle(revocationPath, s.needing(revocation, desksOf))
	s.desks = mux
	return nil
}

func desksOf(s *service) http.Handler { return s.desks }
