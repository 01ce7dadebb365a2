package outbound

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/waybill-token/waybill/internal/logsum"
)

// Observed returns a transport that goes by another one and writes each call to the log, at the level for debugging: what
// kind of server was called, which, what came of it and how long it took until there was an answer. Path, query and header
// are not told, as they may hold a secret. A wrap goes around the calls if there is one. Idle connections are closed through it.
func Observed(base http.RoundTripper, kind string, log *slog.Logger, wrap func(http.RoundTripper) http.RoundTripper) http.RoundTripper {
	var around http.RoundTripper = &loggedTransport{base, kind, log}
	if wrap != nil {
		around = wrap(around)
	}
	return &observedTransport{around, base}
}

type observedTransport struct {
	http.RoundTripper

	base http.RoundTripper
}

// CloseIdleConnections is for [http.Client].
func (t *observedTransport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

type loggedTransport struct {
	base http.RoundTripper
	kind string
	log  *slog.Logger
}

// RoundTrip implements [http.RoundTripper].
func (t *loggedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if !t.log.Enabled(ctx, slog.LevelDebug) {
		return t.base.RoundTrip(r)
	}
	began := time.Now()
	response, err := t.base.RoundTrip(r)
	attrs := []slog.Attr{slog.String("kind", t.kind), slog.String("host", r.URL.Host), slog.String("method", r.Method)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	} else {
		attrs = append(attrs, slog.Int("status", response.StatusCode))
	}
	t.log.LogAttrs(ctx, slog.LevelDebug, "outgoing call", append(attrs, logsum.Milliseconds("duration_ms", time.Since(began)))...)
	return response, err
}
