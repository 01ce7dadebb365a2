package bearer

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/listen"
)

// bearer takes the token from the Authorization header (RFC 6750 section 2.1),
// and from nowhere else: a token in a URL ends up in logs.
func tokenOf(h http.Header) (string, *Refusal) {
	if IsMissing(h) {
		return "", missingToken()
	}
	values := h.Values("Authorization")
	if len(values) > 1 {
		return "", invalidRequest("there is more than one Authorization header")
	}
	scheme, token := Split(values[0])
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", invalidRequest("the Authorization header is not of the scheme Bearer")
	case token == "" || strings.ContainsAny(token, " \t,"):
		return "", invalidRequest("the Authorization header does not hold one token")
	case len(token) > accesstoken.MaxLength:
		return "", invalidToken("the token is longer than any of this server's")
	}
	return token, nil
}

// unauthenticated reports whether there is no Authorization header, or one without a value, which
// says no more.
func IsMissing(h http.Header) bool {
	values := h.Values("Authorization")
	return len(values) == 0 || len(values) == 1 && trimField(values[0]) == ""
}

// Split takes the value of an Authorization header apart: a scheme, one or more blanks, and
// what the scheme defines (RFC 9110 section 11.4; RFC 6750 section 2.1). A tab is no blank.
func Split(value string) (scheme, credentials string) {
	scheme, credentials, _ = strings.Cut(trimField(value), " ")
	return scheme, strings.TrimLeft(credentials, " ")
}

// trimField removes what stands around the value of a field and is no part of it (RFC 9110 section
// 5.5). HTTP/1.1 comes without it already, HTTP/2 does not.
func trimField(value string) string { return strings.Trim(value, " \t") }

// Checker tells what a token says when it is genuine, has not expired and was not revoked.
type Checker interface {
	Check(ctx context.Context, token string) (*accesstoken.Claims, error)
}

// ask is [Checker.Check]. A checker that says nothing, not even an error, cannot tell.
func Check(ctx context.Context, checker Checker, token string) (*accesstoken.Claims, error) {
	claims, err := checker.Check(ctx, token)
	if claims == nil && err == nil {
		err = errors.New("guard: the checker tells nothing about a token")
	}
	return claims, err
}

// admit is the one place where requests are judged, whichever way they came.
func Admit(r *http.Request, checker Checker, scopes []string) (*accesstoken.Claims, *Refusal) {
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
		return nil, unchecked()
	}
	for _, scope := range scopes {
		if !claims.Scope.Has(scope) {
			return nil, insufficientScope(scopes)
		}
	}
	return claims, nil
}

// IsInvalid reports whether a check came to the end that the token is no good.
func IsInvalid(err error) bool {
	return errors.Is(err, accesstoken.ErrInvalid) || errors.Is(err, accesstoken.ErrExpired)
}

type contextKey struct{}

// WithCaller puts what the token of the request says into its context.
func WithCaller(r *http.Request, c *accesstoken.Claims) *http.Request {
	listen.Keep(r.Context())
	return r.WithContext(context.WithValue(r.Context(), contextKey{}, c))
}

// Caller finds what WithCaller put there.
func Caller(ctx context.Context) (*accesstoken.Claims, bool) {
	c, ok := ctx.Value(contextKey{}).(*accesstoken.Claims)
	return c, ok
}
