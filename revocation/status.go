package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
	"weak"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/trust"
)

// A status is what is known about one certificate.
type status struct {
	asked[verdict]

	fingerprint trust.Fingerprint
	recalled    atomic.Bool            // from what is kept
	cause       atomic.Pointer[string] // why it was not found out when last asked for, as the log sums it up
}

// certificateKey tells certificates apart, and issuers that have the same
// name and key but not the same rights.
type certificateKey struct{ certificate, issuer trust.Fingerprint }

// statuses are those of the chain's certificates below its anchor.
func (r *Checker) statuses(chain *trust.Chain) []*status {
	key := weak.Make(chain)
	if known, ok := r.chains.GetIfPresent(key); ok {
		return known
	}
	list := make([]*status, chain.Len()-1)
	for i := range list {
		list[i] = r.status(subjectAt(chain, i))
	}
	r.chains.Set(key, list)
	return list
}

func (r *Checker) status(of subject) *status {
	key := of.key()
	if known, ok := r.certificates.GetIfPresent(key); ok {
		return known
	}
	known, _ := r.certificates.SetIfAbsent(key, &status{fingerprint: key.certificate})
	return known
}

func (of subject) key() certificateKey {
	return certificateKey{trust.FingerprintOf(of.certificate), trust.FingerprintOf(of.issuer)}
}

var errPatience = fmt.Errorf("no answer within %s", maxWait)

// errEnded: the answer that was at hand was replaced by one that has ended by the clock of the check. That takes a
// clock that is set back.
var errEnded = errors.New("the answer has ended meanwhile")

// A wait is for one certificate about which there is no answer in memory.
type wait struct {
	under *flight.Flight[*answer[verdict]]
	leave func()
	err   error // why nobody is asked
}

// prompt has every certificate asked about that should be, all at once, and returns what is to be
// waited for, by the index of the status: nil when that is nothing. Waits must be left.
func (r *Checker) prompt(chain *trust.Chain, statuses []*status, now time.Time) []wait {
	var waits []wait
	for i, s := range statuses {
		if s.fresh(now) {
			continue
		}
		find := func(ctx context.Context) (*answer[verdict], error) { return r.find(ctx, s, subjectAt(chain, i)) }
		failed := s.failed(now)
		switch {
		case s.live(now) == nil:
			if waits == nil {
				waits = make([]wait, len(statuses))
			}
			if failed != nil {
				waits[i].err = failed
			} else {
				waits[i].under, waits[i].leave, waits[i].err = r.finding.Join(s, find)
			}
		case failed == nil:
			_, _ = r.finding.Start(s, find) // when too many are under way, the next check tries again
		}
	}
	return waits
}

func leave(waits []wait) {
	for _, w := range waits {
		if w.under != nil {
			w.leave()
		}
	}
}

// verdict is what is in memory, or comes of the wait.
func (s *status) verdict(ctx context.Context, i int, waits []wait, now time.Time) (verdict, error) {
	if at := s.live(now); at != nil {
		return at.value, nil
	}
	w := waits[i]
	switch {
	case w.err != nil:
		return verdict{}, w.err
	case w.under == nil:
		return verdict{}, errEnded
	}
	at, err := w.under.Wait(ctx)
	if err != nil {
		return verdict{}, err
	}
	return at.value, nil
}

// find looks for the status in memory, among what is kept, and wherever the certificate says.
func (r *Checker) find(ctx context.Context, s *status, of subject) (*answer[verdict], error) {
	now := time.Now()
	if at, err := s.known(now); at != nil || err != nil {
		return at, err
	}
	if at := r.recall(ctx, s, of); at != nil {
		return at, nil
	}
	issuer := trust.FingerprintOf(of.issuer)
	if err := r.issuers.Take(issuer); err != nil {
		return nil, err
	}
	defer r.issuers.Give(issuer)
	found, err := r.ask(ctx, of)
	held := s.live(time.Now())
	if err == nil && held != nil && found.answer.value.revoked == nil && found.answer.value.thisUpdate.Before(held.value.thisUpdate) {
		err = errors.New("the answer is older than the one at hand")
	}
	if !flight.GivenUp(ctx) {
		r.tell(s, of, held, found, err)
	}
	at, err := s.settle(ctx, found.answer, err)
	if err == nil {
		r.keepStatus(of, found)
	}
	return at, err
}

// tell counts what came of asking, and tells the log what changed.
func (r *Checker) tell(s *status, of subject, held *answer[verdict], found told, err error) {
	switch {
	case errors.Is(err, flight.ErrBusy): // which says nothing of those who would be asked
	case err != nil:
		r.counters.failures.Add(1)
		r.tellFailure(s, of, held, err)
	default:
		r.counters.count(found.answer.value)
		r.tellAnswer(s, found.answer.value)
		r.tellRevoked(s, held, found.answer.value)
	}
}

// tellFailure warns once of one cause, however many certificates it concerns.
func (r *Checker) tellFailure(s *status, of subject, held *answer[verdict], err error) {
	cause := causeOf(err, of.issuer)
	if before := s.cause.Swap(&cause); before != nil && *before != cause {
		r.outages.end(*before)
		r.outages.end(letThrough(*before))
	}
	if !r.outages.begin(cause) {
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

// tellAnswer tells of the end of what kept the status from being found out, which is the end for all
// certificates that it concerned.
func (r *Checker) tellAnswer(s *status, v verdict) {
	cause := s.cause.Swap(nil)
	if cause == nil {
		return
	}
	r.outages.end(letThrough(*cause))
	if r.outages.end(*cause) {
		r.log.Info("the revocation status of a certificate is found out again",
			slog.String("certificate", s.fingerprint.String()), slog.String("source", v.source))
	}
}

func (r *Checker) tellRevoked(s *status, held *answer[verdict], v verdict) {
	if v.revoked != nil && (held == nil || held.value.revoked == nil) {
		r.log.Warn("a certificate is revoked",
			slog.String("certificate", s.fingerprint.String()), slog.String("source", v.source),
			slog.Time("since", v.revoked.at), slog.String("reason", v.revoked.reason.String()))
	}
}

// tellLetThrough warns once of one cause until there is an answer again; every time would be
// once a request.
func (r *Checker) tellLetThrough(missing error, statuses []*status, now time.Time) {
	for _, s := range statuses {
		cause := s.cause.Load()
		if s.live(now) == nil && cause != nil && r.outages.begin(letThrough(*cause)) {
			r.log.Warn("a chain is let through although its revocation status is missing",
				slog.String("certificate", s.fingerprint.String()), slog.Any("cause", missing))
		}
	}
}

func letThrough(cause string) string { return "let through\x00" + cause }
