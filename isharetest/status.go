package isharetest

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/testca"
)

// A StatusConfig says what [StatusServices] are like.
type StatusConfig struct {
	// CAs are those that answer, by the path below which each is served: "ca" for /ca and /ca/issuing.crl. The
	// services then do not listen: serve them, as handlers, where the certificates of the CAs say. None: a CA is
	// made, and the services listen on a port of this machine.
	CAs map[string]*CA
	// Life is for how long an answer holds: an hour unless set.
	Life time.Duration
}

// StatusServices tell which certificates of a [CA] are revoked: an OCSP responder, and revocation lists. Each answer
// is made when it is asked for, and signed by the CA that issued the certificate.
//
// What they say, and the [Fault] that they have, can be changed while they run. They are safe for concurrent use.
type StatusServices struct {
	// CA is the one that was made, or nil. Its certificates name the services.
	CA *CA

	services  []*testca.StatusService // of every CA; all are told of a certificate, and only its issuer's is asked about it
	ocsp, crl statusService
	stop      func() // nil: nothing listens
}

// A statusService is one of the two.
type statusService struct {
	http.Handler

	fault faultSwitch
	asked atomic.Uint64
}

// StatusCounters are how often [StatusServices] were asked, whatever they answered.
type StatusCounters struct{ OCSP, CRL uint64 }

// NewStatusServices makes a CA and starts its services. Close them when they are no longer needed. It panics when they
// cannot be started.
func NewStatusServices() *StatusServices { return must(StartStatusServices(StatusConfig{})) }

// StartStatusServices starts services. Close them when they are no longer needed.
func StartStatusServices(c StatusConfig) (*StatusServices, error) {
	if c.Life < 0 {
		return nil, errors.New("isharetest: status services: a negative Life")
	}
	s := &StatusServices{}
	start := func() {}
	if len(c.CAs) == 0 {
		url, listening, stop := listen(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				s.ocsp.ServeHTTP(w, r)
				return
			}
			s.crl.ServeHTTP(w, r)
		}))
		start, s.stop = listening, stop
		ca, err := testca.New(testca.Config{OCSPURL: url + "/ca", CRLURL: url + "/ca", NewKey: testca.PooledKey})
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("isharetest: status services: %w", err)
		}
		s.CA = &CA{ca: ca}
		c.CAs = map[string]*CA{"ca": s.CA}
	}
	responder, lists := http.NewServeMux(), http.NewServeMux()
	for path, ca := range c.CAs {
		service := testca.NewStatusService(ca.ca, cmp.Or(c.Life, time.Hour))
		s.services = append(s.services, service)
		for _, pattern := range []string{" /" + path, " /" + path + "/"} {
			responder.Handle(http.MethodPost+pattern, service)
			lists.Handle(http.MethodGet+pattern, service)
		}
	}
	s.ocsp.serve(responder)
	s.crl.serve(lists)
	start()
	return s, nil
}

func (s *statusService) serve(next http.Handler) {
	s.Handler = s.fault.wrap(&s.asked, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.fault.get() == FaultMalformed {
			_, _ = io.WriteString(w, "told to answer with what is none") // the caller may be gone
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// OCSP answers as the responder, by POST (RFC 6960 appendix A.1).
func (s *StatusServices) OCSP() http.Handler { return &s.ocsp }

// CRL answers with the revocation lists, by GET.
func (s *StatusServices) CRL() http.Handler { return &s.crl }

// Close stops the services.
func (s *StatusServices) Close() {
	if s.stop != nil {
		s.stop()
	}
}

// Revoke has a certificate revoked for good from now on, for keyCompromise.
func (s *StatusServices) Revoke(cert *x509.Certificate) {
	for _, service := range s.services {
		service.Revoke(cert, ocsp.KeyCompromise)
	}
}

// Hold has a certificate revoked until it is reinstated.
func (s *StatusServices) Hold(cert *x509.Certificate) {
	for _, service := range s.services {
		service.Revoke(cert, ocsp.CertificateHold)
	}
}

// Reinstate forgets that a certificate was revoked.
func (s *StatusServices) Reinstate(cert *x509.Certificate) {
	for _, service := range s.services {
		service.Reinstate(cert)
	}
}

// FailOCSP has the responder fail from now on; [NoFault] ends it. It panics at a fault that is none of [StatusFaults].
func (s *StatusServices) FailOCSP(f Fault) { s.ocsp.fault.set(f, StatusFaults()) }

// FailCRL has the revocation lists fail from now on; [NoFault] ends it. It panics at a fault that is none of
// [StatusFaults].
func (s *StatusServices) FailCRL(f Fault) { s.crl.fault.set(f, StatusFaults()) }

// Counters tell how often the services were asked so far.
func (s *StatusServices) Counters() StatusCounters {
	return StatusCounters{OCSP: s.ocsp.asked.Load(), CRL: s.crl.asked.Load()}
}
