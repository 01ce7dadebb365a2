package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/oauth2"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/logsum"
)

// Bounds of how a token is used.
const (
	maxLife     = 24 * time.Hour   // how long a token is kept, whatever the server says
	defaultLife = time.Minute      // how long a token is kept whose server does not say
	maxMargin   = 10 * time.Second // for the way to the API, and its clock
	renewalFrom = 0.75             // of its life; see the package comment
	renewalTo   = 0.90
)

// Pauses after a failed request.
const (
	pause                = time.Second      // without a token to use
	maxRenewalPause      = 30 * time.Second // with one: doubles from failure to failure
	defaultMaxRetryAfter = time.Minute
)

// A cachedToken is a token with what is needed to judge it. It does not change.
type cachedToken struct {
	token *oauth2.Token
	renew time.Time // from here on a successor is asked for in the background
	until time.Time // from here on the token is not used
}

func (t *cachedToken) fresh(now time.Time) bool  { return t != nil && !reached(now, t.renew) }
func (t *cachedToken) usable(now time.Time) bool { return t != nil && !reached(now, t.until) }

// reached goes by the monotonic clock and by the wall clock, whichever is ahead.
// The first stands still while a machine sleeps, the second may be set back.
func reached(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// copy keeps what one caller does to its token from all others.
func (t *cachedToken) copy() *oauth2.Token {
	token := *t.token
	return &token
}

// Token returns an access token that is valid for at least a tenth of its life or ten seconds, whichever is less. When
// there is none, it waits for one, no longer than ctx lives. The token's Extra("scope") is the scope that was granted.
// Its Extra("notes") is a []string when the answer differed from RFC 6749 section 5.1 in ways that leave no doubt: each
// says in what.
//
// The error is an [*Error] when the server answered and gave no token; it wraps the error of ctx when that ended. After
// any other error the token endpoint is out of reach, or the key would not sign.
func (c *Client) Token(ctx context.Context) (*oauth2.Token, error) {
	now := time.Now()
	t := c.cached.Load()
	if t.fresh(now) {
		return t.copy(), nil
	}
	usable := t.usable(now)
	request, err := c.requests.Start(c.endpoint, func() error { return c.mayAsk(usable) }, c.obtain(ctx))
	switch {
	case errors.Is(err, flight.ErrClosed):
		return nil, ErrClosed
	case usable:
		return t.copy(), nil
	case err != nil:
		return nil, err
	}
	t, err = request.Wait(ctx)
	switch {
	case errors.Is(err, flight.ErrClosed):
		return nil, ErrClosed
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return nil, fmt.Errorf("client: waiting for a token: %w", ctx.Err())
	case err != nil:
		return nil, err
	}
	return t.copy(), nil
}

// Invalidate says that the server did not accept the access token, so that the next caller gets another. A token that
// has been replaced already is ignored: of a thousand callers who saw the old one refused, one discards it.
//
// [Client.HTTPClient] does this by itself.
func (c *Client) Invalidate(accessToken string) {
	if t := c.cached.Load(); t != nil && t.token.AccessToken == accessToken {
		c.cached.CompareAndSwap(t, nil)
	}
}

// mayAsk returns the error of the last request while it is too early for another one. Who has a token to
// use can wait longer.
func (c *Client) mayAsk(usable bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.backOff
	if b.err == nil {
		return nil
	}
	length := pause
	if usable {
		length = min(pause<<min(b.failures, 10), maxRenewalPause)
	}
	if time.Now().Before(b.at.Add(max(length, b.retryAfter))) {
		return b.err
	}
	return nil
}

// A backOff is the row of failed requests since the last token.
type backOff struct {
	err        error // of the last one
	at         time.Time
	retryAfter time.Duration
	failures   int
}

// obtain returns what is done to get a token, for all who wait for it. What the context of the caller who came first
// carries is kept, such as its trace; its end is not.
func (c *Client) obtain(caller context.Context) func(context.Context) (*cachedToken, error) {
	return func(bounded context.Context) (*cachedToken, error) {
		// Another request may have ended since the caller looked.
		t := c.cached.Load()
		if now := time.Now(); t.fresh(now) {
			return t, nil
		} else if err := c.mayAsk(t.usable(now)); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(caller), totalTimeout)
		defer cancel()
		defer context.AfterFunc(bounded, cancel)()
		t, err := c.request(ctx)
		if flight.GivenUp(bounded) {
			return nil, ErrClosed
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			level := slog.LevelWarn
			if c.backOff.err != nil && logsum.Same(c.backOff.err, err) {
				level = slog.LevelDebug // one cause is logged once
			}
			c.backOff = backOff{err, time.Now(), min(retryAfterOf(err), c.maxRetryAfter), c.backOff.failures + 1}
			c.log.Log(ctx, level, "no token", "endpoint", c.endpoint, "failures", c.backOff.failures, "error", err)
			return nil, err
		}
		c.backOff = backOff{}
		c.cached.Store(t)
		c.log.DebugContext(ctx, "token received", "endpoint", c.endpoint, "expires", t.token.Expiry, "notes", t.token.Extra("notes"))
		return t, nil
	}
}
