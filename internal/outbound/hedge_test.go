package outbound

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The first good result counts, whichever call it is of; an error only counts when nothing else can come.
func TestHedged(t *testing.T) {
	broken := errors.New("broken")
	type step struct {
		takes time.Duration // zero: it hangs
		err   error
	}
	const interval = time.Second
	for name, c := range map[string]struct {
		calls []step
		want  int // the number of the call whose result counts
		err   error
		after time.Duration
	}{
		"one":                        {[]step{{500 * time.Millisecond, nil}}, 1, nil, 500 * time.Millisecond},
		"one that fails":             {[]step{{500 * time.Millisecond, broken}}, 0, broken, 500 * time.Millisecond},
		"the second":                 {[]step{{}, {300 * time.Millisecond, nil}}, 2, nil, 1300 * time.Millisecond},
		"the first, which is slow":   {[]step{{2500 * time.Millisecond, nil}, {}, {}}, 1, nil, 2500 * time.Millisecond},
		"the third, after a failure": {[]step{{}, {300 * time.Millisecond, broken}, {300 * time.Millisecond, nil}}, 3, nil, 2300 * time.Millisecond},
		"none in time":               {[]step{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}}, 0, context.DeadlineExceeded, 9500 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 9500*time.Millisecond)
			defer cancel()
			var underWay atomic.Int64
			calls := make(chan int, len(c.calls)+1)
			for i := range c.calls {
				calls <- i + 1
			}
			began := time.Now()
			n, err := Hedged(ctx, Hedge{Every: 250 * time.Millisecond, Again: func(began time.Time) bool { return time.Since(began) >= interval }},
				func(ctx context.Context) (int, error) {
					underWay.Add(1)
					defer underWay.Add(-1)
					n := <-calls
					s := c.calls[n-1]
					if s.takes == 0 {
						<-ctx.Done()
						return 0, ctx.Err()
					}
					time.Sleep(s.takes)
					if s.err != nil {
						return 0, s.err
					}
					return n, nil
				})
			if n != c.want || !errors.Is(err, c.err) || time.Since(began) != c.after {
				t.Errorf("%s: %d, %v after %s", name, n, err, time.Since(began))
			}
			if underWay.Load() > 0 || len(calls) > 0 {
				t.Errorf("%s: %d calls under way, %d not made", name, underWay.Load(), len(calls))
			}
		})
	}
}

// When all calls fail, the first one tells why, whichever ended first.
func TestHedgedTellsWhyTheFirstCallFailed(t *testing.T) {
	for _, takes := range [][]time.Duration{{1500 * time.Millisecond, time.Second}, {1500 * time.Millisecond, 100 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int64
			failures := []error{errors.New("first"), errors.New("second")}
			once := func(time.Time) bool { return calls.Load() < 2 }
			_, err := Hedged(t.Context(), Hedge{Every: time.Second, Again: once}, func(context.Context) (int, error) {
				n := calls.Add(1) - 1
				time.Sleep(takes[n])
				return 0, failures[n]
			})
			if !errors.Is(err, failures[0]) || calls.Load() != 2 {
				t.Errorf("%d calls, %v", calls.Load(), err)
			}
		})
	}
}

// A hedge that replaces has two calls under way at most, and never ends the first.
func TestHedgedReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, underWay atomic.Int64
		h := Hedge{Every: time.Second, Again: func(time.Time) bool { return true }, Replace: true}
		began := time.Now()
		n, err := Hedged(t.Context(), h, func(ctx context.Context) (int64, error) {
			n := calls.Add(1)
			underWay.Add(1)
			defer underWay.Add(-1)
			if n == 1 {
				select {
				case <-time.After(5500 * time.Millisecond):
					return n, nil
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}
			time.Sleep(time.Millisecond) // the one before ends
			if now := underWay.Load(); now != 2 {
				t.Errorf("%d calls under way with call %d", now, n)
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if n != 1 || err != nil || calls.Load() != 6 || time.Since(began) != 5500*time.Millisecond {
			t.Errorf("%d, %v after %s and %d calls", n, err, time.Since(began), calls.Load())
		}
	})
}
