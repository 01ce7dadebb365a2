// Package flight shares a call that is in flight between all who ask for the same key, and bounds how many calls are in
// flight.
//
// It is not golang.org/x/sync/singleflight. There a call has either the context of its first caller, and all who wait
// get "context canceled" when that one leaves; or a context of its own, and goes on when nobody waits any more. It is
// not the loading of github.com/maypok86/otter/v2 either: Get ends a call with its first caller, and Refresh goes on
// whatever becomes of its caller. All of them run any number of calls at once, ten thousand in a cache of ten, and none
// can be closed. Where a stranger can choose the keys, these bounds are needed.
package flight

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	// ErrBusy is that as many calls as allowed are under way.
	ErrBusy = errors.New("too many calls are under way")
	// ErrClosed is that the group was closed, before or during the call. It is also the [context.Cause] of such a call.
	ErrClosed = errors.New("the group of calls is closed")
	// ErrAbandoned is the [context.Cause] of a call for which nobody waits any more. Nobody is
	// left to get it as an error.
	ErrAbandoned = errors.New("nobody waits for the call any more")

	errNoReturn = errors.New("the call did not return")
)

// A Group runs calls, one at a time for each key. It is safe for concurrent use.
//
// A Group remembers no results. What a call finds out it has to remember itself before it returns; a caller who looked
// in that memory too early may then start another call, which should therefore look there first.
type Group[K comparable, V any] struct {
	limit   int
	timeout time.Duration
	ctx     context.Context // which no caller's context ends
	cancel  context.CancelCauseFunc
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows
	calls    map[K]*Call[V]
	inFlight int // the calls, and those that were abandoned and have not returned yet
	closed   bool
}

// A Call is in flight, and any number of callers wait for it.
type Call[V any] struct {
	cancel  context.CancelCauseFunc
	waiting int  // guarded by the group's mutex
	kept    bool // likewise: it goes on when nobody waits

	done  chan struct{}
	value V // this and err may be read once done is closed
	err   error
}

// New returns a group that runs limit calls at once at most, each no longer than timeout. Both must be
// more than nothing.
func New[K comparable, V any](limit int, timeout time.Duration) *Group[K, V] {
	g := &Group[K, V]{limit: limit, timeout: timeout, calls: map[K]*Call[V]{}}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	return g
}

// Do returns what the call in flight for key returns, and starts one with do if there is none: unless may, which is
// then asked first, has an error, which is returned. May must be quick and leave the group alone; nil allows every
// start. The context of do ends after the group's timeout, when the group is closed, and when everybody who waits has
// given up; nothing else of any caller's context is in it.
//
// The error is ErrBusy or ErrClosed when a call would have to be started and cannot be, the cause of ctx when that ends
// first, and otherwise the call's. Of a call that fails because the group is closed it is ErrClosed.
func (g *Group[K, V]) Do(ctx context.Context, key K, may func() error, do func(context.Context) (V, error)) (V, error) {
	c, err := g.join(key, false, may, do)
	if err != nil {
		var none V
		return none, err
	}
	defer g.leave(key, c)
	return c.Wait(ctx)
}

// Join is [Group.Do] in two steps, for who waits for several calls at once: the first joins or starts the call,
// and the second is [Call.Wait]. Whoever has joined must leave, once, at the latest when the
// wait is over. The errors are those of Do about starting; then there is nothing to leave.
func (g *Group[K, V]) Join(key K, do func(context.Context) (V, error)) (c *Call[V], leave func(), err error) {
	if c, err = g.join(key, false, nil, do); err != nil {
		return nil, nil, err
	}
	return c, func() { g.leave(key, c) }, nil
}

// GivenUp reports whether a call was given up, by the context that it was given: nobody waits any more, or
// the group was closed. Then its failure says nothing about whom it asked.
func GivenUp(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrAbandoned) || errors.Is(cause, ErrClosed)
}

// Start has the call made in the background: it goes on whether anybody waits or not, no longer than
// the group's timeout, and counts like any other. If there is a call for key in flight, that one
// goes on. May and the errors are those of [Group.Do] about starting.
func (g *Group[K, V]) Start(key K, may func() error, do func(context.Context) (V, error)) (*Call[V], error) {
	return g.join(key, true, may, do)
}

// Wait returns what the call returned, or the cause of ctx if that ends first.
func (c *Call[V]) Wait(ctx context.Context) (V, error) {
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// Len is how many calls are in flight, with those that were abandoned and have not returned yet.
func (g *Group[K, V]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inFlight
}

// Close ends all calls and returns when they have returned. None is started from then on.
func (g *Group[K, V]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(ErrClosed)
	g.running.Wait()
}

// join returns the call in flight for key, or starts one. It goes on when nobody waits if it is to be kept; otherwise
// one more waits for it.
func (g *Group[K, V]) join(key K, keep bool, may func() error, do func(context.Context) (V, error)) (*Call[V], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.calls[key]
	if c == nil {
		switch {
		case g.closed:
			return nil, ErrClosed
		case g.inFlight >= g.limit:
			return nil, fmt.Errorf("%w: %d", ErrBusy, g.inFlight)
		}
		if may != nil {
			if err := may(); err != nil {
				return nil, err
			}
		}
		ctx, cancel := context.WithCancelCause(g.ctx)
		c = &Call[V]{cancel: cancel, done: make(chan struct{}), err: errNoReturn}
		g.calls[key] = c
		g.inFlight++
		g.running.Go(func() {
			defer g.complete(ctx, key, c)
			bounded, end := context.WithTimeout(ctx, g.timeout)
			defer end()
			c.value, c.err = do(bounded)
		})
	}
	if keep {
		c.kept = true
	} else {
		c.waiting++
	}
	return c, nil
}

func (g *Group[K, V]) complete(ctx context.Context, key K, c *Call[V]) {
	if c.err != nil && errors.Is(context.Cause(ctx), ErrClosed) {
		c.err = ErrClosed
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(key, c)
	g.inFlight--
	c.cancel(nil)
	close(c.done)
}

// leave ends a call for which nobody waits any more. Whoever comes next starts another.
func (g *Group[K, V]) leave(key K, c *Call[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.waiting--
	if c.waiting == 0 && !c.kept {
		g.forget(key, c)
		c.cancel(ErrAbandoned)
	}
}

// forget does nothing to a call that was started after c for the same key.
func (g *Group[K, V]) forget(key K, c *Call[V]) {
	if g.calls[key] == c {
		delete(g.calls, key)
	}
}
