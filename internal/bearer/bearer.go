// Package bearer decides whether a request may pass by its access token, and answers it if not (RFC 6750). Every way of
// guarding an API comes here, so that they cannot disagree.
package bearer

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// NotChecked is what a client is told when nobody can tell whether its token is good.
const NotChecked = "the token cannot be checked at this time"

// A Checker is what package guard calls by this name, and documents.
type Checker interface {
	Check(ctx context.Context, token string) (*accesstoken.Claims, error)
}

// Check asks the checker. One that says nothing, not even an error, has not vouched for the token.
func Check(ctx context.Context, checker Checker, token string) (*accesstoken.Claims, error) {
	claims, err := checker.Check(ctx, token)
	if claims == nil && err == nil {
		err = errors.New("guard: the checker tells nothing about a token")
	}
	return claims, err
}

// IsInvalid reports whether a check came to the end that the token is no good.
func IsInvalid(err error) bool {
	return errors.Is(err, accesstoken.ErrInvalid) || errors.Is(err, accesstoken.ErrExpired)
}

// A Decision is what package guard calls by this name, and documents.
type Decision struct {
	Route   string
	Outcome string
	Claims  *accesstoken.Claims
	Began   time.Time

	answer http.Header
}

// Correlation is the X-Request-Id of the answer, which has one from now on.
func (d Decision) Correlation() string { return respond.Correlation(d.answer) }

// An Observer is a checker that is told what became of requests.
type Observer interface {
	Checker
	Observe(r *http.Request, d Decision)
}

// A Demand is what a request must have a token for.
type Demand struct {
	Route  string   // what the request has come to, for a checker that is an [Observer]
	Scopes []string // all of which the token must have
}

// Admit returns what the token of a request says, if it is good and has all of the scope values.
func Admit(w http.ResponseWriter, r *http.Request, checker Checker, d Demand) (*accesstoken.Claims, *Refusal) {
	observer, observed := checker.(Observer)
	if !observed {
		return admit(r, checker, d.Scopes)
	}
	began := time.Now()
	claims, refusal := admit(r, checker, d.Scopes)
	observer.Observe(r, Decision{d.Route, refusal.outcome(), claims, began, w.Header()})
	return claims, refusal
}

func admit(r *http.Request, checker Checker, scopes []string) (*accesstoken.Claims, *Refusal) {
	token, refusal := tokenOf(r.Header)
	if refusal != nil {
		return nil, refusal
	}
	claims, err := Check(r.Context(), checker, token)
	switch {
	case errors.Is(err, accesstoken.ErrExpired):
		return nil, invalidToken("the token has expired")
	case errors.Is(err, accesstoken.ErrRevoked):
		return nil, invalidToken("the token was revoked")
	case errors.Is(err, accesstoken.ErrInvalid):
		return nil, invalidToken("the token is not one of this server's")
	case err != nil:
		return nil, &Refusal{Status: http.StatusServiceUnavailable, description: NotChecked}
	}
	for _, scope := range scopes {
		if !claims.Scope.Has(scope) {
			return nil, &Refusal{http.StatusForbidden, codeInsufficientScope, "the token lacks a scope value that is asked for here", scopes}
		}
	}
	return claims, nil
}

// authorization is the name in its canonical form, in which a server has it.
const authorization = "Authorization"

// tokenOf takes the token from the Authorization header (RFC 6750 section 2.1),
// and from nowhere else: a token in a URL ends up in logs.
func tokenOf(h http.Header) (string, *Refusal) {
	if NoAuthorization(h) {
		return "", &Refusal{Status: http.StatusUnauthorized} // which is no error yet: RFC 6750 section 3.1
	}
	values := h[authorization]
	if len(values) > 1 {
		return "", invalidRequest("there is more than one Authorization header")
	}
	scheme, token := SplitAuthorization(values[0])
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", invalidRequest("the Authorization header is not of the scheme Bearer")
	case token == "" || strings.IndexByte(token, ' ') >= 0 || strings.IndexByte(token, '\t') >= 0 || strings.IndexByte(token, ',') >= 0:
		return "", invalidRequest("the Authorization header does not hold one token")
	case len(token) > accesstoken.MaxLength:
		return "", invalidToken("the token is longer than any of this server's")
	}
	return token, nil
}

// NoAuthorization reports whether there is no Authorization header, or one without a value, which says no more.
func NoAuthorization(h http.Header) bool {
	values := h[authorization]
	return len(values) == 0 || len(values) == 1 && strings.Trim(values[0], fieldBlanks) == ""
}

// SplitAuthorization takes the value of an Authorization header apart: a scheme, one or more blanks, and
// what the scheme defines (RFC 9110 section 11.4; RFC 6750 section 2.1). A tab is no blank.
func SplitAuthorization(value string) (scheme, credentials string) {
	scheme, credentials, _ = strings.Cut(strings.Trim(value, fieldBlanks), " ")
	return scheme, strings.TrimLeft(credentials, " ")
}

// fieldBlanks may stand around the value of a field and are no part of it (RFC 9110 section 5.5). HTTP/1.1 comes without
// them already, HTTP/2 does not.
const fieldBlanks = " \t"

// A Refusal is the answer of RFC 6750 section 3 to a request that may not pass; or, with status 503, that the token cannot be
// checked.
type Refusal struct {
	Status      int
	code        string // empty: the request has no token
	description string // in the alphabet of RFC 6749 section 5.2
	scopes      []string
}

func invalidRequest(description string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, code: rule.CodeInvalidRequest, description: description}
}

func invalidToken(description string) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, code: codeInvalidToken, description: description}
}

// Outcomes are what [Decision.Outcome] can be.
func Outcomes() []string {
	return []string{"admitted", "no_token", rule.CodeInvalidRequest, codeInvalidToken, codeInsufficientScope, "unavailable"}
}

// outcome is the error code of RFC 6750 section 3.1, or a word for what has none.
func (f *Refusal) outcome() string {
	switch {
	case f == nil:
		return "admitted"
	case f.Status == http.StatusServiceUnavailable:
		return "unavailable"
	case f.code == "":
		return "no_token"
	}
	return f.code
}

// The codes of RFC 6750 section 3.1 that RFC 6749 does not have.
const (
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
)

// Write answers with the refusal. RFC 6750 leaves the body to us: it is that of RFC 6749 section 5.2.
func (f *Refusal) Write(w http.ResponseWriter) {
	if f.Status == http.StatusServiceUnavailable {
		respond.Unavailable(w, f.description)
		return
	}
	challenge := `Bearer realm="iSHARE"`
	if f.code != "" {
		challenge += `, error="` + f.code + `", error_description="` + f.description + `"`
	}
	if len(f.scopes) > 0 {
		challenge += `, scope="` + strings.Join(f.scopes, " ") + `"`
	}
	h := w.Header()
	h["Www-Authenticate"] = []string{challenge}
	if f.code != "" {
		respond.Error(w, f.Status, f.code, f.description)
		return
	}
	respond.ForbidCaching(h)
	respond.Correlation(h)
	h.Set("Content-Length", "0") // also to HEAD
	w.WriteHeader(f.Status)
}

type callerKey struct{}

// WithCaller puts what the token of the request says into its context.
func WithCaller(r *http.Request, c *accesstoken.Claims) *http.Request {
	listen.MarkAuthenticated(r.Context())
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

// Caller returns what WithCaller put there.
func Caller(ctx context.Context) (*accesstoken.Claims, bool) {
	c, ok := ctx.Value(callerKey{}).(*accesstoken.Claims)
	return c, ok
}
