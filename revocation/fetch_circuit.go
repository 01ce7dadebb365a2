package revocation

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// An address that failed this often in a row is left alone for a moment, and then
// gets one call at a time until one succeeds. The moment is short, because an address
// that is well again should be used again; one call in it hurts nobody.
const (
	circuitFailures = 3
	circuitPause    = time.Second
)

// maxCircuits bounds how many failing addresses are remembered.
const maxCircuits = 1024

var errLeftAlone = errors.New("the address is left alone for a moment")

// circuits remembers which addresses are failing. The zero circuits is ready to use.
//
// It does not judge by the host: many authorities have their responder and their lists on
// one, and while the one fails the other may have to do.
type circuits struct {
	mu      sync.Mutex
	failing map[string]*circuit // by address, see call.circuit
}

type circuit struct {
	failures int
	cause    error     // of the last failure
	until    time.Time // no call before
	probing  bool      // a call is under way that decides
}

func (c *circuit) open() bool { return c.failures >= circuitFailures }

// admit says whether the address may be called now. Whoever is admitted reports.
func (c *circuits) admit(address string, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.failing[address]
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

// report tells how the call went. An address that answers, however wrongly, is alive.
func (c *circuits) report(address string, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.As(err, new(*unreachableError)) {
		delete(c.failing, address)
		return
	}
	state := c.failing[address]
	if state == nil {
		state = c.remember(address, now)
	}
	state.failures++
	state.cause = err
	state.until = now.Add(circuitPause)
	state.probing = false
}

// release takes back that a call was admitted, of which nobody knows how it would have gone.
func (c *circuits) release(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state := c.failing[address]; state != nil {
		state.probing = false
	}
}

// remember makes room for another failing address, by forgetting those that would
// be called again anyway.
func (c *circuits) remember(address string, now time.Time) *circuit {
	if len(c.failing) >= maxCircuits {
		maps.DeleteFunc(c.failing, func(_ string, other *circuit) bool {
			return !other.probing && now.After(other.until)
		})
	}
	state := &circuit{}
	if len(c.failing) >= maxCircuits {
		return state // an address too many is simply called each time
	}
	if c.failing == nil {
		c.failing = map[string]*circuit{}
	}
	c.failing[address] = state
	return state
}

// open counts the addresses that are left alone.
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
