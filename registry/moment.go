package registry

import "time"

// A moment is a time by both clocks of a machine. The zero moment is long ago.
type moment struct {
	steady time.Time // by the monotonic clock, which stands still while a machine sleeps
	wall   time.Time // by the wall clock, which may be set back
}

func momentOf(now time.Time) moment { return moment{steady: now, wall: now.Round(0)} }

// age goes by the clock that says more.
func (m moment) age(now time.Time) time.Duration {
	return max(now.Sub(m.steady), now.Round(0).Sub(m.wall))
}

// after reports whether m is later than another moment, by the monotonic clock.
func (m moment) after(other moment) bool { return m.steady.After(other.steady) }
