package provider

import (
	"context"
	"net/http"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/tokenadmin"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Events are told what the provider does, for metrics and traces. They are called by many goroutines at once, and must be
// quick. Each is optional.
type Events struct {
	// Stage is told of each stage of a token request when it has ended: see [tokenendpoint.Stages].
	Stage func(ctx context.Context, stage string, began time.Time, err error)
	// Decided is told of each token request.
	Decided func(context.Context, *tokenendpoint.Decision)
	// Guarded is told of each request that was let in or refused by its access token, anywhere.
	Guarded func(*http.Request, guard.Decision)
	// Checked is told of each access token that was looked at, with nil for one that is good, or
	// an error of package accesstoken: [accesstoken.ErrInvalid] and those that wrap it, or another when it could not be checked.
	Checked func(error)
	// Revoked is told of each revocation of access tokens that was made here.
	Revoked func(accesstoken.TokenRevocation)
	// UpstreamFailed is told, by the path of its route, of each request that was let in and that its upstream did not answer.
	UpstreamFailed func(route string)
}

// Join returns Events of which both are told, a first. What neither is told of stays unset.
func Join(a, b Events) Events {
	if a.Stage == nil {
		a.Stage = b.Stage
	} else if first := a.Stage; b.Stage != nil {
		a.Stage = func(ctx context.Context, stage string, began time.Time, err error) {
			first(ctx, stage, began, err)
			b.Stage(ctx, stage, began, err)
		}
	}
	if a.Decided == nil {
		a.Decided = b.Decided
	} else if first := a.Decided; b.Decided != nil {
		a.Decided = func(ctx context.Context, d *tokenendpoint.Decision) { first(ctx, d); b.Decided(ctx, d) }
	}
	if a.Guarded == nil {
		a.Guarded = b.Guarded
	} else if first := a.Guarded; b.Guarded != nil {
		a.Guarded = func(r *http.Request, d guard.Decision) { first(r, d); b.Guarded(r, d) }
	}
	if a.Checked == nil {
		a.Checked = b.Checked
	} else if first := a.Checked; b.Checked != nil {
		a.Checked = func(err error) { first(err); b.Checked(err) }
	}
	if a.UpstreamFailed == nil {
		a.UpstreamFailed = b.UpstreamFailed
	} else if first := a.UpstreamFailed; b.UpstreamFailed != nil {
		a.UpstreamFailed = func(route string) { first(route); b.UpstreamFailed(route) }
	}
	return a
}

// A Trail keeps what must not be lost of what was decided, and who did what. Its errors keep tokens back: see
// [tokenendpoint.Config] and [tokenadmin.Config].
type Trail interface {
	Token(context.Context, *tokenendpoint.Decision) error
	Revocation(context.Context, tokenadmin.Revocation) error
}

// A toldChecker tells of the checks of another one.
type toldChecker struct {
	guard.Checker

	told func(error)
}

// Check implements [guard.Checker].
func (c toldChecker) Check(ctx context.Context, token string) (*accesstoken.Claims, error) {
	claims, err := c.Checker.Check(ctx, token)
	c.told(err)
	return claims, err
}

// A toldRevocations tells of what was revoked.
type toldRevocations struct {
	accesstoken.TokenRevocations

	told func(accesstoken.TokenRevocation)
}

func (r toldRevocations) Revoke(ctx context.Context, what accesstoken.TokenRevocation) error {
	err := r.TokenRevocations.Revoke(ctx, what)
	if err == nil {
		r.told(what)
	}
	return err
}
