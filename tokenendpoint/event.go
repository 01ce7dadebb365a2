package tokenendpoint

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
)

// maxCause bounds what a private cause may add to the log.
const maxCause = 300

// An event is what the log keeps of a request. It never holds an assertion, a
// token or a key.
type event struct {
	start       time.Time
	remote      string
	clientID    ishare.PartyID
	seen        assertion.Sighting
	granted     *accesstoken.Claims
	err         error
	correlation string // of an error of our own
}

func (e *event) fail(err error) {
	e.err = err
	if rejection, outage := ishare.Classify(err); rejection == nil && outage == nil {
		e.correlation = rand.Text()
	}
}

// log writes the event, once.
func (e *event) log(ctx context.Context, log *slog.Logger) {
	attrs := make([]slog.Attr, 0, 13)
	level, outcome, rule := e.outcome()
	attrs = append(attrs, slog.String("outcome", outcome))
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("rule", rule)
	if e.err != nil {
		add("cause", cut(e.err.Error()))
	}
	if rejection, outage := ishare.Classify(e.err); rejection != nil && outage == nil {
		add("hint", cut(rejection.Hint))
	}
	add("correlation", e.correlation)
	add("client_id", string(e.clientID))
	add("certificate", e.seen.Thumbprint)
	add("jti_hash", e.seen.JTIHash)
	if e.granted != nil {
		add("party", string(e.granted.Party))
		add("token_id", e.granted.ID)
		add("scope", e.granted.Scope.String())
	}
	add("remote", e.remote)
	attrs = append(attrs, slog.Duration("duration", time.Since(e.start)))
	log.LogAttrs(ctx, level, "token request", attrs...)
}

func (e *event) outcome() (level slog.Level, outcome, rule string) {
	switch rejection, outage := ishare.Classify(e.err); {
	case e.err == nil:
		return slog.LevelInfo, "issued", ""
	case rejection != nil:
		return slog.LevelInfo, "refused", rejection.Rule.ID
	case outage != nil:
		return slog.LevelWarn, "unavailable", outage.Rule.ID
	default:
		return slog.LevelError, "failed", ishare.Internal.ID
	}
}

func cut(s string) string { return s[:min(len(s), maxCause)] }
