package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/outbound"
)

// Bounds of one question.
const (
	maxSources    = 4 // addresses of a kind that are tried
	ocspTimeout   = 5 * time.Second
	listTimeout   = 20 * time.Second
	maxOCSPAnswer = 64 << 10
	maxListAnswer = 16 << 20
)

// How long answers are used.
const (
	maxLife      = 24 * time.Hour  // whatever they say themselves
	ocspRefresh  = time.Hour       // an OCSP answer is asked for again after this, if not sooner
	ocspFallback = 5 * time.Minute // OCSP is tried again after a list had to do
)

// ErrNamesNeither is wrapped by the cause of an outage when a certificate names nobody who can be
// asked about it. Only its CA can change that, by another certificate.
var ErrNamesNeither = errors.New("the certificate names neither an OCSP responder nor a revocation list to be asked by http")

// Answerable says why a status can never be found out for a certificate, or returns nil. The
// error wraps [ErrNamesNeither] when nobody is named who can be asked.
func Answerable(cert *x509.Certificate) error {
	if len(callable(cert.OCSPServer)) > 0 {
		return nil
	}
	if len(callable(cert.CRLDistributionPoints)) == 0 {
		return namesNeither(cert)
	}
	if _, delta := certcheck.Extension(cert, oidFreshestCRL); delta {
		return errDeltaBeside
	}
	return nil
}

func namesNeither(cert *x509.Certificate) error {
	if _, points := certcheck.Extension(cert, certcheck.OIDCRLDistributionPoints); points || len(cert.OCSPServer) > 0 {
		return fmt.Errorf("%w: it names only addresses that are not http", ErrNamesNeither)
	}
	return ErrNamesNeither
}

// told is what a source told, with the record to keep of it.
type told struct {
	answer *answer[verdict]
	record record
}

// headStart is for how long responders are waited for before lists are asked for beside them.
const headStart = 2 * time.Second

var errSlow = errors.New("another source answered sooner")

// ask goes from responder to responder and from list to list until one answers. Where no responder
// does in a short time, the lists need not wait for that: a responder that hangs would take all the time
// that there is.
func (r *Checker) ask(ctx context.Context, of subject) (told, error) {
	if len(callable(of.certificate.OCSPServer)) == 0 {
		return r.askLists(ctx, of)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel(errSlow)
	begin := func(ask func(context.Context, subject) (told, error)) <-chan reply {
		replies := make(chan reply, 1)
		asking.Go(func() {
			found, err := ask(ctx, of)
			replies <- reply{found, err}
		})
		return replies
	}
	responders := begin(r.askResponders)
	silent := time.NewTimer(headStart)
	defer silent.Stop()
	var problem error // of the responders
	select {
	case it := <-responders:
		if it.err == nil {
			return it.told, nil
		}
		responders, problem = nil, it.err
	case <-silent.C:
	}
	lists := begin(r.askLists)
	return first(responders, lists, problem)
}

// A reply is what one kind of source has come to.
type reply struct {
	told

	err error
}

// first waits for responders, which may be nil, and lists, and takes what comes first.
func first(responders, lists <-chan reply, problem error) (told, error) {
	for {
		select {
		case it := <-responders:
			if it.err == nil {
				return it.told, nil
			}
			responders, problem = nil, it.err
		case it := <-lists:
			if it.err == nil {
				return it.inPlaceOfOCSP(), nil
			}
			if responders != nil {
				last := <-responders
				if last.err == nil {
					return last.told, nil
				}
				problem = last.err
			}
			return told{}, both(problem, it.err)
		}
	}
}

// inPlaceOfOCSP has responders asked again soon, unless there is nothing more to find out.
func (t told) inPlaceOfOCSP() told {
	if !t.answer.value.revoked.final() {
		t.answer.again = earlier(t.answer.again, wallClock().Add(ocspFallback))
	}
	return t
}

// askResponders goes from responder to responder until one answers.
func (r *Checker) askResponders(ctx context.Context, of subject) (told, error) {
	var problem error
	for _, address := range callable(of.certificate.OCSPServer) {
		found, err := r.askOCSP(ctx, address, of)
		if err == nil {
			return found, nil
		}
		problem = both(problem, &sourceError{"OCSP", address, err})
	}
	return told{}, problem
}

// askLists goes from list to list until one speaks for the certificate.
func (r *Checker) askLists(ctx context.Context, of subject) (told, error) {
	var problem error
	for _, address := range callable(of.certificate.CRLDistributionPoints) {
		found, err := r.askList(ctx, address, of)
		if err == nil {
			return found, nil
		}
		problem = both(problem, &sourceError{"CRL", address, err})
	}
	if problem == nil {
		problem = namesNeither(of.certificate)
	}
	return told{}, problem
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

// callable leaves out what is not asked at all: LDAP, and more addresses than
// anybody needs.
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

// both tells of two problems in a line; the first may be nil. Where one address
// failed, it does not matter that others are not named.
func both(first, second error) error {
	switch {
	case first == nil:
		return second
	case errors.Is(second, ErrNamesNeither):
		return first
	}
	return fmt.Errorf("%w; %w", first, second)
}

// askOCSP asks one responder.
func (r *Checker) askOCSP(ctx context.Context, address string, of subject) (told, error) {
	issuer := *of.issuer
	issuer.RawSubject = of.certificate.RawIssuer // the bytes to hash, by RFC 6960 section 4.1.1
	request, err := ocsp.CreateRequest(of.certificate, &issuer, nil)
	if err != nil {
		return told{}, fmt.Errorf("question: %w", err)
	}
	body, err := r.fetcher.Fetch(ctx, outbound.Call{
		Method:    http.MethodPost,
		Address:   address,
		MediaType: "application/ocsp-request",
		Body:      request,
		Limit:     maxOCSPAnswer,
		Timeout:   ocspTimeout,
	})
	if err != nil {
		return told{}, err
	}
	rec := record{wallClock(), address, body}
	said, err := readOCSP(body, of, rec.obtained)
	if err != nil {
		return told{}, err
	}
	until, err := r.standing(ctx, said.signer, of.issuer)
	if err != nil {
		return told{}, err
	}
	return told{said.answer(rec, until), rec}, nil
}

// answer is what the record says, by a signer who is in good standing until then.
func (s *statement) answer(rec record, until time.Time) *answer[verdict] {
	v := s.verdict
	v.source, v.address = byOCSP, rec.address
	until = earlier(until, v.nextUpdate, rec.obtained.Add(maxLife))
	return v.answer(earlier(halfway(rec.obtained, until), rec.obtained.Add(ocspRefresh)), until)
}

// standing is until when a signer is known to be in good standing. The issuer is
// for as long as the chain is. A delegated responder is until its certificate
// ends, when that is exempt from being checked (id-pkix-ocsp-nocheck) or names no list; and
// otherwise for as long as the list says (RFC 6960 section 4.2.2.2.1). OCSP is not
// asked about OCSP.
func (r *Checker) standing(ctx context.Context, signer, issuer *x509.Certificate) (time.Time, error) {
	if signer == issuer {
		return forever(), nil
	}
	if _, exempt := certcheck.Extension(signer, oidOCSPNoCheck); exempt || len(callable(signer.CRLDistributionPoints)) == 0 {
		return signer.NotAfter, nil
	}
	found, err := r.askLists(ctx, subject{certificate: signer, issuer: issuer})
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("the responder's own certificate: %w", err)
	case found.answer.value.revoked != nil:
		return time.Time{}, fmt.Errorf("the responder's own certificate %s", found.answer.value.revoked)
	}
	return earlier(signer.NotAfter, found.answer.until), nil
}

// forever is later than any certificate ends.
func forever() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// wallClock is the present without the monotonic clock, which stands still while a
// machine sleeps; what others say ends by the calendar.
func wallClock() time.Time { return time.Now().Round(0) }

func earlier(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

func later(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

func halfway(from, to time.Time) time.Time { return from.Add(to.Sub(from) / 2) }
