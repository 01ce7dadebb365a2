// Package work bounds how many requests keep the processors busy at once.
package work

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// patience is how long who waits may have waited before a place counts as missing: a few clients that take turns
	// keep all places taken, and none of them waits for long.
	patience = 50 * time.Millisecond

	// burst is for how long places may be missing: many clients may come at the same time. When more come all the time
	// than can be served, waiting helps nobody, and the fewer are in work the sooner the others have their answer: then
	// there are places/overload places, until none was missing for as long as a burst.
	burst    = 100 * time.Millisecond
	overload = 4

	// perProcessor is the default number of places: a few milliseconds of work.
	perProcessor = 32
)

// ErrBusy is that all places have been taken for too long.
var ErrBusy = errors.New("more requests are in work than can be answered in time")

// DefaultPlaces is the number of places that suits this machine.
func DefaultPlaces() int { return perProcessor * runtime.GOMAXPROCS(0) }

// A Gate has places for work that waits for nothing but a processor. It is safe for concurrent use.
type Gate struct {
	places, maxWaiting int

	mu      sync.Mutex // guards what follows
	taken   int
	waiting []waiter

	missingSince, missingLast time.Time // when a place was missing first, and last
}

// A waiter is told by closing granted that a place is given to it.
type waiter struct {
	granted chan struct{}
	since   time.Time
}

// NewGate returns a gate with one place at least, for which so many may wait at once.
func NewGate(places, waiting int) *Gate { return &Gate{places: max(1, places), maxWaiting: waiting} }

// Places is how many there are.
func (g *Gate) Places() int { return g.places }

// Busy reports whether [Gate.Enter] would refuse a newcomer, who counts as one that did come.
func (g *Gate) Busy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.hasPlace() && !g.mayWait()
}

// hasPlace notes when one is missing.
func (g *Gate) hasPlace() bool {
	now, places := time.Now(), g.places
	missing := len(g.waiting) >= g.maxWaiting || len(g.waiting) > 0 && now.Sub(g.waiting[0].since) >= patience
	if now.Sub(g.missingLast) >= burst {
		g.missingSince = now
	} else if now.Sub(g.missingSince) >= burst {
		places, missing = max(1, places/overload), true
	}
	if g.taken < places {
		return true
	}
	if missing {
		g.missingLast = now
	}
	return false
}

// mayWait is asked when there is no place.
func (g *Gate) mayWait() bool {
	return g.missingLast.Sub(g.missingSince) < burst && len(g.waiting) < g.maxWaiting
}

// Enter takes a place, for which it may wait a short time. The error is [ErrBusy], or why the context has ended;
// without one, [Gate.Leave] must be called.
func (g *Gate) Enter(ctx context.Context) error {
	granted, err := g.takeOrQueue()
	if err != nil {
		return err
	}
	if granted != nil {
		select {
		case <-granted:
		case <-ctx.Done():
			g.mu.Lock()
			defer g.mu.Unlock()
			if i := slices.IndexFunc(g.waiting, func(w waiter) bool { return w.granted == granted }); i >= 0 {
				g.waiting = slices.Delete(g.waiting, i, i+1)
			} else { // the place was given meanwhile
				g.release()
			}
			return context.Cause(ctx)
		}
	}
	// A goroutine runs until it has to wait, and this work never does. Unless all requests that have come get
	// here first, they queue in the scheduler, where they are not counted.
	runtime.Gosched()
	return nil
}

// takeOrQueue takes a place, or returns where to wait for one.
func (g *Gate) takeOrQueue() (granted chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hasPlace() {
		g.taken++
		return nil, nil //nolint:nilnil // there is nothing to wait for
	}
	if !g.mayWait() {
		return nil, ErrBusy
	}
	granted = make(chan struct{})
	g.waiting = append(g.waiting, waiter{granted, time.Now()})
	return granted, nil
}

// Leave gives the place to who has waited longest.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release()
}

func (g *Gate) release() {
	if len(g.waiting) > 0 {
		close(g.waiting[0].granted)
		g.waiting = slices.Delete(g.waiting, 0, 1) // a few hundred pointers at most
		return
	}
	g.taken--
}
