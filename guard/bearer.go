package guard

import (
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
)

// bearer takes the token from the Authorization header (RFC 6750 section 2.1),
// and from nowhere else: a token in a URL ends up in logs.
func bearer(h http.Header) (string, *refusal) {
	values := h.Values("Authorization")
	switch {
	case len(values) == 0:
		return "", missingToken()
	case len(values) > 1:
		return "", invalidRequest("there is more than one Authorization header")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", invalidRequest("the Authorization header is not of the scheme Bearer")
	case !ok || token == "" || strings.ContainsAny(token, " \t,"):
		return "", invalidRequest("the Authorization header does not hold one token")
	case len(token) > accesstoken.MaxLength:
		return "", invalidToken("the token is longer than any of this server's")
	}
	return token, nil
}
