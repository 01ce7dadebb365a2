package bench

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A server that is not ready at first is waited for, and one that does not become so is told of in its own words.
func TestReady(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || asked.Add(1) < 3 {
			http.Error(w, "the store is away", http.StatusServiceUnavailable)
			return
		}
	}))
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	if err := ready(t.Context(), address, nil, time.Minute); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	asked.Store(-1 << 30)
	if err := ready(t.Context(), address, nil, time.Second); err == nil || !strings.Contains(err.Error(), "/readyz says 503 the store is away") {
		t.Errorf("%v", err)
	}
	ended := make(chan struct{})
	close(ended)
	if err := ready(t.Context(), address, ended, time.Hour); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("of a server that has ended: %v", err)
	}
}
