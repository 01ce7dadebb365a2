package respond_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/waybill-token/waybill/internal/respond"
)

func TestJSON(t *testing.T) {
	for _, c := range []struct {
		body   any
		status int
		want   string
	}{
		{map[string]int{"n": 1}, http.StatusTeapot, `{"n":1}`},
		{func() {}, http.StatusInternalServerError, ""}, // a mistake of ours
	} {
		w := httptest.NewRecorder()
		respond.JSON(w, http.StatusTeapot, c.body)
		if w.Code != c.status || w.Body.String() != c.want {
			t.Errorf("status %d, %q; want %d, %q", w.Code, w.Body, c.status, c.want)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Pragma": "no-cache",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}
