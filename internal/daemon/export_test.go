package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/config"
)

// Server is the server of each listener.
func (d *Daemon) Server(handler http.Handler) *http.Server { return d.server(handler, d.public) }

// ListInForce reports whether the trusted list is.
func (d *Daemon) ListInForce() bool { return d.current.Load().from.clients.list.InForce() }

// OwnPaths are the paths at which a daemon answers itself.
func OwnPaths() []string { return ownPaths() }

// Soon waits for something, but not for ever.
func Soon(what func() error) error { return soon(what) }

// Risks are those that a configuration takes.
func Risks(cfg *config.Config) []config.Problem { return risks(cfg) }

// Must unwraps what cannot fail in a test that goes right.
func Must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Look has the daemon look at its folders, as it does every ten seconds.
func (d *Daemon) Look(ctx context.Context) { d.watchFolders(ctx) }

// A ClockWatch is one with a clock and a floor of the test's own.
type ClockWatch struct{ *clockWatch }

// NewClockWatch begins at the time that read gives.
func NewClockWatch(read func() (time.Time, time.Duration), floor func() time.Time, log *slog.Logger) ClockWatch {
	c := newClockWatch(floor, log)
	c.read = read
	c.wall, c.passed = read()
	return ClockWatch{c}
}

// Look looks once.
func (c ClockWatch) Look(ctx context.Context) { c.look(ctx) }
