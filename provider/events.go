package provider

import (
	"context"
	"net/http"
	"reflect"
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
	return Events{
		Stage: joined(a.Stage, b.Stage, func(ctx context.Context, stage string, began time.Time, err error) {
			a.Stage(ctx, stage, began, err)
			b.Stage(ctx, stage, began, err)
		}),
		Decided:        joined(a.Decided, b.Decided, func(ctx context.Context, d *tokenendpoint.Decision) { a.Decided(ctx, d); b.Decided(ctx, d) }),
		Guarded:        joined(a.Guarded, b.Guarded, func(r *http.Request, d guard.Decision) { a.Guarded(r, d); b.Guarded(r, d) }),
		Checked:        joined(a.Checked, b.Checked, func(err error) { a.Checked(err); b.Checked(err) }),
		Revoked:        joined(a.Revoked, b.Revoked, func(what accesstoken.TokenRevocation) { a.Revoked(what); b.Revoked(what) }),
		UpstreamFailed: joined(a.UpstreamFailed, b.UpstreamFailed, func(route string) { a.UpstreamFailed(route); b.UpstreamFailed(route) }),
	}
}

// joined is both where there are both, and else the one that there is, or neither.
func joined[F any](a, b, both F) F {
	switch {
	case reflect.ValueOf(a).IsNil():
		return b
	case reflect.ValueOf(b).IsNil():
		return a
	}
	return both
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

// Revoke implements [accesstoken.TokenRevocations].
func (r toldRevocations) Revoke(ctx context.Context, what accesstoken.TokenRevocation) error {
	err := r.TokenRevocations.Revoke(ctx, what)
	if err == nil {
		r.told(what)
	}
	return err
}
