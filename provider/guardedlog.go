package provider

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/felixge/httpsnoop"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/logsum"
)

// A guardedLog writes an event for each request that was let in or refused by its access token, when it has ended. Requests that
// are let in have a line each, as somebody is answerable for them; of refusals, which strangers cause, there are the first few.
type guardedLog struct {
	log  *slog.Logger
	sums *logsum.Log
}

func newGuardedLog(log *slog.Logger) *guardedLog { return &guardedLog{log, logsum.New(log)} }

type guardedKey struct{}

// A guardedRequest is a request that a guard may have decided about.
type guardedRequest struct {
	decision    guard.Decision // without an Outcome: nobody has decided
	correlation string
	remote      string // as the guard saw it
	began       time.Time
	status      int
}

// decided is for [guard.LoggingChecker].
func (l *guardedLog) decided(r *http.Request, d guard.Decision) {
	if g, ok := r.Context().Value(guardedKey{}).(*guardedRequest); ok {
		g.decision, g.remote = d, r.RemoteAddr
		g.correlation = d.Correlation() // before the answer begins, which has it
	}
}

// wrap makes a handler whose guarded requests are logged.
func (l *guardedLog) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := &guardedRequest{began: time.Now(), status: http.StatusInternalServerError} // until there is an answer: there may be a panic
		ctx := context.WithValue(r.Context(), guardedKey{}, g)
		defer func() {
			if g.decision.Outcome != "" {
				l.write(ctx, g)
			}
		}()
		answered := false
		seen := func(status int) {
			if !answered && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
				g.status, answered = status, true
			}
		}
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(write httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(status int) { seen(status); write(status) }
			},
			Write: func(write httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(b []byte) (int, error) { seen(http.StatusOK); return write(b) }
			},
		}), r.WithContext(ctx))
		seen(http.StatusOK)
	})
}

func (l *guardedLog) write(ctx context.Context, g *guardedRequest) {
	const message = "guarded request"
	labels := []slog.Attr{slog.String("outcome", g.decision.Outcome), slog.String("route", g.decision.Route)}
	attrs := []slog.Attr{slog.Int("status", g.status), slog.String("correlation", g.correlation), slog.String("remote", g.remote), logsum.Milliseconds("duration_ms", time.Since(g.began))}
	if c := g.decision.Claims; c != nil {
		attrs = append(attrs, slog.String("party", string(c.Party)), slog.String("client_id", string(c.Client)), slog.String("token_id", c.ID))
		l.log.LogAttrs(ctx, slog.LevelInfo, message, append(labels, attrs...)...)
		return
	}
	l.sums.Some(ctx, slog.LevelInfo, message, labels, func() []slog.Attr { return attrs })
}
