package revocation

import (
	"context"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// attemptEvery is after how much silence a call is made a second time.
const attemptEvery = time.Second

// An attempt is what became of making a call once.
type attempt struct {
	body  []byte
	err   error
	first bool
}

// insist makes a call, and while nothing comes of it makes another every second, in the place
// of the one before. The first one stays, and may take all the time that the call has. So a server that
// is slow can answer, and one that hung answers soon after it does again, although it may never
// answer what it was asked before.
func (f *fetcher) insist(ctx context.Context, u *url.URL, c call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	var under sync.WaitGroup
	defer under.Wait()
	defer cancel()

	c.seen = new(atomic.Int64)
	done := make(chan attempt, c.timeout/attemptEvery+2) // as many as there may be
	running := 0
	end := func() {} // the attempt that is not the first
	start := func(first bool) error {
		if err := f.calls.take(u.Host); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		if !first {
			end = cancel
		}
		running++
		under.Go(func() {
			defer f.calls.give(u.Host)
			defer cancel()
			body, err := f.send(ctx, u, c)
			done <- attempt{body, err, first}
		})
		return nil
	}
	if err := start(true); err != nil {
		return nil, err
	}
	silence := time.NewTicker(attemptEvery)
	defer silence.Stop()
	var seen int64
	var problem error
	for {
		select {
		case it := <-done:
			running--
			if it.err == nil {
				return it.body, nil
			}
			if it.first || problem == nil {
				problem = it.err
			}
			if running == 0 {
				return nil, problem
			}
		case <-silence.C:
			if now := c.seen.Load(); now != seen {
				seen = now
				continue
			}
			end()
			_ = start(false) // or with the next second, when too many are under way
		}
	}
}
