package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// ForwardAuthConfig is what [NewForwardAuth] works with.
type ForwardAuthConfig struct {
	// Checker tells what a token says. It must be set.
	Checker guard.Checker

	// Log is told why tokens cannot be checked, and of proxies that ask wrongly. Nil means silence.
	Log *slog.Logger

	// IgnoreURL is for a proxy that puts the client's path and query behind ours, such as Envoy: what stands in the URL
	// is then the client's and decides nothing, and refusals have their own status. Mount it where nobody arrives by a
	// slip: at /auth/, a slash too many in what a proxy asks would take back the scope that it demands.
	IgnoreURL bool
}

// NewForwardAuth returns the handler that a reverse proxy asks about each request, with
// the client's Authorization header. It belongs on the internal listener:
//
//	internal.Handle("/auth", forwardAuth)
//
// The answer is 200, without a body, and with [HeaderPartyID] and its sisters, which the proxy copies into the request;
// it must overwrite or remove those that a client has sent. Otherwise it is 401 or 403 with WWW-Authenticate, for the
// proxy to pass on; and 503 when the token cannot be checked, or 500 when the proxy asks in a way that makes no sense,
// which every proxy takes for no.
//
// The query is the proxy's: /auth?scope=orders demands a scope value, with others if it occurs several times or holds
// several. Any other parameter but the next is an error, so that a slip of the pen does not leave a door open.
//
// A header that is not Bearer deserves a 400 (RFC 6750 section 3.1, and the tests of iSHARE).
// nginx makes a 500 of any refusal but 401 and 403, so the answer is 401 unless the proxy
// says, by /auth?status=exact, that it passes on every status, as Caddy and Traefik do.
//
// A refusal has an X-Request-Id, and so has every answer when somebody asks for it: see Correlation of [guard.Decision].
//
// The method makes no difference: proxies ask with GET, with HEAD, or with the client's.
//
// What is repeated is summed up in the log.
func NewForwardAuth(c ForwardAuthConfig) (*ForwardAuth, error) {
	if c.Checker == nil {
		return nil, errors.New("guard: forward-auth: the field Checker must be set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Checker = guard.LogOutages(c.Checker, c.Log)
	return &ForwardAuth{c, logsum.New(c.Log)}, nil
}

// A ForwardAuth tells reverse proxies whether requests may pass. Make it with [NewForwardAuth].
type ForwardAuth struct {
	config ForwardAuthConfig
	log    *logsum.Log
}

// Close writes to the log what was only counted so far. It is for a handler that gets no more requests.
func (f *ForwardAuth) Close() { f.log.Close() }

// forwardAuthRoute is what a [guard.Decision] has for the route: where the request goes, only the proxy knows.
const forwardAuthRoute = "/auth"

// ServeHTTP implements [http.Handler].
func (f *ForwardAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scopes, exactStatus, err := f.parseQuery(r.URL)
	if err != nil {
		// A proxy that is set up wrongly asks so for every request of a stranger.
		f.log.Lasting(r.Context(), slog.LevelWarn, "forward-auth is asked wrongly", []slog.Attr{slog.Any("error", err)}, func() []slog.Attr { return nil })
		respond.Error(w, http.StatusInternalServerError, rule.CodeServerError, err.Error())
		return
	}
	claims, refusal := bearer.Admit(w, r, f.config.Checker, bearer.Demand{Route: forwardAuthRoute, Scopes: scopes})
	if refusal != nil {
		if refusal.Status == http.StatusBadRequest && !exactStatus {
			refusal.Status = http.StatusUnauthorized
		}
		refusal.Write(w)
		return
	}
	h := w.Header()
	setIdentityHeaders(h, claims)
	h["Cache-Control"] = []string{"no-store"}
	w.WriteHeader(http.StatusOK)
}

// parseQuery returns what a proxy asks for: the scope values to demand, and whether it passes on every status. Its
// errors are fixed sentences: some proxies pass them on.
func (f *ForwardAuth) parseQuery(u *url.URL) (scopes []string, exactStatus bool, err error) {
	if f.config.IgnoreURL {
		return nil, true, nil
	}
	if u.RawQuery == "" {
		return nil, false, nil
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, false, errors.New("the query of forward-auth is malformed")
	}
	for name, values := range query {
		switch {
		case name == "scope":
			for _, value := range values {
				scope, err := ishare.ParseScope(value)
				if err != nil {
					return nil, false, fmt.Errorf("the scope that forward-auth is asked for: %w", err)
				}
				scopes = append(scopes, scope...)
			}
		case name == "status" && slices.Equal(values, []string{"exact"}):
			exactStatus = true
		default:
			return nil, false, errors.New("the query of forward-auth holds something else than scope and status=exact")
		}
	}
	return scopes, exactStatus, nil
}
