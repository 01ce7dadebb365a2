// Package flight shares a call that is under way between all who ask for the same key, and
// bounds how many calls are under way.
//
// It is not golang.org/x/sync/singleflight: there the call of whoever came first has that one's context, so that
// all who wait get "context canceled" when that one leaves, and with a context of its own it goes on when nobody waits any
// more. It is not the loading of github.com/maypok86/otter/v2 either: Get ends the call with its first caller, and
// Refresh goes on whatever becomes of its caller. All of them run any number of calls at once, ten thousand in a
// cache of ten, and none can be closed. What a stranger can choose the keys of needs these bounds.
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
	// ErrClosed is that the group was closed, before or during the call. It is also the
	// [context.Cause] of such a call.
	ErrClosed = errors.New("the group of calls is closed")
	// ErrAbandoned is the [context.Cause] of a call for which nobody waits any more. Nobody is
	// left to get it as an error.
	ErrAbandoned = errors.New("nobody waits for the call any more")

	errNoReturn = errors.New("the call did not return")
)

// A Group runs calls, one at a time for each key. It is safe for concurrent use.
//
// A Group remembers no results. What a call finds out it has to remember itself before it returns;
// a caller who looked in that memory too early may then start another call, which should
// therefore look there first.
type Group[K comparable, V any] struct {
	limit   int
	timeout time.Duration
	ctx     context.Context // which no caller's context ends
	cancel  context.CancelCauseFunc
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	flights map[K]*Flight[V]
	inAir   int // the flights, and those that were abandoned and have not returned yet
	closed  bool
}

// A Flight is a call under way that any number of callers wait for.
type Flight[V any] struct {
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
	g := &Group[K, V]{limit: limit, timeout: timeout, flights: map[K]*Flight[V]{}}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	return g
}

// Do returns what the call under way for key returns, and starts call if there is none: unless may, which is then
// asked first, has an error, which is returned. May must be quick and leave the group alone; nil allows every start. The call's
// context ends after the group's timeout, when the group is closed, and when everybody who waits
// has given up; nothing else of any caller's context is in it.
//
// The error is ErrBusy or ErrClosed when call would have to be started and cannot be, the cause of
// ctx when that ends first, and otherwise the call's. Of a call that fails because the group is
// closed it is ErrClosed.
func (g *Group[K, V]) Do(ctx context.Context, key K, may func() error, call func(context.Context) (V, error)) (V, error) {
	f, err := g.join(key, may, call)
	if err != nil {
		var none V
		return none, err
	}
	defer g.leave(key, f)
	return f.Wait(ctx)
}

// Join is [Group.Do] in two steps, for who waits for several calls at once: the first joins or starts the call,
// and the second is [Flight.Wait]. Whoever has joined must leave, once, at the latest when the
// wait is over. The errors are those of Do about starting; then there is nothing to leave.
func (g *Group[K, V]) Join(key K, call func(context.Context) (V, error)) (f *Flight[V], leave func(), err error) {
	if f, err = g.join(key, nil, call); err != nil {
		return nil, nil, err
	}
	return f, func() { g.leave(key, f) }, nil
}

// GivenUp reports whether a call was given up, by the context that it was given: nobody waits any more, or
// the group was closed. Then its failure says nothing about whom it asked.
func GivenUp(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrAbandoned) || errors.Is(cause, ErrClosed)
}

// Start has the call made in the background: it goes on whether anybody waits or not, no longer than
// the group's timeout, and counts like any other. If there is a call for key under way, that one
// goes on. May and the errors are those of [Group.Do] about starting.
func (g *Group[K, V]) Start(key K, may func() error, call func(context.Context) (V, error)) (*Flight[V], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, err := g.find(key, may, call)
	if err == nil {
		f.kept = true
	}
	return f, err
}

// Wait returns what the call returned, or the cause of ctx if that ends first.
func (f *Flight[V]) Wait(ctx context.Context) (V, error) {
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// Len is how many calls are under way, with those that were abandoned and have not returned yet.
func (g *Group[K, V]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inAir
}

// Close ends all calls and returns when they have returned. None is started from then on.
func (g *Group[K, V]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(ErrClosed)
	g.running.Wait()
}

func (g *Group[K, V]) join(key K, may func() error, call func(context.Context) (V, error)) (*Flight[V], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, err := g.find(key, may, call)
	if err == nil {
		f.waiting++
	}
	return f, err
}

// find returns the flight under way, or starts one.
func (g *Group[K, V]) find(key K, may func() error, call func(context.Context) (V, error)) (*Flight[V], error) {
	f := g.flights[key]
	switch {
	case f != nil:
		return f, nil
	case g.closed:
		return nil, ErrClosed
	case g.inAir >= g.limit:
		return nil, fmt.Errorf("%w: %d", ErrBusy, g.inAir)
	}
	if may != nil {
		if err := may(); err != nil {
			return nil, err
		}
	}
	return g.start(key, call), nil
}

func (g *Group[K, V]) start(key K, call func(context.Context) (V, error)) *Flight[V] {
	ctx, cancel := context.WithCancelCause(g.ctx)
	f := &Flight[V]{cancel: cancel, done: make(chan struct{}), err: errNoReturn}
	g.flights[key] = f
	g.inAir++
	g.running.Go(func() {
		defer g.land(ctx, key, f)
		bounded, end := context.WithTimeout(ctx, g.timeout)
		defer end()
		f.value, f.err = call(bounded)
	})
	return f
}

func (g *Group[K, V]) land(ctx context.Context, key K, f *Flight[V]) {
	if f.err != nil && errors.Is(context.Cause(ctx), ErrClosed) {
		f.err = ErrClosed
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(key, f)
	g.inAir--
	f.cancel(nil)
	close(f.done)
}

// leave ends a call for which nobody waits any more. Whoever comes next starts another.
func (g *Group[K, V]) leave(key K, f *Flight[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.waiting--
	if f.waiting == 0 && !f.kept {
		g.forget(key, f)
		f.cancel(ErrAbandoned)
	}
}

// forget leaves a flight alone that took the place of f.
func (g *Group[K, V]) forget(key K, f *Flight[V]) {
	if g.flights[key] == f {
		delete(g.flights, key)
	}
}
