package daemon

import (
	"net/http"
	"testing"
)

// Server is the server of each listener.
func (d *Daemon) Server(handler http.Handler) *http.Server { return d.server(handler, d.public) }

// OwnPaths are the paths at which a daemon answers itself.
func OwnPaths() []string { return ownPaths() }

// Soon waits for something, but not for ever.
func Soon(what func() error) error { return soon(what) }

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
