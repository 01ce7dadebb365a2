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
	// burst is how long newcomers may wait for a place once there is none: many clients may come at the same
	// time. When more come all the time than can be served, waiting helps nobody, and the fewer are taken in the sooner the others have their answer: then there are
	// places/overload places, until for as long as a burst nobody has found them taken.
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
	places, room int

	mu      sync.Mutex // guards what follows
	taken   int
	waiting []chan struct{} // each is closed when a place is given to who waits there

	since, last time.Time // when a place was missing first, and last
}

// NewGate returns a gate with one place at least, for which so many may wait at once.
func NewGate(places, waiting int) *Gate { return &Gate{places: max(1, places), room: waiting} }

// Places is how many there are.
func (g *Gate) Places() int { return g.places }

// Busy reports whether [Gate.Enter] would refuse a newcomer, who counts as one that did come.
func (g *Gate) Busy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.hasPlace() && !g.mayWait()
}

// hasPlace notes when there is none.
func (g *Gate) hasPlace() bool {
	now, places := time.Now(), g.places
	if now.Sub(g.last) >= burst {
		g.since = now
	} else if now.Sub(g.since) >= burst {
		places = max(1, places/overload)
	}
	if g.taken < places {
		return true
	}
	g.last = now
	return false
}

// mayWait is asked when there is no place.
func (g *Gate) mayWait() bool {
	return g.last.Sub(g.since) < burst && len(g.waiting) < g.room
}

// Enter takes a place, for which it may wait a short time. The error is [ErrBusy], or why the context has ended;
// without one, [Gate.Leave] must be called.
func (g *Gate) Enter(ctx context.Context) error {
	turn, err := g.arrive()
	if err != nil {
		return err
	}
	if turn != nil {
		select {
		case <-turn:
		case <-ctx.Done():
			g.giveUp(turn)
			return context.Cause(ctx)
		}
	}
	// A goroutine runs until it has to wait, and this work never does. Unless all who have arrived get
	// here first, they stand in line where nobody counts them: in the scheduler.
	runtime.Gosched()
	return nil
}

// arrive takes a place, or returns where to wait for one.
func (g *Gate) arrive() (turn chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hasPlace() {
		g.taken++
		return nil, nil //nolint:nilnil // there is nothing to wait for
	}
	if !g.mayWait() {
		return nil, ErrBusy
	}
	turn = make(chan struct{})
	g.waiting = append(g.waiting, turn)
	return turn, nil
}

// giveUp leaves the line, or the place that was given meanwhile.
func (g *Gate) giveUp(turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, turn); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		return
	}
	g.pass()
}

// Leave gives the place to who has waited longest.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pass()
}

func (g *Gate) pass() {
	if len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = slices.Delete(g.waiting, 0, 1) // a few hundred pointers at most
		return
	}
	g.taken--
}
