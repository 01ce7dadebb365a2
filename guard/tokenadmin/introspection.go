package tokenadmin

import (
	"net/http"

	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// NewIntrospection returns the handler of token introspection (RFC 7662): POST with a form that
// holds token, answered with what the token says, or with {"active":false} and nothing else when it
// is no good, whatever the reason. token_type_hint and unknown parameters are ignored.
//
// The members of the answer are active, token_type, scope, client_id, sub (the canonical party identifier), iss, aud,
// iat, exp and jti as RFC 7662 section 2.2 defines them, and ishare_certificate_thumbprint, the SHA-256, in hex, of the
// certificate that the caller authenticated with when it got the token.
//
// Refusals are those of RFC 6749 section 5.2, and 401 when the secret is wrong. When the
// token cannot be checked the answer is 503, never an active of either kind.
func NewIntrospection(c Config) (*Handler, error) {
	h, err := newHandler("introspection", c)
	if err != nil {
		return nil, err
	}
	h.serve = h.introspect
	return h, nil
}

type introspection struct {
	Active     bool           `json:"active"`
	TokenType  string         `json:"token_type"`
	Scope      string         `json:"scope"`
	ClientID   ishare.PartyID `json:"client_id"`
	Subject    ishare.PartyID `json:"sub"`
	Issuer     string         `json:"iss"`
	Audience   ishare.PartyID `json:"aud"`
	IssuedAt   int64          `json:"iat"`
	Expires    int64          `json:"exp"`
	ID         string         `json:"jti"`
	Thumbprint string         `json:"ishare_certificate_thumbprint"`
}

func (h *Handler) introspect(w http.ResponseWriter, r *authorizedRequest) error {
	token := r.value("token")
	if token == "" {
		return rule.RequestMissingParameter.Because("the parameter token is missing or empty")
	}
	c, err := bearer.Check(r.Context(), h.config.Checker, token)
	switch {
	case err == nil:
		respond.JSON(w, http.StatusOK, introspection{
			Active: true, TokenType: "Bearer", Scope: c.Scope.String(),
			ClientID: c.Client, Subject: c.Party, Issuer: c.Iss(), Audience: c.Issuer,
			IssuedAt: c.Issued.Unix(), Expires: c.Expires.Unix(), ID: c.ID, Thumbprint: c.Thumbprint,
		})
	case bearer.IsInvalid(err):
		respond.JSON(w, http.StatusOK, struct { // and says no more than that: RFC 7662 section 2.2
			Active bool `json:"active"`
		}{})
	default:
		return &dependencyError{bearer.NotChecked, err}
	}
	return nil
}
