package hostile

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// Bounds on what an attack may do to the server.
const (
	slower     = 10                     // times: the 99th percentile of a good client
	floorOf    = 5 * time.Millisecond   // below which a quiet percentile says nothing
	inLine     = 500 * time.Millisecond // what a percentile may be where the attack takes all of a processor
	grossly    = 2 * time.Second        // what no percentile may be, on any machine
	moreMemory = 320 << 10              // KiB
	spare      = 12                     // descriptors that may be open besides, by clients and what the server asks
	rate       = 50                     // requests of the good client, a second
	settling   = 300 * time.Millisecond // until an attack has begun
	calm       = time.Second            // within which all is normal behind an attack
)

// A row is what a scenario showed.
type row struct {
	name                 string
	quiet, attacked      *record
	before, during, left figures
	did                  map[string]int
	asked, most          int64 // at the registry
}

// spans are how long the good client is watched: before, in and after an attack.
type spans struct{ quiet, attack, after time.Duration }

// Strangers cannot keep a good client from its tokens, whatever they do on their connections.
func TestHostile(t *testing.T) {
	short := form(t)
	watch := spans{5 * time.Second, 20 * time.Second, 3 * time.Second}
	if short {
		watch = spans{time.Second, 2500 * time.Millisecond, 500 * time.Millisecond}
	}
	b := &battery{space: newSpace(t), short: short, watch: watch}
	b.front = newFront(t, b.Registry.URL)
	b.turn(t, "former-consumer.standing", "active")
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			b.rows = append(b.rows, b.meet(t, s))
		})
	}
	b.print()
}

// A battery runs scenarios one after the other.
type battery struct {
	*space

	short bool
	watch spans
	front *front
	rows  []*row
}

// meet runs a scenario at a server of its own.
func (b *battery) meet(t *testing.T, s scenario) *row {
	t.Helper()
	s.config.registry = b.front.url()
	server := newServer(t, b.world, s.config)
	p := part{World: b.world, Public: server.public, Inner: server.inner, Short: b.short, Rate: rate}
	if s.config.tls {
		p.Roots = filepath.Join(server.dir, "tls.pem")
	}
	watched := func(d time.Duration) *record {
		r, p := &record{}, p
		p.For = d
		start(t, "client", p).finish(t, r)
		return r
	}
	server.ready(t, p)
	r := &row{name: s.name, quiet: watched(b.watch.quiet), before: server.measure(t)}
	if r.quiet.lost() > 0 {
		t.Fatalf("before the attack: %v", r.quiet.Outcomes)
	}
	b.front.asked.Store(0)
	b.front.most.Store(0)
	if s.outage != "" {
		b.front.turn(t, s.outage)
	}

	enemy := start(t, s.name, p)
	f := &field{
		short: b.short, front: b.front, base: server.base, audience: b.Audience,
		newcomer: b.Seals["former-consumer"].party(),
	}
	looked := make(chan error, 1)
	begun := time.After(settling)
	<-begun
	go func() { looked <- b.look(server, s, f) }()
	r.attacked = watched(b.watch.attack)
	err := <-looked
	r.during = server.measure(t)
	var report report
	enemy.end(t, &report)
	if s.outage != "" {
		b.front.turn(t, normal)
	}
	f.did, f.log = report.Did, r.during.log-r.before.log
	r.did, r.asked, r.most = report.Did, b.front.asked.Load(), b.front.most.Load()
	if s.hold != nil {
		err = errors.Join(err, s.hold(f))
	}
	for _, breach := range report.Breaches {
		t.Error(breach)
	}
	if err != nil {
		t.Error(err)
	}
	r.judge(t, s, b.short)

	<-time.After(calm)
	after := watched(b.watch.after)
	if after.lost() > 0 || after.P99 > grossly {
		t.Errorf("after the attack: %v, p99 %s", after.Outcomes, after.P99)
	}
	b.left(t, server, r)
	return r
}

// look asks for life while an attack lasts, and does what the scenario does in its midst.
func (b *battery) look(server *server, s scenario, f *field) error {
	var errs []error
	for end := time.After(b.watch.attack); ; {
		select {
		case <-end:
			return errors.Join(errs...)
		case <-time.After(b.watch.attack / 10):
		}
		if err := server.living(); err != nil && len(errs) < 3 {
			errs = append(errs, fmt.Errorf("the internal listener: %w", err))
		}
		if s.during != nil {
			errs = append(errs, s.during(f))
			s.during = nil
		}
	}
}

// judge holds what the good client saw, and memory.
func (r *row) judge(t *testing.T, s scenario, short bool) {
	t.Helper()
	if r.attacked.lost(s.spared...) > 0 || r.attacked.Outcomes[served] == 0 {
		t.Errorf("a good client met %v", r.attacked.Outcomes)
	}
	most := slower * max(r.quiet.P99, floorOf)
	if s.saturates {
		most = max(most, inLine)
	}
	if short || most > grossly {
		most = grossly
	}
	if r.attacked.P99 > most {
		t.Errorf("a good client's p99 is %s instead of %s", r.attacked.P99, r.quiet.P99)
	}
	if r.during.most > r.before.most+moreMemory {
		t.Errorf("memory: %d KiB instead of %d", r.during.most, r.before.most)
	}
}

// left looks whether an attack has left anything behind.
func (b *battery) left(t *testing.T, server *server, r *row) {
	t.Helper()
	for late := time.After(longEnough / 2); ; {
		r.left = server.measure(t)
		if r.left.descriptors <= r.before.descriptors+spare {
			break
		}
		select {
		case <-late:
			t.Fatalf("%d descriptors are left, after %d before the attack", r.left.descriptors, r.before.descriptors)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if n := server.goroutines(); n == 0 || n > 100 {
		t.Errorf("%d goroutines are left", n)
	}
}

// print tells the figures.
func (b *battery) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tp50 quiet\tp99 quiet\tp99 attacked\tserved\tMiB before\tmost\tafter\tfds before\tmost\tafter\tlog KiB\tregistry\tat once\tattacker")
	for _, r := range b.rows {
		if r == nil {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d/%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", r.name,
			round(r.quiet.Median), round(r.quiet.P99), round(r.attacked.P99), r.attacked.Outcomes[served], r.attacked.Sent,
			r.before.memory>>10, r.during.most>>10, r.left.memory>>10,
			r.before.descriptors, r.during.descriptors, r.left.descriptors, (r.during.log-r.before.log)>>10, r.asked, r.most, counted(r.did))
	}
	w.Flush()
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// counted lists counts in the order of their names.
func counted(did map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(did)) {
		parts = append(parts, fmt.Sprintf("%s: %d", what, did[what]))
	}
	return strings.Join(parts, ", ")
}
