package trust

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// How long a failure is remembered, so that a question that nobody answers is not
// asked by every request. What is out of reach may be back in a moment, and is
// spared by its circuit besides; an answer that is no good takes somebody to mend
// it; a certificate that names nobody to ask never will.
const (
	unreachableMemory = time.Second
	unusableMemory    = 10 * time.Second
	unnamedMemory     = time.Hour
)

var errClosed = errors.New("revocation: closed")

// asked is a question to the network whose answer is kept: asked once however
// many wait, asked again in the background before the answer ends. The zero
// asked is a question that was not put yet.
type asked[T any] struct {
	answer atomic.Pointer[answer[T]]

	mu      sync.Mutex
	flight  *flight[T] // under way, or nil
	failure *failure   // of the last time it was asked, or nil
}

// An answer is good until it ends, and should be asked for again before.
type answer[T any] struct {
	value T
	again time.Time
	until time.Time
}

// A flight is a question under way. Its fields may be read once it is done.
type flight[T any] struct {
	done    chan struct{}
	answer  *answer[T]
	failure *failure
}

// A failure is that a question got no answer.
type failure struct {
	cause error
	until time.Time // not asked again before
}

func (f *failure) Error() string { return f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

// newFailure remembers a failure for no longer than the one that it comes from.
func newFailure(cause error, at time.Time) *failure {
	memory := unusableMemory
	switch {
	case errors.Is(cause, ErrNamesNeither):
		memory = unnamedMemory
	case errors.As(cause, new(*unreachableError)):
		memory = unreachableMemory
	}
	until := at.Add(memory)
	if inner, ok := errors.AsType[*failure](cause); ok {
		until = earlier(until, inner.until)
	}
	return &failure{cause: cause, until: until}
}

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

// prompt has the question asked in the background when there is need to, nobody
// is asking, and the last failure is forgotten.
func (a *asked[T]) prompt(now time.Time, w *workers, ask func(context.Context) (*answer[T], error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.flight != nil || a.fresh(now) || a.failure != nil && now.Before(a.failure.until) {
		return
	}
	f := &flight[T]{done: make(chan struct{})}
	if !w.start(func(ctx context.Context) { a.land(ctx, f, ask) }) {
		a.failure = newFailure(errClosed, now)
		return
	}
	a.flight = f
}

func (a *asked[T]) land(ctx context.Context, f *flight[T], ask func(context.Context) (*answer[T], error)) {
	found, err := ask(ctx)
	if err != nil {
		f.failure = newFailure(err, time.Now())
	} else {
		f.answer = found
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flight, a.failure = nil, f.failure
	if f.answer != nil {
		a.answer.Store(f.answer)
	}
	close(f.done)
}

// wait returns the answer at hand, or waits for the one under way. It is called
// after prompt. The error is a [*failure], or the cause why ctx is done: whoever
// gives up leaves the question under way for the others.
func (a *asked[T]) wait(ctx context.Context, now time.Time) (*answer[T], error) {
	if at := a.live(now); at != nil {
		return at, nil
	}
	a.mu.Lock()
	f, failed, landed := a.flight, a.failure, a.answer.Load()
	a.mu.Unlock()
	switch {
	case f != nil:
		return f.wait(ctx)
	case failed != nil:
		return nil, failed
	}
	return landed, nil // since prompt
}

func (f *flight[T]) wait(ctx context.Context) (*answer[T], error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-f.done:
	}
	if f.failure != nil {
		return nil, f.failure
	}
	return f.answer, nil
}

// workers are the goroutines that ask. They end before stop returns.
type workers struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

func newWorkers() *workers {
	w := &workers{}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// start runs f unless the workers have stopped.
func (w *workers) start(f func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return false
	}
	w.running.Go(func() { f(w.ctx) })
	return true
}

func (w *workers) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

func (w *workers) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.cancel()
	w.running.Wait()
}
