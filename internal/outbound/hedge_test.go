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
