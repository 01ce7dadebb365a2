package state

import (
	"context"
	"crypto/rand"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/replay"
)

const party = "did:ishare:EU.NL.NTRNL-10000000"

// config is what a server has for a store at a URL.
func config(tb testing.TB, url string) Config {
	tb.Helper()
	u, err := ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	return Config{URL: u, Party: party, Leeway: 10 * time.Second}
}

// everyMillisecond has so many goroutines call f about once a millisecond, each with its number, until end is called,
// which waits for them.
func everyMillisecond(goroutines int, f func(i int)) (end func()) {
	stop := make(chan struct{})
	var group sync.WaitGroup
	for i := range goroutines {
		group.Go(func() {
			pause := time.NewTicker(time.Millisecond)
			defer pause.Stop()
			for ; ; <-pause.C {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	return func() {
		close(stop)
		group.Wait()
	}
}

// start opens a store, and runs it for as long as the test does.
func start(tb testing.TB, c Config) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background()) //nolint:usetesting // it ends after what the test cleans up
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return s
}

// pair is that of an assertion that was issued now.
func pair(jti string) replay.Pair { return pairAt(jti, time.Now()) }

func pairAt(jti string, issued time.Time) replay.Pair {
	return replay.Pair{Issuer: "did:ishare:EU.NL.NTRNL-10000001", JTI: jti, IssuedAt: issued, Until: issued.Add(40 * time.Second)}
}

// newest is issued as late as the leeway allows, and so judged before others are after a restart.
func newest() replay.Pair { return pairAt(rand.Text(), time.Now().Add(10*time.Second)) }

// usable waits until the store can be used, if only with problems of time.
func usable(t *testing.T, s *Store) {
	t.Helper()
	redistest.Until(t, "the store is fit", func() bool { return s.Problem() == nil })
}

// vouch makes a server that nobody has asked begin with epochs of long ago, in which nothing was revoked, so that a test need not
// wait.
func vouch(tb testing.TB, servers ...*redistest.Server) {
	tb.Helper()
	c := Config{Party: party}
	for _, server := range servers {
		for i := range clusterBuckets {
			tag := "{" + c.namespace() + ":" + strconv.Itoa(i) + "}:"
			server.Do("EVAL", identify+`
				local record = 'OLD 1000000 ' .. process
				redis.call('SET', KEYS[1], record)
				redis.call('SET', KEYS[2], record) return 1`, "2", tag+"epoch", tag+"revocations:epoch")
		}
	}
}
