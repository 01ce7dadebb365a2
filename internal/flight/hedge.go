package flight

import (
	"context"
	"time"
)

// Hedge makes a call, and makes it once more, beside those that are under way, whenever again says so:
// it is asked at each tick, with the time when the last call began. The first result without an error counts, and
// ends the other calls; an error does only when no other call is under way. All calls have returned
// when Hedge does, so they must end with their context.
//
// A request that hangs may never be answered, although the server has been well again for a while.
func Hedge[V any](ctx context.Context, tick time.Duration, again func(began time.Time) bool, call func(context.Context) (V, error)) (V, error) {
	type result struct {
		value V
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	results, underWay, began := make(chan result), 0, time.Time{}
	start := func() {
		underWay, began = underWay+1, time.Now()
		go func() {
			value, err := call(ctx)
			results <- result{value, err}
		}()
	}
	start()
	defer func() {
		cancel()
		for ; underWay > 0; underWay-- {
			<-results
		}
	}()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case r := <-results:
			underWay--
			if r.err == nil || underWay == 0 {
				return r.value, r.err
			}
		case <-ticker.C:
			if ctx.Err() == nil && again(began) {
				start()
			}
		}
	}
}
