package provider

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Look has the provider look at its folders, as it does every ten seconds.
func (p *Provider) Look(ctx context.Context) { p.watchFolders(ctx) }

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
func (c ClockWatch) Look(ctx context.Context) { c.check(ctx) }

// ListedVerifier waits with what the list could change.
func ListedVerifier(v *assertion.Verifier, list *registry.TrustedList) tokenendpoint.Verifier {
	return listedVerifier{v, list}
}

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
