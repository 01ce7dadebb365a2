package main

import (
	"cmp"
	"math"
	"math/rand/v2" //nolint:depguard // a simulation that anybody can repeat
	"slices"
)

// What is the same in every run. Times are in seconds.
const (
	lifetime = 30.0 // of an assertion
	leeway   = 10.0 // by how much a client's clock may be ahead, and longer than exp for which an assertion is taken

	rate     = 100.0 // tokens a second, half of them in each region
	end      = 110.0
	failing  = 45.0 // when it begins
	takeOver = 5.0  // until another store has taken over
	healing  = 40.0 // until a partition ends

	near, far = 0.001, 0.040 // round trips within a region and between them
	nearLag   = 0.020        // by which a replica in the same region is behind, on average
	farLag    = 0.300        // and one in the other region
	stray     = 0.05         // share of the clients whose clock may be wrong by the whole leeway
)

// A failure is what goes wrong in region 0, where a store that both regions share has its primary.
type failure int

const (
	nothing   failure = iota
	process           // the primary dies, its replica nearby takes over
	region            // all in region 0 dies, region 1 takes over
	partition         // the regions cannot reach each other; whoever decides on fail-over is with region 1
)

// A strategy is a way to keep which assertions were used.
type strategy struct {
	name     string
	regional bool // each region has a store of its own
	routed   bool // and every client its region, which nobody but an operator changes
	wait     bool // a replica has each write, whichever it is, before the answer
	sync     bool // the replica in the other region has it
	guard    float64
}

// noGuard takes every assertion again from the moment at which another store has taken over. A guard of g seconds takes none
// that says it was made earlier than g seconds after that moment.
const noGuard = -1e9

// An outcome is what came of one run.
type outcome struct {
	double  int       // assertions that were accepted twice
	refused int       // honest requests without a token, replays left out
	waited  []float64 // for the store, by who got a token
}

// A use is an assertion that is presented.
type use struct {
	at        float64
	assertion int
	iat       float64
	home      int // region of the client
	by        int // region to which it comes, if clients may go to either
	replay    bool
}

// A day is what happens whatever the strategy is: who asks when, and how far behind replicas are when something fails.
// There are honest requests, and for each a second one with the same assertion, some time before it expires.
type day struct {
	uses              []use
	nearLost, farLost float64 // for so long before the failure, a replica in the region or in the other one has nothing
}

// newDay makes one; the same seed makes the same.
func newDay(seed uint64) *day {
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // as above
	d := &day{nearLost: r.ExpFloat64() * nearLag, farLost: r.ExpFloat64() * farLag}
	at := r.ExpFloat64() / rate
	for i := 0; at < end; i++ {
		ahead := 2*r.Float64() - 1
		if r.Float64() < stray {
			ahead = leeway * r.Float64()
		}
		honest := use{at: at, assertion: i, iat: math.Floor(at + ahead), home: r.IntN(2)}
		honest.by = honest.home
		again := honest
		again.replay, again.by, again.at = true, r.IntN(2), at+r.Float64()*(honest.iat+lifetime+leeway-at)
		d.uses = append(d.uses, honest, again)
		at += r.ExpFloat64() / rate
	}
	slices.SortStableFunc(d.uses, func(a, b use) int { return cmp.Compare(a.at, b.at) })
	return d
}

// A store knows which assertions were used, and when it said so: zero stands for never.
type store struct {
	used   []float64
	opened float64 // when it took over from another; 0: it has been there from the beginning
}

// successor is a store that takes over at a time, and has what the other had acknowledged before another.
func (s *store) successor(at, until float64) *store {
	next := &store{used: slices.Clone(s.used), opened: at}
	for assertion, acknowledged := range next.used {
		if acknowledged > until {
			next.used[assertion] = 0
		}
	}
	return next
}

// A run is one strategy through one failure.
type run struct {
	strategy
	failure

	lost   float64   // how long before the failure writes are lost
	stores [2]*store // by the region that asks; one and the same, while it is shared and whole
	over   bool      // the take-over has happened
	healed bool
}

// simulate runs a strategy through a failure.
func simulate(s strategy, f failure, d *day) outcome {
	first, second := &store{used: make([]float64, len(d.uses))}, &store{used: make([]float64, len(d.uses))}
	r := &run{strategy: s, failure: f, stores: [2]*store{first, first}, lost: d.farLost}
	if s.regional {
		r.stores[1] = second
	}
	switch {
	case s.sync, s.wait && f == process:
		r.lost = 0
	case f == process:
		r.lost = d.nearLost
	}
	var o outcome
	accepted := make([]int, len(d.uses))
	for _, u := range d.uses {
		r.advance(u.at)
		at := u.by
		if s.routed {
			at = u.home
		}
		good := r.present(u, at)
		switch {
		case good:
			o.waited = append(o.waited, r.latency(at))
			o.double += accepted[u.assertion] // it is presented twice
			accepted[u.assertion] = 1
		case !u.replay:
			o.refused++
		}
	}
	return o
}

// advance does what happens by itself until a time.
func (r *run) advance(now float64) {
	if now >= failing+takeOver && !r.over {
		r.over = true
		r.promote(failing + takeOver)
	}
	if now >= failing+healing && !r.healed {
		r.healed = true
		if r.failure == partition && !r.regional {
			r.stores[0] = r.stores[1] // the old primary becomes a replica, and forgets what it alone knew
		}
	}
}

// promote lets another store take over.
func (r *run) promote(at float64) {
	next := r.stores[0].successor(at, failing-r.lost)
	switch {
	case r.failure == process && r.regional:
		r.stores[0] = next
	case r.failure == process, r.failure == region && !r.regional:
		r.stores = [2]*store{next, next}
	case r.failure == region: // the clients of region 0 come to region 1, which has heard of none of their assertions
		moved := *r.stores[1]
		moved.opened = at
		r.stores[0] = &moved // the same pairs; only to these clients it is new
	case r.failure == partition && !r.regional:
		r.stores[1] = next
	}
}

// present says whether an assertion is accepted by the servers of a region.
func (r *run) present(u use, at int) bool {
	s := r.stores[at]
	if !r.reaches(u.at, at) || u.iat < s.opened+r.guard && s.opened > 0 || s.used[u.assertion] > 0 {
		return false
	}
	s.used[u.assertion] = u.at
	return true
}

// reaches reports whether the servers of a region reach a store that may answer.
func (r *run) reaches(now float64, at int) bool {
	down := now >= failing && now < failing+takeOver
	cut := now >= failing && now < failing+healing // the regions, in a partition
	switch {
	case r.failure == nothing, r.regional && r.failure == partition, r.regional && at == 1:
		return true
	case r.failure == partition && at == 0: // the old primary goes on, unless it has to wait for the other side
		return !r.sync || !cut
	}
	return !down
}

// latency is what a server of a region waits for the store.
func (r *run) latency(at int) float64 {
	waits := near
	primary := 0
	if r.over && (r.failure == region || r.failure == partition) {
		primary = 1
	}
	if !r.regional && at != primary && (r.failure != partition || r.healed || !r.over) {
		waits = far
	}
	switch {
	case r.sync:
		waits += far
	case r.wait:
		waits += near
	}
	return waits
}
