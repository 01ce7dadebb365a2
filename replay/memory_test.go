package replay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/replay/replaytest"
)

const leeway = 10 * time.Second

var _ replay.Store = (*replay.Memory)(nil)

// open begins a store that the test closes.
func open(t *testing.T, c replay.Config) *replay.Memory {
	t.Helper()
	m, err := replay.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// fresh is the pair of an assertion made at this moment.
func fresh(jti string) replay.Pair { return issued(jti, time.Now()) }

// issued is the pair of an assertion: it lives 30 seconds and the leeway.
func issued(jti string, at time.Time) replay.Pair {
	return replay.Pair{Issuer: "did:ishare:EU.NL.NTRNL-10000001", JTI: jti, IssuedAt: at, Until: at.Add(30*time.Second + leeway)}
}

func wantFirst(t *testing.T, s replay.Store, p replay.Pair) {
	t.Helper()
	if first, err := s.Use(t.Context(), p); !first || err != nil {
		t.Errorf("Use(%s) = %v, %v; want true", p.JTI, first, err)
	}
}

func wantUsed(t *testing.T, s replay.Store, p replay.Pair) {
	t.Helper()
	if first, err := s.Use(t.Context(), p); first || err != nil {
		t.Errorf("Use(%s) = %v, %v; want false", p.JTI, first, err)
	}
}

func wantError(t *testing.T, s replay.Store, p replay.Pair, want error) {
	t.Helper()
	if first, err := s.Use(t.Context(), p); first || !errors.Is(err, want) {
		t.Errorf("Use(%s) = %v, %v; want the error %q", p.JTI, first, err, want)
	}
}

// wantUnsure checks that the store cannot tell, and what it says about the wait.
func wantUnsure(t *testing.T, s replay.Store, p replay.Pair, wait time.Duration) {
	t.Helper()
	first, err := s.Use(t.Context(), p)
	checkUnsure(t, first, err, wait)
}

func checkUnsure(t *testing.T, first bool, err error, wait time.Duration) {
	t.Helper()
	var unsure *replay.UndecidedError
	if first || !errors.As(err, &unsure) {
		t.Fatalf("answer %v, %v; want an UnsureError", first, err)
	}
	if unsure.RetryAfter != wait {
		t.Errorf("RetryAfter = %v, want %v", unsure.RetryAfter, wait)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]bool{"kept": true, "not kept": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replaytest.Run(t, 10_000, func(t *testing.T) replay.Store {
				c := replay.Config{Leeway: leeway, NoHistory: true}
				if kept {
					c.Dir = t.TempDir()
				}
				return open(t, c)
			})
		})
	}
}

func TestLifeOfPair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := open(t, replay.Config{Leeway: leeway, NoHistory: true})
		p := fresh("a")
		wantFirst(t, m, p)
		time.Sleep(40*time.Second - 1)
		wantUsed(t, m, p)
		time.Sleep(1)
		wantUsed(t, m, p) // the last moment counts
		time.Sleep(1)
		wantError(t, m, p, replay.ErrPair)
		time.Sleep(time.Second)
		wantFirst(t, m, fresh("a")) // another assertion, after the life of the first
	})
}

func TestFuturePair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := open(t, replay.Config{Leeway: leeway, NoHistory: true})
		wantFirst(t, m, issued("a", time.Now().Add(leeway)))
		wantError(t, m, issued("b", time.Now().Add(leeway+1)), replay.ErrPair)
	})
}

// TestExpiryKeepsUp runs ten minutes of traffic through the store: what it holds is what
// lives, and the seconds that nobody asked in are forgotten too.
func TestExpiryKeepsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := open(t, replay.Config{Leeway: leeway, NoHistory: true})
		for second := range 600 {
			for i := range 100 {
				wantFirst(t, m, fresh(fmt.Sprint(second, "/", i)))
			}
			time.Sleep(time.Second)
		}
		// 41 seconds of pairs live; a shard that was not asked lately holds more.
		if n := m.Len(); n < 4100 || n > 4500 {
			t.Errorf("%d pairs are held, want about 4100", n)
		}
		time.Sleep(24 * time.Hour)
		for i := range 1000 {
			wantFirst(t, m, fresh(fmt.Sprint("next day ", i)))
		}
		if n := m.Len(); n != 1000 {
			t.Errorf("%d pairs are held the next day, want 1000", n)
		}
	})
}

func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 1000
		m := open(t, replay.Config{Leeway: leeway, NoHistory: true, Limit: limit})
		for i := range limit {
			wantFirst(t, m, fresh(fmt.Sprint(i)))
		}
		wantError(t, m, fresh("one more"), replay.ErrFull)
		for i := range limit {
			wantUsed(t, m, fresh(fmt.Sprint(i)))
		}
		time.Sleep(40 * time.Second)
		wantError(t, m, fresh("one more"), replay.ErrFull)
		time.Sleep(time.Second)
		for i := range limit {
			wantFirst(t, m, fresh(fmt.Sprint("later ", i)))
		}
		wantError(t, m, fresh("one more"), replay.ErrFull)
	})
}

// TestLimitHoldsForAll has many goroutines fill the store at once.
func TestLimitHoldsForAll(t *testing.T) {
	t.Parallel()
	const limit = 500
	m := open(t, replay.Config{Leeway: leeway, NoHistory: true, Limit: limit})
	var group sync.WaitGroup
	yes := make(chan string, 4*limit)
	for g := range 4 {
		group.Go(func() {
			for i := range limit {
				p := fresh(fmt.Sprint(g, "/", i))
				first, err := m.Use(t.Context(), p)
				if err != nil && !errors.Is(err, replay.ErrFull) {
					t.Error(err)
				}
				if first {
					yes <- p.JTI
				}
			}
		})
	}
	group.Wait()
	if len(yes) != limit || m.Len() != limit {
		t.Errorf("%d yes, %d held, want %d", len(yes), m.Len(), limit)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]replay.Config{
		"negative leeway": {Leeway: -1},
		"leeway too long": {Leeway: replay.MaxLeeway + 1},
		"negative limit":  {Limit: -1},
	} {
		if _, err := replay.Open(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestZeroConfig shows that forgetting a field never lets more in.
func TestZeroConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := open(t, replay.Config{})
		if m.RecoveryError() == nil {
			t.Error("it vouches for the time before its start")
		}
		wantUnsure(t, m, issued("before", time.Now().Add(-1)), time.Second)
		wantError(t, m, issued("ahead", time.Now().Add(1)), replay.ErrPair)
		wantFirst(t, m, fresh("now"))
	})
}

func TestCloseEndsUse(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"kept": t.TempDir(), "not kept": ""} {
		m, err := replay.Open(replay.Config{Dir: dir, Leeway: leeway, NoHistory: true})
		if err != nil {
			t.Fatal(err)
		}
		wantFirst(t, m, fresh("a"))
		for range 2 {
			if err := m.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantError(t, m, fresh("a"), replay.ErrClosed)
		wantError(t, m, fresh("b"), replay.ErrClosed)
		// A time of issue that the mark of life has not seen.
		wantError(t, m, issued("c", time.Now().Add(5*time.Second)), replay.ErrClosed)
	}
}

// TestClockSetBack: what was forgotten before the clock was set back stays refused,
// and what was not goes on as before.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	m := open(t, replay.Config{Leeway: leeway, NoHistory: true})
	use := func(now time.Time, p replay.Pair) (bool, error) { return m.UseAt(now, p) }
	old := issued("old", noon)
	if first, err := use(noon, old); !first || err != nil {
		t.Fatal(first, err)
	}
	// A minute on, a single use is enough for all shards to forget what ended by then.
	minute := noon.Add(time.Minute)
	if first, err := use(minute, issued("7", minute)); !first || err != nil {
		t.Fatal(first, err)
	}
	// Back at noon, old would be accepted by a verifier again.
	first, err := use(noon.Add(time.Second), old)
	checkUnsure(t, first, err, 20*time.Second)
	// So would new ones of the same life be refused, whichever shards they fall to ...
	for i := range 500 {
		first, err = use(noon.Add(time.Second), issued(fmt.Sprint("new", i), noon.Add(time.Second)))
		checkUnsure(t, first, err, 19*time.Second)
	}
	// ... until its end is later than what was forgotten.
	if first, err := use(noon.Add(20*time.Second), issued("new", noon.Add(20*time.Second))); !first || err != nil {
		t.Error(first, err)
	}
	if first, err := use(noon.Add(50*time.Second), issued("7", minute)); first || err != nil {
		t.Errorf("a pair that lives: %v, %v; want false", first, err)
	}
}

func TestCancelledContext(t *testing.T) {
	t.Parallel()
	m := open(t, replay.Config{NoHistory: true})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if first, err := m.Use(ctx, fresh("a")); first || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Use = %v, %v; want the context's error", first, err)
	}
	wantFirst(t, m, fresh("a"))
}

func TestErrorsNameNoPair(t *testing.T) {
	t.Parallel()
	m := open(t, replay.Config{Limit: 1})
	p := issued("the-jti", time.Now().Add(-time.Second))
	_, unsure := m.Use(t.Context(), p)
	p.Until = time.Time{}
	_, over := m.Use(t.Context(), p)
	for _, err := range []error{unsure, over} {
		if err == nil || contains(err.Error(), p.JTI) || contains(err.Error(), string(p.Issuer)) {
			t.Errorf("error %v", err)
		}
	}
}
