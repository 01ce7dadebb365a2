package outbound

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// A CircuitPolicy is when a circuit is open.
type CircuitPolicy struct {
	// Failures in a row open it.
	Failures int
	// Pause is how long nobody is called after that, and between two calls while it is open. It is short where
	// one call in it hurts nobody, so that a server that is well again is used at once.
	Pause time.Duration
	// MaxPause bounds the pause that a server can ask for with Retry-After: Pause unless set.
	MaxPause time.Duration
	// OneAtATime keeps an open circuit closed to others until the call that it admitted is over. Otherwise a
	// call that hangs does not keep the next one, a pause later, from telling how the server is.
	OneAtATime bool
}

// ErrCircuitOpen is wrapped by every [OpenError].
var ErrCircuitOpen = errors.New("the address is left alone for a moment")

// An OpenError is that a circuit is open. Its sentence speaks of an address; whoever calls something else has its own.
type OpenError struct {
	Failures int       // in a row
	Cause    error     // the last one
	Until    time.Time // nobody is called before
}

// Error tells the last failure.
func (e *OpenError) Error() string {
	return fmt.Sprintf("%v, after %d failures: %v", ErrCircuitOpen, e.Failures, e.Cause)
}

// Unwrap returns the last failure and [ErrCircuitOpen]. The failure comes first, as it is the cause of an outage: a log that
// counts by causes has one then, whether the server was called or left alone.
func (e *OpenError) Unwrap() []error { return []error{e.Cause, ErrCircuitOpen} }

// A Circuit keeps calls from a server that is down. Make it with [NewCircuit].
//
// It is not one of github.com/sony/gobreaker/v2: that one keeps everybody out for as long as the call that it
// admitted hangs, counts a call that was given up as a success or a failure, counts failures of calls that were made
// before the last answer, and knows neither the last failure nor Retry-After.
type Circuit struct {
	policy CircuitPolicy

	mu       sync.Mutex // guards what follows
	failures int        // in a row
	cause    error      // the last failure
	until    time.Time  // no call before, when there were too many
	probing  bool       // the one call at a time is under way
	answered time.Time  // when a call was last answered
}

// NewCircuit returns a circuit that lets every call through.
func NewCircuit(p CircuitPolicy) *Circuit {
	p.MaxPause = max(p.MaxPause, p.Pause)
	return &Circuit{policy: p}
}

// Admit returns nil when a call may be made now. Whoever is admitted tells what came of it, with Answered, Failed
// or Release.
func (c *Circuit) Admit() *OpenError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures < c.policy.Failures {
		return nil
	}
	now := time.Now()
	if c.probing || now.Before(c.until) {
		return &OpenError{Failures: c.failures, Cause: c.cause, Until: c.until}
	}
	if c.policy.OneAtATime {
		c.probing = true
	} else {
		c.until = now.Add(c.policy.Pause)
	}
	return nil
}

// Answered says that a call was answered, however wrongly.
func (c *Circuit) Answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.cause, c.probing, c.answered = 0, nil, false, time.Now()
}

// Failed says that a call got no answer that began at a time, and for how long the server asked to be spared. A call
// that began before the last answer came counts for nothing.
func (c *Circuit) Failed(began time.Time, cause error, retryAfter time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began.Before(c.answered) {
		return
	}
	c.failures++
	c.cause = cause
	c.until = time.Now().Add(min(max(c.policy.Pause, retryAfter), c.policy.MaxPause))
	c.probing = false
}

// Release says that a call was given up, so that nobody knows how it would have gone.
func (c *Circuit) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probing = false
}

// Open reports whether calls are held back.
func (c *Circuit) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures >= c.policy.Failures
}

// Circuits are circuits by address, of those that are failing; at most so many are remembered. Make
// them with [NewCircuits].
type Circuits struct {
	policy CircuitPolicy
	limit  int

	mu      sync.Mutex
	failing map[string]*Circuit
}

// NewCircuits returns circuits that remember limit failing addresses. One too many is called each time.
func NewCircuits(p CircuitPolicy, limit int) *Circuits {
	return &Circuits{policy: p, limit: limit, failing: map[string]*Circuit{}}
}

// Admit returns nil when the address may be called now. Whoever is admitted reports.
func (c *Circuits) Admit(address string) *OpenError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if circuit := c.failing[address]; circuit != nil {
		return circuit.Admit()
	}
	return nil
}

// Report tells what came of a call that began at a time. An address that answers, however wrongly, is alive: an error
// counts as a failure when it is an [*UnreachableError].
func (c *Circuits) Report(address string, began time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.As(err, new(*UnreachableError)) {
		delete(c.failing, address)
		return
	}
	circuit := c.failing[address]
	if circuit == nil {
		circuit = NewCircuit(c.policy)
		now := time.Now()
		if len(c.failing) >= c.limit {
			// Those that would let a call through. Nobody else touches them while c.mu is held.
			maps.DeleteFunc(c.failing, func(_ string, other *Circuit) bool { return !other.probing && now.After(other.until) })
		}
		if len(c.failing) < c.limit {
			c.failing[address] = circuit
		}
	}
	circuit.Failed(began, err, 0)
}

// Release is [Circuit.Release] for an address.
func (c *Circuits) Release(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if circuit := c.failing[address]; circuit != nil {
		circuit.Release()
	}
}

// Open counts the addresses whose circuits are open.
func (c *Circuits) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, circuit := range c.failing {
		if circuit.Open() {
			n++
		}
	}
	return n
}
