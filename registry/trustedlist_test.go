package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const (
	listRefresh = time.Hour
	listStale   = 2 * time.Hour
)

// A listSource answers with what it is told to.
type listSource struct {
	mu      sync.Mutex
	granted trust.Anchors
	err     error
	asked   []time.Time
}

func (s *listSource) TrustedList(context.Context) (trust.Anchors, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, time.Now())
	return s.granted, s.err
}

func (s *listSource) set(err error, granted ...trust.Fingerprint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.granted = err, trust.Anchors{}
	for _, f := range granted {
		s.granted[f] = "granted " + f.String()[:2]
	}
}

func (s *listSource) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func fingerprint(b byte) trust.Fingerprint { return trust.Fingerprint{b} }

var ownAnchors = trust.Anchors{fingerprint(1): "own"}

// keeper is a trusted list over a source, with the validator that it feeds.
func keeper(t *testing.T, s TrustedListSource, log slog.Handler) (*TrustedList, *trust.Validator) {
	t.Helper()
	v, err := trust.New(ownAnchors)
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewTrustedList(TrustedListConfig{
		Source: s, Own: ownAnchors, Clients: v, Refresh: listRefresh, MaxStale: listStale, Log: slog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, v
}

// running starts Run in a bubble, and ends it with the test.
func runList(t *testing.T, l *TrustedList) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	synctest.Wait()
}

// wantAnchors expects the validator to trust our own anchor and these.
func wantAnchors(t *testing.T, v *trust.Validator, granted ...byte) {
	t.Helper()
	want := trust.Anchors{fingerprint(1): "own"}
	for _, b := range granted {
		want[fingerprint(b)] = fmt.Sprintf("granted %02x", b)
	}
	if diff := cmp.Diff(want, v.Anchors()); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}
}

func TestTrustedListFeedsTheValidator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s := &listSource{}
		s.set(nil, fingerprint(1), fingerprint(2), fingerprint(3))
		l, v := keeper(t, s, &log)
		wantAnchors(t, v)
		if l.InForce() || !l.Stats().Fetched.IsZero() {
			t.Error("a list is in force that nobody asked for")
		}
		runList(t, l)
		wantAnchors(t, v, 2, 3)
		if st := l.Stats(); !st.InForce || st.Granted != 3 || !st.Fetched.Equal(time.Now()) || st.Err != nil || st.Stale {
			t.Errorf("Stats = %+v", st)
		}

		s.set(nil, fingerprint(3), fingerprint(4))
		time.Sleep(listRefresh - 1)
		synctest.Wait()
		wantAnchors(t, v, 2, 3)
		time.Sleep(1)
		synctest.Wait()
		wantAnchors(t, v, 3, 4)
		if log.count("WARN the trusted list no longer grants an authority authority=granted 02") != 1 ||
			log.count("INFO the trusted list grants an authority authority=granted 04") != 1 {
			t.Errorf("log %q", log.lines)
		}
		s.set(nil)
		time.Sleep(listRefresh)
		synctest.Wait()
		wantAnchors(t, v)
		if !l.InForce() {
			t.Error("a list that grants nothing is not in force")
		}
	})
}

func TestTrustedListOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		s := &listSource{}
		s.set(nil, fingerprint(2))
		l, v := keeper(t, s, &log)
		runList(t, l)
		s.set(errBroken)
		time.Sleep(listRefresh)
		synctest.Wait()
		wantAnchors(t, v, 2)
		if st := l.Stats(); !st.InForce || !st.Stale || !errors.Is(st.Err, errBroken) {
			t.Errorf("Stats = %+v", st)
		}
		time.Sleep(listStale - 1)
		synctest.Wait()
		wantAnchors(t, v, 2)
		if n, most := s.questions(), 2+int(listStale/retryPause); n > most || n < most-10 {
			t.Errorf("%d questions in the outage, want %d", n, most)
		}
		if n, want := log.count("WARN the trusted list was not refreshed"), int(listStale/outageLogInterval); n < want || n > want+1 {
			t.Errorf("the log is told %d times of one outage", n)
		}
		time.Sleep(1)
		synctest.Wait()
		wantAnchors(t, v)
		if l.InForce() || log.count("ERROR the trusted list is too old") != 1 {
			t.Errorf("in force: %t, log %q", l.InForce(), log.lines[len(log.lines)-1])
		}
		s.set(nil, fingerprint(2))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantAnchors(t, v, 2)
		if st := l.Stats(); !st.InForce || st.Stale || st.Err != nil {
			t.Errorf("Stats = %+v", st)
		}
	})
}

// sleep is what the machine's clocks say of a list after it slept for a time.
func sleep(l *TrustedList, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetched.wall = l.fetched.wall.Add(-d)
	l.updated.wall = l.updated.wall.Add(-d)
}

// When the machine slept, the monotonic clock and the timers stood still. The list is as old
// as the wall clock says, and is asked for within a minute.
func TestTrustedListAgesInSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &listSource{}
		s.set(nil, fingerprint(2))
		l, v := keeper(t, s, slog.DiscardHandler)
		runList(t, l)
		time.Sleep(listRefresh / 2)
		if n := s.questions(); n != 1 {
			t.Errorf("%d questions in half of the time, want 1", n)
		}

		sleep(l, listRefresh/2-maxTimer/2)
		time.Sleep(maxTimer)
		synctest.Wait()
		if n := s.questions(); n != 2 {
			t.Errorf("%d questions after a short sleep, want 2", n)
		}

		s.set(errBroken)
		sleep(l, 72*time.Hour)
		if !l.InForce() || l.Stats().Stale {
			t.Errorf("before anybody looked at the clock: %+v", l.Stats())
		}
		time.Sleep(maxTimer)
		synctest.Wait()
		wantAnchors(t, v)
		if l.InForce() {
			t.Error("a list that is days old is in force")
		}
		s.set(nil, fingerprint(3))
		time.Sleep(2 * retryPause)
		synctest.Wait()
		wantAnchors(t, v, 3)
	})
}

// A sleep within MaxStale makes a list stale, and an outage in it ends in time.
func TestTrustedListIsStaleAfterSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &listSource{}
		s.set(nil, fingerprint(2))
		l, v := keeper(t, s, slog.DiscardHandler)
		runList(t, l)
		s.set(errBroken)
		sleep(l, listRefresh+listStale-maxTimer-1)
		time.Sleep(maxTimer)
		synctest.Wait()
		wantAnchors(t, v, 2)
		if !l.Stats().Stale {
			t.Errorf("Stats = %+v", l.Stats())
		}
		time.Sleep(1)
		synctest.Wait()
		wantAnchors(t, v)
	})
}

func TestTrustedListBeforeTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &listSource{}
		s.set(errBroken)
		l, v := keeper(t, s, slog.DiscardHandler)
		runList(t, l)
		time.Sleep(time.Minute)
		wantAnchors(t, v)
		if l.InForce() {
			t.Error("in force")
		}
		s.set(nil, fingerprint(2))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantAnchors(t, v, 2)
	})
}

func TestTrustedListUpdateGivenUp(t *testing.T) {
	t.Parallel()
	s := &listSource{}
	s.set(errBroken)
	l, _ := keeper(t, s, slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Update(ctx); !errors.Is(err, context.Canceled) || l.Stats().Err != nil {
		t.Errorf("Update = %v, Stats = %+v", err, l.Stats())
	}
	if err := l.Update(t.Context()); !errors.Is(err, errBroken) || !errors.Is(l.Stats().Err, errBroken) {
		t.Errorf("Update = %v, Stats = %+v", err, l.Stats())
	}
}

func TestTrustedListCopiesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	s := &listSource{}
	s.set(nil, fingerprint(2))
	own := trust.Anchors{fingerprint(1): "own"}
	v, _ := trust.New(own)
	l, err := NewTrustedList(TrustedListConfig{Source: s, Own: own, Clients: v, Refresh: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	own[fingerprint(9)] = "sneaked in"
	if err := l.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.granted[fingerprint(8)] = "sneaked in"
	wantAnchors(t, v, 2)
}

func TestNewTrustedListRefuses(t *testing.T) {
	t.Parallel()
	v, _ := trust.New(ownAnchors)
	good := TrustedListConfig{Source: &listSource{}, Own: ownAnchors, Clients: v, Refresh: time.Hour}
	if _, err := NewTrustedList(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(c *TrustedListConfig){
		"no source":     func(c *TrustedListConfig) { c.Source = nil },
		"no own anchor": func(c *TrustedListConfig) { c.Own = nil },
		"no validator":  func(c *TrustedListConfig) { c.Clients = nil },
		"no refresh":    func(c *TrustedListConfig) { c.Refresh = 0 },
		"stale":         func(c *TrustedListConfig) { c.MaxStale = -1 },
	} {
		c := good
		change(&c)
		if _, err := NewTrustedList(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// An authority that the registry grants lets its clients in, and one that it
// withdraws puts them out, although their chains were judged before. The registry
// itself is believed by our own anchors only.
func TestTrustedListOverARegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, r := inMemory(t)
		other := newPKI(t)
		list := func(status string) {
			f.change(func(f *fakeRegistry) {
				f.list = fmt.Sprintf(`[{"subject":"CN=Other","certificateFingerprint":%q,"validity":"valid","status":%q}]`,
					trust.FingerprintOf(other.ca.Authority(testca.Issuing).Certificate()), status)
			})
		}
		list("granted")
		clients := f.pki.validator()
		l, err := NewTrustedList(TrustedListConfig{Source: r, Own: f.pki.anchors(), Clients: clients, Refresh: listRefresh})
		if err != nil {
			t.Fatal(err)
		}
		runList(t, l)
		chain, err := clients.Validate(other.consumer.Chain, time.Now(), nil)
		if err != nil {
			t.Fatalf("the client of a granted authority: %v", err)
		}
		list("withdrawn")
		time.Sleep(listRefresh)
		synctest.Wait()
		if clients.Holds(chain.Proof, time.Now()) {
			t.Error("a chain to a withdrawn authority holds")
		}
		var rejection *rule.Rejection
		if _, err := clients.Validate(other.consumer.Chain, time.Now(), nil); !errors.As(err, &rejection) || rejection.Rule != rule.ChainUntrusted {
			t.Errorf("the client of a withdrawn authority: %v", err)
		}
		if _, err := clients.Validate(f.pki.consumer.Chain, time.Now(), nil); err != nil {
			t.Errorf("the client of our own anchor: %v", err)
		}

		list("granted")
		f.change(func(f *fakeRegistry) { f.answer.seal = other.registry })
		time.Sleep(listRefresh)
		synctest.Wait()
		if err := l.Stats().Err; err == nil || !strings.Contains(err.Error(), "chain.untrusted") {
			t.Errorf("a list that is signed by an authority of its own: %v", err)
		}
	})
}
