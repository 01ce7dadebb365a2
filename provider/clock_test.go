package provider_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/provider"
)

// Each step of the clock is one line in the log, and its end another; in between it is told what it is and what it
// costs, as long as it costs something.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	type tick struct {
		passes time.Duration // before the look
		step   time.Duration // of the wall clock, besides
		used   bool          // the store forgets at that time
		tells  string        // what the problem holds; empty: there is none
	}
	const second, minute, hour = time.Second, time.Minute, time.Hour
	for name, c := range map[string]struct {
		ticks     []tick
		set, over int // lines in the log
	}{
		"right":                     {ticks: []tick{{passes: second, used: true}, {passes: hour, used: true}, {passes: second}}},
		"smoothly adjusted":         {ticks: []tick{{passes: second, step: second}, {passes: second, step: -second}, {passes: second, step: 1999 * time.Millisecond}}},
		"set back, nothing is used": {ticks: []tick{{passes: second, step: -hour, tells: "set back by 1h0m0s"}, {passes: 4 * minute, tells: "set back"}, {passes: minute}}, set: 1, over: 1},
		"set back": {ticks: []tick{
			{passes: second, used: true},
			{passes: second, step: -hour, tells: "set back by 1h0m0s; if it is wrong now, assertions are refused as issued in the future; until 2026-11-29T12:00:01Z, assertions that end before 2026-11-29T12:00:01Z get no token"},
			{passes: 59 * minute, tells: "until 2026-11-29T12:00:01Z"},
			{passes: minute},
		}, set: 1, over: 1},
		"set back, and right again": {ticks: []tick{
			{passes: second, used: true}, {passes: second, step: -hour, tells: "set back by 1h0m0s"}, {passes: minute, tells: "set back"}, {passes: second, step: hour}, {passes: second},
		}, set: 1, over: 1},
		"forward":                     {ticks: []tick{{passes: second, step: hour, used: true, tells: "went forward by 1h0m0s: it was set, or the machine was suspended"}, {passes: 4 * minute, tells: "forward"}, {passes: minute}}, set: 1, over: 1},
		"forward and back, when idle": {ticks: []tick{{passes: second, step: hour, tells: "forward"}, {passes: minute, step: -hour}}, set: 1, over: 1},
		"forward and back": {ticks: []tick{
			{passes: second, step: hour, used: true, tells: "went forward by 1h0m0s"},
			{passes: second, step: -hour, tells: "set back by 1h0m0s; if it is wrong now, assertions are refused as issued in the future; until 2026-11-29T13:00:01Z"},
			{passes: 59 * minute, tells: "until 2026-11-29T13:00:01Z"},
			{passes: minute},
		}, set: 2, over: 1},
		"two steps": {ticks: []tick{{passes: second, step: 2 * second, tells: "forward by 2s"}, {passes: 2 * minute, step: 3 * second, tells: "forward by 3s"}, {passes: 4 * minute, tells: "forward by 3s"}, {passes: minute}}, set: 2, over: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var passed time.Duration
			wall := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
			floor := wall.Add(-2 * hour)
			log := &transcript{}
			watch := provider.NewClockWatch(func() (time.Time, time.Duration) { return wall, passed }, func() time.Time { return floor }, slog.New(slog.NewJSONHandler(log, nil)))
			for i, tick := range c.ticks {
				passed, wall = passed+tick.passes, wall.Add(tick.passes+tick.step)
				if tick.used && wall.After(floor) {
					floor = wall
				}
				watch.Look(t.Context())
				if err := watch.Err(); (err == nil) != (tick.tells == "") || err != nil && !strings.Contains(err.Error(), tick.tells) {
					t.Errorf("tick %d: %v, want %q", i, err, tick.tells)
				}
			}
			if found, over := log.problems(t, "clock"); len(found) != c.set || len(over) != c.over {
				t.Errorf("%d lines and %d of the end, want %d and %d:\n%s", len(found), len(over), c.set, c.over, log)
			}
		})
	}
}

// A clock that is behind what it was before the start is told without a step.
func TestClockBehindTheLastLife(t *testing.T) {
	t.Parallel()
	wall := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	watch := provider.NewClockWatch(func() (time.Time, time.Duration) { return wall, 0 }, func() time.Time { return wall.Add(time.Hour) }, slog.New(slog.DiscardHandler))
	watch.Look(t.Context())
	if err := watch.Err(); err == nil || !strings.Contains(err.Error(), "behind what it was before the start; until 2026-11-29T13:00:00Z") {
		t.Error(err)
	}
}
