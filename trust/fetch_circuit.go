package trust

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// A host that failed this often in a row is left alone for a moment, and then
// gets one call at a time until one succeeds. The moment is short, because a host
// that is well again should be used again; one call in it hurts nobody.
const (
	circuitFailures = 3
	circuitPause    = time.Second
)

// maxCircuits bounds how many failing hosts are remembered.
const maxCircuits = 1024

var errLeftAlone = errors.New("the host is left alone for a moment")

// circuits remembers which hosts are failing. The zero circuits is ready to use.
type circuits struct {
	mu      sync.Mutex
	failing map[string]*circuit // by host and port
}

type circuit struct {
	failures int
	cause    error     // of the last failure
	until    time.Time // no call before
	probing  bool      // a call is under way that decides
}

func (c *circuit) open() bool { return c.failures >= circuitFailures }

// admit says whether the host may be called now. Whoever is admitted reports.
func (c *circuits) admit(host string, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.failing[host]
	if state == nil || !state.open() {
		return nil
	}
	if state.probing || now.Before(state.until) {
		cause := fmt.Errorf("%w, after %d failures: %w", errLeftAlone, state.failures, state.cause)
		return &failure{cause: &unreachableError{cause}, until: state.until}
	}
	state.probing = true
	return nil
}

// report tells how the call went. A host that answers, however wrongly, is alive.
func (c *circuits) report(host string, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.As(err, new(*unreachableError)) {
		delete(c.failing, host)
		return
	}
	state := c.failing[host]
	if state == nil {
		state = c.remember(host, now)
	}
	state.failures++
	state.cause = err
	state.until = now.Add(circuitPause)
	state.probing = false
}

// remember makes room for another failing host, by forgetting those that would
// be called again anyway.
func (c *circuits) remember(host string, now time.Time) *circuit {
	if len(c.failing) >= maxCircuits {
		maps.DeleteFunc(c.failing, func(_ string, other *circuit) bool {
			return !other.probing && now.After(other.until)
		})
	}
	state := &circuit{}
	if len(c.failing) >= maxCircuits {
		return state // a host too many is simply called each time
	}
	if c.failing == nil {
		c.failing = map[string]*circuit{}
	}
	c.failing[host] = state
	return state
}

// open counts the hosts that are left alone.
func (c *circuits) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, state := range c.failing {
		if state.open() {
			n++
		}
	}
	return n
}
