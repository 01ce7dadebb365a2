package isharetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
)

// ProviderID is the party identifier of a [Provider] that is not given another.
const ProviderID = "did:ishare:EU.NL.NTRNL-10000000"

// SecuredPath is the path of a [Provider] that asks for a token with the scope
// iSHARE. It answers who the token says that the caller is.
const SecuredPath = "/me"

// A ProviderConfig says what a [Provider] is like.
type ProviderConfig struct {
	// CA is trusted.
	CA *CA
	// Parties are known from the start.
	Parties []*Party
	// ID is the provider's identifier: [ProviderID] unless set.
	ID ishare.PartyID
	// AlsoKnownAs are further identifiers of the provider.
	AlsoKnownAs []ishare.PartyID
	// Roles are what a client must hold: [RoleServiceConsumer] unless set.
	Roles []string
	// Dataspaces are what a client must be a member of. Optional.
	Dataspaces []string
	// Scopes are granted besides iSHARE. Optional.
	Scopes []string
	// Lifetime is that of tokens, in whole seconds: an hour unless set.
	Lifetime time.Duration
	// Log gets an event for each token request: nowhere unless set.
	Log *slog.Logger
}

// A Provider is a server with a token endpoint at [TokenPath] and a service behind it at [SecuredPath], on a port of
// this machine. It asks nobody whether a certificate is revoked.
type Provider struct {
	// URL is the provider's base URL.
	URL string
	// Audience is the provider's identifier: the aud of assertions.
	Audience ishare.PartyID
	// Parties are what the provider knows, and can be changed while it runs.
	Parties *List

	closers []func()
}

// NewProvider starts a provider that trusts the CA and knows these parties. Close
// it when it is no longer needed. It panics when it cannot be started.
func NewProvider(ca *CA, parties ...*Party) *Provider {
	return must(StartProvider(ProviderConfig{CA: ca, Parties: parties}))
}

// StartProvider starts a provider. Close it when it is no longer needed. The error
// says what is wrong with the configuration, or that no port was to be had.
func StartProvider(c ProviderConfig) (*Provider, error) {
	if c.CA == nil {
		return nil, errors.New("isharetest: provider: no CA")
	}
	c.ID = cmp.Or(c.ID, ProviderID)
	c.Lifetime = cmp.Or(c.Lifetime, time.Hour)
	if c.Roles == nil {
		c.Roles = []string{RoleServiceConsumer}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{Audience: c.ID, Parties: NewList(c.Parties...)}
	if err := p.start(c); err != nil {
		p.Close()
		return nil, fmt.Errorf("isharetest: provider: %w", err)
	}
	return p, nil
}

func (p *Provider) start(c ProviderConfig) error {
	dir, err := os.MkdirTemp("", "isharetest-")
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() { _ = os.RemoveAll(dir) }) // in the folder for temporary files
	made, err := provider.New(provider.Config{
		Party: c.ID, AlsoKnownAs: c.AlsoKnownAs, Anchors: c.CA.Anchors(), Parties: p.Parties,
		Revocation: provider.Revocation{Mode: revocation.ModeOff},
		Data:       dir, NoHistory: true,
		Roles: c.Roles, Dataspaces: c.Dataspaces, Scopes: c.Scopes, Tokens: provider.Tokens{Lifetime: c.Lifetime},
		Secured: map[string]http.Handler{"GET " + SecuredPath: http.HandlerFunc(whoAmI)},
		Log:     c.Log,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = made.Run(ctx) // what it leaves behind is removed
	}()
	server := httptest.NewServer(made.Public())
	p.closers = append(p.closers, func() {
		cancel()
		<-stopped
	}, server.Close)
	p.URL = server.URL
	return nil
}

// Close stops the provider and removes what it left behind.
func (p *Provider) Close() {
	for _, f := range slices.Backward(p.closers) {
		f()
	}
	p.closers = nil
}

// whoAmI is the service behind the token.
func whoAmI(w http.ResponseWriter, r *http.Request) {
	caller, ok := guard.Caller(r.Context())
	if !ok {
		http.Error(w, "not guarded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, struct { // the client may be gone
		Party    ishare.PartyID `json:"party"`
		ClientID ishare.PartyID `json:"client_id"`
		Scope    string         `json:"scope"`
	}{caller.Party, caller.Client, caller.Scope.String()})
}
