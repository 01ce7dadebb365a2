package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/trust"
)

// A certStatus is what a source says of one certificate.
type certStatus struct {
	source     string // byOCSP or byList
	address    string
	thisUpdate time.Time
	nextUpdate time.Time
	revoked    *revocationEntry // nil: it is not
}

// inForce says why a statement that is valid from thisUpdate to nextUpdate does not count at that time.
func inForce(thisUpdate, nextUpdate, at time.Time) error {
	switch {
	case thisUpdate.After(at.Add(maxSkew)):
		return fmt.Errorf("it begins only on %s", thisUpdate.UTC().Format(time.RFC3339))
	case !at.Before(nextUpdate):
		return fmt.Errorf("it ended on %s", nextUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// maxSkew is how far the clock of an authority may run ahead of ours. Ends are not stretched by it.
const maxSkew = time.Minute

// A revocationEntry is the revocation of one certificate, as a list or an OCSP answer has it.
type revocationEntry struct {
	at     time.Time
	reason int // CRLReason (RFC 5280 section 5.3.1), or any other number
}

// final reports whether the revocation can never be lifted: only a hold can (RFC 5280 section 5.3.1).
func (e *revocationEntry) final() bool {
	return e != nil && e.reason != ocsp.CertificateHold && e.reason != ocsp.RemoveFromCRL
}

// String is the predicate of a sentence whose subject is the certificate.
func (e *revocationEntry) String() string {
	what := "is revoked"
	if e.reason == ocsp.CertificateHold {
		what = "is on hold"
	}
	return fmt.Sprintf("%s since %s (%s)", what, e.at.UTC().Format(time.RFC3339), reasonName(e.reason))
}

// reasonName gives a reason as the RFC writes it.
func reasonName(code int) string {
	names := [...]string{
		"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
		"certificateHold", "unused", "removeFromCRL", "privilegeWithdrawn", "aACompromise",
	}
	if code < 0 || code >= len(names) {
		return "reason unknown"
	}
	return names[code]
}

// How long a failure is remembered, so that not every check asks a question that nobody answers. Any failure may end
// soon, and checks must have an answer at most two seconds after it ended. Within this bound, an unusable answer is
// remembered for longer the larger it was. Only a certificate that names nobody to ask never changes.
const (
	failureMemory  = time.Second
	costlyMemory   = 800 * time.Millisecond // more, for an answer of the largest size
	noSourceMemory = time.Hour
)

// A cached value is good until it ends, and should be asked for again before.
type cached[T any] struct {
	value     T
	refreshAt time.Time
	until     time.Time
}

// A failure is why a question got no answer.
type failure struct {
	error           // the cause
	until time.Time // not asked again before
}

func (f *failure) Unwrap() error { return f.error }

// newFailure remembers a failure for no longer than the one that caused it. [flight.ErrBusy] is not
// remembered: it costs nothing to find out again.
func newFailure(cause error, at time.Time) *failure {
	until := at.Add(failureMemory)
	if inner, ok := errors.AsType[*failure](cause); ok {
		until = earlier(inner.until, at.Add(failureMemory+costlyMemory))
	}
	switch {
	case errors.Is(cause, flight.ErrBusy):
		until = at
	case errors.Is(cause, ErrNoSource):
		until = at.Add(noSourceMemory)
	}
	if open, ok := errors.AsType[*outbound.OpenError](cause); ok {
		until = earlier(until, open.Until)
	}
	return &failure{cause, until}
}

// newCostlyFailure is the failure to use a list of which so many bytes were fetched.
func newCostlyFailure(cause error, size int64) *failure {
	memory := failureMemory + time.Duration(min(size, maxListAnswer))*costlyMemory/maxListAnswer
	return &failure{cause, time.Now().Add(memory)}
}

// A refreshed value comes from the network, and is asked for again before it ends. The zero refreshed was not
// asked for yet.
type refreshed[T any] struct {
	current atomic.Pointer[cached[T]] // the last answer, or nil
	failure atomic.Pointer[failure]   // of the last time it was asked for, or nil
}

// live is the current answer, or nil when there is none or it has ended.
func (v *refreshed[T]) live(now time.Time) *cached[T] {
	if current := v.current.Load(); current != nil && now.Before(current.until) {
		return current
	}
	return nil
}

// fresh reports whether there is no need to ask.
func (v *refreshed[T]) fresh(now time.Time) bool {
	current := v.live(now)
	return current != nil && now.Before(current.refreshAt)
}

// failed is the failure that is remembered, or nil.
func (v *refreshed[T]) failed(now time.Time) *failure {
	if f := v.failure.Load(); f != nil && now.Before(f.until) {
		return f
	}
	return nil
}

// known is the answer or the failure in memory that makes asking unnecessary; both are nil when there is neither. Look
// here again right before asking: another call may have ended since it was decided to ask.
func (v *refreshed[T]) known(now time.Time) (*cached[T], error) {
	if v.fresh(now) {
		return v.live(now), nil
	}
	if failed := v.failed(now); failed != nil {
		return nil, failed
	}
	return nil, nil
}

// complete remembers the result of asking. When asking was given up, there is none.
func (v *refreshed[T]) complete(ctx context.Context, found *cached[T], err error) (*cached[T], error) {
	switch {
	case err == nil:
		v.current.Store(found)
		v.failure.Store(nil)
		return found, nil
	case flight.GivenUp(ctx):
		return nil, context.Cause(ctx)
	}
	failed := newFailure(err, time.Now())
	v.failure.Store(failed)
	return nil, failed
}

// A certificateEntry is what is remembered of one certificate.
type certificateEntry struct {
	refreshed[certStatus]

	key      statusKey
	restored atomic.Bool            // the folder has been read
	cause    atomic.Pointer[string] // why there was no answer when last asked for, as the log sums it up
}

// A statusKey is what the status of a certificate is remembered by. It contains the issuer's fingerprint too:
// certificates of issuers can have the same name and key and yet not the same rights.
type statusKey struct{ certificate, issuer trust.Fingerprint }

// entries are those of the chain's certificates below its anchor.
func (r *Checker) entries(chain *trust.Chain) []*certificateEntry {
	list := make([]*certificateEntry, chain.Len()-1)
	for i := range list {
		key := statusKey{chain.Fingerprint(i), chain.Fingerprint(i + 1)}
		known, ok := r.certificates.GetIfPresent(key)
		if !ok {
			known, _ = r.certificates.SetIfAbsent(key, &certificateEntry{key: key})
		}
		list[i] = known
	}
	return list
}

var (
	errWaitTimeout = fmt.Errorf("no answer within %s", maxWait)
	// errEnded: the answer that was current was replaced by one that has ended by the clock of the check. That takes
	// a clock that is set back.
	errEnded = errors.New("the answer has ended meanwhile")
	// errNoLeaf: a chain was asked about that has outlived what its leaf was to be read from.
	errNoLeaf = errors.New("the certificate is not at hand any more")
)

// A pendingStatus is that of a certificate about which there is no answer in memory.
type pendingStatus struct {
	question *flight.Call[*cached[certStatus]]
	leave    func()
	err      error // why nobody is asked
}

// startRefresh has every certificate asked about that should be, all at once, and returns what is to be waited for:
// nil when that is nothing. Pass the result to leave when the check is over.
func (r *Checker) startRefresh(caller context.Context, chain *trust.Chain, entries []*certificateEntry, now time.Time) map[*certificateEntry]pendingStatus {
	var pending map[*certificateEntry]pendingStatus
	wait := func(e *certificateEntry, p pendingStatus) {
		if pending == nil {
			pending = make(map[*certificateEntry]pendingStatus, len(entries))
		}
		pending[e] = p
	}
	var certificates []*x509.Certificate // read while the chain can: a question may outlive the request
	for i, e := range entries {
		if e.fresh(now) {
			continue
		}
		live := e.live(now) != nil
		if failed := e.failed(now); failed != nil {
			if !live {
				wait(e, pendingStatus{err: failed})
			}
			continue
		}
		if certificates == nil {
			certificates = chain.Certificates()
		}
		cert, issuer := certificates[i], certificates[i+1]
		find := func(ctx context.Context) (*cached[certStatus], error) {
			if cert == nil {
				return nil, errNoLeaf
			}
			return r.findStatus(flight.WithValues(ctx, caller), e, cert, issuer)
		}
		if live {
			_, _ = r.questions.Start(e, nil, find) // when too many are under way, the next check tries again
			continue
		}
		var p pendingStatus
		p.question, p.leave, p.err = r.questions.Join(e, find)
		wait(e, p)
	}
	return pending
}

func leave(pending map[*certificateEntry]pendingStatus) {
	for _, p := range pending {
		if p.question != nil {
			p.leave()
		}
	}
}

// wait returns the status in memory, or the one that was pending.
func (e *certificateEntry) wait(ctx context.Context, p pendingStatus, now time.Time) (certStatus, error) {
	if current := e.live(now); current != nil {
		return current.value, nil
	}
	switch {
	case p.err != nil:
		return certStatus{}, p.err
	case p.question == nil:
		return certStatus{}, errEnded
	}
	found, err := p.question.Wait(ctx)
	if err != nil {
		return certStatus{}, err
	}
	return found.value, nil
}

// findStatus looks for the status in memory, among what is kept, and wherever the certificate says.
func (r *Checker) findStatus(ctx context.Context, e *certificateEntry, cert, issuer *x509.Certificate) (*cached[certStatus], error) {
	if known, err := e.known(time.Now()); known != nil || err != nil {
		return known, err
	}
	if restored := r.restoreStatus(ctx, e, cert, issuer); restored != nil {
		return restored, nil
	}
	slot := trust.FingerprintOf(issuer)
	if err := r.issuerSlots.Take(slot); err != nil {
		return nil, err
	}
	defer r.issuerSlots.Give(slot)
	found, rec, err := r.ask(ctx, cert, issuer)
	current := e.live(time.Now())
	if err == nil && current != nil && found.value.revoked == nil && found.value.thisUpdate.Before(current.value.thisUpdate) {
		err = errors.New("the answer is older than the one at hand")
	}
	if !flight.GivenUp(ctx) {
		r.report(e, issuer, current, found, err)
	}
	completed, err := e.complete(ctx, found, err)
	if err == nil {
		// A final revocation is kept for as long as the certificate is one.
		r.keep(e.key.name(), rec, earlier(found.until, cert.NotAfter))
	}
	return completed, err
}
