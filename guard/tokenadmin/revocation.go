package tokenadmin

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// NewRevocation returns the handler of token revocation (RFC 7009): POST with a form that holds one of
//
//	token        the token itself; token_type_hint beside it is ignored
//	token_id     one token by its id, which is what the log has
//	party_id     all tokens that were issued so far to whoever used this identifier as
//	             client_id, or has it as canonical identifier; and with [Config.Canonical]
//	             all tokens of the party, whichever of its identifiers this is
//	certificate  all tokens that were issued so far to the holder of the certificate with
//	             this SHA-256 fingerprint, 64 hex digits with or without colons
//
// The last three are beyond the RFC. The answer is 200 without a body, also for a token that is no good or is none (RFC
// 7009 section 2.2): there is nothing left to revoke. When it comes, every later check refuses the tokens. If the
// revocation cannot be kept, the answer is 503, and one should try again.
//
// The answer is 503 also when the canonical identifier of a party cannot be found out at this time:
// tokens that name the identifier as given are revoked then, and others of the party are not. Of
// a party that is not known any more only its canonical identifier reaches every token.
//
// Unlike in the RFC, it is not the client but the server's operator who revokes, and any
// token. To lock a party out, see to it first that it gets no new tokens.
func NewRevocation(c Config) (*Handler, error) {
	if c.Revocations == nil {
		return nil, errors.New("guard: revocation: the field Revocations must be set")
	}
	h, err := newHandler("revocation", c)
	if err != nil {
		return nil, err
	}
	h.serve = h.revoke
	return h, nil
}

// What cannot be done, in sentences for the client.
const (
	notKept     = "the revocation cannot be kept at this time"
	notResolved = "only tokens with this identifier are revoked: the canonical one of the party cannot be found out at this time"
)

func (h *Handler) revoke(w http.ResponseWriter, r *authorizedRequest) error {
	what, err := h.parseRevocation(r)
	if err != nil {
		return err
	}
	if what != nil {
		if err := h.keep(r, *what); err != nil {
			return err
		}
		if err := h.keepCanonical(r, what.Party); err != nil {
			return err
		}
	}
	respond.ForbidCaching(w.Header())
	w.WriteHeader(http.StatusOK)
	return nil
}

// parseRevocation returns what to revoke, or nil when there is nothing left to revoke.
func (h *Handler) parseRevocation(r *authorizedRequest) (*accesstoken.TokenRevocation, error) {
	var names []string
	for _, name := range []string{"token", "token_id", "party_id", "certificate"} {
		if r.value(name) != "" {
			names = append(names, name)
		}
	}
	switch {
	case len(names) == 0:
		return nil, rule.RequestMissingParameter.Because("there is none of the parameters token, token_id, party_id and certificate")
	case len(names) > 1:
		return nil, rule.RequestMalformed.Because("there are both %s and %s; revoke one thing at a time", names[0], names[1])
	case names[0] != "token":
		fingerprint := strings.ReplaceAll(r.value("certificate"), ":", "") // which openssl prints between the digits
		return &accesstoken.TokenRevocation{
			TokenID: r.value("token_id"), Party: ishare.PartyID(r.value("party_id")), Thumbprint: strings.ToLower(fingerprint),
		}, nil
	}
	c, err := bearer.Check(r.Context(), h.config.Checker, r.value("token"))
	switch {
	case err == nil:
		return &accesstoken.TokenRevocation{TokenID: c.ID, Expires: c.Expires}, nil
	case bearer.IsInvalid(err):
		return nil, nil
	}
	return nil, &dependencyError{bearer.NotChecked, err}
}

func (h *Handler) keep(r *authorizedRequest, what accesstoken.TokenRevocation) error {
	if h.config.Record != nil {
		if err := h.config.Record(r.Context(), Revocation{r.caller, r.RemoteAddr, what}); err != nil {
			return &dependencyError{notKept, err}
		}
	}
	switch err := h.config.Revocations.Revoke(r.Context(), what); {
	case errors.Is(err, accesstoken.ErrTokenRevocation): // the request makes no sense; any other error is the store's
		return rule.RequestMalformed.Because("the parameter is not a token id, a party identifier or a SHA-256 fingerprint in hex").From(err)
	case err != nil:
		return &dependencyError{notKept, err}
	}
	h.config.Log.InfoContext(r.Context(), "access tokens revoked",
		slog.String("token_id", what.TokenID), slog.String("party", string(what.Party)),
		slog.String("certificate", what.Thumbprint), slog.String("caller", r.caller), slog.String("remote", r.RemoteAddr))
	return nil
}

// keepCanonical revokes what a party got under other identifiers than this one. It comes second, so
// that whoever cannot be asked does not keep us from the first.
func (h *Handler) keepCanonical(r *authorizedRequest, id ishare.PartyID) error {
	if id == "" || h.config.Canonical == nil {
		return nil
	}
	canonical, err := h.config.Canonical(r.Context(), id)
	switch {
	case err != nil:
		return &dependencyError{notResolved, err}
	case canonical == id:
		return nil
	}
	return h.keep(r, accesstoken.TokenRevocation{Party: canonical})
}
