// Package replaytest is the conformance suite of [replay.Store]: what every store must
// do, whatever keeps its pairs.
package replaytest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
)

// Run tests the stores that open makes, one for each case. They must vouch for what
// came before (a [replay.Memory] needs NoHistory) and must have room for 100,000
// pairs. They may hold other pairs, and may be one and the same: every case uses an
// issuer that nobody used before.
//
// Goroutines is how many present one pair at the same time.
func Run(t *testing.T, goroutines int, open func(t *testing.T) replay.Store) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			s := &subject{
				Store:      open(t),
				ctx:        t.Context(),
				issuer:     "urn:" + ishare.PartyID(rand.Text()),
				goroutines: goroutines,
			}
			if err := c.check(s); err != nil {
				t.Error(err)
			}
		})
	}
}

// RunShared tests stores that remember the same pairs, as several servers have them: what one has accepted, none accepts again. Open
// returns two or more, which must vouch for what came before. Goroutines is how many present one pair at the same time.
func RunShared(t *testing.T, goroutines int, open func(t *testing.T) []replay.Store) {
	t.Helper()
	stores := open(t)
	if err := shared(t.Context(), goroutines, stores); err != nil {
		t.Error(err)
	}
}

func shared(ctx context.Context, goroutines int, stores []replay.Store) error {
	subjects := make([]*subject, len(stores))
	issuer := ishare.PartyID("urn:" + rand.Text())
	for i, s := range stores {
		subjects[i] = &subject{Store: s, ctx: ctx, issuer: issuer, goroutines: goroutines}
	}
	for i, first := range subjects {
		p := first.pair("used at " + strconv.Itoa(i))
		if err := first.want(true, p); err != nil {
			return err
		}
		for j, s := range subjects {
			if err := s.want(false, p); err != nil {
				return fmt.Errorf("store %d, of what store %d has accepted: %w", j, i, err)
			}
		}
	}
	for i := range 10 {
		var t tally
		p := subjects[0].pair("at once " + strconv.Itoa(i))
		subjects[0].together(goroutines, func(i int) { t.use(subjects[i%len(subjects)], p) })
		if err := t.check(1, goroutines); err != nil {
			return err
		}
	}
	return nil
}

// A testCase returns what is wrong with the store, so that the suite can be tested
// with stores that are.
type testCase struct {
	name  string
	check func(*subject) error
}

func cases() []testCase {
	return []testCase{
		{"once", func(s *subject) error { return s.wantAll([]replay.Pair{s.pair("a"), s.pair("b")}) }},
		{"another issuer", func(s *subject) error {
			mine, theirs := s.pair("a"), s.pair("a")
			theirs.Issuer += "0"
			return s.wantAll([]replay.Pair{mine, theirs})
		}},
		{"ambiguous pairs", ambiguousPairs},
		{"similar jti", similarJTI},
		{"the first use sets the life", firstLife},
		{"one of many copies", func(s *subject) error {
			var t tally
			p := s.pair("a")
			s.together(s.goroutines, func(int) { t.use(s, p) })
			return t.check(1, s.goroutines)
		}},
		{"many pairs at once", manyPairs},
		{"the last moment", lastMoment},
		{"what cannot be used", unusable},
		{"no pair is burnt by what cannot be used", func(s *subject) error { // what was refused for its times leaves no trace
			p := s.pair("a")
			for _, until := range []time.Time{p.IssuedAt.Add(-time.Second), p.Until.AddDate(1, 0, 0)} {
				bad := p
				bad.Until = until
				if err := s.refused(s.ctx, bad); err != nil {
					return err
				}
			}
			return s.want(true, p)
		}},
		{"cancelled", func(s *subject) error {
			ctx, cancel := context.WithCancel(s.ctx)
			cancel()
			if err := s.refused(ctx, s.pair("a")); err != nil {
				return err
			}
			if err := s.want(true, s.pair("b")); err != nil {
				return err
			}
			return s.refused(ctx, s.pair("b"))
		}},
		{"the leeway", leeway},
	}
}

// subject is a store under test.
type subject struct {
	replay.Store
	ctx        context.Context
	issuer     ishare.PartyID
	goroutines int
}

// pair makes a pair as a fresh assertion has it.
func (s *subject) pair(jti string) replay.Pair {
	now := time.Now()
	return replay.Pair{Issuer: s.issuer, JTI: jti, IssuedAt: now, Until: now.Add(40 * time.Second)}
}

// want uses a pair and compares the answer.
func (s *subject) want(first bool, p replay.Pair) error {
	got, err := s.Use(s.ctx, p)
	switch {
	case err != nil:
		return fmt.Errorf("Use(%q, %q): %w", p.Issuer, p.JTI, err)
	case got != first:
		return fmt.Errorf("Use(%q, %q) = %v, want %v", p.Issuer, p.JTI, got, first)
	}
	return nil
}

// wantAll uses the pairs once, for a yes each, and then again, for a no each.
func (s *subject) wantAll(pairs []replay.Pair) error {
	for _, first := range []bool{true, false, false} {
		for _, p := range pairs {
			if err := s.want(first, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// refused uses a pair that must not get a yes, and must get an error.
func (s *subject) refused(ctx context.Context, p replay.Pair) error {
	first, err := s.Use(ctx, p)
	switch {
	case err == nil:
		return fmt.Errorf("Use(%+v) = %v without an error", p, first)
	case first:
		return fmt.Errorf("Use(%+v) = true with an error: %w", p, err)
	}
	return nil
}

// ambiguousPairs are those that become one when issuer and jti are joined carelessly.
func ambiguousPairs(s *subject) error {
	type name struct{ issuer, jti string }
	seen := map[name]bool{}
	var pairs []replay.Pair
	for _, joint := range []string{"", ":", "::", "|", "/", " ", "\x00", "\n", "0", "1:", "255"} {
		whole := "ab" + joint + "cd"
		for i := range len(whole) {
			p := s.pair(whole[i:])
			p.Issuer += ishare.PartyID(joint + whole[:i])
			if n := (name{string(p.Issuer), p.JTI}); !seen[n] {
				seen[n] = true
				pairs = append(pairs, p)
			}
		}
	}
	return s.wantAll(pairs)
}

// similarJTI are those that a store may fold, cut, trim or take for a pattern.
func similarJTI(s *subject) error {
	long := strings.Repeat("x", 254)
	var pairs []replay.Pair
	for _, jti := range []string{
		"a", "A", " a", "a ", "a\x00", "a\n", "*", "?", "[a]", "{a}", "{b}", "\"a\"", "'a'", "%61",
		"é", "e\u0301", "ſ", "s", "S", "1", "01", "1.0", long, long + "y", long + "z",
	} {
		pairs = append(pairs, s.pair(jti))
	}
	return s.wantAll(pairs)
}

// firstLife presents a used pair again with other times.
func firstLife(s *subject) error {
	p := s.pair("a")
	if err := s.want(true, p); err != nil {
		return err
	}
	for _, change := range []time.Duration{-20 * time.Second, -time.Second, time.Second, time.Minute} {
		again := p
		again.Until = p.Until.Add(change)
		if err := s.want(false, again); err != nil {
			return fmt.Errorf("ending %v later: %w", change, err)
		}
	}
	older := p
	older.IssuedAt = p.IssuedAt.Add(-time.Second)
	return s.want(false, older)
}

// manyPairs is what a server sees that is replayed at: several copies of each
// assertion, all of them at once.
func manyPairs(s *subject) error {
	const copies = 4
	tallies := make([]tally, max(1, s.goroutines/copies))
	s.together(len(tallies)*copies, func(i int) {
		n := i % len(tallies)
		tallies[n].use(s, s.pair(strconv.Itoa(n)))
	})
	for n := range tallies {
		if err := tallies[n].check(1, copies); err != nil {
			return fmt.Errorf("pair %d: %w", n, err)
		}
	}
	return nil
}

// lastMoment presents a pair, again and again, until well after its life: a store that
// forgets it while it would still let it in says yes a second time. The pause is shorter
// than any rounding of times, and lets the clock of a testing/synctest bubble go on.
func lastMoment(s *subject) error {
	p := s.pair("a")
	p.Until = time.Now().Add(300 * time.Millisecond)
	end := p.Until.Add(1200 * time.Millisecond)
	yes := 0
	pause := time.NewTicker(10 * time.Microsecond)
	defer pause.Stop()
	for ; time.Now().Before(end); <-pause.C {
		first, err := s.Use(s.ctx, p)
		if first && err != nil {
			return fmt.Errorf("yes with an error: %w", err)
		}
		if first {
			yes++
		}
	}
	if yes > 1 {
		return fmt.Errorf("%d yes for one pair around its end", yes)
	}
	return nil
}

func unusable(s *subject) error {
	changes := map[string]func(p *replay.Pair){
		"no issuer":        func(p *replay.Pair) { p.Issuer = "" },
		"no jti":           func(p *replay.Pair) { p.JTI = "" },
		"no time of issue": func(p *replay.Pair) { p.IssuedAt = time.Time{} },
		"no end":           func(p *replay.Pair) { p.Until = time.Time{} },
		"over":             func(p *replay.Pair) { p.Until = time.Now().Add(-time.Second) },
		"just over":        func(p *replay.Pair) { p.Until = time.Now().Add(-time.Millisecond) },
		"too long":         func(p *replay.Pair) { p.Until = time.Now().Add(replay.MaxLife + time.Minute) },
		"a century":        func(p *replay.Pair) { p.Until = p.Until.AddDate(100, 0, 0) },
		"beyond counting":  func(p *replay.Pair) { p.Until = time.Unix(1<<60, 0) },
	}
	for name, change := range changes {
		p := s.pair(name)
		change(&p)
		for range 2 {
			if err := s.refused(s.ctx, p); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// leeway is that of a verifier, which lets in what was issued that far ahead and lives as
// long after its end.
func leeway(s *subject) error {
	d := s.Leeway()
	if d < 0 || d > replay.MaxLeeway {
		return fmt.Errorf("Leeway() = %v, which is not between 0 and %v", d, replay.MaxLeeway)
	}
	p := s.pair("a")
	p.IssuedAt = time.Now().Add(d)
	p.Until = p.IssuedAt.Add(30*time.Second + d)
	if err := s.wantAll([]replay.Pair{p}); err != nil {
		return fmt.Errorf("issued %v ahead: %w", d, err)
	}
	if again := s.Leeway(); again != d {
		return fmt.Errorf("Leeway() = %v, and %v before", again, d)
	}
	return nil
}

// together runs f n times at once, as far as the machine can.
func (s *subject) together(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			f(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}

// tally counts answers.
type tally struct {
	yes, no atomic.Int64
	err     atomic.Pointer[error]
}

func (t *tally) use(s *subject, p replay.Pair) {
	first, err := s.Use(s.ctx, p)
	switch {
	case err != nil:
		t.err.Store(&err)
	case first:
		t.yes.Add(1)
	default:
		t.no.Add(1)
	}
}

func (t *tally) check(yes, all int) error {
	if err := t.err.Load(); err != nil {
		return *err
	}
	if y, n := int(t.yes.Load()), int(t.no.Load()); y != yes || y+n != all {
		return fmt.Errorf("of %d copies, %d were let in and %d turned away", all, y, n)
	}
	return nil
}
