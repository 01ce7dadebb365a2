package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/internal/certcheck"
)

// Bounds of one question.
const (
	maxSources    = 4 // addresses of a kind that are tried
	ocspTimeout   = 5 * time.Second
	listTimeout   = 20 * time.Second
	maxOCSPAnswer = 64 << 10
	maxListAnswer = 16 << 20
	// headStart is for how long responders are waited for before lists are asked for beside them.
	headStart = 2 * time.Second
)

// How long answers are used.
const (
	maxLife      = 24 * time.Hour  // whatever they say themselves
	ocspRefresh  = time.Hour       // an OCSP answer is asked for again after this, if not sooner
	ocspFallback = 5 * time.Minute // OCSP is tried again after a list had to do
)

// The kinds of sources.
const (
	byOCSP = "OCSP"
	byList = "CRL"
)

// ErrNoSource is wrapped by the cause of an outage when a certificate names nobody who can be
// asked about it. Only its CA can change that, by another certificate.
var ErrNoSource = errors.New("the certificate names neither an OCSP responder nor a revocation list to be asked by http")

// CheckSources says why a status can never be found out for a certificate, or returns nil. The
// error wraps [ErrNoSource] when nobody is named who can be asked.
func CheckSources(cert *x509.Certificate) error {
	if len(callable(cert.OCSPServer)) > 0 {
		return nil
	}
	if len(callable(cert.CRLDistributionPoints)) == 0 {
		return noSource(cert)
	}
	if _, delta := certcheck.Extension(cert, oidFreshestCRL); delta {
		return errDeltaBeside
	}
	return nil
}

func noSource(cert *x509.Certificate) error {
	if _, points := certcheck.Extension(cert, certcheck.OIDCRLDistributionPoints); points || len(cert.OCSPServer) > 0 {
		return fmt.Errorf("%w: it names only addresses that are not http", ErrNoSource)
	}
	return ErrNoSource
}

// callable leaves out what is not asked at all: LDAP, and more addresses than anybody needs.
func callable(addresses []string) []string {
	var list []string
	for _, address := range addresses {
		scheme, _, _ := strings.Cut(strings.ToLower(address), ":")
		if scheme == "http" || scheme == "https" {
			list = append(list, address)
		}
	}
	return list[:min(len(list), maxSources)]
}

var errSlow = errors.New("another source answered sooner")

// ask goes from responder to responder and from list to list until one answers, and returns the record to keep of it
// too. When no responder has answered in a short time, lists are asked for beside them: a responder that hangs would
// take all the time that there is.
func (r *Checker) ask(ctx context.Context, cert, issuer *x509.Certificate) (*cached[certStatus], record, error) {
	if len(callable(cert.OCSPServer)) == 0 {
		return r.askSources(ctx, byList, cert, issuer)
	}
	type reply struct {
		status *cached[certStatus]
		record record
		err    error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel(errSlow)
	begin := func(source string) <-chan reply {
		replies := make(chan reply, 1)
		asking.Go(func() {
			status, rec, err := r.askSources(ctx, source, cert, issuer)
			replies <- reply{status, rec, err}
		})
		return replies
	}
	var lists <-chan reply
	responders, beginLists := begin(byOCSP), sync.OnceFunc(func() { lists = begin(byList) })
	silent := time.NewTimer(headStart)
	defer silent.Stop()
	var ocspErr, listErr error
	for ocspErr == nil || listErr == nil {
		select {
		case it := <-responders:
			if it.err == nil {
				return it.status, it.record, nil
			}
			ocspErr, responders = it.err, nil
			beginLists()
		case <-silent.C:
			beginLists()
		case it := <-lists:
			if it.err == nil {
				if !it.status.value.revoked.final() { // or there is nothing more to find out
					it.status.refreshAt = earlier(it.status.refreshAt, wallClock().Add(ocspFallback))
				}
				return it.status, it.record, nil
			}
			listErr, lists = it.err, nil
		}
	}
	return nil, record{}, both(ocspErr, listErr)
}

// askSources goes through what the certificate names of one kind until one answers.
func (r *Checker) askSources(ctx context.Context, source string, cert, issuer *x509.Certificate) (*cached[certStatus], record, error) {
	addresses, ask := cert.OCSPServer, r.askOCSP
	if source == byList {
		addresses, ask = cert.CRLDistributionPoints, r.askList
	}
	var problem error
	for _, address := range callable(addresses) {
		status, rec, err := ask(ctx, address, cert, issuer)
		if err == nil {
			return status, rec, nil
		}
		problem = both(problem, &sourceError{source, address, err})
	}
	if problem == nil {
		problem = noSource(cert)
	}
	return nil, record{}, problem
}

// A sourceError is why one source did not answer.
type sourceError struct {
	source  string
	address string
	cause   error
}

func (e *sourceError) Error() string {
	return fmt.Sprintf("%s at %.200s: %v", e.source, e.address, e.cause)
}
func (e *sourceError) Unwrap() error { return e.cause }

// both tells of two problems in a line; the first may be nil. Where one address
// failed, it does not matter that others are not named.
func both(first, second error) error {
	switch {
	case first == nil:
		return second
	case errors.Is(second, ErrNoSource):
		return first
	}
	return fmt.Errorf("%w; %w", first, second)
}

// cache is a status with the time for which it is used.
func (s certStatus) cache(refreshAt, until time.Time) *cached[certStatus] {
	if s.revoked.final() {
		refreshAt, until = forever(), forever()
	}
	return &cached[certStatus]{value: s, refreshAt: refreshAt, until: until}
}

// forever is later than any certificate ends.
func forever() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// wallClock is the present without the monotonic clock, which stands still while a
// machine sleeps; what others say ends by the calendar.
func wallClock() time.Time { return time.Now().Round(0) }

func earlier(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }
