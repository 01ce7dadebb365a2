package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

var _ Source = (*Cache)(nil)

var errBroken = errors.New("the source is broken")

// A scripted source knows everybody, takes its time, and fails when it is told to.
type scripted struct {
	mu      sync.Mutex
	delay   time.Duration
	err     error
	unknown map[ishare.PartyID]bool
	asked   map[ishare.PartyID]int
	total   int
}

func newScripted() *scripted {
	return &scripted{unknown: map[ishare.PartyID]bool{}, asked: map[ishare.PartyID]int{}}
}

// Party's answer is named after its number.
func (s *scripted) Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error) {
	s.mu.Lock()
	s.asked[id]++
	s.total++
	n, delay := s.asked[id], s.delay
	s.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("source: %w", ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, s.err
	case s.unknown[id]:
		return nil, fmt.Errorf("source: %w", ishare.ErrUnknownParty)
	}
	return &ishare.Party{ID: id, Name: fmt.Sprint(n)}, nil
}

func (s *scripted) change(how func(s *scripted)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how(s)
}

func (s *scripted) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

const (
	testFresh = 4 * time.Minute
	testStale = time.Hour
)

// cached is a cache in front of a scripted source, which is closed with the test.
func cached(tb testing.TB, change func(c *CacheConfig)) (*scripted, *Cache) {
	tb.Helper()
	s := newScripted()
	config := CacheConfig{Source: s, Fresh: testFresh, MaxStale: testStale}
	if change != nil {
		change(&config)
	}
	c, err := NewCache(config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return s, c
}

// wantRecord expects the answer with a number.
func wantRecord(tb testing.TB, c *Cache, id ishare.PartyID, number string) {
	tb.Helper()
	if p := mustParty(tb, c, id); p.Name != number || p.ID != id {
		tb.Errorf("answer %s about %s, want %s", p.Name, p.ID, number)
	}
}

func wantQuestions(tb testing.TB, s *scripted, n int) {
	tb.Helper()
	if got := s.questions(); got != n {
		tb.Errorf("the source was asked %d times, want %d", got, n)
	}
}

func TestCacheAnswersFromMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		time.Sleep(testFresh*3/4 - 1)
		wantRecord(t, c, "a:b", "1")
		synctest.Wait()
		wantQuestions(t, s, 1)
		wantRecord(t, c, "c:d", "1")
		wantQuestions(t, s, 2)
		if st := c.Stats(); st.Parties != 2 || st.Asked != 2 || st.Failures != 0 || st.StaleUses != 0 || st.Answered.IsZero() || st.Err != nil {
			t.Errorf("Stats = %+v", st)
		}
	})
}

// A record is as old as the wall clock says after the machine slept.
func TestCacheAgesInSleep(t *testing.T) {
	t.Parallel()
	s, c := cached(t, nil)
	now := time.Now()
	old := moment{steady: now, wall: now.Round(0).Add(-testFresh)}
	c.known.Set("a:b", aged[*ishare.Party]{&ishare.Party{ID: "a:b", Name: "old"}, old})
	wantRecord(t, c, "a:b", "1")
	wantQuestions(t, s, 1)
}

// Whoever is busy never waits: the source takes a minute to answer here.
func TestCacheRefreshesInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		s.change(func(s *scripted) { s.delay = 10 * time.Second })
		for range 60 {
			time.Sleep(10 * time.Second)
			began := time.Now()
			mustParty(t, c, "a:b")
			if waited := time.Since(began); waited > 0 {
				t.Fatalf("waited %s", waited)
			}
		}
		// Every 3 minutes, which are three quarters of 4, and the next call after.
		if n := s.questions(); n < 4 || n > 5 {
			t.Errorf("%d questions in 10 minutes", n)
		}
	})
}

// A party that is not busy costs nothing.
func TestCacheForgetsWhoIsNotInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		time.Sleep(24 * time.Hour)
		wantQuestions(t, s, 1)
		wantRecord(t, c, "a:b", "2")
	})
}

// What the source takes back is in force after FreshParty, busy or not.
func TestCacheNoticesWithinFresh(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, time.Minute, testFresh - 1, testFresh} {
		synctest.Test(t, func(t *testing.T) {
			s, c := cached(t, nil)
			wantRecord(t, c, "a:b", "1")
			s.change(func(s *scripted) { s.unknown["a:b"] = true })
			changed := time.Now()
			for {
				time.Sleep(interval)
				if _, err := c.Party(t.Context(), "a:b"); errors.Is(err, ErrUnknown) {
					break
				}
				if since := time.Since(changed); since >= testFresh {
					t.Fatalf("the old record was used after %s", since)
				}
			}
		})
	}
}

func TestCacheCollapsesSimultaneousCalls(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s, c := cached(t, nil)
			s.change(func(s *scripted) { s.delay = delay })
			var calls sync.WaitGroup
			for range 1000 {
				calls.Go(func() { wantRecord(t, c, "a:b", "1") })
			}
			calls.Wait()
			wantQuestions(t, s, 1)
		})
	}
}

func TestCacheCollapsesCallsInRealTime(t *testing.T) {
	t.Parallel()
	for range 20 {
		s, c := cached(t, nil)
		start := make(chan struct{})
		var calls sync.WaitGroup
		for range 1000 {
			calls.Go(func() {
				<-start
				wantRecord(t, c, "a:b", "1")
			})
		}
		close(start)
		calls.Wait()
		wantQuestions(t, s, 1)
	}
}

// A caller who gives up takes nothing from the others.
func TestCacheOutlivesItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		s.change(func(s *scripted) { s.delay = 5 * time.Second })
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := c.Party(ctx, "a:b")
			gaveUp <- err
		}()
		synctest.Wait()
		var others sync.WaitGroup
		others.Go(func() { wantRecord(t, c, "a:b", "1") })
		time.Sleep(time.Second)
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		others.Wait()
		wantQuestions(t, s, 1)
	})
}

func TestCacheRemembersUnknownParties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		s.change(func(s *scripted) { s.unknown["a:b"] = true })
		for range 10 {
			if _, err := c.Party(t.Context(), "a:b"); !errors.Is(err, ErrUnknown) {
				t.Fatalf("error %v", err)
			}
		}
		wantQuestions(t, s, 1)
		s.change(func(s *scripted) { s.unknown["a:b"] = false })
		time.Sleep(unknownMemory - 1)
		if _, err := c.Party(t.Context(), "a:b"); !errors.Is(err, ErrUnknown) {
			t.Errorf("error %v", err)
		}
		time.Sleep(1)
		wantRecord(t, c, "a:b", "2")
		if st := c.Stats(); st.Failures != 0 || st.Err != nil {
			t.Errorf("a no counts as a failure: %+v", st)
		}
	})
}

// A thousand names of nobody push out none of the ten who are known.
func TestCacheUnknownPartiesPushNobodyOut(t *testing.T) {
	t.Parallel()
	s, c := cached(t, func(c *CacheConfig) { c.Size = 10 })
	for i := range 10 {
		mustParty(t, c, ishare.PartyID(fmt.Sprintf("known:%d", i)))
	}
	for i := range 1000 {
		id := ishare.PartyID(fmt.Sprintf("nobody:%d", i))
		s.change(func(s *scripted) { s.unknown[id] = true })
		if _, err := c.Party(t.Context(), id); !errors.Is(err, ErrUnknown) {
			t.Fatalf("error %v", err)
		}
	}
	before := s.questions()
	for i := range 10 {
		mustParty(t, c, ishare.PartyID(fmt.Sprintf("known:%d", i)))
	}
	wantQuestions(t, s, before)
}

func underWay(c *Cache) int { return c.knownLookups.Len() + c.unknownLookups.Len() }

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	s, c := cached(t, func(c *CacheConfig) { c.Size = 100 })
	for i := range 5000 {
		id := ishare.PartyID(fmt.Sprintf("a:%d", i))
		switch i % 3 {
		case 0:
			s.change(func(s *scripted) { s.unknown[id] = true })
		case 1:
			s.change(func(s *scripted) { s.err = errBroken })
		default:
			s.change(func(s *scripted) { s.err = nil })
		}
		c.Party(t.Context(), id)
	}
	c.known.CleanUp()
	c.unknown.CleanUp()
	c.failed.CleanUp()
	if st := c.Stats(); st.Parties > 100 || st.Unknown > 100 || c.failed.EstimatedSize() > 100 || underWay(c) > 0 {
		t.Errorf("%d parties, %d unknown, %d failed, %d flights", st.Parties, st.Unknown, c.failed.EstimatedSize(), underWay(c))
	}
}

func TestCacheUsesStaleRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s, c := cached(t, func(c *CacheConfig) { c.Log = slog.New(&log) })
		wantRecord(t, c, "a:b", "1")
		s.change(func(s *scripted) { s.err = errBroken })
		time.Sleep(testFresh)
		began := time.Now()
		for time.Since(began) < testStale {
			wantRecord(t, c, "a:b", "1")
			time.Sleep(time.Minute)
		}
		_, err := c.Party(t.Context(), "a:b")
		if !errors.Is(err, errBroken) {
			t.Errorf("error %v beyond the stale time, want that of the source", err)
		}
		st := c.Stats()
		if st.StaleUses != 60 || !st.StaleSince.Equal(began) || !errors.Is(st.Err, errBroken) || st.Failures == 0 {
			t.Errorf("Stats = %+v", st)
		}
		synctest.Wait() // the log is told after the callers
		if n := log.count("WARN a party record was not received"); n == 0 || n > 61 {
			t.Errorf("%d lines in the log", n)
		}
		s.change(func(s *scripted) { s.err = nil })
		time.Sleep(failureMemory)
		mustParty(t, c, "a:b")
		synctest.Wait()
		if st := c.Stats(); st.Err != nil || !st.StaleSince.IsZero() || log.count("INFO party records are received again") != 1 {
			t.Errorf("after the outage: %+v, %q", st, log.lines)
		}
	})
}

func TestCacheNeverSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		outage := &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: 3 * time.Second, Cause: errBroken}
		s.change(func(s *scripted) { s.err = outage })
		for range 1000 {
			_, err := c.Party(t.Context(), "a:b")
			if o, ok := errors.AsType[*rule.Outage](err); !ok || o != outage {
				t.Fatalf("error %v, want the source's", err)
			}
		}
		wantQuestions(t, s, 1)
		time.Sleep(failureMemory)
		s.change(func(s *scripted) { s.err = nil })
		mustParty(t, c, "a:b")
	})
}

// An unknown party is no longer known at once, outage or not.
func TestCacheNoIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		s.change(func(s *scripted) { s.unknown["a:b"] = true })
		time.Sleep(testFresh)
		if _, err := c.Party(t.Context(), "a:b"); !errors.Is(err, ErrUnknown) {
			t.Errorf("error %v", err)
		}
		s.change(func(s *scripted) { s.err = errBroken })
		time.Sleep(unknownMemory)
		if _, err := c.Party(t.Context(), "a:b"); !errors.Is(err, errBroken) {
			t.Errorf("error %v: the old record is back", err)
		}
	})
}

// In an outage in which the source hangs, the first caller waits for a moment, and nobody after,
// whatever party it is about.
func TestCacheDoesNotWaitForAHangingSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		wantRecord(t, c, "c:d", "1")
		s.change(func(s *scripted) { s.delay = time.Hour })
		time.Sleep(testFresh)
		began := time.Now()
		wantRecord(t, c, "a:b", "1")
		if waited := time.Since(began); waited != maxWait || waited > 2*time.Second {
			t.Errorf("the first caller waited %s", waited)
		}
		for i := range 600 {
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			wantRecord(t, c, []ishare.PartyID{"a:b", "c:d"}[i%2], "1")
			if waited := time.Since(began); waited > 0 {
				t.Fatalf("a caller waited %s", waited)
			}
		}
		s.change(func(s *scripted) { s.delay = 0 })
		time.Sleep(lookupLimit + failureMemory)
		mustParty(t, c, "a:b")
		synctest.Wait()
		if p := mustParty(t, c, "a:b"); p.Name == "1" {
			t.Error("the source is back, and the old record still in use")
		}
	})
}

// A record is as old as the question was: an answer that takes a minute may lack
// what happened in it.
func TestCacheAgeOfARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		s.change(func(s *scripted) { s.delay = 10 * time.Second })
		wantRecord(t, c, "a:b", "1")
		time.Sleep(testFresh - 10*time.Second)
		wantRecord(t, c, "a:b", "1") // waits in vain
		time.Sleep(10 * time.Second)
		wantRecord(t, c, "a:b", "2")
	})
}

// A failure of long ago is no reason to use an old record unasked.
func TestCacheForgetsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		s.change(func(s *scripted) { s.err = errBroken })
		time.Sleep(testFresh)
		wantRecord(t, c, "a:b", "1")
		s.change(func(s *scripted) { s.err = nil })
		time.Sleep(failedLately)
		wantRecord(t, c, "a:b", "3")
	})
}

func TestCacheFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		time.Sleep(freshEnough)
		began := time.Now()
		for time.Since(began) < 30*time.Second {
			p, err := c.FreshParty(t.Context(), "a:b")
			if err != nil || p.Name == "1" {
				t.Fatalf("FreshParty = %v, %v", p, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		wantQuestions(t, s, 11)
		wantRecord(t, c, "a:b", "11")

		s.change(func(s *scripted) { s.err = errBroken })
		time.Sleep(freshEnough)
		for range 100 {
			if p, err := c.FreshParty(t.Context(), "a:b"); !errors.Is(err, errBroken) {
				t.Fatalf("FreshParty = %v, %v, want an error", p, err)
			}
		}
		wantQuestions(t, s, 12)
		wantRecord(t, c, "a:b", "11")
		time.Sleep(failureMemory)
		s.change(func(s *scripted) { s.err, s.unknown["a:b"] = nil, true })
		if _, err := c.FreshParty(t.Context(), "a:b"); !errors.Is(err, ErrUnknown) {
			t.Errorf("error %v", err)
		}
	})
}

func TestCacheFreshCollapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		s.change(func(s *scripted) { s.delay = time.Second })
		time.Sleep(freshEnough)
		var calls sync.WaitGroup
		for range 1000 {
			calls.Go(func() {
				if p, err := c.FreshParty(t.Context(), "a:b"); err != nil || p.Name != "2" {
					t.Errorf("FreshParty = %v, %v", p, err)
				}
			})
		}
		calls.Wait()
		wantQuestions(t, s, 2)
	})
}

func TestCacheWithoutFreshTimeAsksEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, func(c *CacheConfig) { c.Fresh, c.MaxStale = 0, 0 })
		wantRecord(t, c, "a:b", "1")
		wantRecord(t, c, "a:b", "2")
		s.change(func(s *scripted) { s.err = errBroken })
		if _, err := c.Party(t.Context(), "a:b"); !errors.Is(err, errBroken) {
			t.Errorf("error %v", err)
		}
	})
}

func TestCacheSourceWithoutRecord(t *testing.T) {
	t.Parallel()
	c, err := NewCache(CacheConfig{Source: nothing{}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p, err := c.Party(t.Context(), "a:b"); !errors.Is(err, errNoRecord) {
		t.Errorf("Party = %v, %v", p, err)
	}
}

type nothing struct{}

func (nothing) Party(context.Context, ishare.PartyID) (*ishare.Party, error) { return nil, nil }

// The bubble fails if a goroutine is left after Close.
func TestCacheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted()
		c, err := NewCache(CacheConfig{Source: s, Fresh: testFresh, MaxStale: testStale})
		if err != nil {
			t.Fatal(err)
		}
		wantRecord(t, c, "a:b", "1")
		s.change(func(s *scripted) { s.delay = time.Hour })
		waiting := make(chan error, 1)
		go func() {
			_, err := c.Party(t.Context(), "c:d")
			waiting <- err
		}()
		synctest.Wait()
		c.Close()
		if err := <-waiting; !errors.Is(err, errCacheClosed) {
			t.Errorf("error %v", err)
		}
		wantRecord(t, c, "a:b", "1")
		if _, err := c.Party(t.Context(), "e:f"); !errors.Is(err, errCacheClosed) {
			t.Errorf("error %v", err)
		}
	})
}

// A source that does not listen to its context is waited for.
func TestCacheCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := NewCache(CacheConfig{Source: stubborn{}, Fresh: testFresh})
		if err != nil {
			t.Fatal(err)
		}
		go c.Party(t.Context(), "a:b")
		synctest.Wait()
		began := time.Now()
		c.Close()
		if time.Since(began) != time.Minute {
			t.Errorf("Close after %s, want a minute", time.Since(began))
		}
	})
}

type stubborn struct{}

func (stubborn) Party(context.Context, ishare.PartyID) (*ishare.Party, error) {
	time.Sleep(time.Minute)
	return nil, errBroken
}

func TestNewCacheRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]CacheConfig{
		"no source":      {},
		"negative fresh": {Source: nothing{}, Fresh: -1},
		"negative stale": {Source: nothing{}, MaxStale: -1},
		"negative size":  {Source: nothing{}, Size: -1},
	} {
		if _, err := NewCache(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The whole of it: a registry that stops under load and starts again.
func TestCacheOverARegistryThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, n, r := inMemory(t)
		c, err := NewCache(CacheConfig{Source: r, Fresh: testFresh, MaxStale: testStale})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		mustParty(t, c, consumerID)
		n.down.Store(true)
		stopped := time.Now()
		for time.Since(stopped) < testFresh+testStale-time.Second {
			mustParty(t, c, consumerID)
			_, err := c.Party(t.Context(), consumerAt)
			mustBeUnavailable(t, err, "connection refused")
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		_, err = c.Party(t.Context(), consumerID)
		mustBeUnavailable(t, err, "connection refused")
		n.down.Store(false)
		started := time.Now()
		for _, id := range []ishare.PartyID{consumerID, consumerAt} {
			for {
				if _, err := c.Party(t.Context(), id); err == nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(started); took > 2*time.Second {
				t.Errorf("%s: normal after %s", id, took)
			}
		}
		if st := c.Stats(); st.Err != nil || !st.StaleSince.IsZero() {
			t.Errorf("Stats = %+v", st)
		}
	})
}

// A party that is suspended is found so after the fresh time at the latest, or at
// once by whoever rechecks.
func TestCacheOverARegistrySuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		c, err := NewCache(CacheConfig{Source: r, Fresh: testFresh, MaxStale: testStale})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		mustParty(t, c, consumerID)
		f.put(f.consumer("suspended"), consumerID)
		suspended := time.Now()
		for mustParty(t, c, consumerID).Compliant(time.Now()) == nil {
			if time.Since(suspended) > testFresh {
				t.Fatal("the suspension is not noticed")
			}
			time.Sleep(time.Second)
		}
		f.put(f.consumer("active"), consumerID)
		time.Sleep(freshEnough)
		p, err := c.FreshParty(t.Context(), consumerID)
		if err != nil || p.Compliant(time.Now()) != nil {
			t.Errorf("FreshParty = %+v, %v", p, err)
		}
	})
}

func TestCacheOverARegistryCollapses(t *testing.T) {
	f, r := served(t, Version3, VersionAuto)
	c, err := NewCache(CacheConfig{Source: r, Fresh: testFresh, MaxStale: testStale})
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 1000 {
		calls.Go(func() { mustParty(t, c, consumerID) })
	}
	calls.Wait()
	if n := len(f.requests()); n != 1 || f.tokensIssued() != 1 {
		t.Errorf("%d requests, %d tokens, want one of each", n, f.tokensIssued())
	}
	c.Close()
	r.Close()
	if left := leftover(); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n\n"))
	}
}

func BenchmarkCacheParty(b *testing.B) {
	_, c := cached(b, nil)
	mustParty(b, c, "a:b")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Party(b.Context(), "a:b"); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkRemoteParty(b *testing.B) {
	f := newFakeRegistry(b, Version3)
	server := httptest.NewServer(f)
	defer server.Close()
	r := remote(b, f.config(server.URL, nil))
	b.ReportAllocs()
	for b.Loop() {
		mustParty(b, r, consumerID)
	}
}
