package registry

import (
	"testing"
	"time"
)

// The clocks differ after a machine slept, and after the wall clock was set.
func TestAgeGoesByTheClockThatSaysMore(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		steady, wall time.Duration // since the moment
		want         time.Duration
	}{
		"nothing happened": {time.Hour, time.Hour, time.Hour},
		"slept":            {time.Minute, 72 * time.Hour, 72 * time.Hour},
		"set back":         {time.Hour, -time.Hour, time.Hour},
		"just now":         {0, 0, 0},
	} {
		m := moment{steady: now.Add(-c.steady), wall: now.Round(0).Add(-c.wall)}
		if got := m.age(now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if m := momentOf(now); m.steady != now || m.wall != now.Round(0) {
		t.Errorf("%+v has lost a clock", m)
	}
}
