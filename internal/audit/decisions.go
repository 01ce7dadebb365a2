package audit

import (
	"context"
	"log/slog"

	"github.com/waybill-token/waybill/guard/tokenadmin"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// Token enters a decision. The error is nil for a trail that is not required, and keeps the token back otherwise.
func (t *Trail) Token(_ context.Context, d *tokenendpoint.Decision) error {
	e := Entry{
		Event: Token, Outcome: string(d.Outcome), ClientID: string(d.ClientID),
		Certificate: d.Seen.Thumbprint, JTIHash: d.Seen.JTIHash, Remote: d.Remote, Correlation: d.Correlation,
	}
	if d.Rule != nil {
		e.Rule = d.Rule.ID
	}
	if d.Granted != nil {
		e.Party, e.TokenID, e.Scope = string(d.Granted.Party), d.Granted.ID, d.Granted.Scope.String()
	}
	if d.Outcome != tokenendpoint.Issued && (!d.Seen.Signed || d.Rule == rule.Limited) { // or whoever asks too often could fill the disk
		if _, full := t.unproven.Failure(slog.LevelInfo, string(Token), []slog.Attr{slog.String("outcome", e.Outcome), slog.String("rule", e.Rule)}); !full {
			return nil
		}
	}
	return t.put(e)
}

// Revocation enters that access tokens are to be revoked. The error is nil for a trail that is not required.
func (t *Trail) Revocation(_ context.Context, r tokenadmin.Revocation) error {
	return t.put(Entry{
		Event: Revocation, Caller: r.Caller, Remote: r.Remote,
		TokenID: r.What.TokenID, Party: string(r.What.Party), Certificate: r.What.Thumbprint,
	})
}

// Act enters what was done to the server: its start and stop, a reload, other keys. A problem makes it one that failed.
func (t *Trail) Act(event Event, detail string, problem error) {
	e := Entry{Event: event, Outcome: "done", Detail: detail}
	if problem != nil {
		e.Outcome, e.Detail = "failed", problem.Error()
	}
	_ = t.put(e) // what was done is done; that the trail cannot be written is told by the log, /readyz and the metrics
}

// sums makes entries of the sums of decisions that have no entry of their own.
type sums struct{ trail *Trail }

// Enabled implements [slog.Handler].
func (sums) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements [slog.Handler].
func (s sums) WithAttrs([]slog.Attr) slog.Handler { return s }

// WithGroup implements [slog.Handler].
func (s sums) WithGroup(string) slog.Handler { return s }

// Handle enters how many there were. Nobody waits for it.
func (s sums) Handle(_ context.Context, r slog.Record) error {
	e := Entry{Time: r.Time, Event: Token}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "outcome":
			e.Outcome = a.Value.String()
		case "rule":
			e.Rule = a.Value.String()
		case "more":
			e.More = int(a.Value.Int64())
		}
		return true
	})
	select {
	case s.trail.entries <- &pending{Entry: e, done: make(chan error, 1)}:
	default:
		s.trail.note(1, errSlow)
	}
	return nil
}
