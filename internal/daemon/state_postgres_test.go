//go:build linux

package daemon_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/pgtest"
	"github.com/waybill-token/waybill/rule"
)

// Replicas that share a PostgreSQL accept an assertion once and a token until one of them revokes it, and nothing while
// it is away; when it is back they know what they knew.
func TestReplicasOverPostgres(t *testing.T) {
	t.Parallel()
	postgres := pgtest.Start(t)
	keys := filepath.Join(t.TempDir(), "keys")
	var servers []*server
	for range 3 {
		cfg := parse(t, newHome(t), "WAYBILL_TOKENS_KEYS="+keys, "WAYBILL_STATE="+postgres.URL(), "WAYBILL_POLICY_LEEWAY=0s")
		servers = append(servers, start(t, daemon.Options{Secured: secured}, cfg))
	}
	ready := func() {
		t.Helper()
		for _, s := range servers {
			s.eventually(t, "tokens", func() bool { status, _ := s.ready(t); return status == http.StatusOK })
		}
	}
	ready()
	r := players().consumer.Request(providerID)
	var tokens, used atomic.Int64
	var group sync.WaitGroup
	for i := range 60 {
		group.Go(func() {
			a := servers[i%len(servers)].send(t, r)
			switch {
			case a.Meets(nil) == nil:
				tokens.Add(1)
			case a.Meets(rule.JTIReplayed) == nil:
				used.Add(1)
			}
		})
	}
	group.Wait()
	if tokens.Load() != 1 || used.Load() != 59 {
		t.Errorf("%d tokens, and %d times it was used", tokens.Load(), used.Load())
	}
	token := servers[0].token(t)
	if !servers[1].admits(t, token) {
		t.Error("the token of another replica is no good")
	}
	last := players().consumer.Request(providerID)
	if err := servers[0].send(t, last).Meets(nil); err != nil {
		t.Error(err)
	}
	postgres.Kill()
	if err := servers[2].send(t, players().consumer.Request(providerID)).Meets(rule.UnavailableState); err != nil {
		t.Error(err)
	}
	postgres.Restart()
	ready()
	if servers[2].send(t, last).Meets(nil) == nil {
		t.Error("an assertion is accepted twice")
	}
	if status, _, body := servers[0].post(t, "/revoke", url.Values{"token": {token}}); status != http.StatusOK {
		t.Fatalf("status %d, %s", status, body)
	}
	servers[1].eventually(t, "the revocation", func() bool { return servers[1].auth(t, token) == http.StatusUnauthorized })
}
