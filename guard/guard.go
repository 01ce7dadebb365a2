// Package guard lets requests to an API through when they carry a good access token (RFC 6750).
//
// # In one's own program
//
// [Require] is a middleware for handlers of net/http. It needs somebody who checks tokens, such as the
// [accesstoken.Issuer] that issues them:
//
//	keys, err := accesstoken.OpenKeys("data/keys", log)
//	...
//	tokens, err := accesstoken.New(accesstoken.Config{Party: "did:ishare:EU.NL.NTRNL-10000000", Lifetime: time.Hour, Keys: keys})
//	...
//	checker := guard.LogOutages(tokens, log)
//	defer checker.Close()
//	mux.Handle("GET /orders", guard.Require(checker, "iSHARE")(http.HandlerFunc(orders)))
//
// Behind it, [Caller] tells who calls:
//
//	func orders(w http.ResponseWriter, r *http.Request) {
//		caller, _ := guard.Caller(r.Context())
//		fmt.Fprintf(w, "the orders of %s", caller.Party)
//	}
//
// [Optional] lets requests without a token through too, as requests of nobody. [LogOutages] has a log told when tokens
// cannot be checked, for which clients get a 503 and no reason.
//
// # Elsewhere
//
// A program that cannot be changed is guarded by package proxy below this one: a reverse proxy before it, or a handler
// that somebody else's proxy asks about each request. Package tokenadmin has introspection and revocation of tokens.
// Neither comes with this package.
//
// A token is checked when a request begins. A response that goes on for hours, or a
// WebSocket, is not cut off when the token expires or is revoked meanwhile.
package guard

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/internal/logsum"
)

// A Checker tells what a token says when it is genuine, has not expired and was not revoked: [*accesstoken.Issuer].
type Checker interface {
	Check(ctx context.Context, token string) (*accesstoken.Claims, error)
}

// LogOutages returns a checker that does what the given one does, and writes to a log, as an error, why it could not
// check a token: once for each cause while it lasts, and how often when it has ended. What is wrong with a token is
// not logged, nor is that a client left before its token was checked. A nil log means silence.
//
// The reverse proxy and forward-auth do this with their own checker, unless that does it already. [Require] and
// [Optional] have no log, so for them it is yours to do:
//
//	protect := guard.Require(guard.LogOutages(tokens, log), "iSHARE")
//
// It panics if there is no checker.
func LogOutages(checker Checker, log *slog.Logger) *LoggingChecker {
	mustCheck(checker)
	if logging, ok := checker.(*LoggingChecker); ok {
		return logging
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &LoggingChecker{checker: checker, log: logsum.New(log)}
}

// A Decision is whether a request may pass.
//
// Route is what the request has come to: the path of a route of package proxy, the pattern of [http.ServeMux] of a guarded
// handler, or /auth for what a proxy asks. Outcome is admitted, or the code of RFC 6750 section 3.1 by which it was refused:
// invalid_request, invalid_token or insufficient_scope; no_token without one, and unavailable where nobody can tell. Claims are
// what the token says when the request is admitted, and otherwise nil. Began is when it was looked at. Correlation is the
// X-Request-Id of the answer.
type Decision = bearer.Decision

// Outcomes are what the Outcome of a [Decision] can be.
func Outcomes() []string { return bearer.Outcomes() }

// A LoggingChecker is a [Checker] that logs why it could not check a token. Make it with [LogOutages].
type LoggingChecker struct {
	// Decided is told of each request that a guard with this checker lets in or refuses, for metrics and a log of requests. It
	// must be quick, and be set before the checker is used. Optional.
	Decided func(*http.Request, Decision)

	checker Checker
	log     *logsum.Log
}

// Check implements [Checker].
func (c *LoggingChecker) Check(ctx context.Context, token string) (*accesstoken.Claims, error) {
	claims, err := bearer.Check(ctx, c.checker, token)
	if err != nil && !bearer.IsInvalid(err) && ctx.Err() == nil {
		c.log.Lasting(ctx, slog.LevelError, "an access token could not be checked", logsum.Reason(err), func() []slog.Attr { return []slog.Attr{slog.Any("error", err)} })
	}
	return claims, err
}

// Observe is called by the guards.
func (c *LoggingChecker) Observe(r *http.Request, d Decision) {
	if c.Decided != nil {
		c.Decided(r, d)
	}
}

// Close writes to the log what was only counted so far. It is for a checker that is asked no more.
func (c *LoggingChecker) Close() { c.log.Close() }

// mustCheck panics when nobody would check tokens: a guard like that is a mistake of the program, which had better not start.
func mustCheck(checker Checker) {
	if checker == nil {
		panic("guard: the checker must not be nil")
	}
}

// Caller returns what the token of the request says. It reports false outside of a handler that [Require] guards, and
// for a request without a token where [Optional] lets it in.
func Caller(ctx context.Context) (*accesstoken.Claims, bool) { return bearer.Caller(ctx) }

// Require returns a middleware that admits requests whose bearer token is genuine, has not expired, was not revoked and
// carries every one of the scope values. Without values any such token will do.
//
// A refusal has an X-Request-Id of its own, and holds it as the member correlation. Who is admitted has one when somebody
// asks for it: see Correlation of [Decision].
//
// Others get the answers of RFC 6750 section 3.1: 400 when the Authorization header is of another scheme or there are
// several, 401 when the token is missing or bad, 403 when it lacks a scope value; and 503 with Retry-After when the
// token cannot be checked, about which [LogOutages] tells a log. Without a token the answer has no body: there is no
// error yet.
//
// It panics if there is no checker.
func Require(checker Checker, scopes ...string) func(http.Handler) http.Handler {
	mustCheck(checker)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims, refusal := bearer.Admit(w, r, checker, bearer.Demand{Route: r.Pattern, Scopes: scopes})
			if refusal != nil {
				refusal.Write(w)
				return
			}
			next.ServeHTTP(w, bearer.WithCaller(r, claims))
		})
	}
}

// Optional is [Require] for what strangers may see too: a request without an Authorization header, or with an empty
// one, is let in, and has no [Caller]. A bad token is refused all the same, so that its bearer learns of it.
func Optional(checker Checker, scopes ...string) func(http.Handler) http.Handler {
	require := Require(checker, scopes...)
	return func(next http.Handler) http.Handler {
		guarded := require(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if bearer.NoAuthorization(r.Header) {
				next.ServeHTTP(w, r)
				return
			}
			guarded.ServeHTTP(w, r)
		})
	}
}
