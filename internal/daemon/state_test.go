package daemon_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/rule"
)

// replicas are servers of one party, with data folders of their own, that share keys and a store.
func replicas(t *testing.T, n int, redis *redistest.Server) []*server {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys")
	var servers []*server
	for range n {
		cfg := shared(t, redis, "WAYBILL_TOKENS_KEYS="+keys)
		servers = append(servers, start(t, daemon.Options{Secured: secured}, cfg))
	}
	for _, s := range servers {
		s.eventually(t, "tokens", func() bool { status, _ := s.ready(t); return status == http.StatusOK })
	}
	return servers
}

// shared is a configuration with a store, of a server that has a folder of its own.
func shared(t *testing.T, redis *redistest.Server, environ ...string) *config.Config {
	t.Helper()
	return parse(t, newHome(t), append(environ, "WAYBILL_STATE="+redis.URL(), "WAYBILL_POLICY_LEEWAY=0s")...)
}

// auth is the status that forward-auth gives a token.
func (s *server) auth(t *testing.T, token string) int {
	t.Helper()
	status, _, _ := get(t, plain(t), s.internal+"/auth", "Authorization", "Bearer "+token)
	return status
}

// An assertion that several replicas get at once is good for one token.
func TestReplicasAcceptAnAssertionOnce(t *testing.T) {
	t.Parallel()
	servers := replicas(t, 3, redistest.Start(t))
	for range 10 {
		r := players().consumer.Request(providerID)
		var mu sync.Mutex
		tokens, used := 0, 0
		var group sync.WaitGroup
		for i := range 30 {
			group.Go(func() {
				a := servers[i%len(servers)].send(t, r)
				mu.Lock()
				defer mu.Unlock()
				if a.Meets(nil) == nil {
					tokens++
				}
				if a.Meets(rule.JTIReplayed) == nil {
					used++
				}
			})
		}
		group.Wait()
		if tokens != 1 || used != 29 {
			t.Errorf("%d tokens, and %d times it was used", tokens, used)
		}
	}
}

// A token is good at every replica, until it is revoked at any of them; and a replica that joins serves at once.
func TestReplicasShareTokens(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	servers := replicas(t, 2, redis)
	token := servers[0].token(t)
	if !servers[1].admits(t, token) {
		t.Fatal("the token of another replica is no good")
	}
	if status, _, body := servers[0].post(t, "/revoke", url.Values{"token": {token}}); status != http.StatusOK {
		t.Fatalf("status %d, %s", status, body)
	}
	revoked := time.Now()
	servers[1].eventually(t, "the revocation", func() bool { return servers[1].auth(t, token) == http.StatusUnauthorized })
	t.Logf("seen by the other replica after %v", time.Since(revoked))
	joined := start(t, daemon.Options{}, shared(t, redis))
	joined.token(t)
}

// While the store is out of reach, nobody gets in, and /readyz says why. Nobody has to do anything when it is back.
func TestStoreOutOfReach(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s := replicas(t, 1, redis)[0]
	token := s.token(t)
	redis.Kill()
	if err := s.send(t, players().consumer.Request(providerID)).Meets(rule.UnavailableState); err != nil {
		t.Error(err)
	}
	s.eventually(t, "/readyz", func() bool { status, _ := s.ready(t); return status == http.StatusServiceUnavailable })
	if _, r := s.ready(t); len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0], "state: redis: ") {
		t.Errorf("%+v", r)
	}
	s.eventually(t, "the end of what is known of revocations", func() bool { return s.auth(t, token) == http.StatusServiceUnavailable })
	s.eventually(t, "the log", func() bool { return len(s.log.records(t, "a problem was found")) == 1 })
	warnings := func() int {
		return len(s.log.records(t, "the store of used assertions is new, or was restarted, emptied or replaced; assertions issued before get no token, as they may have been used"))
	}
	if warnings() != 1 {
		t.Error("the log does not say that the store is new")
	}
	redis.Restart()
	s.eventually(t, "tokens", func() bool { status, _ := s.ready(t); return status == http.StatusOK })
	s.token(t)
	if warnings() != 2 {
		t.Error("the log does not say that the store was restarted")
	}
	if !s.admits(t, token) {
		t.Error("a token that nobody has revoked is no good")
	}
}

// What used assertions and revocations a server knew before it had a store is not forgotten by going to the store, nor what the
// store knew by going back.
func TestToTheStoreAndBack(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	dir := newHome(t)
	memory, store := parse(t, dir, "WAYBILL_POLICY_LEEWAY=0s"), parse(t, dir, "WAYBILL_STATE="+redis.URL(), "WAYBILL_POLICY_LEEWAY=0s")
	kept := replicas(t, 1, redis)[0] // by which the store is old enough to be joined
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, memory)
	first, second := s.token(t), s.token(t)
	if status, _, _ := s.post(t, "/revoke", url.Values{"token": {first}}); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, daemon.Options{Secured: secured}, store)
	if s.admits(t, first) || !s.admits(t, second) {
		t.Error("the store does not know what was revoked before")
	}
	if status, _, _ := s.post(t, "/revoke", url.Values{"token": {second}}); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	used := players().consumer.Request(providerID)
	if err := s.send(t, used).Meets(nil); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	kept.token(t)
	s = start(t, daemon.Options{Secured: secured}, memory)
	if a := s.send(t, used); a.Status == http.StatusOK {
		t.Error("an assertion that the store knew was accepted again")
	}
	if s.admits(t, second) {
		t.Error("a token that was revoked in the store is good")
	}
}

// What check and the start-up log say is which guarantee is in force, and whether the store can be used.
func TestGuarantee(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	cfg := shared(t, redis)
	if found := check(cfg); len(found.Problems) > 0 || !strings.Contains(found.Guarantee, "once at all servers") {
		t.Errorf("%v, %s", found.Problems, found.Guarantee)
	}
	if keys := redis.Do("DBSIZE"); keys != "0" {
		t.Errorf("check leaves %s keys behind", keys)
	}
	if told := start(t, daemon.Options{}, cfg).log.records(t, "used assertions"); len(told) != 1 || told[0]["state"] != redis.URL() {
		t.Errorf("the log says %v", told)
	}
	redis.Do("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
	if found := check(cfg); !strings.Contains(told(found.Problems), "set maxmemory-policy to noeviction") {
		t.Errorf("%v", found.Problems)
	}
	redis.Kill()
	if found := check(cfg); !strings.Contains(told(found.Problems), "state: redis: ") {
		t.Errorf("%v", found.Problems)
	}
}
