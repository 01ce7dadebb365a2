package provider

import (
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/logtest"
)

// A problem that goes on is not logged each second, although its words differ; another one is, at once.
func TestProblemsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written logtest.Buffer
		w := &watch{key: "state", log: slog.New(slog.NewTextHandler(&written, nil))}
		lines := func() int { return strings.Count(written.String(), "\n") }
		for port := range 3600 {
			w.record(t.Context(), fmt.Errorf("read tcp 127.0.0.1:%d: %w", port, syscall.ECONNRESET))
			time.Sleep(time.Second)
		}
		if n := lines(); n < 1 || n > 6 {
			t.Errorf("%d lines for an hour", n)
		}
		before := lines()
		w.record(t.Context(), syscall.ECONNREFUSED)
		w.record(t.Context(), syscall.ECONNREFUSED)
		w.record(t.Context(), nil)
		w.record(t.Context(), nil)
		if n := lines() - before; n != 2 {
			t.Errorf("%d lines for another problem and its end:\n%s", n, written.String())
		}
	})
}
