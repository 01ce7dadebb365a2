package isharetest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/isharetest"
)

// TestSlow that a slow server answers after its time, and gives up with its caller.
func TestSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answered := false
		handler := isharetest.WithFault(isharetest.FaultSlow, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered = true }))
		began := time.Now()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if took := time.Since(began); took != isharetest.Slowness || !answered {
			t.Errorf("answered %t after %s", answered, took)
		}
	})
}
