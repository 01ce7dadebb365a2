package sandbox_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/sandbox"
	"github.com/waybill-token/waybill/trust"
)

// checkRevocation asks the status services of the data space about a participant's
// chain, with nothing remembered.
func (s *space) checkRevocation(t *testing.T, p sandbox.Participant) error {
	t.Helper()
	_, certificates := seal(t, p.KeyFile, p.ChainFile)
	validator, err := trust.New(trust.Anchors{trust.FingerprintOf(certificates[len(certificates)-1]): p.Folder})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := validator.Validate(certificates, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := revocation.New(revocation.Config{AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.Check(t.Context(), chain)
}

// ruleBroken is the rule of a rejection or an outage.
func ruleBroken(err error) string {
	if rejection, ok := errors.AsType[*rule.Rejection](err); ok {
		return rejection.Rule.ID
	}
	if outage, ok := errors.AsType[*rule.Outage](err); ok {
		return outage.Rule.ID
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, p := range s.Everybody {
		want := ""
		if p.Folder == "revoked-consumer" {
			want = rule.CertificateRevoked.ID
		}
		if got := ruleBroken(s.checkRevocation(t, p)); got != want {
			t.Errorf("%s: %q, want %q", p.Folder, got, want)
		}
	}
	for _, choice := range []string{"held", "registered", "revoked", "replaced", "revoked", "unregistered"} {
		s.set(t, "consumer.certificate", choice)
		want := ""
		if choice == "held" || choice == "revoked" {
			want = rule.CertificateRevoked.ID
		}
		if got := ruleBroken(s.checkRevocation(t, s.Consumer)); got != want {
			t.Errorf("%s: %q, want %q", choice, got, want)
		}
	}
}

// TestStatusServicesFail one by one, and both.
func TestStatusServicesFail(t *testing.T) {
	t.Parallel()
	s := start(t)
	revoked := s.somebody(t, "revoked-consumer")
	for _, c := range []struct{ ocsp, crl, consumer, revoked string }{
		{"normal", "normal", "", rule.CertificateRevoked.ID},
		{"off", "normal", "", rule.CertificateRevoked.ID}, // by the list
		{"error", "off", rule.UnavailableRevocation.ID, rule.UnavailableRevocation.ID},
		{"off", "error", rule.UnavailableRevocation.ID, rule.UnavailableRevocation.ID},
		{"normal", "off", "", rule.CertificateRevoked.ID},
	} {
		s.set(t, "ocsp", c.ocsp)
		s.set(t, "crl", c.crl)
		if got := ruleBroken(s.checkRevocation(t, s.Consumer)); got != c.consumer {
			t.Errorf("OCSP %s, CRL %s: good certificate: %q, want %q", c.ocsp, c.crl, got, c.consumer)
		}
		if got := ruleBroken(s.checkRevocation(t, revoked)); got != c.revoked {
			t.Errorf("OCSP %s, CRL %s: revoked certificate: %q, want %q", c.ocsp, c.crl, got, c.revoked)
		}
	}
}

// TestCertificatesNameTheStatusServices that a restart finds in the same place.
func TestCertificatesNameTheStatusServices(t *testing.T) {
	t.Parallel()
	s := share(t, sandbox.Framework3)
	for _, p := range s.Everybody {
		_, chain := seal(t, p.KeyFile, p.ChainFile)
		for _, cert := range chain[:len(chain)-1] {
			if len(cert.OCSPServer) != 1 || len(cert.CRLDistributionPoints) != 1 {
				t.Fatalf("%s: %s names %v and %v", p.Folder, cert.Subject, cert.OCSPServer, cert.CRLDistributionPoints)
			}
			if status, _ := getAny(t, cert.CRLDistributionPoints[0]); status != http.StatusOK {
				t.Errorf("%s: %d", cert.CRLDistributionPoints[0], status)
			}
		}
	}
}
