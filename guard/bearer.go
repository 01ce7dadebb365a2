package guard

import (
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
)

// bearer takes the token from the Authorization header (RFC 6750 section 2.1),
// and from nowhere else: a token in a URL ends up in logs.
func bearer(h http.Header) (string, *refusal) {
	if unauthenticated(h) {
		return "", missingToken()
	}
	values := h.Values("Authorization")
	if len(values) > 1 {
		return "", invalidRequest("there is more than one Authorization header")
	}
	scheme, token := splitCredentials(values[0])
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
func unauthenticated(h http.Header) bool {
	values := h.Values("Authorization")
	return len(values) == 0 || len(values) == 1 && trimField(values[0]) == ""
}

// splitCredentials takes the value of an Authorization header apart: a scheme, one or more blanks, and
// what the scheme defines (RFC 9110 section 11.4; RFC 6750 section 2.1). A tab is no blank.
func splitCredentials(value string) (scheme, credentials string) {
	scheme, credentials, _ = strings.Cut(trimField(value), " ")
	return scheme, strings.TrimLeft(credentials, " ")
}

// trimField removes what stands around the value of a field and is no part of it (RFC 9110 section
// 5.5). HTTP/1.1 comes without it already, HTTP/2 does not.
func trimField(value string) string { return strings.Trim(value, " \t") }
