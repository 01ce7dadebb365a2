// Package bench measures how fast a token endpoint is, beside others on the same machine.
//
// Requests are signed before the window in which they are measured, in a closed loop over so many connections or in an
// open one at so many a second. Windows are short enough for the 30 seconds that an assertion lives. With several targets
// the windows take turns, and ratios are taken within a round: whatever else the machine does hits all alike.
package bench

import (
	"context"
	"errors"
	"math"
	"runtime"
	"time"

	"github.com/waybill-token/waybill/assertion"
)

const (
	// maxWindow is what a window sends at most, some 200 MB of requests, and maxLasting for how long.
	maxWindow  = 20_000
	maxLasting = 10 * time.Second

	// Each connection sends so many requests before anything is measured, in an open loop at most those of two seconds.
	warmUpEach    = 20
	warmUpSeconds = 2
)

// A Config says what to measure, and how.
type Config struct {
	// Targets are measured by turns. Ratios are those of the first to the others.
	Targets []*Target
	// Connections is how many are open to a target at once.
	Connections int
	// Rate is how many requests are due in a second: an open loop. Zero: a closed loop, in which a request is due when a
	// connection is free.
	Rate float64
	// Requests is how many are sent to each target, or Duration how long its windows last together: one of them is set.
	Requests int
	Duration time.Duration
	// Rounds is over how many windows they are spread at least.
	Rounds int
	// Progress is told what is done, how much of it is and out of how much. It is called by several goroutines at the
	// same time.
	Progress func(doing string, done, of int)
}

// A Measurement is what became of the requests to one target.
type Measurement struct {
	Target  *Target
	WarmUp  *Result   // what is not measured
	Windows []*Result // in order, one for each round
}

// Run measures, and returns a measurement of each target.
func Run(ctx context.Context, c Config) ([]*Measurement, error) {
	runs, all := make([]*run, len(c.Targets)), make([]*Measurement, len(c.Targets))
	for i, t := range c.Targets {
		runs[i], all[i] = &run{Config: c, target: t}, &Measurement{Target: t}
		var err error
		if all[i].WarmUp, err = runs[i].warmUp(ctx); err != nil {
			return nil, err
		}
	}
	for round := 0; !c.enough(all[0].Windows); round++ {
		done := total(all[0].Windows)
		for k := range runs { // whoever is first has the machine as the one before has left it
			i := (k + round) % len(runs)
			n, limit := runs[i].next(done)
			r, err := runs[i].window(ctx, runs[i].target.Client, n, limit)
			if err != nil {
				return nil, err
			}
			all[i].Windows = append(all[i].Windows, r)
		}
	}
	return all, nil
}

// enough reports whether all was sent.
func (c *Config) enough(results []*Result) bool {
	done := total(results)
	return len(results) > 0 && int(done.Latency.Count()) >= c.Requests && done.Elapsed >= c.Duration
}

// total is what became of the requests of several windows.
func total(results []*Result) *Result {
	all := new(Result)
	for _, r := range results {
		all.Add(r)
	}
	return all
}

// A run is what happens to one target.
type run struct {
	Config

	target *Target
	sent   int     // how many were, of those that are measured
	speed  float64 // requests a second, in the last window
}

// warmUp sends what is not measured, until the server knows all that it is to know. There are few connections to a
// server that is to get to know many clients, or else it protects itself from so much work at once.
func (r *run) warmUp(ctx context.Context) (*Result, error) {
	least := r.Connections * warmUpEach
	if r.Rate > 0 {
		least = min(least, int(r.Rate*warmUpSeconds)+1)
	}
	all, warming := new(Result), *r
	if warming.target.WarmUp > least {
		least, warming.Connections = warming.target.WarmUp, min(r.Connections, 2*runtime.GOMAXPROCS(0))
	}
	for warming.sent < least {
		result, err := warming.window(ctx, r.target.known(), least-warming.sent, 0)
		if err != nil {
			return nil, err
		}
		all.Add(result)
	}
	r.speed = warming.speed
	return all, nil
}

// next is how many requests the next window has, and for how long a closed loop sends them: zero means all.
func (r *run) next(done *Result) (n int, limit time.Duration) {
	rounds := max(r.Rounds, 1)
	if r.Duration == 0 {
		return max(min((r.Requests+rounds-1)/rounds, r.Requests-int(done.Latency.Count())), 1), 0
	}
	limit = min(r.Duration/time.Duration(rounds), r.Duration-done.Elapsed, maxLasting)
	if r.Rate > 0 {
		return int(math.Ceil(limit.Seconds() * r.Rate)), 0
	}
	return int(limit.Seconds()*r.speed*4/3) + r.Connections, limit // a third more, so that they last
}

// window signs n requests, or as many as there is time for, and sends them.
func (r *run) window(ctx context.Context, client func(int) (*assertion.Maker, error), n int, limit time.Duration) (*Result, error) {
	if n = min(n, maxWindow); r.Rate > 0 {
		n = min(n, int(math.Ceil(r.Rate*maxLasting.Seconds())))
	}
	expiry := time.Now().Add(maxAge)
	requests, err := r.target.sign(ctx, client, r.sent, n, func(done int) { r.Progress("signing", done, n) })
	if err != nil {
		return nil, err
	}
	alarm, err := newAlarm()
	if err != nil {
		return nil, err
	}
	defer alarm.close()
	defer context.AfterFunc(ctx, alarm.close)()
	r.Progress("measuring "+r.target.Name, 0, len(requests))
	l := &load{
		dial: r.target.dial, requests: requests, connections: r.Connections, rate: r.Rate, limit: limit, expiry: expiry,
		pid: r.target.PID, wait: alarm.wait,
	}
	result, err := l.fire(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case result.Latency.Count() > 0:
	case time.Now().Before(expiry):
		return nil, errors.New("bench: not one request could be sent in a window: measure for longer, or in fewer rounds")
	default:
		return nil, errors.New("bench: signing takes so long that assertions have expired before they are sent")
	}
	r.sent += int(result.Latency.Count())
	r.speed = result.Throughput()
	r.Progress("measuring "+r.target.Name, len(requests), len(requests))
	return result, nil
}
