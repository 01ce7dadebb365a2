package registry

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// A registry that failed this often in a row is left alone, apart from one request
// in every pause. The pause is short so that a registry that is well again is used
// again at once: two requests a second hurt nobody.
const (
	circuitFailures = 3
	circuitPause    = 500 * time.Millisecond
)

// maxPause bounds the pause that a registry can ask for with Retry-After, and what clients are
// told of it: one request a second hurts nobody, and a registry that is well again is used at once.
const maxPause = time.Second

var errLeftAlone = errors.New("the registry is left alone for a moment")

// An unreachableError says that the registry gave no answer to judge: the network
// is broken, or it is overloaded, or it does not let us in.
type unreachableError struct {
	cause error
	wait  time.Duration // until it is worth to try again; zero: not known
}

func (e *unreachableError) Error() string { return e.cause.Error() }
func (e *unreachableError) Unwrap() error { return e.cause }

// A circuit keeps requests from a registry that is down. The zero circuit lets
// every request through.
type circuit struct {
	mu       sync.Mutex
	failures int       // in a row
	cause    error     // of the last one
	until    time.Time // no request before, when there were too many
	alive    time.Time // when a request was last answered

	newest         time.Time // when the last request was made
	newestAnswered time.Time // when the last one of those was made that were answered
}

// A request that hangs is made again, at the earliest hedgeAfter after it was made, when a later one was
// answered (hedges times at most, since some questions take longer than others), or when no other
// was made for as long. Whether that is so is looked at each hedgeTick.
const (
	hedgeAfter = time.Second
	hedgeTick  = 250 * time.Millisecond
	hedges     = 2
)

// again reports whether a request that was made at a time and hangs is to be made again.
func (c *circuit) again(began, now time.Time, overtaken *int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case now.Sub(began) < hedgeAfter:
		return false
	case c.newestAnswered.After(began) && *overtaken < hedges:
		*overtaken++
		return true
	case now.Sub(c.newest) >= hedgeAfter:
		c.newest = now
		return true
	}
	return false
}

// begun says that a request is made.
func (c *circuit) begun(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest = now
}

// admit returns nil when a request may be made now. A request that hangs does not
// keep the next one, a pause later, from being made: it tells how the registry was.
func (c *circuit) admit(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < circuitFailures {
		return nil
	}
	if now.Before(c.until) {
		return &unreachableError{
			cause: fmt.Errorf("%w after %d failures: %w", errLeftAlone, c.failures, c.cause),
			wait:  c.until.Sub(now),
		}
	}
	c.until = now.Add(circuitPause)
	return nil
}

// answered says that a request that began at a time was answered, however wrongly.
func (c *circuit) answered(began, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began.After(c.newestAnswered) {
		c.newestAnswered = began
	}
	c.failures, c.cause, c.alive = 0, nil, now
}

// failed says that a request got no answer that began at a time. One that began
// before the last answer came is history.
func (c *circuit) failed(began time.Time, e *unreachableError, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began.Before(c.alive) {
		return
	}
	c.failures++
	c.cause = e.cause
	c.until = now.Add(min(max(circuitPause, e.wait), maxPause))
}

// open reports whether the registry is left alone.
func (c *circuit) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures >= circuitFailures
}
