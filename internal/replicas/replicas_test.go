//go:build linux

package replicas

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/rule"
)

// Of all who present an assertion at once to three replicas, one gets a token, and the others are told that it was used. What
// one replica gives or takes back, all do.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for name, begin := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replicas := start(t, 3, "WAYBILL_STATE="+begin(t).state)
			for _, r := range replicas {
				r.newToken()
			}
			t.Run("once", func(t *testing.T) { once(t, replicas) })
			t.Run("tokens", func(t *testing.T) { tokens(t, replicas) })
		})
	}
}

func once(t *testing.T, replicas []*replica) {
	t.Helper()
	all, n := tally{}, size()
	for range n.rounds {
		got := presentAtOnce(replicas, newTicket(0), n.at)
		all.add(got)
		refused := 0
		for _, id := range refusals {
			refused += got[id]
		}
		if got[token] != 1 || refused != n.at-1 {
			t.Errorf("of %d at once: %s", n.at, got)
		}
	}
	t.Logf("%d rounds of %d at once: %s", n.rounds, n.at, all)
}

// No token is good more than a second after it was revoked, at whichever replica: one that cannot know answers 503.
func tokens(t *testing.T, replicas []*replica) {
	t.Helper()
	var slowest time.Duration
	for i := range replicas {
		accessToken := replicas[i].newToken()
		for _, r := range replicas {
			if ok, err := r.admits(accessToken); !ok {
				t.Fatalf("a token of another replica is no good: %v", err)
			}
		}
		replicas[(i+1)%len(replicas)].revoke(accessToken)
		revoked := time.Now()
		for _, r := range replicas {
			await(t, "the revocation is seen", func() bool {
				asked := time.Since(revoked)
				ok, err := r.admits(accessToken)
				if ok && asked > time.Second {
					t.Errorf("a token is good %v after it was revoked", asked)
				}
				slowest = max(slowest, asked)
				return !ok && err == nil
			})
		}
	}
	t.Logf("a revocation was seen by all after %v at most", slowest)
}

// Whatever happens to the replicas, to the store and between them, no assertion gets two tokens; and when it is over, new ones get one
// at every replica, without a word from anybody.
func TestDisturbances(t *testing.T) {
	t.Parallel()
	for name, begin := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := begin(t), size()
			replicas := start(t, 3, "WAYBILL_STATE="+s.state)
			for _, r := range replicas {
				r.newToken()
			}
			l := startLoad(t, replicas, n.disturbed)
			for range n.repeats {
				for _, d := range disturbances {
					l.more(token, 3)
					d.disturb(l, s)
					back := time.Now()
					for _, r := range replicas {
						r.newToken()
					}
					t.Logf("%s: every replica gives tokens %v after it was over", d.name, time.Since(back).Round(time.Millisecond))
					l.again()
				}
			}
			l.end(noAnswer)
		})
	}
}

// disturbances return when everything is there again.
var disturbances = []struct {
	name    string
	disturb func(*load, *store)
}{
	{"replicas are killed", func(l *load, _ *store) {
		for range 4 {
			some := slices.Clone(l.replicas)
			rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			some = some[:1+rand.IntN(len(some))]
			for _, r := range some {
				r.kill()
			}
			l.more(noAnswer, 1)
			for _, r := range some {
				r.start()
			}
			l.more(token, 1)
		}
	}},
	{"the store is paused", func(l *load, s *store) {
		s.server.Pause()
		l.more(rule.UnavailableState.ID, l.at)
		s.server.Resume()
	}},
	{"the store is cut off", func(l *load, s *store) {
		s.sever()
		l.more(rule.UnavailableState.ID, l.at)
		s.mend(s.address())
	}},
	{"the store is killed, and started again", func(l *load, s *store) {
		s.server.Kill()
		l.more(rule.UnavailableState.ID, l.at)
		s.restart()
	}},
	{"the store is killed, and an empty one takes its place, which a replica sleeps through", func(l *load, s *store) {
		l.replicas[0].signal(syscall.SIGSTOP)
		defer l.replicas[0].signal(syscall.SIGCONT)
		s.server.Kill()
		s.sever()
		s.another()
		s.mend(s.address())
		l.replicas[1].newToken()
	}},
}

// A server that remembers by itself is killed under load, and started again at once, again and again. What it has been sent before, it accepts
// no more.
func TestCrashes(t *testing.T) {
	t.Parallel()
	replicas := start(t, 1, "WAYBILL_STATE=memory")
	replicas[0].newToken()
	l := startLoad(t, replicas, 6)
	for range 3 * size().repeats {
		l.more(token, 20)
		replicas[0].kill()
		replicas[0].start()
		l.again() // while it cannot vouch
		replicas[0].newToken()
		l.again()
	}
	l.end(noAnswer)
}

// A replica of Redis takes the place of its primary, which is killed under load, and lacks what was written last: here all since it
// was paused.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, wait := range []string{"0", "1"} {
		t.Run("waiting for "+wait, func(t *testing.T) {
			t.Parallel()
			primary, replica, state := sentinels(t)
			replicas := start(t, 3, "WAYBILL_STATE="+state, "WAYBILL_STATE_WAIT_REPLICAS="+wait)
			for _, r := range replicas {
				r.newToken()
			}
			l := startLoad(t, replicas, size().lost)
			for i := range size().repeats {
				if i > 0 {
					primary, replica = replica, primary
					replica.UntilReplica()
				}
				l.more(token, 20)
				replica.Pause()
				if wait == "0" {
					l.more(token, 20) // of which the replica knows nothing
				} else {
					l.more(rule.UnavailableState.ID, l.at)
				}
				primary.Kill()
				killed := time.Now()
				replica.Resume()
				await(t, "the replica is promoted", func() bool { return replica.Says("role:master") })
				primary.Restart() // to be a replica, for which is waited
				for _, r := range replicas {
					r.newToken()
				}
				t.Logf("every replica gives tokens %v after the primary was killed", time.Since(killed).Round(time.Millisecond))
				l.again()
			}
			l.end()
		})
	}
}

// sentinels start a primary and a replica with three sentinels.
func sentinels(t *testing.T) (primary, replica *redistest.Server, state string) {
	t.Helper()
	primary = redistest.Start(t)
	replica = redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port))
	replica.UntilReplica()
	var watchers []*redistest.Server
	var addresses []string
	for range 3 {
		s := redistest.StartSentinel(t, "main", primary)
		watchers, addresses = append(watchers, s), append(addresses, s.Addr())
	}
	for _, s := range watchers {
		await(t, "the sentinels know all", func() bool {
			known := s.Do("SENTINEL", "MASTER", "main")
			return strings.Contains(known, "num-other-sentinels\n2") && strings.Contains(known, "num-slaves\n1")
		})
	}
	return primary, replica, "redis-sentinel://" + strings.Join(addresses, ",") + "/main"
}
