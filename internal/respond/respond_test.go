package respond_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
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

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		answer       func(http.ResponseWriter)
		status       int
		retry, wants string
	}{
		{
			func(w http.ResponseWriter) { respond.Error(w, http.StatusTeapot, "invalid_request", "no <coffee>") },
			http.StatusTeapot, "", `{"error":"invalid_request","error_description":"no <coffee>","correlation":"ID"}`,
		},
		{
			func(w http.ResponseWriter) { respond.Unavailable(w, "not now") },
			http.StatusServiceUnavailable, "1", `{"error":"temporarily_unavailable","error_description":"not now","correlation":"ID"}`,
		},
	} {
		w := httptest.NewRecorder()
		c.answer(w)
		id := w.Header().Get("X-Request-Id")
		if len(id) < 26 { // of 128 bits
			t.Errorf("X-Request-Id: %q", id)
		}
		if w.Code != c.status || w.Body.String() != strings.Replace(c.wants, "ID", id, 1) || w.Header().Get("Retry-After") != c.retry || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("status %d %v, %q; want %d, %q", w.Code, w.Header(), w.Body, c.status, c.wants)
		}
	}
}

// One answer has one identifier, and two answers have two.
func TestCorrelation(t *testing.T) {
	one, other := http.Header{}, http.Header{}
	id := respond.Correlation(one)
	if respond.Correlation(one) != id || one.Get("X-Request-Id") != id || respond.Correlation(other) == id {
		t.Errorf("%v and %v", one, other)
	}
}
