package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/trust"
)

// Stats is what a [Checker] counted since it was made, for metrics.
type Stats struct {
	OCSPAnswers uint64 // statuses found out by OCSP
	ListAnswers uint64 // statuses found out from a revocation list
	Lists       uint64 // revocation lists fetched
	Failures    uint64 // questions about a certificate that no source answered

	OCSP  Calls // to OCSP responders
	Fetch Calls // for revocation lists

	Remembered uint64 // checks answered from memory
	Asked      uint64 // checks that waited for somebody
	Revoked    uint64 // checks refused because a certificate is revoked
	Undecided  uint64 // checks that ended without a decision, in Require
	SoftFailed uint64 // checks that passed without an answer, in Prefer

	KnownCertificates int    // certificates in memory, now
	KnownLists        int    // revocation lists in memory, now
	ListBytes         uint64 // memory held by revocation lists, about
	OpenCircuits      int    // addresses that are not called for a moment because they failed, now
}

// Calls are how calls to others ended.
type Calls = outbound.Calls

// count counts a call, unless nobody was called, or we gave up.
func count(ctx context.Context, calls *outbound.CallCounter, err error) {
	if !errors.Is(err, flight.ErrBusy) && !errors.Is(err, outbound.ErrCircuitOpen) && (err == nil || !flight.GivenUp(ctx)) {
		calls.Note(err)
	}
}

// Stats returns the present numbers.
func (r *Checker) Stats() Stats {
	c := &r.counters
	return Stats{
		OCSPAnswers:       c.ocsp.Load(),
		ListAnswers:       c.fromList.Load(),
		Lists:             c.lists.Load(),
		Failures:          c.failures.Load(),
		OCSP:              c.responders.Calls(),
		Fetch:             c.distributors.Calls(),
		Remembered:        c.remembered.Load(),
		Asked:             c.asked.Load(),
		Revoked:           c.refused.Load(),
		Undecided:         c.undecided.Load(),
		SoftFailed:        c.softFailed.Load(),
		KnownCertificates: r.certificates.EstimatedSize(),
		KnownLists:        r.lists.EstimatedSize(),
		ListBytes:         r.lists.WeightedSize(),
		OpenCircuits:      r.fetcher.Circuits.Open(),
	}
}

// report counts the result of asking about a certificate, and logs what changed. current is the answer that was in use,
// or nil.
func (r *Checker) report(e *certificateEntry, issuer *x509.Certificate, current, found *cached[certStatus], err error) {
	switch {
	case errors.Is(err, flight.ErrBusy): // our own limit: no source failed
	case err != nil:
		r.counters.failures.Add(1)
		r.logFailure(e, issuer, current, err)
	default:
		if found.value.source == byOCSP {
			r.counters.ocsp.Add(1)
		} else {
			r.counters.fromList.Add(1)
		}
		// A cause that has ended has ended for all certificates that it concerned.
		if cause := e.cause.Swap(nil); cause != nil {
			r.outages.end(softFailPrefix + *cause)
			if r.outages.end(*cause) {
				r.log.Info("the revocation status of a certificate is found out again",
					slog.String("certificate", e.key.certificate.String()), slog.String("source", found.value.source))
			}
		}
		r.logRevoked(e, current, found.value)
	}
}

// logFailure warns once of one cause, however many certificates it concerns.
func (r *Checker) logFailure(e *certificateEntry, issuer *x509.Certificate, current *cached[certStatus], err error) {
	cause := causeOf(err, issuer)
	if before := e.cause.Swap(&cause); before != nil && *before != cause {
		r.outages.end(*before)
		r.outages.end(softFailPrefix + *before)
	}
	if !r.outages.begin(cause) {
		return
	}
	attrs := []any{slog.String("certificate", e.key.certificate.String()), slog.Any("error", err)}
	if current != nil {
		attrs = append(attrs, slog.Time("answer_in_use_until", current.until))
	}
	if hint := r.hint(err); hint != "" {
		attrs = append(attrs, slog.String("mend", hint))
	}
	r.log.Warn("the revocation status of a certificate cannot be found out", attrs...)
}

func (r *Checker) logRevoked(e *certificateEntry, current *cached[certStatus], s certStatus) {
	if s.revoked != nil && (current == nil || current.value.revoked == nil) {
		r.log.Warn("a certificate is revoked",
			slog.String("certificate", e.key.certificate.String()), slog.String("source", s.source),
			slog.Time("since", s.revoked.at), slog.String("reason", reasonName(s.revoked.reason)))
	}
}

const softFailPrefix = "soft-fail\x00" // of a cause, as that of chains that pass

const (
	maxOutages    = 1024             // causes that are remembered; with more, one may be logged again
	outagePause   = time.Minute      // before a cause is logged again that comes and goes
	outageSilence = 10 * time.Minute // after which a cause that did not occur is over
)

// outages are the causes of missing answers that were logged, so that one that
// concerns ten thousand certificates is one line, until it has ended. The zero outages is ready to use.
//
// It is no logsum.Log: that one does not know when a cause has ended. It would log a responder that is asked every
// few minutes every few minutes, and would not log that it answers again.
type outages struct {
	mu    sync.Mutex
	known map[string]outageState
}

type outageState struct {
	logged, lastSeen time.Time
	over             bool
}

// begin reports whether the cause is to be logged.
func (o *outages) begin(cause string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	state, known := o.known[cause]
	silent := now.Sub(state.lastSeen) > outageSilence
	state.lastSeen = now
	if known && !silent && (!state.over || now.Sub(state.logged) < outagePause) {
		o.known[cause] = state
		return false
	}
	if o.known == nil || !known && len(o.known) >= maxOutages {
		o.known = map[string]outageState{}
	}
	o.known[cause] = outageState{logged: now, lastSeen: now}
	return true
}

// end reports whether the cause was logged and its end was not yet.
func (o *outages) end(cause string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	state, known := o.known[cause]
	if !known || state.over {
		return false
	}
	state.over = true
	o.known[cause] = state
	return true
}

// causeOf names what keeps the status of an issuer's certificates from being found out. Errors that differ only in how
// an address is out of reach are one cause.
func causeOf(err error, issuer *x509.Certificate) string {
	fingerprint := trust.FingerprintOf(issuer)
	var cause strings.Builder
	cause.Write(fingerprint[:])
	addSources(&cause, err)
	if cause.Len() == len(fingerprint) {
		cause.WriteString(err.Error())
	}
	return cause.String()
}

func addSources(cause *strings.Builder, err error) {
	if source, ok := err.(*sourceError); ok { //nolint:errorlint // the tree is walked here
		cause.WriteString("\x00" + source.source + " " + outbound.Endpoint(source.address) + " ")
		if !errors.As(err, new(*outbound.UnreachableError)) {
			cause.WriteString(source.cause.Error())
		}
		return
	}
	switch wrapper := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() error }:
		if inner := wrapper.Unwrap(); inner != nil {
			addSources(cause, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			addSources(cause, inner)
		}
	}
}
