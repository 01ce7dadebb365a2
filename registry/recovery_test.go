package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/trust"
)

// failures are ways in which a registry can be of no use.
var failures = map[string]func(f *fakeRegistry, n *network){
	"refuses connections": func(_ *fakeRegistry, n *network) { n.down.Store(true) },
	"hangs":               func(f *fakeRegistry, _ *network) { f.behind(onAll(hang)) },
	"hangs on tokens":     func(f *fakeRegistry, _ *network) { f.revokeTokens(); f.behind(onToken(hang)) },
	"answers with garbage": func(f *fakeRegistry, _ *network) {
		f.behind(onAll(respond(http.StatusOK, "<html>hello</html>")))
	},
	"is lost behind its server": func(f *fakeRegistry, _ *network) { f.behind(onAll(respond(http.StatusNotFound, ""))) },
	"is overloaded":             func(f *fakeRegistry, _ *network) { f.behind(onAll(comeBackLater)) },
	"gives no token":            func(f *fakeRegistry, _ *network) { f.revokeTokens(); f.behind(onToken(comeBackLater)) },
	"refuses our token request": func(f *fakeRegistry, _ *network) {
		f.revokeTokens()
		f.behind(onToken(respond(http.StatusBadRequest, `{"error":"invalid_client"}`)))
	},
	"signs badly": func(f *fakeRegistry, _ *network) {
		f.change(func(f *fakeRegistry) { f.answer.tamper = flipSignature })
	},
}

func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func comeBackLater(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "3600")
	http.Error(w, "too much to do", http.StatusServiceUnavailable)
}

// A registry that is back is used within two seconds, whatever was the matter with it and however long: for a client
// who is known, for one who is new, and for the trusted list. Meanwhile a known client waits for two seconds at
// most, and is served.
func TestRecovery(t *testing.T) {
	for name, fail := range failures {
		for _, lasts := range []time.Duration{700 * time.Millisecond, 3300 * time.Millisecond, 95 * time.Second} {
			t.Run(name+" for "+lasts.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { recovers(t, fail, lasts) })
			})
		}
	}
}

func recovers(t *testing.T, fail func(*fakeRegistry, *network), lasts time.Duration) {
	t.Helper()
	f, n, r := inMemory(t)
	c, err := NewCache(CacheConfig{Source: r, Fresh: testFresh, MaxStale: testStale})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	clients, err := trust.New(f.pki.anchors())
	if err != nil {
		t.Fatal(err)
	}
	list, err := NewTrustedList(TrustedListConfig{
		Source: r, Own: f.pki.anchors(), Clients: clients, Refresh: testFresh, MaxStale: testStale,
	})
	if err != nil {
		t.Fatal(err)
	}
	mustParty(t, c, consumerID)
	runList(t, list)
	time.Sleep(testFresh - time.Millisecond)
	fail(f, n)
	time.Sleep(time.Millisecond)
	failed := time.Now()
	for time.Since(failed) < lasts {
		began := time.Now()
		mustParty(t, c, consumerID)
		if took := time.Since(began); took > 2*time.Second {
			t.Fatalf("the known client waited %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := c.Party(ctx, consumerAt); err == nil || errors.Is(err, ErrUnknown) {
			t.Fatalf("the new client: %v", err)
		}
		cancel()
		time.Sleep(50 * time.Millisecond)
	}
	patient := make(chan time.Time, 1)
	go func() {
		for {
			if _, err := c.Party(t.Context(), consumerAt); err == nil {
				patient <- time.Now()
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	synctest.Wait()
	n.down.Store(false)
	f.behind(nil)
	f.change(func(f *fakeRegistry) { f.answer.tamper = nil })
	back := time.Now()
	if took := (<-patient).Sub(back); took > 2*time.Second {
		t.Errorf("the new client is served %s after", took)
	}
	time.Sleep(time.Until(back.Add(2 * time.Second)))
	mustParty(t, c, consumerID)
	if st := list.Stats(); st.Stale || st.Err != nil {
		t.Errorf("the trusted list: %+v", st)
	}
	if st := c.Stats(); st.Err != nil {
		t.Errorf("records: %v", st.Err)
	}
}
