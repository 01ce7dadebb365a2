package client

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/oauth2"
)

// Bounds of how a token is used.
const (
	maxLife     = 24 * time.Hour   // how long a token is kept, whatever the server says
	unstated    = time.Minute      // how long a token is kept whose server does not say
	maxMargin   = 10 * time.Second // for the way to the API, and its clock
	renewalFrom = 0.75             // of its life; see the package comment
	renewalTo   = 0.90
)

// Rests after a failed request.
const (
	rest           = time.Second      // without a token to use
	maxRenewalRest = 30 * time.Second // with one: doubles from failure to failure
	maxServerRest  = time.Minute      // that Retry-After can bring about, unless the configuration says less
)

// held is a token with what is needed to judge it. It does not change.
type held struct {
	token *oauth2.Token
	renew time.Time // from here on a successor is asked for in the background
	until time.Time // from here on the token is not used
}

// newHeld counts the life, of at most [maxLife], from when the request was sent: the server cannot have
// issued the token before.
func newHeld(token *oauth2.Token, sent time.Time, life time.Duration) *held {
	share := renewalFrom + (renewalTo-renewalFrom)*fraction()
	token.Expiry = sent.Add(life).Round(0)
	return &held{
		token: token,
		renew: sent.Add(time.Duration(float64(life) * share)),
		until: sent.Add(life - min(life/10, maxMargin)),
	}
}

func (h *held) fresh(now time.Time) bool  { return h != nil && !reached(now, h.renew) }
func (h *held) usable(now time.Time) bool { return h != nil && !reached(now, h.until) }

// reached goes by the monotonic clock and by the wall clock, whichever is ahead.
// The first stands still while a machine sleeps, the second may be set back.
func reached(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// copy keeps what one caller does to its token from all others.
func (h *held) copy() *oauth2.Token {
	token := *h.token
	return &token
}

// Token returns an access token that is valid for at least a tenth of its life or ten
// seconds, whichever is less. When there is none, it waits for one, no
// longer than ctx lives. The token's Extra("scope") is the scope that was granted. Its
// Extra("notes") is a []string when the answer differed from RFC 6749 section 5.1 in ways that leave
// no doubt: each says in what.
//
// The error is an [*Error] when the server answered and gave no token; it wraps the
// error of ctx when that ended. After any other error the token endpoint is out
// of reach, or the key would not sign.
func (c *Client) Token(ctx context.Context) (*oauth2.Token, error) {
	now := time.Now()
	if h := c.held.Load(); h.fresh(now) {
		return h.copy(), nil
	}
	h, f, err := c.join(ctx, now)
	switch {
	case err != nil:
		return nil, err
	case h != nil:
		return h.copy(), nil
	}
	return f.wait(ctx)
}

// Invalidate says that the server did not accept the access token, so that the
// next caller gets another. A token that has been replaced already is ignored:
// of a thousand callers who saw the old one refused, one discards it.
//
// [Client.HTTPClient] does this by itself.
func (c *Client) Invalidate(accessToken string) {
	if h := c.held.Load(); h != nil && h.token.AccessToken == accessToken {
		c.held.CompareAndSwap(h, nil)
	}
}

// A pending is one token request that any number of callers wait for.
type pending struct {
	done   chan struct{}
	cancel context.CancelFunc
	held   *held // set when done is closed, unless err is
	err    error
}

func (f *pending) wait(ctx context.Context) (*oauth2.Token, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("client: waiting for a token: %w", ctx.Err())
	}
	if f.err != nil {
		return nil, f.err
	}
	return f.held.copy(), nil
}

// join returns a token that can be used now, or else the request to wait for, or
// else why there is none. It starts a request when one is due.
func (c *Client) join(ctx context.Context, now time.Time) (*held, *pending, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	h := c.held.Load() // it may have come since the caller looked
	usable := h.usable(now)
	if !h.fresh(now) && c.flight == nil && !c.trouble.rests(now, usable) {
		c.flight = c.start(ctx)
	}
	switch {
	case usable:
		return h, nil, nil
	case c.flight != nil:
		return nil, c.flight, nil
	}
	return nil, nil, c.trouble.err
}

// start asks for a token in a goroutine of its own. What the caller's context
// carries is kept, such as its trace; its end is not, since others will wait too.
func (c *Client) start(ctx context.Context) *pending {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), totalTimeout)
	f := &pending{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer cancel()
		f.held, f.err = c.obtain(ctx)
		c.land(ctx, f)
	}()
	return f
}

func (c *Client) land(ctx context.Context, f *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	c.flight = nil
	switch {
	case c.closed:
		f.held, f.err = nil, ErrClosed
	case f.err != nil:
		level := slog.LevelWarn
		if c.trouble.err != nil && c.trouble.err.Error() == f.err.Error() {
			level = slog.LevelDebug // one cause is told once
		}
		c.trouble.add(f.err, c.maxRest)
		c.log.Log(ctx, level, "no token", "endpoint", c.endpoint, "failures", c.trouble.failures, "error", f.err)
	default:
		c.trouble = trouble{}
		c.held.Store(f.held)
		c.log.DebugContext(ctx, "token received", "endpoint", c.endpoint, "expires", f.held.token.Expiry, "notes", f.held.token.Extra("notes"))
	}
}

// trouble is the row of failed requests since the last token.
type trouble struct {
	err        error
	at         time.Time
	retryAfter time.Duration
	failures   int
}

func (t *trouble) add(err error, maxRest time.Duration) {
	t.err, t.at, t.retryAfter = err, time.Now(), min(retryAfterOf(err), maxRest)
	t.failures++
}

// rests reports whether it is too early for another request. Who has a token to
// use can wait longer.
func (t *trouble) rests(now time.Time, usable bool) bool {
	if t.err == nil {
		return false
	}
	length := rest
	if usable {
		length = min(rest<<min(t.failures, 10), maxRenewalRest)
	}
	length = max(length, t.retryAfter)
	return now.Before(t.at.Add(length))
}
