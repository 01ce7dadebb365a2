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

// An Outcome is what became of a token request.
type Outcome string

// The outcomes.
const (
	Issued      Outcome = "issued"
	Refused     Outcome = "refused"     // by a rule: the client is at fault
	Unavailable Outcome = "unavailable" // nobody knows at this time, or the client asks too often
	Abandoned   Outcome = "abandoned"   // the client left before there was an answer
	Failed      Outcome = "failed"      // an error of our own
)

// Outcomes are all there are.
func Outcomes() []Outcome { return []Outcome{Issued, Refused, Unavailable, Abandoned, Failed} }

// A Decision is what became of one token request. It never holds an assertion, a token or a key.
type Decision struct {
	Began    time.Time
	Duration time.Duration // from then until the decision was there
	Outcome  Outcome
	Rule     *rule.Rule // nil: a token is issued
	Err      error      // nil: a token is issued

	// Correlation is the X-Request-Id of the answer.
	Correlation string
	Remote      string         // where the request comes from
	ClientID    ishare.PartyID // of the request, when it is a party identifier
	Seen        assertion.UnverifiedInfo
	Granted     *accesstoken.Claims // nil: there is no token

	summed bool // by a line that has the correlation id
}

// conclude enters how the request ends.
func (d *Decision) conclude(ctx context.Context, err error) {
	d.Err, d.Duration = err, time.Since(d.Began)
	if err == nil {
		d.Outcome, d.Rule = Issued, nil
		return
	}
	d.Granted = nil
	switch rejection, outage := rule.Classify(err); {
	case rejection != nil:
		d.Outcome, d.Rule = Refused, rejection.Rule
	case outage != nil && ctx.Err() != nil && errors.Is(outage.Cause, context.Canceled) && d.Duration < maxWait:
		d.Outcome, d.Rule = Abandoned, outage.Rule
	case outage != nil:
		d.Outcome, d.Rule = Unavailable, outage.Rule
	default:
		d.Outcome, d.Rule = Failed, rule.Internal
	}
}

// write writes the decision to the log, once, or counts it: each token that is given has a line, each error of our own
// one that its correlation id leads to, and an outage one for each cause while it lasts.
func (d *Decision) write(ctx context.Context, to *slog.Logger, log *logsum.Log) {
	switch {
	case d.Outcome == Issued:
		to.LogAttrs(ctx, slog.LevelInfo, message, d.attrs()...)
	case d.Outcome == Refused || d.Outcome == Abandoned:
		log.Some(ctx, slog.LevelInfo, message, d.labels(), d.attrs)
	case d.Outcome == Unavailable && d.Rule == rule.Limited: // which is up to the client
		log.Some(ctx, slog.LevelWarn, message, d.labels(), d.attrs)
	case d.Outcome == Unavailable:
		_, outage := rule.Classify(d.Err)
		log.Lasting(ctx, slog.LevelWarn, message, append(d.labels(), logsum.Reason(outage.Cause)...), d.attrs)
	case !d.summed:
		to.LogAttrs(ctx, slog.LevelError, message, append(d.labels(), d.attrs()...)...)
	}
}

func (d *Decision) labels() []slog.Attr {
	return []slog.Attr{slog.String("outcome", string(d.Outcome)), slog.String("rule", d.Rule.ID)}
}

// attrs are what differs between decisions of a kind, and all of one that is no error.
func (d *Decision) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 14)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if d.Err == nil {
		add("outcome", string(d.Outcome))
	} else {
		add("cause", cut(d.Err.Error()))
	}
	if rejection, outage := rule.Classify(d.Err); rejection != nil && outage == nil {
		add("hint", cut(rejection.Hint))
	}
	add("correlation", d.Correlation)
	add("client_id", string(d.ClientID))
	add("certificate", d.Seen.Thumbprint)
	add("jti_hash", d.Seen.JTIHash)
	if d.Granted != nil {
		add("party", string(d.Granted.Party))
		add("token_id", d.Granted.ID)
		add("scope", d.Granted.Scope.String())
	}
	add("remote", d.Remote)
	return append(attrs, logsum.Milliseconds("duration_ms", d.Duration))
}

func cut(s string) string { return s[:min(len(s), maxCause)] }
