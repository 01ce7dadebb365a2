package revocation

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/outbound"
)

// How long a failure is remembered, so that a question that nobody answers is not
// asked by every request. Whatever the failure is, it may be over in a moment: two seconds after
// that at the latest there is an answer. Within them, an answer that was no good counts
// by what it cost to get it. Only a certificate that names nobody to ask never changes.
const (
	failureMemory = time.Second
	costlyMemory  = 800 * time.Millisecond // more, for an answer of the largest size
	unnamedMemory = time.Hour
)

// asked is a question to the network whose answer is kept, and asked for again before it
// ends. The zero asked is a question that was not put yet.
type asked[T any] struct {
	answer  atomic.Pointer[answer[T]] // the last one, or nil
	failure atomic.Pointer[failure]   // of the last time it was asked, or nil
}

// An answer is good until it ends, and should be asked for again before.
type answer[T any] struct {
	value T
	again time.Time
	until time.Time
}

// A failure is that a question got no answer.
type failure struct {
	cause error
	until time.Time // not asked again before
}

func (f *failure) Error() string { return f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// newFailure remembers a failure for no longer than the one that it comes from. That too much
// is under way is not remembered: it costs nothing to find out again.
func newFailure(cause error, at time.Time) *failure {
	memory := failureMemory
	costly, isCostly := errors.AsType[*costlyError](cause)
	tooLarge, isTooLarge := errors.AsType[*outbound.TooLargeError](cause)
	switch {
	case errors.Is(cause, flight.ErrBusy):
		memory = 0
	case errors.Is(cause, ErrNamesNeither):
		memory = unnamedMemory
	case isCostly:
		memory += time.Duration(min(costly.size, maxListAnswer)) * costlyMemory / maxListAnswer
	case isTooLarge:
		memory += time.Duration(min(tooLarge.Read, maxListAnswer)) * costlyMemory / maxListAnswer
	}
	until := at.Add(memory)
	if inner, ok := errors.AsType[*failure](cause); ok {
		until = earlier(until, inner.until)
	}
	if open, ok := errors.AsType[*outbound.OpenError](cause); ok {
		until = earlier(until, open.Until)
	}
	return &failure{cause: cause, until: until}
}

// A costlyError is that so many bytes of an answer were read that was no good.
type costlyError struct {
	cause error
	size  int64
}

func (e *costlyError) Error() string { return e.cause.Error() }
func (e *costlyError) Unwrap() error { return e.cause }

// live is the answer at hand, or nil when there is none or it has ended.
func (a *asked[T]) live(now time.Time) *answer[T] {
	if at := a.answer.Load(); at != nil && now.Before(at.until) {
		return at
	}
	return nil
}

// fresh reports whether there is no need to ask.
func (a *asked[T]) fresh(now time.Time) bool {
	at := a.live(now)
	return at != nil && now.Before(at.again)
}

// failed is the failure that is remembered, or nil.
func (a *asked[T]) failed(now time.Time) *failure {
	if f := a.failure.Load(); f != nil && now.Before(f.until) {
		return f
	}
	return nil
}

// known is what there is to say without asking; both are nil when there is nothing. A flight begins
// with it: another one may have landed since it was asked for.
func (a *asked[T]) known(now time.Time) (*answer[T], error) {
	if a.fresh(now) {
		return a.live(now), nil
	}
	if failed := a.failed(now); failed != nil {
		return nil, failed
	}
	return nil, nil
}

// settle remembers what came of asking. When asking was given up, nothing did.
func (a *asked[T]) settle(ctx context.Context, found *answer[T], err error) (*answer[T], error) {
	switch {
	case err == nil:
		a.answer.Store(found)
		a.failure.Store(nil)
		return found, nil
	case flight.GivenUp(ctx):
		return nil, context.Cause(ctx)
	}
	failed := newFailure(err, time.Now())
	a.failure.Store(failed)
	return nil, failed
}
