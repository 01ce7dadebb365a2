package tokenendpoint

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// maxCause bounds what a private cause may add to the log.
const maxCause = 300

const message = "token request"

// maxWait is how long a client should wait for an answer. A client that leaves sooner has abandoned its request; one that
// was kept waiting for longer has met an outage.
const maxWait = 2 * time.Second

// An event is what the log keeps of a request. It never holds an assertion, a token or a key.
type event struct {
	start       time.Time
	remote      string
	clientID    ishare.PartyID
	seen        assertion.UnverifiedInfo
	granted     *accesstoken.Claims
	err         error
	correlation string // of a request that gets no token
	summed      bool   // by a line that has the correlation id
}

// write writes the event, once, or counts it: each token that is given has a line, each error of our own
// one that its correlation id leads to, and an outage one for each cause while it lasts.
func (e *event) write(ctx context.Context, to *slog.Logger, log *logsum.Log) {
	switch rejection, outage := rule.Classify(e.err); {
	case e.err == nil:
		to.LogAttrs(ctx, slog.LevelInfo, message, e.attrs()...)
	case rejection != nil:
		log.Some(ctx, slog.LevelInfo, message, labels("refused", rejection.Rule), e.attrs)
	case outage != nil && ctx.Err() != nil && errors.Is(outage.Cause, context.Canceled) && time.Since(e.start) < maxWait:
		log.Some(ctx, slog.LevelInfo, message, labels("abandoned", outage.Rule), e.attrs)
	case outage != nil && outage.Rule == rule.Limited: // which is up to the client
		log.Some(ctx, slog.LevelWarn, message, labels("unavailable", outage.Rule), e.attrs)
	case outage != nil:
		log.Lasting(ctx, slog.LevelWarn, message, append(labels("unavailable", outage.Rule), logsum.Reason(outage.Cause)...), e.attrs)
	case !e.summed:
		to.LogAttrs(ctx, slog.LevelError, message, append(labels("failed", rule.Internal), e.attrs()...)...)
	}
}

func labels(outcome string, reason *rule.Rule) []slog.Attr {
	return []slog.Attr{slog.String("outcome", outcome), slog.String("rule", reason.ID)}
}

// attrs are what differs between events of a kind, and all of an event that is no error.
func (e *event) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 14)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if e.err == nil {
		add("outcome", "issued")
	} else {
		add("cause", cut(e.err.Error()))
	}
	if rejection, outage := rule.Classify(e.err); rejection != nil && outage == nil {
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
	return append(attrs, slog.Duration("duration", time.Since(e.start)))
}

func cut(s string) string { return s[:min(len(s), maxCause)] }
