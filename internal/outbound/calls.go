package outbound

import (
	"sync/atomic"
	"time"
)

// Calls are how calls to somebody ended.
type Calls struct {
	Answered uint64    // in a way that could be used
	Failed   uint64    // others
	Last     time.Time // when one was last answered; zero: never
}

// A CallCounter counts calls. It is safe for concurrent use.
type CallCounter struct {
	answered, failed atomic.Uint64
	last             atomic.Int64 // UNIX nanoseconds
}

// Note counts a call that ended.
func (c *CallCounter) Note(err error) {
	if err != nil {
		c.failed.Add(1)
		return
	}
	c.answered.Add(1)
	c.last.Store(time.Now().UnixNano())
}

// Calls are the present numbers.
func (c *CallCounter) Calls() Calls {
	calls := Calls{Answered: c.answered.Load(), Failed: c.failed.Load()}
	if last := c.last.Load(); last != 0 {
		calls.Last = time.Unix(0, last)
	}
	return calls
}
