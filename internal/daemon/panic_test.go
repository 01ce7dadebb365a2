package daemon

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/logtest"
)

// However many panics there are, the log gets a hundred stacks in ten seconds, and everybody is told where to look.
func TestPanicsAreSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written logtest.Buffer
		log := slog.New(slog.NewJSONHandler(&written, nil))
		sums := logsum.New(log)
		counted := 0
		handler := recoverPanics(log, sums, func() { counted++ }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("once more") }))
		var told []string
		for range 300 {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			_, id, _ := strings.Cut(w.Body.String(), "correlation id ")
			id, _, _ = strings.Cut(id, `"`)
			told = append(told, id)
		}
		sums.Close()
		if counted != len(told) {
			t.Errorf("%d panics were counted, of %d", counted, len(told))
		}
		text := written.String()
		if n := strings.Count(text, `"stack":`); n != 100 {
			t.Errorf("%d stacks for 300 panics", n)
		}
		for _, id := range told {
			if id == "" || !strings.Contains(text, `"correlation":"`+id+`"`) {
				t.Fatalf("%q leads nowhere", id)
			}
		}
	})
}
