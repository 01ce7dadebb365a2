package outbound

import (
	"context"
	"time"
)

// A Hedge says when a call is made once more beside those that are under way. A request that hangs may never
// be answered, although the server has been well again for a while.
type Hedge struct {
	// Every is how often Again is asked.
	Every time.Duration
	// Again reports whether to make the call once more, by when the last one began.
	Again func(began time.Time) bool
	// Replace ends the last call when another one begins. The first goes on whatever happens: a server
	// that is slow may answer it.
	Replace bool
}

// Hedged makes a call, and makes it again when the hedge says so. The first result without an error counts, and
// ends the other calls. When all have failed, the error is that of the first. All calls have returned when Hedged
// does, so they must end with their context.
func Hedged[V any](ctx context.Context, h Hedge, call func(context.Context) (V, error)) (V, error) {
	type result struct {
		value V
		err   error
		first bool
	}
	ctx, cancel := context.WithCancel(ctx)
	results, underWay, began := make(chan result), 0, time.Time{}
	end := func() {} // the last call, unless it is the first
	start := func(first bool) {
		underWay, began = underWay+1, time.Now()
		ctx, cancel := context.WithCancel(ctx)
		if !first && h.Replace {
			end()
			end = cancel
		}
		go func() {
			defer cancel()
			value, err := call(ctx)
			results <- result{value, err, first}
		}()
	}
	start(true)
	defer func() {
		cancel()
		for ; underWay > 0; underWay-- {
			<-results
		}
	}()
	ticker := time.NewTicker(h.Every)
	defer ticker.Stop()
	var none V
	var failure error // of the first call
	for {
		select {
		case r := <-results:
			underWay--
			if r.err == nil {
				return r.value, nil
			}
			if r.first {
				failure = r.err
			}
			if underWay == 0 {
				return none, failure
			}
		case <-ticker.C:
			if ctx.Err() == nil && h.Again(began) {
				start(false)
			}
		}
	}
}
