package hostile

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/waybill-token/waybill/assertion"
)

// What may happen for a while.
const (
	down         = "down"       // the server is stopped and started: there may be no answer
	crashed      = "crashed"    // it was killed a moment ago: it cannot vouch for what was used before
	remembering  = "remembered" // it was killed less than the life of an assertion ago
	registryOut  = "registry"   // out of reach, or back for less than the time that recovery may take
	statusOut    = "revocation" // OCSP and lists, likewise
	unreachable  = "no answer"
	young        = assertion.Lifetime + 4*time.Second // the life of what may have been used before a start
	lag          = 4 * time.Second                    // after which what the registry says is known: its record was fresh, and asked for
	recovery     = 2 * time.Second
	recoverySlow = 5 * time.Second // in the short form, beside whatever else the machine does
)

// A window is a time in which something may happen.
type window struct {
	what     string
	from, to time.Time // to is zero while it lasts
}

// A standing is what the registry says from a time on.
type standing struct {
	from  time.Time
	value string
}

// An oracle knows which answers are right.
type oracle struct {
	mu        sync.Mutex
	windows   []window
	standings []standing
	tallies   map[string]map[string]int // by actor and outcome
	wrong     []string
}

func newOracle() *oracle { return &oracle{tallies: map[string]map[string]int{}} }

// open begins a window, and the function that it returns ends it, some time later.
func (o *oracle) open(what string) (end func(later time.Duration)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := len(o.windows)
	o.windows = append(o.windows, window{what: what, from: time.Now()})
	return func(later time.Duration) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.windows[i].to = time.Now().Add(later)
	}
}

// stands notes what the registry says from now on.
func (o *oracle) stands(value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.standings = append(o.standings, standing{time.Now(), value})
}

// overlapping is the window of the kind that begins first of those that overlap a time.
func (o *oracle) overlapping(what string, from, to time.Time) (window, bool) {
	for _, w := range o.windows {
		if w.what == what && !w.from.After(to) && (w.to.IsZero() || !w.to.Before(from)) {
			return w, true
		}
	}
	return window{}, false
}

// standingIn lists what a server may believe that the registry says in a time. While the registry is out of reach, the
// server goes by what it heard before.
func (o *oracle) standingIn(from, to time.Time) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for changed := true; changed; {
		changed = false
		for _, what := range []string{registryOut, down} {
			if w, ok := o.overlapping(what, from.Add(-lag), to); ok && w.from.Before(from) {
				from, changed = w.from, true
			}
		}
	}
	from = from.Add(-lag)
	var values []string
	for i, s := range o.standings {
		over := i+1 < len(o.standings) && !o.standings[i+1].from.After(from)
		if !over && !s.from.After(to) {
			values = append(values, s.value)
		}
	}
	return values
}

// judge notes an outcome of a request that was under way from then to now. It is wrong unless it is one of those that
// are wanted, or one that a window permits: excuses are what becomes of the request in which window.
func (o *oracle) judge(actor, outcome string, from time.Time, wanted []string, excuses map[string]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	tally, _, _ := strings.Cut(actor, "/") // and not which of many attempts
	if o.tallies[tally] == nil {
		o.tallies[tally] = map[string]int{}
	}
	now := time.Now()
	kind := outcome
	if strings.HasPrefix(outcome, unreachable) {
		kind = unreachable
	}
	o.tallies[tally][kind]++
	if slices.Contains(wanted, kind) {
		return
	}
	permitted := map[string]string{down: unreachable, crashed: "unavailable.state"}
	maps.Copy(permitted, excuses)
	for what, excuse := range permitted {
		if _, ok := o.overlapping(what, from, now); ok && kind == excuse {
			return
		}
	}
	if len(o.wrong) < 30 {
		o.wrong = append(o.wrong, fmt.Sprintf("%s %s: %s instead of %v, after %s", now.Format("15:04:05.000"), actor, outcome, wanted, round(now.Sub(from))))
	}
}

// print tells how often each actor met which outcome.
func (o *oracle) print() (requests int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, actor := range sorted(o.tallies) {
		n := 0
		for _, count := range o.tallies[actor] {
			n += count
		}
		requests += n
		fmt.Fprintf(w, "%s\t%d\t%s\n", actor, n, counted(o.tallies[actor]))
	}
	w.Flush()
	return requests
}
