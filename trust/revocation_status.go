package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
	"weak"
)

// A status is what is known about one certificate.
type status struct {
	asked[verdict]

	fingerprint Fingerprint
	failing     atomic.Bool // the log knows that there is no answer
	letThrough  atomic.Bool // the log knows that chains pass without one
}

// certificateKey tells certificates apart, and issuers that have the same
// name and key but not the same rights.
type certificateKey struct{ certificate, issuer Fingerprint }

// statuses are those of the chain's certificates below its anchor.
func (r *Revocation) statuses(chain *Chain) []*status {
	key := weak.Make(chain)
	if known, ok := r.chains.GetIfPresent(key); ok {
		return known
	}
	list := make([]*status, len(chain.certificates)-1)
	for i := range list {
		list[i] = r.status(chain.subject(i))
	}
	r.chains.Set(key, list)
	return list
}

func (r *Revocation) status(of subject) *status {
	key := certificateKey{FingerprintOf(of.certificate), FingerprintOf(of.issuer)}
	if known, ok := r.certificates.GetIfPresent(key); ok {
		return known
	}
	known, _ := r.certificates.SetIfAbsent(key, &status{fingerprint: key.certificate})
	return known
}

var errPatience = fmt.Errorf("no answer within %s", maxWait)

// verdict waits for what prompt has put under way.
func (s *status) verdict(ctx context.Context, now time.Time) (verdict, error) {
	if at := s.live(now); at != nil {
		return at.value, nil
	}
	ctx, cancel := context.WithDeadlineCause(ctx, now.Add(maxWait), errPatience)
	defer cancel()
	at, err := s.wait(ctx, now)
	if err != nil {
		return verdict{}, err
	}
	return at.value, nil
}

// question asks about the certificate and tells the log what changed.
func (r *Revocation) question(s *status, of subject) func(context.Context) (*answer[verdict], error) {
	return func(ctx context.Context) (*answer[verdict], error) {
		found, err := r.ask(ctx, of)
		held := s.live(time.Now())
		if err == nil && held != nil && found.value.revoked == nil && found.value.thisUpdate.Before(held.value.thisUpdate) {
			err = errors.New("the answer is older than the one at hand")
		}
		if err != nil {
			r.tellFailure(s, held, err)
			return nil, err
		}
		r.tellAnswer(s, held, found.value)
		return found, nil
	}
}

func (r *Revocation) tellFailure(s *status, held *answer[verdict], err error) {
	r.counters.failures.Add(1)
	if r.workers.ctx.Err() != nil || s.failing.Swap(true) {
		return
	}
	attrs := []any{slog.String("certificate", s.fingerprint.String()), slog.Any("error", err)}
	if held != nil {
		attrs = append(attrs, slog.Time("answer_in_use_until", held.until))
	}
	if mend := r.mend(err); mend != "" {
		attrs = append(attrs, slog.String("mend", mend))
	}
	r.log.Warn("the revocation status of a certificate cannot be found out", attrs...)
}

func (r *Revocation) tellAnswer(s *status, held *answer[verdict], v verdict) {
	r.counters.count(v)
	s.letThrough.Store(false)
	attrs := []any{slog.String("certificate", s.fingerprint.String()), slog.String("source", v.source)}
	if s.failing.Swap(false) {
		r.log.Info("the revocation status of a certificate is found out again", attrs...)
	}
	if v.revoked != nil && (held == nil || held.value.revoked == nil) {
		r.log.Warn("a certificate is revoked", append(attrs,
			slog.Time("since", v.revoked.at), slog.String("reason", v.revoked.reason.String()))...)
	}
}
