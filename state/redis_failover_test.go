package state

import (
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/replay"
)

// load presents new pairs to the stores until something is over, and returns those that were accepted.
func load(t *testing.T, stores []*Store, over func() bool) []replay.Pair {
	t.Helper()
	var mu sync.Mutex
	var accepted []replay.Pair
	end := everyMillisecond(8, func(i int) {
		p := newest()
		first, err := stores[i%len(stores)].Use(t.Context(), p)
		if first {
			mu.Lock()
			accepted = append(accepted, p)
			mu.Unlock()
		}
		if first && err != nil {
			t.Errorf("yes with an error: %v", err)
		}
	})
	redistest.Until(t, "the load is enough", over)
	end()
	return accepted
}

// acceptedAgain counts the pairs that the store accepts a second time.
func acceptedAgain(t *testing.T, s *Store, pairs []replay.Pair) (n int) {
	t.Helper()
	for _, p := range pairs {
		if first, _ := s.Use(t.Context(), p); first {
			n++
		}
	}
	return n
}

// A replica that takes the place of its primary mid-load lacks what was written last: here, all that was since it was
// paused. No pair is accepted twice, with replicas waited for and without.
func TestFailover(t *testing.T) {
	for _, wait := range []int{0, 1} {
		t.Run("waiting for "+strconv.Itoa(wait), func(t *testing.T) {
			t.Parallel()
			primary := redistest.Start(t)
			replica := redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port))
			replica.UntilReplica()
			url := "redis-sentinel://"
			var sentinels []*redistest.Server
			for range 3 {
				s := redistest.StartSentinel(t, "main", primary)
				sentinels = append(sentinels, s)
				url += s.Addr() + ","
			}
			for _, s := range sentinels {
				redistest.Until(t, "the sentinels know all", func() bool {
					known := s.Do("SENTINEL", "MASTER", "main")
					return strings.Contains(known, "num-other-sentinels\n2") && strings.Contains(known, "num-slaves\n1")
				})
			}
			vouch(t, primary)
			c := config(t, strings.TrimSuffix(url, ",")+"/main")
			c.WaitReplicas = wait
			stores := []*Store{start(t, c), start(t, c)}

			start := time.Now()
			before := load(t, stores, func() bool { return time.Since(start) > 200*time.Millisecond })
			replica.Pause()
			paused := time.Now()
			lost := load(t, stores, func() bool { return time.Since(paused) > 300*time.Millisecond })
			switch {
			case len(before) == 0:
				t.Fatal("nothing was accepted")
			case wait == 0 && len(lost) == 0:
				t.Fatal("nothing was written that the replica lacks")
			case wait > 0 && len(lost) > 0:
				t.Errorf("%d were accepted that no replica has", len(lost))
			}
			primary.Kill()
			killed := time.Now()
			replica.Resume()
			redistest.Until(t, "the replica is promoted", func() bool { return replica.Says("role:master") })
			primary.Restart() // to be a replica, for which is waited
			after := load(t, stores, func() bool {
				first, _ := stores[0].Use(t.Context(), newest())
				return first
			})
			t.Logf("accepted again %v after the primary was killed; %d pairs before it, %d that the replica lacked", time.Since(killed).Round(time.Millisecond), len(before), len(lost))
			for _, s := range stores {
				redistest.Until(t, "the store is fit", func() bool { return s.Problem() == nil })
				for what, pairs := range map[string][]replay.Pair{"before": before, "unknown to the replica": lost, "after": after} {
					if n := acceptedAgain(t, s, pairs); n > 0 {
						t.Errorf("%s: %d of %d pairs are accepted twice", what, n, len(pairs))
					}
				}
			}
		})
	}
}

// What a store cannot see by itself: a primary that goes on answering some servers after a replica has taken its place for
// others. Waiting for a replica closes it here, as the old primary has none any more.
func TestSplit(t *testing.T) {
	for wait, want := range map[int]int{0: 20, 1: 0} {
		t.Run("waiting for "+strconv.Itoa(wait), func(t *testing.T) {
			t.Parallel()
			old := redistest.Start(t)
			promoted := redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(old.Port))
			promoted.UntilReplica()
			vouch(t, old)
			c := config(t, old.URL())
			c.WaitReplicas = wait
			here := start(t, c)
			mustUse(t, here, newest())
			promoted.Do("REPLICAOF", "NO", "ONE")
			there := start(t, config(t, promoted.URL()))
			untilAccepted(t, there, pair("A"))
			twice := 0
			for range 20 {
				p := newest()
				first, _ := here.Use(t.Context(), p)
				again, _ := there.Use(t.Context(), p)
				if first && again {
					twice++
				}
				if wait > 0 {
					break // each takes as long as replicas are waited for
				}
			}
			if twice != want {
				t.Errorf("%d pairs are accepted twice, want %d", twice, want)
			}
		})
	}
}

// The pairs of a cluster are on all of its servers, each of which vouches for its own.
func TestCluster(t *testing.T) {
	servers := redistest.StartCluster(t)
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.Addr()
	}
	s := start(t, config(t, "redis-cluster://"+strings.Join(urls, ",")))
	redistest.Until(t, "a pair is accepted in every bucket", func() bool {
		for range 4 * clusterBuckets {
			if _, err := s.Use(t.Context(), pairAt(rand.Text(), time.Now().Add(10*time.Second))); err != nil {
				return false
			}
		}
		return true
	})
	old := newest()
	mustUse(t, s, old)
	for _, server := range servers {
		if keys := server.Do("DBSIZE"); keys == "(integer) 0" {
			t.Errorf("nothing is on %s", server.Addr())
		}
	}
	buckets := map[string]bool{}
	for _, e := range s.current.Load().epochs {
		buckets[e.since.String()] = true
	}
	if len(buckets) < 2 {
		t.Error("the buckets have one epoch")
	}
	servers[1].Kill()
	redistest.Until(t, "it is known", func() bool { return s.Problem() != nil })
	if first, _ := s.Use(t.Context(), old); first {
		t.Error("accepted twice")
	}
	servers[1].Restart()
	untilAccepted(t, s, old)
}
