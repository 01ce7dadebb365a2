package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

func nobody(i int) ishare.PartyID { return ishare.PartyID(fmt.Sprintf("nobody:%d", i)) }

// occupy has so many unknown parties looked up by a source that hangs, and returns how many lookups were turned away.
func occupy(t *testing.T, c *Cache, n int) *atomic.Int64 {
	t.Helper()
	var turnedAway atomic.Int64
	for i := range n {
		go func() {
			began := time.Now()
			_, err := c.Party(t.Context(), nobody(i))
			outage, ok := errors.AsType[*rule.Outage](err)
			if ok && outage.Rule == rule.UnavailableRegistry && outage.RetryAfter == time.Second && time.Since(began) == 0 {
				turnedAway.Add(1)
			}
		}()
	}
	synctest.Wait()
	return &turnedAway
}

// However many parties are asked for at once, only so many lookups are under way, and the rest is
// turned away at once.
func TestCacheBoundsLookups(t *testing.T) {
	for _, callers := range []int{maxUnknownLookups, 1500, 15_000} {
		synctest.Test(t, func(t *testing.T) {
			s, c := cached(t, nil)
			s.change(func(s *scripted) { s.delay = time.Hour })
			turnedAway := occupy(t, c, callers)
			wantQuestions(t, s, maxUnknownLookups)
			if n := turnedAway.Load(); n != int64(callers-maxUnknownLookups) || c.Stats().Shed != uint64(n) {
				t.Errorf("%d of %d turned away, %d in the stats", n, callers, c.Stats().Shed)
			}
			s.change(func(s *scripted) { s.delay = 0 })
			time.Sleep(lookupLimit)
			synctest.Wait()
			mustParty(t, c, "a:b")
		})
	}
}

// Lookups of strangers do not keep the record of a known party from being refreshed, and a known party does not
// wait for them.
func TestCacheRefreshesDuringAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		wantRecord(t, c, "a:b", "1")
		wantRecord(t, c, "c:d", "1")
		time.Sleep(testFresh * 3 / 4)
		s.change(func(s *scripted) { s.delay = time.Second })
		occupy(t, c, 1500)
		wantRecord(t, c, "a:b", "1")
		time.Sleep(time.Second)
		synctest.Wait()
		wantRecord(t, c, "a:b", "2")
		time.Sleep(testFresh / 4)
		occupy(t, c, 1500)
		wantRecord(t, c, "c:d", "2")
	})
}

// Refreshes do not keep a new client out.
func TestCacheServesANewClientDuringRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		for i := range 10 * maxKnownLookups {
			mustParty(t, c, nobody(i))
		}
		time.Sleep(testFresh)
		s.change(func(s *scripted) { s.delay = 10 * time.Second })
		for i := range 10 * maxKnownLookups {
			go c.Party(t.Context(), nobody(i)) // used while it is stale
		}
		synctest.Wait()
		s.change(func(s *scripted) { s.delay = 0 })
		began := time.Now()
		wantRecord(t, c, "a:b", "1")
		if took := time.Since(began); took > 0 {
			t.Errorf("the new client waited %s", took)
		}
		if n := c.knownLookups.Len(); n != maxKnownLookups {
			t.Errorf("%d refreshes under way, want %d", n, maxKnownLookups)
		}
	})
}

// Callers who hang up leave no lookup behind, and no failure of the registry.
func TestCacheEndsLookupsOfWhoHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := cached(t, nil)
		s.change(func(s *scripted) { s.delay = time.Hour })
		var callers sync.WaitGroup
		const each, parties = 1000, 20
		for i := range each * parties {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*time.Second)
			callers.Go(func() {
				defer cancel()
				if _, err := c.Party(ctx, nobody(i%parties)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if st := c.Stats(); underWay(c) != 0 || st.Failures != 0 || st.Err != nil {
			t.Errorf("%d lookups under way, %+v", underWay(c), st)
		}
		s.change(func(s *scripted) { s.delay = 0 })
		mustParty(t, c, nobody(0))
	})
}

// The caller by whom the source would be asked for a party that is not in memory is asked whether it may
// be, and nobody else is.
func TestCacheAsksWhetherItMay(t *testing.T) {
	refused := errors.New("refused")
	asked := 0
	no := func() error { asked++; return refused }
	for name, c := range map[string]struct {
		prepare func(ctx context.Context, s *scripted, c *Cache)
		fresh   bool
		want    error // what the lookup that may not be comes to
		asked   int
	}{
		"not in memory": {nil, false, refused, 1},
		"in memory":     {func(ctx context.Context, _ *scripted, c *Cache) { c.Party(ctx, "a:b") }, false, nil, 0},
		"no longer fresh": {func(ctx context.Context, _ *scripted, c *Cache) {
			c.Party(ctx, "a:b")
			time.Sleep(testFresh)
		}, false, nil, 0},
		"no longer of any use": {func(ctx context.Context, _ *scripted, c *Cache) {
			c.Party(ctx, "a:b")
			time.Sleep(testFresh + testStale)
		}, false, nil, 0},
		"known to be unknown": {func(ctx context.Context, s *scripted, c *Cache) {
			s.change(func(s *scripted) { s.unknown["a:b"] = true })
			c.Party(ctx, "a:b")
		}, false, ErrUnknown, 0},
		"failed a moment ago": {func(ctx context.Context, s *scripted, c *Cache) {
			s.change(func(s *scripted) { s.err = errBroken })
			c.Party(ctx, "a:b")
		}, false, errBroken, 0},
		"being asked for": {func(ctx context.Context, s *scripted, c *Cache) {
			s.change(func(s *scripted) { s.delay = time.Second })
			go c.Party(ctx, "a:b")
			synctest.Wait()
		}, false, nil, 0},
		"fresh one, just received": {func(ctx context.Context, _ *scripted, c *Cache) { c.Party(ctx, "a:b") }, true, nil, 0},
		"fresh one": {func(ctx context.Context, _ *scripted, c *Cache) {
			c.Party(ctx, "a:b")
			time.Sleep(freshEnough)
		}, true, refused, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked = 0
			s, cache := cached(t, nil)
			if c.prepare != nil {
				c.prepare(t.Context(), s, cache)
			}
			ask := cache.PartyIf
			if c.fresh {
				ask = cache.FreshPartyIf
			}
			before := s.questions()
			if _, err := ask(t.Context(), "a:b", no); !errors.Is(err, c.want) || asked != c.asked {
				t.Errorf("%s: error %v, asked %d times; want %v, %d times", name, err, asked, c.want, c.asked)
			}
			if c.asked > 0 {
				wantQuestions(t, s, before)
			}
			if st := cache.Stats(); errors.Is(c.want, refused) && st.Failures != 0 {
				t.Errorf("%s: a refusal counts for the source: %+v", name, st)
			}
		})
	}
}

// However many callers there are, a registry sees a bounded number of connections.
func TestRemoteBoundsConnections(t *testing.T) {
	f := newFakeRegistry(t, Version3)
	var open, most atomic.Int64
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(f)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
		case http.StateClosed:
			open.Add(-1)
		default:
		}
	}
	server.Start()
	defer server.Close()
	r := remote(t, f.config(server.URL, nil))
	mustParty(t, r, consumerID)
	var waiting atomic.Int64
	f.behind(onParties(func(w http.ResponseWriter, _ *http.Request) {
		if waiting.Add(1) == maxConnections {
			close(release)
		}
		<-release
		http.Error(w, "busy", http.StatusTeapot)
	}))
	var callers sync.WaitGroup
	for range 4 * maxConnections {
		callers.Go(func() { r.Party(t.Context(), consumerID) })
	}
	callers.Wait()
	if n := most.Load(); n != maxConnections {
		t.Errorf("%d connections, want %d", n, maxConnections)
	}
}
