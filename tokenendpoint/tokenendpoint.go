// Package tokenendpoint answers POST /connect/token: it takes a token request apart, has the client assertion judged,
// and issues an access token (iSHARE 3.0, access token; RFC 6749 section 4.4, RFC 7523).
//
// [New] makes a [Handler] of a [Verifier], which is an [*assertion.Verifier], and an [Issuer], which is an
// [*accesstoken.Issuer]. It is an [http.Handler] for one's own mux, at [Path]. Bounds on connections and timeouts are those
// of the server that it is put into; [Config].Screen is asked before a body is read.
//
// Every answer is JSON and forbids caching. A refusal is the error of RFC 6749 section 5.2; its error_description names the
// rule that failed (package rule), so that whoever reads it knows what to mend, and its member correlation is the
// X-Request-Id of the answer. An error of our own shows nothing but an
// id that leads to its line in the log.
package tokenendpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"slices"
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
	// Record is told of each decision before it is answered. When it cannot keep one, the error keeps the token back; a
	// refusal is answered all the same. Optional.
	Record func(context.Context, *Decision) error
	// Decided is told of each decision once it is answered, for metrics. Optional.
	Decided func(context.Context, *Decision)
	// Observe is [assertion.Config.Observe] for the stages of this package: see [Stages]. Optional.
	Observe func(ctx context.Context, stage string, began time.Time, err error)
	// Log gets one event for each token that is given. Of refusals by a rule it gets the first few in each ten
	// seconds, and how many more there were; of outages the first for each cause, and how many more there were when
	// it has ended. Optional.
	Log *slog.Logger
}

// The stages of a token request besides those of [assertion.Stages].
const (
	StageRequest = "request" // the request itself, up to its parameters
	StageIssue   = "issue"   // the access token
	StageRecord  = "record"  // what Record does
)

// Stages names all stages of a token request in their order.
func Stages() []string {
	return slices.Concat([]string{StageRequest}, assertion.Stages(), []string{StageIssue, StageRecord})
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

// ServeHTTP answers one token request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	d := Decision{Began: time.Now(), Remote: r.RemoteAddr, Correlation: rand.Text()}
	answer, err := h.answer(r, &d)
	d.conclude(ctx, err)
	if d.Outcome == Failed { // the answer has an id for it
		if id, full := h.log.Failure(slog.LevelError, message, d.labels()); !full {
			d.Correlation, d.summed = id, true
		}
	}
	if h.config.Record != nil {
		began := time.Now()
		err := h.config.Record(ctx, &d)
		h.observe(ctx, StageRecord, began, err)
		if err != nil && d.Outcome == Issued {
			d.conclude(ctx, &rule.Outage{Rule: rule.UnavailableState, Sentence: notRecorded, RetryAfter: recordRetry, Cause: err})
		}
	}
	w.Header()[respond.RequestID] = []string{d.Correlation}
	if d.Err != nil {
		writeError(w, d.Err, d.Correlation)
	} else {
		respond.Encoded(w, http.StatusOK, answer)
	}
	d.write(ctx, h.config.Log, h.log)
	if h.config.Decided != nil {
		h.config.Decided(ctx, &d)
	}
}

// recordRetry is when it is worth to come again after a decision could not be recorded: a disk has room again when somebody
// has seen to it.
const recordRetry = 5 * time.Second

// notRecorded is what a client is told then.
const notRecorded = "the server cannot keep a record of the token now, and gives none without"

func (h *Handler) observe(ctx context.Context, stage string, began time.Time, err error) {
	if h.config.Observe != nil {
		h.config.Observe(ctx, stage, began, err)
	}
}

// Close writes to the log what was only counted so far. It is for a handler that gets no more requests.
func (h *Handler) Close() { h.log.Close() }

// answer walks from the first byte to the token, and returns the JSON that holds it.
func (h *Handler) answer(r *http.Request, d *Decision) ([]byte, error) {
	asked, body, err := h.read(r)
	h.observe(r.Context(), StageRequest, d.Began, err)
	if body != nil {
		defer body.Release()
	}
	if err != nil {
		return nil, err
	}
	d.ClientID = asked.clientID
	client, seen, err := h.config.Verifier.Verify(r.Context(), asked.clientID, body.View("client_assertion"))
	d.Seen = seen
	if err != nil {
		return nil, err
	}
	listen.MarkAuthenticated(r.Context())
	began := time.Now()
	answer, claims, err := h.issue(r.Context(), client, asked.scope, body.View("scope"))
	h.observe(r.Context(), StageIssue, began, err)
	d.Granted = claims
	return answer, err
}

// read takes the request apart. The form is there, to be released, also when a parameter of it is wrong.
func (h *Handler) read(r *http.Request) (asked parametersInput, body *form.Form, err error) {
	if h.config.Screen != nil {
		if err := h.config.Screen(r); err != nil {
			return asked, nil, err
		}
	}
	if body, err = form.Read(r); err != nil {
		return asked, nil, err
	}
	asked, err = h.checkParameters(r, body)
	return asked, body, err
}

// issue makes the token, and the answer that holds it. The scope is told again unless it is literally what was asked for.
func (h *Handler) issue(ctx context.Context, client *assertion.Client, scope ishare.Scope, asked string) ([]byte, *accesstoken.Claims, error) {
	token, claims, err := h.config.Issuer.Issue(ctx, accesstoken.Claims{
		Party:      client.Party().ID,
		Client:     client.ID(),
		Scope:      scope,
		Thumbprint: client.Thumbprint(),
	})
	rejection, _ := rule.Classify(err)
	if rejection != nil {
		// The client has kept every rule. It is about what the issuer asked of somebody.
		err = errors.New("issuing a token: " + err.Error())
	}
	if err != nil {
		return nil, nil, err
	}
	told := claims.Scope.String()
	if told == asked {
		told = ""
	}
	answer, err := tokenAnswer(token, claims.Expires.Sub(claims.Issued), told)
	return answer, &claims, err
}
