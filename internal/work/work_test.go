package work_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/work"
)

// A crowd enters, and its members leave one by one when they are told to.
type crowd struct {
	gate    *work.Gate
	inside  int
	refused int
	mu      sync.Mutex
}

func (c *crowd) come(ctx context.Context, n int) {
	for range n {
		go func() {
			err := c.gate.Enter(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				c.refused++
			} else {
				c.inside++
			}
		}()
	}
	synctest.Wait()
}

func (c *crowd) leave(n int) {
	for range n {
		c.inside--
		c.gate.Leave()
		synctest.Wait()
	}
}

func (c *crowd) want(t *testing.T, what string, inside, refused int, busy bool) {
	t.Helper()
	if c.inside != inside || c.refused != refused || c.gate.Busy() != busy {
		t.Errorf("%s: %d inside, %d refused, busy: %t; want %d, %d, %t", what, c.inside, c.refused, c.gate.Busy(), inside, refused, busy)
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{gate: work.NewGate(8, 64)}
		c.come(t.Context(), 8)
		c.want(t, "all places are taken", 8, 0, false)
		c.come(t.Context(), 65)
		c.want(t, "as many wait as may", 8, 1, true)
		c.leave(40)
		c.want(t, "those who wait follow", 8, 1, false)
		time.Sleep(99 * time.Millisecond)
		c.come(t.Context(), 1)
		c.want(t, "a burst may last", 8, 1, false)
		time.Sleep(time.Millisecond)
		c.come(t.Context(), 2)
		c.want(t, "what lasts longer is none", 8, 3, true)
		c.leave(31)
		c.want(t, "who waits is served all the same", 2, 3, true)
		c.come(t.Context(), 1)
		c.want(t, "fewer are taken in", 2, 4, true)
		c.leave(2)
		c.come(t.Context(), 3)
		c.want(t, "until they are done", 2, 5, true)
		time.Sleep(99 * time.Millisecond)
		c.want(t, "and for as long as somebody comes in vain", 2, 5, true)
		time.Sleep(100 * time.Millisecond)
		c.want(t, "it ends when nobody does", 2, 5, false)
		c.come(t.Context(), 7)
		c.want(t, "and all places are there", 8, 5, false)
		c.leave(9)
		c.want(t, "nobody is left", 0, 5, false)
	})
}

// Clients that take turns keep all places taken for as long as they like, and none is refused while each waits for a
// short time only. When it takes long to be served, that is too much.
func TestTakingTurns(t *testing.T) {
	for _, test := range []struct {
		work    time.Duration
		refused bool
	}{{time.Millisecond, false}, {12 * time.Millisecond, false}, {60 * time.Millisecond, true}} {
		synctest.Test(t, func(t *testing.T) {
			g := work.NewGate(8, 64)
			var refused atomic.Int64
			var clients sync.WaitGroup
			end := time.Now().Add(2 * time.Second)
			for range 32 {
				clients.Go(func() {
					for time.Now().Before(end) {
						if g.Enter(t.Context()) != nil {
							refused.Add(1)
							time.Sleep(test.work)
							continue
						}
						time.Sleep(test.work)
						g.Leave()
					}
				})
			}
			clients.Wait()
			if (refused.Load() > 0) != test.refused {
				t.Errorf("%d were refused of 32 clients that take turns at 8 places, for %s each", refused.Load(), test.work)
			}
		})
	}
}

// Who gives up takes no place, and gives back one that came at the same time.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		for _, first := range append(slices.Repeat([]string{"both"}, 100), "the place", "the end") {
			g := work.NewGate(1, 8)
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error)
			go func() {
				err := g.Enter(ctx)
				if err == nil { // the place came first
					g.Leave()
					err = gone
				}
				ended <- err
			}()
			synctest.Wait()
			switch first {
			case "the place":
				g.Leave()
				cancel(gone)
			case "the end":
				cancel(gone)
				synctest.Wait()
				g.Leave()
			default: // the place is given before who waits has seen the end
				cancel(gone)
				g.Leave()
			}
			if err := <-ended; !errors.Is(err, gone) {
				t.Errorf("%s first: %v", first, err)
			}
			if err := g.Enter(t.Context()); err != nil || g.Busy() {
				t.Errorf("%s first: the place is lost: %v", first, err)
			}
			g.Leave()
		}
	})
}

// Goroutines that are ready to run and never wait are counted before the first of them is done, even
// where there is one processor only.
func TestThoseWhoWaitForAProcessorAreCounted(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	g, start := work.NewGate(1, 8), make(chan struct{})
	var refused atomic.Int64
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			<-start
			if g.Enter(t.Context()) != nil {
				refused.Add(1)
				return
			}
			g.Leave()
		})
	}
	close(start)
	all.Wait()
	if refused.Load() == 0 {
		t.Error("30 goroutines were done one after the other, and none was counted while it waited")
	}
}
