package flight

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	testLimit   = 4
	testTimeout = time.Minute
)

// A server takes a second to answer with the number of the call, and ends with its context.
type server struct {
	calls  atomic.Int64
	causes sync.Map // of calls that were ended, by number: errors
}

func (s *server) call(ctx context.Context) (int64, error) {
	n := s.calls.Add(1)
	select {
	case <-time.After(time.Second):
		return n, nil
	case <-ctx.Done():
		s.causes.Store(n, context.Cause(ctx))
		return 0, fmt.Errorf("call %d: %w", n, ctx.Err())
	}
}

func hang(ctx context.Context) (int64, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

// wantEnded expects that a call was ended, and why.
func (s *server) wantEnded(tb testing.TB, n int64, why error) {
	tb.Helper()
	cause, _ := s.causes.Load(n)
	if err, ok := cause.(error); !ok || !errors.Is(err, why) {
		tb.Errorf("call %d was ended by %v, want %v", n, cause, why)
	}
}

func (s *server) wantCalls(tb testing.TB, want int64) {
	tb.Helper()
	if got := s.calls.Load(); got != want {
		tb.Errorf("%d calls, want %d", got, want)
	}
}

func newGroup(tb testing.TB) *Group[string, int64] {
	tb.Helper()
	g := New[string, int64](testLimit, testTimeout)
	tb.Cleanup(g.Close)
	return g
}

func wantLen(tb testing.TB, g *Group[string, int64], want int) {
	tb.Helper()
	synctest.Wait()
	if got := g.Len(); got != want {
		tb.Errorf("%d calls under way, want %d", got, want)
	}
}

func TestDoSharesACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := newGroup(t)
		var callers sync.WaitGroup
		for range 1000 {
			callers.Go(func() {
				if n, err := g.Do(t.Context(), "a", nil, s.call); n != 1 || err != nil {
					t.Errorf("Do = %d, %v", n, err)
				}
			})
		}
		callers.Wait()
		wantLen(t, g, 0)
		if n, err := g.Do(t.Context(), "a", nil, s.call); n != 2 || err != nil {
			t.Errorf("the next Do = %d, %v", n, err)
		}
	})
}

func TestDoIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := newGroup(t)
		var callers sync.WaitGroup
		var served, busy atomic.Int64
		began := time.Now()
		for i := range 10 * testLimit {
			callers.Go(func() {
				_, err := g.Do(t.Context(), fmt.Sprint(i), nil, s.call)
				switch {
				case err == nil:
					served.Add(1)
				case errors.Is(err, ErrBusy) && time.Since(began) == 0:
					busy.Add(1)
				default:
					t.Errorf("Do after %s: %v", time.Since(began), err)
				}
			})
		}
		callers.Wait()
		if served.Load() != testLimit || busy.Load() != 9*testLimit {
			t.Errorf("%d served, %d told that it is busy", served.Load(), busy.Load())
		}
		s.wantCalls(t, testLimit)
		if _, err := g.Do(t.Context(), "a", nil, s.call); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A full group has place for whoever asks what is being asked.
func TestDoJoinsAFullGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := newGroup(t)
		for i := range testLimit {
			if _, err := g.Start(fmt.Sprint(i), nil, s.call); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Do(t.Context(), "0", nil, s.call); err != nil {
			t.Error(err)
		}
		s.wantCalls(t, testLimit)
	})
}

// Only the caller who has a call started is asked whether it may be, and not for a call that cannot be.
func TestDoIf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := newGroup(t)
		refused := errors.New("refused")
		asked := 0
		may := func(answer error) func() error {
			return func() error { asked++; return answer }
		}
		if _, err := g.Do(t.Context(), "a", may(refused), s.call); !errors.Is(err, refused) || g.Len() != 0 || asked != 1 {
			t.Errorf("DoIf = %v, %d under way, asked %d times", err, g.Len(), asked)
		}
		for i := range testLimit {
			go g.Do(t.Context(), fmt.Sprint(i), may(nil), s.call)
			synctest.Wait()
		}
		if _, err := g.Do(t.Context(), "0", may(refused), s.call); err != nil || asked != 1+testLimit {
			t.Errorf("joined: %v, asked %d times", err, asked)
		}
		time.Sleep(time.Second) // all land
		for i := range testLimit {
			if _, err := g.Start(fmt.Sprint(i), nil, s.call); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Do(t.Context(), "more", may(refused), s.call); !errors.Is(err, ErrBusy) || asked != 1+testLimit {
			t.Errorf("full: %v, asked %d times", err, asked)
		}
		synctest.Wait()
		s.wantCalls(t, 2*testLimit)
	})
}

// A call ends when the last of those who wait gives up, and not before; its place is free when
// it has returned.
func TestDoEndsWhatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := newGroup(t)
		const callers = 20_000
		var waiting sync.WaitGroup
		for i := range callers {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*time.Microsecond)
			waiting.Go(func() {
				defer cancel()
				if _, err := g.Do(ctx, "a", nil, s.call); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Do = %v", err)
				}
			})
		}
		time.Sleep((callers - 1) * time.Microsecond)
		wantLen(t, g, 1)
		time.Sleep(time.Microsecond)
		waiting.Wait()
		wantLen(t, g, 0)
		s.wantCalls(t, 1)
		s.wantEnded(t, 1, ErrAbandoned)
	})
}

// A call that was abandoned and does not return keeps its place, gets no callers, and does not take
// away the call that came after.
func TestDoAfterAnAbandonedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := newGroup(t)
		stubborn := func(context.Context) (int64, error) {
			time.Sleep(10 * time.Second)
			return -1, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Do(ctx, "a", nil, stubborn); err == nil {
			t.Error("the caller did not give up")
		}
		wantLen(t, g, 1)
		if n, err := g.Do(t.Context(), "a", nil, s.call); n != 1 || err != nil {
			t.Errorf("Do = %d, %v", n, err)
		}
		next, err := g.Start("a", nil, hang)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the stubborn one lands
		wantLen(t, g, 1)
		if joined, err := g.Start("a", nil, s.call); joined != next || err != nil {
			t.Errorf("another call was started, %v", err)
		}
	})
}

func TestStartGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := newGroup(t)
		given, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		cancel(enough)
		for _, start := range []func() error{
			func() error { _, err := g.Start("a", nil, s.call); return err },
			func() error { // a call that was waited for
				go g.Do(t.Context(), "b", nil, s.call)
				synctest.Wait()
				_, err := g.Start("b", nil, s.call)
				return err
			},
		} {
			if err := start(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // so that the calls are numbered in this order
		}
		for _, key := range []string{"a", "b"} {
			if _, err := g.Do(given, key, nil, s.call); !errors.Is(err, enough) {
				t.Errorf("Do = %v, want the cause why the caller gave up", err)
			}
		}
		wantLen(t, g, 2)
		f, err := g.Start("a", nil, s.call)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Wait(t.Context()); n != 1 || err != nil {
			t.Errorf("Wait = %d, %v", n, err)
		}
		s.wantCalls(t, 2)
	})
}

func TestStartIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t)
		for i := range testLimit {
			if _, err := g.Start(fmt.Sprint(i), nil, hang); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Start("more", nil, hang); !errors.Is(err, ErrBusy) {
			t.Errorf("Start = %v", err)
		}
		time.Sleep(testTimeout)
		wantLen(t, g, 0)
	})
}

// The call's error is told as it is, its end by the timeout as well.
func TestErrorsOfCalls(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		call func(context.Context) (int64, error)
		want error
	}{
		"its own":   {func(context.Context) (int64, error) { return 0, broken }, broken},
		"timeout":   {hang, context.DeadlineExceeded},
		"no return": {func(context.Context) (int64, error) { runtime.Goexit(); return 1, nil }, errNoReturn},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t)
			if _, err := g.Do(t.Context(), "a", nil, c.call); !errors.Is(err, c.want) {
				t.Errorf("%s: Do = %v", name, err)
			}
			wantLen(t, g, 0)
		})
	}
}

// The bubble fails if a goroutine is left.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s server
		g := New[string, int64](testLimit, testTimeout)
		background, err := g.Start("b", nil, s.call)
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := g.Do(t.Context(), "a", nil, s.call)
			waiting <- err
		}()
		late, err := g.Start("late", nil, func(context.Context) (int64, error) {
			time.Sleep(10 * time.Second)
			return 7, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		g.Close()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("Close took %s, want as long as the last call", took)
		}
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("Do = %v", err)
		}
		if _, err := background.Wait(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Wait = %v", err)
		}
		if n, err := late.Wait(t.Context()); n != 7 || err != nil {
			t.Errorf("what a call found nevertheless: %d, %v", n, err)
		}
		for n := range int64(2) {
			s.wantEnded(t, n+1, ErrClosed)
		}
		if _, err := g.Do(t.Context(), "c", nil, s.call); !errors.Is(err, ErrClosed) {
			t.Errorf("Do = %v after Close", err)
		}
		g.Close()
	})
}
