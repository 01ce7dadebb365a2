// Package tokenendpoint answers POST /connect/token: it takes a token request apart, has the client assertion judged,
// and issues an access token (iSHARE 3.0, access token; RFC 6749 section 4.4, RFC 7523).
//
// [New] makes a [Handler] of a [Verifier], which is an [*assertion.Verifier], and an [Issuer], which is an
// [*accesstoken.Issuer]. It is an [http.Handler] for one's own mux, at [Path]. Bounds on connections and timeouts are those
// of the server that it is put into; [Config].Screen is asked before a body is read.
//
// Every answer is JSON and forbids caching. A refusal is the error of RFC 6749 section 5.2; its error_description names the
// rule that failed (package rule), so that whoever reads it knows what to mend. An error of our own shows nothing but an
// id that leads to its line in the log.
package tokenendpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/form"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// MaxBody is the size in bytes of the largest body that is read.
const MaxBody = form.MaxBody

// Path is where iSHARE puts the token endpoint.
const Path = ishare.TokenPath

// A Verifier judges client assertions: [*assertion.Verifier].
type Verifier interface {
	Verify(ctx context.Context, clientID ishare.PartyID, compact string) (*assertion.Client, assertion.UnverifiedInfo, error)
}

// An Issuer makes access tokens: [*accesstoken.Issuer].
type Issuer interface {
	Issue(ctx context.Context, c accesstoken.Claims) (string, accesstoken.Claims, error)
}

// Config is what a [Handler] works with.
type Config struct {
	Verifier Verifier
	Issuer   Issuer
	// Scopes are the values that may be asked for besides iSHARE. Optional.
	Scopes []string
	// Screen is asked before the body of a request is read. Its error is the answer, which costs little then:
	// an [*rule.Outage] where the server is too busy, or the client too eager. Optional.
	Screen func(*http.Request) error
	// Log gets one event for each token that is given. Of refusals by a rule it gets the first few in each ten
	// seconds, and how many more there were; of outages the first for each cause, and how many more there were when
	// it has ended. Optional.
	Log *slog.Logger
}

// A Handler is the token endpoint. It answers whatever path it is mounted on.
type Handler struct {
	config Config
	scopes map[string]bool
	log    *logsum.Log
}

// New checks the configuration and returns a handler for it.
func New(c Config) (*Handler, error) {
	switch {
	case c.Verifier == nil:
		return nil, errors.New("tokenendpoint: Verifier must be set")
	case c.Issuer == nil:
		return nil, errors.New("tokenendpoint: Issuer must be set")
	case c.Log == nil:
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, name := range c.Scopes {
		if scope, err := ishare.ParseScope(name); err != nil || len(scope) != 1 {
			return nil, errors.New("tokenendpoint: " + name + " is not a scope value")
		}
	}
	return &Handler{config: c, scopes: knownScopes(c.Scopes), log: logsum.New(c.Log)}, nil
}

// knownScopes are the values that may be asked for: iSHARE, and those named.
func knownScopes(names []string) map[string]bool {
	known := map[string]bool{ishare.ScopeISHARE: true}
	for _, name := range names {
		known[name] = true
	}
	return known
}

// requestID is the header of an answer that is no token, by whose value the event is found in the log: see waybill explain
// --correlation.
const requestID = "X-Request-Id"

// ServeHTTP answers one token request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := event{start: time.Now(), remote: r.RemoteAddr}
	answer, err := h.answer(r, &e)
	if err != nil {
		e.err = err
		if rejection, outage := rule.Classify(err); rejection == nil && outage == nil { // ours: the answer has an id for it
			var full bool
			e.correlation, full = h.log.Failure(slog.LevelError, message, labels("failed", rule.Internal))
			e.summed = !full
		} else {
			e.correlation = rand.Text()
		}
		w.Header().Set(requestID, e.correlation)
		writeError(w, err, e.correlation)
	} else {
		respond.Encoded(w, http.StatusOK, answer)
	}
	e.write(r.Context(), h.config.Log, h.log)
}

// Close writes to the log what was only counted so far. It is for a handler that gets no more requests.
func (h *Handler) Close() { h.log.Close() }

// answer walks from the first byte to the token, and returns the JSON that holds it.
func (h *Handler) answer(r *http.Request, e *event) ([]byte, error) {
	if h.config.Screen != nil {
		if err := h.config.Screen(r); err != nil {
			return nil, err
		}
	}
	body, err := form.Read(r)
	if err != nil {
		return nil, err
	}
	defer body.Release()
	asked, err := h.checkParameters(r, body)
	if err != nil {
		return nil, err
	}
	e.clientID = asked.clientID
	client, seen, err := h.config.Verifier.Verify(r.Context(), asked.clientID, body.View("client_assertion"))
	e.seen = seen
	if err != nil {
		return nil, err
	}
	listen.MarkAuthenticated(r.Context())
	token, claims, err := h.config.Issuer.Issue(r.Context(), accesstoken.Claims{
		Party:      client.Party().ID,
		Client:     client.ID(),
		Scope:      asked.scope,
		Thumbprint: client.Thumbprint(),
	})
	rejection, _ := rule.Classify(err)
	if rejection != nil {
		// The client has kept every rule. It is about what the issuer asked of somebody.
		err = errors.New("issuing a token: " + err.Error())
	}
	if err != nil {
		return nil, err
	}
	scope := claims.Scope.String()
	if scope == body.View("scope") { // as was asked for: it need not be told
		scope = ""
	}
	answer, err := tokenAnswer(token, claims.Expires.Sub(claims.Issued), scope)
	if err == nil {
		e.granted = &claims
	}
	return answer, err
}
