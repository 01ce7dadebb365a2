package daemon

import (
	"context"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

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

// LookYourself leaves it to Look to look at the files.
func (d *Daemon) LookYourself() { d.lookEvery = time.Hour }

// Look looks at the files once, and waits for the reload if there is one.
func (d *Daemon) Look(ctx context.Context) { d.look(ctx) }

// RetryNow has the next Look try again what could not be used.
func (d *Daemon) RetryNow() { d.files.again = time.Now() }

// Certificates are those of the seal in use.
func (d *Daemon) Certificates() []*x509.Certificate { return d.current.Load().provider.Certificates }

// Scopes are those in use.
func (d *Daemon) Scopes() []string { return d.current.Load().provider.Scopes }
