// Package capabilities answers GET /capabilities: it says, in a JWT signed with the
// party's seal, which services the party offers (iSHARE 3.0, capabilities).
//
// Without a token it lists the public services, and the JWT has no audience. With a valid token it
// lists the restricted ones too, unless they are for other roles or data spaces, and the audience is the
// caller's client_id. Clients of 2.x find the same under their names: capabilities_token, capabilities_info. An Authorization
// header that is not Bearer gets 400, and a bad token 401.
//
// The key makes one signature at a time for this, however many ask. Who would have to wait for more
// than a second gets 503 and Retry-After, and so does everybody in the second after the key failed.
package capabilities

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
)

// Path is where iSHARE puts the endpoint.
const Path = "/capabilities"

// Config is what [New] works with.
type Config struct {
	// Party is our identifier: iss and sub of the JWT.
	Party ishare.PartyID
	// Key and Certificates are our seal, leaf first.
	Key          crypto.Signer
	Certificates []*x509.Certificate
	// Algorithm is RS256 unless set.
	Algorithm jws.Algorithm

	// URL is the base address by which clients reach us. It must be configured: were it taken
	// from the Host header, a stranger could have us sign that our token endpoint is theirs.
	URL *url.URL

	// Checker checks the tokens of those who ask for restricted services.
	Checker guard.Checker

	// Public are services that everybody may know of, Restricted those that only bearers of a
	// token may. The token endpoint and this endpoint are public services by themselves.
	Public, Restricted []Service

	// Parties finds the record of a caller. It must be set when a restricted service names Roles or
	// Dataspaces, and is asked only then.
	Parties PartySource

	// Roles are our framework roles, which only clients of 2.x are shown; empty: ServiceProvider.
	Roles []string

	// Log is where it is written that the capabilities cannot be signed. Optional.
	Log *slog.Logger
}

// A PartySource finds the record of a party: [*registry.Cache], [*registry.File]. A definite "no such
// participant" is an error for which [rule.IsUnknownParty] holds.
//
// [*registry.Cache]: https://pkg.go.dev/github.com/waybill-token/waybill/registry#Cache
// [*registry.File]: https://pkg.go.dev/github.com/waybill-token/waybill/registry#File
type PartySource interface {
	Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error)
}

// New checks the configuration, makes a signature for a try, and returns the handler. It answers
// whatever path it is mounted on.
func New(c Config) (_ *Handler, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("capabilities: %w", err)
		}
	}()
	switch {
	case c.Checker == nil:
		return nil, errors.New("the field Checker must be set")
	case c.Key == nil:
		return nil, errors.New("the field Key must be set")
	case len(c.Certificates) == 0:
		return nil, errors.New("the field Certificates must be set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := ishare.ParsePartyID(string(c.Party)); err != nil {
		return nil, fmt.Errorf("own party: %w", err)
	}
	if c.Algorithm == "" {
		c.Algorithm = jws.RS256
	}
	if len(c.Roles) == 0 {
		c.Roles = []string{"ServiceProvider"}
	}
	o, err := newOffer(c)
	if err != nil {
		return nil, err
	}
	if c.Parties == nil && slices.ContainsFunc(o.restricted, Service.limited) {
		return nil, errors.New("the field Parties must be set: a service is for parties of some roles or data spaces only")
	}
	h := &Handler{log: logsum.New(c.Log), signer: &signer{
		config: c, offer: o, renewals: flight.New[string, string](1, renewalTimeout), semaphore: make(chan struct{}, 1),
	}}
	if _, err := h.signer.renew(context.Background()); err != nil {
		return nil, err
	}
	guarded := guard.Optional(c.Checker, ishare.ScopeISHARE)(http.HandlerFunc(h.answer))
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond.Correlation(w.Header())
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			respond.Error(w, http.StatusMethodNotAllowed, rule.CodeInvalidRequest, "capabilities are asked for with GET")
			return
		}
		guarded.ServeHTTP(w, r)
	})
	return h, nil
}

// A Handler answers GET /capabilities. Close it when it gets no more requests.
type Handler struct {
	http.Handler

	log    *logsum.Log
	signer *signer
}

// Close writes to the log what was only counted so far.
func (h *Handler) Close() { h.log.Close() }

func (h *Handler) answer(w http.ResponseWriter, r *http.Request) {
	token, err := h.sign(r)
	if err != nil { // a key or a registry that is out of reach or slow, or a client that has left
		if ctx := r.Context(); ctx.Err() == nil {
			h.log.Lasting(ctx, slog.LevelError, "capabilities could not be told", logsum.Reason(err), func() []slog.Attr {
				return []slog.Attr{slog.String("correlation", respond.Correlation(w.Header())), slog.Any("error", err)}
			})
		}
		respond.Unavailable(w, "the capabilities cannot be told at this time")
		return
	}
	respond.JSON(w, http.StatusOK, struct { // of iSHARE 3.0, and the same under the name of 2.x
		Token  string `json:"capabilitiesToken"`
		Token2 string `json:"capabilities_token"`
	}{token, token})
}

func (h *Handler) sign(r *http.Request) (string, error) {
	caller, ok := guard.Caller(r.Context())
	if !ok {
		return h.signer.public(r.Context())
	}
	services, err := h.signer.offer.visibleTo(r.Context(), caller.Party, h.signer.config.Parties)
	if err != nil {
		return "", err
	}
	return h.signer.restricted(r.Context(), caller.Client, services)
}
