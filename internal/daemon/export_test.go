package daemon

import (
	"net/http"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
)

// Server is the server of each listener.
func (d *Daemon) Server(handler http.Handler) *http.Server { return d.server(handler, d.public) }

// Public is what the public listener serves.
func (d *Daemon) Public() http.Handler { return d.provider.Public() }

// OwnPaths are the paths at which a daemon answers itself.
func OwnPaths() []string {
	return []string{"/connect/token", "/capabilities", "/.well-known/oauth-authorization-server", "/.well-known/jwks.json", "/openapi.json"}
}

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
