package revocation

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

func withoutLists(c *testca.Config) { c.CRLURL = "" }

func withoutOCSP(c *testca.Config) { c.OCSPURL = "" }

func TestNewRefusesAnUnknownMode(t *testing.T) {
	for _, mode := range []Mode{-1, ModeOff, 3} {
		if _, err := New(Config{Mode: mode}); err == nil {
			t.Errorf("%s is accepted", mode)
		}
	}
}

func TestZeroConfigRequiresAnAnswerAndKeepsOffPrivateNetworks(t *testing.T) {
	p := servedPKI(t, nil)
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mustBeUnavailable(t, r.Check(t.Context(), p.chain()), "not on a public network: 127.0.0.1")
	if p.asked(http.MethodPost)+p.asked(http.MethodGet) != 0 {
		t.Error("an address on the loopback network was called")
	}
}

func TestPrivateAddressBehindAName(t *testing.T) {
	p := servedPKI(t, func(c *testca.Config) {
		c.OCSPURL = strings.Replace(c.OCSPURL, "127.0.0.1", "localhost", 1)
		c.CRLURL = strings.Replace(c.CRLURL, "127.0.0.1", "localhost", 1)
	})
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	chain := p.chain()
	mustBeUnavailable(t, r.Check(t.Context(), chain), "not on a public network")
	if p.asked(http.MethodPost)+p.asked(http.MethodGet) != 0 {
		t.Error("an address on the loopback network was called")
	}
	mustPass(t, p.revocation(Require).Check(t.Context(), chain)) // the name does resolve
}

func TestEveryCertificateBelowTheAnchorIsAskedAbout(t *testing.T) {
	p := servedPKI(t, nil)
	r := p.revocation(Require)
	chain := p.chain()
	mustPass(t, r.Check(t.Context(), chain))
	if n := p.asked(http.MethodPost); n != 3 {
		t.Errorf("%d questions for a leaf and two issuers below the root", n)
	}
	mustPass(t, r.Check(t.Context(), p.chainOf(&testca.Identity{Chain: chain.Certificates()})))
	mustPass(t, r.Check(t.Context(), p.pinned().chainOf(&testca.Identity{Chain: chain.Certificates()})))
	if n := p.asked(http.MethodPost); n != 3 {
		t.Errorf("%d questions after the same certificates came again in other chains", n)
	}
	if n := p.asked(http.MethodGet); n != 0 {
		t.Errorf("%d lists were fetched although OCSP answers", n)
	}
}

func TestRevoked(t *testing.T) {
	for _, test := range []struct {
		name      string
		configure func(*testca.Config)
		revoked   int // index in the chain
		reason    int
		want      string
	}{
		{"leaf by OCSP", nil, 0, ocsp.KeyCompromise, "x5c[0] is revoked since 20"},
		{"leaf by CRL", withoutOCSP, 0, ocsp.KeyCompromise, "(keyCompromise), says CRL"},
		{"issuing CA by OCSP", nil, 1, ocsp.CACompromise, "(cACompromise), says OCSP"},
		{"issuing CA by CRL", withoutOCSP, 1, ocsp.CACompromise, "x5c[1] is revoked"},
		{"sub CA by OCSP", nil, 2, ocsp.Unspecified, "x5c[2] is revoked"},
		{"sub CA by CRL", withoutOCSP, 2, ocsp.Unspecified, "(unspecified), says CRL"},
		{"hold by OCSP", nil, 0, ocsp.CertificateHold, "x5c[0] is on hold since"},
		{"hold by CRL", withoutOCSP, 0, ocsp.CertificateHold, "x5c[0] is on hold since"},
	} {
		for _, mode := range []Mode{Require, Prefer} {
			t.Run(test.name+" "+mode.String(), func(t *testing.T) {
				p := servedPKI(t, test.configure)
				r := p.revocation(mode)
				chain := p.chain()
				p.service.Revoke(chain.Certificates()[test.revoked], test.reason)
				for range 2 {
					mustBeRevoked(t, r.Check(t.Context(), chain), test.want)
				}
				if stats := r.Stats(); stats.Revoked != 2 {
					t.Errorf("counted %d refusals of 2", stats.Revoked)
				}
				if p.log.count("WARN a certificate is revoked") != 1 {
					t.Errorf("the log says %q", p.log.messages)
				}
			})
		}
	}
}

// The anchor is trusted by decree; what somebody says of it does not matter.
func TestAnchorIsNotAskedAbout(t *testing.T) {
	p := servedPKI(t, nil).pinned()
	chain := p.chain()
	p.service.Revoke(p.issuer(), ocsp.CACompromise)
	mustPass(t, p.revocation(Require).Check(t.Context(), chain))
	if n := p.asked(http.MethodPost); n != 1 {
		t.Errorf("%d questions for a leaf below the anchor", n)
	}
}

// A revoked certificate counts for more than another one about which nobody answers.
func TestRevokedBesidesAMissingAnswer(t *testing.T) {
	for _, mode := range []Mode{Require, Prefer} {
		p := servedPKI(t, nil)
		r := p.revocation(mode)
		chain := p.chainOf(p.seal(func(c *x509.Certificate) { c.OCSPServer, c.CRLDistributionPoints = nil, nil }))
		p.service.Revoke(p.issuer(), ocsp.CACompromise)
		mustBeRevoked(t, r.Check(t.Context(), chain), "x5c[1]")
	}
}

// otherCA is a CA with the names of the PKI's, and other keys.
func otherCA(tb testing.TB) *testca.CA {
	tb.Helper()
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// What an OCSP responder can get wrong, or somebody in its place can try. None of it
// is an answer, and none of it is a revocation either.
func TestOCSPAnswersThatDoNotCount(t *testing.T) {
	now := time.Now()
	type change func(*pki, *testca.OCSPAnswer)
	responder := func(by testca.Level, edit func(*x509.Certificate)) change {
		return func(p *pki, a *testca.OCSPAnswer) {
			template := p.ca.ResponderTemplate()
			edit(template)
			a.SignWith(p.signed(by, template))
		}
	}
	for _, test := range []struct {
		name   string
		tamper change
		want   string
	}{
		{"unknown", func(_ *pki, a *testca.OCSPAnswer) { a.Status = ocsp.Unknown }, "does not know the certificate"},
		{"expired", func(_ *pki, a *testca.OCSPAnswer) {
			a.ThisUpdate, a.NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Hour)
		}, "it ended on"},
		{"without an end, and old", func(_ *pki, a *testca.OCSPAnswer) {
			a.ThisUpdate, a.NextUpdate = now.Add(-ocspLife), time.Time{}
		}, "it ended on"},
		{"from the future", func(_ *pki, a *testca.OCSPAnswer) { a.ThisUpdate = now.Add(2 * maxSkew) }, "it begins only on"},
		{"another serial number", func(_ *pki, a *testca.OCSPAnswer) {
			a.SerialNumber = new(big.Int).Add(a.SerialNumber, big.NewInt(1))
		}, "about another certificate"},
		{"another issuer's certificate of this serial number", func(p *pki, a *testca.OCSPAnswer) {
			a.Issuer = p.ca.Authority(testca.Root).Certificate()
		}, "about another certificate"},
		{"an issuer of the same name with another key", func(p *pki, a *testca.OCSPAnswer) {
			forged := *p.issuer()
			forged.RawSubjectPublicKeyInfo = p.ca.Authority(testca.Sub).Certificate().RawSubjectPublicKeyInfo
			a.Issuer = &forged
		}, "about another certificate"},
		{"an issuer of another name with the same key", func(p *pki, a *testca.OCSPAnswer) {
			forged := *p.issuer()
			forged.RawSubject = p.ca.Authority(testca.Sub).Certificate().RawSubject
			a.Issuer = &forged
		}, "about another certificate"},
		{"signed by a stranger in the issuer's name", func(p *pki, a *testca.OCSPAnswer) {
			a.Key = p.key()
		}, "signature of the answer does not hold"},
		{"signed by a stranger with a certificate of the issuer's name", func(p *pki, a *testca.OCSPAnswer) {
			a.SignWith(otherCA(p.t).Authority(testca.Issuing))
		}, "another issuer"},
		{"signed by the issuer's issuer", func(p *pki, a *testca.OCSPAnswer) {
			a.SignWith(p.ca.Authority(testca.Sub))
		}, "another issuer"},
		{"signed by another seal of the issuer", func(p *pki, a *testca.OCSPAnswer) {
			a.SignWith(p.seal(nil))
		}, "lacks the extended key usage OCSPSigning"},
		{"responder not enclosed", func(p *pki, a *testca.OCSPAnswer) {
			a.SignWith(p.signed(testca.Issuing, p.ca.ResponderTemplate()))
			a.Certificate = nil
		}, "signed neither by the issuer nor by a responder"},
		{"responder other than enclosed", func(p *pki, a *testca.OCSPAnswer) {
			a.SignWith(p.signed(testca.Issuing, p.ca.ResponderTemplate()))
			a.Key = p.key()
		}, "signature of the answer does not hold"},
		{"responder of another issuer", responder(testca.Sub, func(*x509.Certificate) {}), "another issuer"},
		{"responder of an issuer of the same name", func(p *pki, a *testca.OCSPAnswer) {
			id, err := otherCA(p.t).Authority(testca.Issuing).Issue(p.ca.ResponderTemplate(), p.key())
			if err != nil {
				p.t.Error(err)
			}
			a.SignWith(id)
		}, "certificate is not signed by the issuer"},
		{"responder without the extended key usage", responder(testca.Issuing, func(c *x509.Certificate) {
			c.ExtKeyUsage = nil
		}), "lacks the extended key usage"},
		{"responder with another extended key usage", responder(testca.Issuing, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageClientAuth}
		}), "lacks the extended key usage"},
		{"responder that may not sign", responder(testca.Issuing, func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageKeyEncipherment
		}), "does not include signing"},
		{"responder expired", responder(testca.Issuing, func(c *x509.Certificate) {
			c.NotAfter = now.Add(-time.Minute)
		}), "not valid at this time"},
		{"responder not begun", responder(testca.Issuing, func(c *x509.Certificate) {
			c.NotBefore = now.Add(time.Minute)
		}), "not valid at this time"},
		{"responder with an unknown critical extension", responder(testca.Issuing, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes})
		}), "critical extension 1.2.3"},
		{"responder with a short key", func(p *pki, a *testca.OCSPAnswer) {
			key, err := testca.PooledKey(1024)
			if err != nil {
				p.t.Error(err)
			}
			id, err := p.ca.Authority(testca.Issuing).Issue(p.ca.ResponderTemplate(), key)
			if err != nil {
				p.t.Error(err)
			}
			a.SignWith(id)
		}, "the key of the responder's certificate has 1024 bits"},
		{"responder whose certificate is signed with SHA-1", responder(testca.Issuing, func(c *x509.Certificate) {
			c.SignatureAlgorithm = x509.SHA1WithRSA
		}), "certificate is signed with SHA1-RSA"},
		{"signed with SHA-1", func(_ *pki, a *testca.OCSPAnswer) { a.SignatureAlgorithm = x509.SHA1WithRSA }, "SHA-256 or better"},
		{"unknown critical extension", func(_ *pki, a *testca.OCSPAnswer) {
			a.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes}}
		}, "critical extension 1.2.3"},
		{"expired and revoked", func(_ *pki, a *testca.OCSPAnswer) {
			a.ThisUpdate, a.NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Hour)
			a.Status, a.RevokedAt = ocsp.Revoked, now
		}, "it ended on"},
		{"revoked by a stranger", func(p *pki, a *testca.OCSPAnswer) {
			a.Status, a.RevokedAt, a.Key = ocsp.Revoked, now, p.key()
		}, "signature of the answer does not hold"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := servedPKI(t, withoutLists).pinned()
			chain := p.chain()
			p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { test.tamper(p, a) }})
			mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), chain), test.want)
			mustPass(t, p.revocation(Prefer).Check(t.Context(), chain))
		})
	}
}

func TestOCSPAnswersThatCount(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name   string
		tamper func(*pki, *testca.OCSPAnswer)
	}{
		{"the issuer's", func(*pki, *testca.OCSPAnswer) {}},
		{"the issuer's, its certificate enclosed", func(p *pki, a *testca.OCSPAnswer) { a.Certificate = p.issuer() }},
		{"a delegated responder's", func(p *pki, a *testca.OCSPAnswer) {
			a.SignWith(p.signed(testca.Issuing, p.ca.ResponderTemplate()))
		}},
		{"a delegated responder's, neither exempt nor on a list", func(p *pki, a *testca.OCSPAnswer) {
			template := p.ca.ResponderTemplate()
			template.ExtraExtensions = nil
			a.SignWith(p.signed(testca.Issuing, template))
		}},
		{"a delegated responder's without a key usage", func(p *pki, a *testca.OCSPAnswer) {
			template := p.ca.ResponderTemplate()
			template.KeyUsage = 0
			a.SignWith(p.signed(testca.Issuing, template))
		}},
		{"a clock somewhat ahead", func(_ *pki, a *testca.OCSPAnswer) { a.ThisUpdate = now.Add(maxSkew / 2) }},
		{"made when asked for", func(_ *pki, a *testca.OCSPAnswer) { a.NextUpdate = time.Time{} }},
		{"made days ago", func(_ *pki, a *testca.OCSPAnswer) { a.ThisUpdate = now.AddDate(0, 0, -6) }},
		{"the issuer named by SHA-256", func(_ *pki, a *testca.OCSPAnswer) { a.IssuerHash = crypto.SHA256 }},
		{"signed with SHA-512", func(_ *pki, a *testca.OCSPAnswer) { a.SignatureAlgorithm = x509.SHA512WithRSA }},
		{"an unknown extension that does not matter", func(_ *pki, a *testca.OCSPAnswer) {
			a.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.NullBytes}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := servedPKI(t, withoutLists).pinned()
			chain := p.chain()
			p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { test.tamper(p, a) }})
			mustPass(t, p.revocation(Require).Check(t.Context(), chain))
			p.service.Revoke(chain.Leaf(), ocsp.Superseded)
			mustBeRevoked(t, p.revocation(Require).Check(t.Context(), chain), "(superseded), says OCSP")
		})
	}
}

// A delegated responder that is not exempt must not be on the list that its
// certificate names.
func TestDelegatedResponderIsHeldAgainstItsList(t *testing.T) {
	p := servedPKI(t, withoutLists).pinned()
	chain := p.chain()
	template := p.ca.ResponderTemplate()
	template.ExtraExtensions = nil
	template.CRLDistributionPoints = []string{strings.Replace(chain.Leaf().OCSPServer[0], "/ocsp", "/issuing.crl", 1)}
	responder := p.signed(testca.Issuing, template)
	p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) { a.SignWith(responder) }})

	mustPass(t, p.revocation(Require).Check(t.Context(), chain))
	if p.asked(http.MethodGet) != 1 {
		t.Error("the responder's list was not asked for")
	}
	p.service.Revoke(responder.Certificate(), ocsp.KeyCompromise)
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), chain), "the responder's own certificate is revoked")
	p.service.Reinstate(responder.Certificate())
	p.without(http.MethodGet)
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), chain), "the responder's own certificate: CRL at")

	template = p.ca.ResponderTemplate() // exempt
	template.CRLDistributionPoints = responder.Certificate().CRLDistributionPoints
	responder = p.signed(testca.Issuing, template)
	mustPass(t, p.revocation(Require).Check(t.Context(), chain))
}

// respond makes a front that answers OCSP itself.
func respond(answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(service http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				answer(w, r)
				return
			}
			service.ServeHTTP(w, r)
		})
	}
}

func body(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) }
}

func TestOCSPRespondersThatAreBroken(t *testing.T) {
	elsewhere := httptest.NewServer(body(nil))
	defer elsewhere.Close()
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"empty", body(nil), "answered with nothing, not with an OCSP answer"},
		{"a page", body([]byte("<html>Sign in</html>")), "answered with text/html, not with an OCSP answer"},
		{"nonsense", body([]byte("0 is not DER")), "the answer is malformed"},
		{"malformed request", body(ocsp.MalformedRequestErrorResponse), `answers "malformed"`},
		{"internal error", body(ocsp.InternalErrorErrorResponse), `answers "internal error"`},
		{"try later", body(ocsp.TryLaterErrorResponse), `answers "try later"`},
		{"unauthorized", body(ocsp.UnauthorizedErrorResponse), `answers "unauthorized"`},
		{"success without an answer", body([]byte{0x30, 0x03, 0x0a, 0x01, 0x00}), "has the type"},
		{"huge", body(make([]byte, maxOCSPAnswer+1)), "larger than 65536 bytes"},
		{"huge, without saying so", func(w http.ResponseWriter, _ *http.Request) {
			for range maxOCSPAnswer/1024 + 1 {
				w.Write(make([]byte, 1024))
				http.NewResponseController(w).Flush()
			}
		}, "larger than 65536 bytes"},
		{"huge header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Filler", strings.Repeat("a", 2*outbound.MaxResponseHeader))
		}, "headers exceeded"},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte{0x30})
		}, "broke off"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "OCSP at"},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "HTTP status 500"},
		{"404", http.NotFound, "HTTP status 404"},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "HTTP status 204"},
		{"redirects to nothing", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "answered with nothing"},
		{"redirects in a circle", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "more than 3 redirects"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := servedPKI(t, nil).pinned()
			p.behind(respond(test.answer))
			r := p.revocation(Require)
			ocspOnly := p.seal(func(c *x509.Certificate) { c.CRLDistributionPoints = nil })
			mustBeUnavailable(t, r.Check(t.Context(), p.chainOf(ocspOnly)), test.want)

			// The same with a list to fall back on.
			mustPass(t, r.Check(t.Context(), p.chain()))
			revoked := p.chain()
			p.service.Revoke(revoked.Leaf(), ocsp.KeyCompromise)
			mustBeRevoked(t, p.revocation(Prefer).Check(t.Context(), revoked), "says CRL")
		})
	}
}

func TestOnlyHTTPAddressesAreCalled(t *testing.T) {
	for _, test := range []struct{ address, want string }{
		{"ldap://127.0.0.1/cn=x", "names neither"},
		{"file:///etc/passwd", "names neither"},
		{"HTTP://user:secret@127.0.0.1/", "holds credentials"},
		{"http://user@127.0.0.1/", "holds credentials"},
		{"http:///nowhere", "names no host"},
		{"http:nowhere", "names no host"},
		{"https://:443/", "names no host"},
		{"http://127.0.0.1:port/", "malformed"},
	} {
		p := newPKI(t, "http://127.0.0.1:1", nil).pinned()
		seal := p.seal(func(c *x509.Certificate) { c.OCSPServer, c.CRLDistributionPoints = []string{test.address}, nil })
		err := p.revocation(Require).Check(t.Context(), p.chainOf(seal))
		mustBeUnavailable(t, err, test.want)
		if strings.Contains(test.want, "credentials") && !strings.Contains(err.Error(), "OCSP at") {
			t.Errorf("the error does not say where: %v", err)
		}
	}
}

// What never changes by itself has an error of its own.
func TestCheckSources(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*x509.Certificate)
		want    string // empty: it is
		neither bool
	}{
		{"both", nil, "", false},
		{"a list only", func(c *x509.Certificate) { c.OCSPServer = nil }, "", false},
		{"OCSP only", func(c *x509.Certificate) { c.CRLDistributionPoints = nil }, "", false},
		{"neither", func(c *x509.Certificate) { c.OCSPServer, c.CRLDistributionPoints = nil, nil }, "names neither", true},
		{"LDAP only", func(c *x509.Certificate) {
			c.OCSPServer, c.CRLDistributionPoints = nil, []string{"ldap:///cn=ca?certificateRevocationList"}
		}, "it names only addresses that are not http", true},
		{"a distribution point without an address", func(c *x509.Certificate) {
			c.OCSPServer, c.CRLDistributionPoints = nil, nil
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: certcheck.OIDCRLDistributionPoints, Value: marshal(t, []distributionPoint{
				{Name: distributionPointName{Full: []asn1.RawValue{directory(t, "CA", "List 1")}}},
			})})
		}, "it names only addresses that are not http", true},
		{"a list with a delta beside it", func(c *x509.Certificate) {
			c.OCSPServer = nil
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidFreshestCRL, Value: freshest(t, "http://status.test/delta.crl")})
		}, "there is a delta list beside it", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := servedPKI(t, nil).pinned()
			chain := p.chainOf(p.seal(test.change))
			err := CheckSources(chain.Leaf())
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrNoSource) != test.neither {
				t.Errorf("CheckSources = %v, want %q", err, test.want)
			}
			checked := p.revocation(Require).Check(t.Context(), chain)
			if test.want == "" {
				mustPass(t, checked)
				return
			}
			mustBeUnavailable(t, checked, test.want)
			if outage, ok := errors.AsType[*rule.Outage](checked); ok && errors.Is(outage.Cause, ErrNoSource) != test.neither {
				t.Errorf("Check = %v", checked)
			}
		})
	}
}

func TestTheLogHoldsTheHint(t *testing.T) {
	for _, private := range []bool{true, false} {
		p := servedPKI(t, nil).pinned()
		var log bytes.Buffer
		r, err := New(Config{
			AllowPrivate: !private,
			Log:          slog.New(slog.NewTextHandler(&log, nil)),
			Hint: func(err error) string {
				if errors.Is(err, ErrNotPublic) {
					return "the hint"
				}
				return ""
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		p.behind(func(http.Handler) http.Handler { return http.NotFoundHandler() })
		mustBeUnavailable(t, r.Check(t.Context(), p.chain()), "")
		r.Close()
		if strings.Contains(log.String(), `mend="the hint"`) != private || !strings.Contains(log.String(), "cannot be found out") {
			t.Errorf("private: %v: the log says %s", private, &log)
		}
	}
}

func TestNamesNeither(t *testing.T) {
	p := servedPKI(t, func(c *testca.Config) { c.OCSPURL, c.CRLURL = "", "" })
	chain := p.chain()
	r := p.revocation(Require)
	err := r.Check(t.Context(), chain)
	mustBeUnavailable(t, err, "x5c[0]: the certificate names neither an OCSP responder nor a revocation list")
	if outage, ok := errors.AsType[*rule.Outage](err); !ok || outage.RetryAfter != maxRetryAfter {
		t.Errorf("%v is worth trying again", err)
	}
	if stats := r.Stats(); stats.Undecided != 1 || stats.SoftFailed != 0 {
		t.Errorf("counted %+v", stats)
	}
	r = p.revocation(Prefer)
	for range 3 {
		mustPass(t, r.Check(t.Context(), chain))
	}
	if stats := r.Stats(); stats.Undecided != 0 || stats.SoftFailed != 3 {
		t.Errorf("counted %+v", stats)
	}
	if n := p.log.count("WARN a chain is let through"); n != 3 { // once for each certificate, not for each check
		t.Errorf("the log says %q", p.log.messages)
	}
	// Another certificate is what helps.
	pinned := p.pinned().chainOf(p.seal(func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1:1"} }))
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), pinned), "OCSP at")
}

func TestOneMissingAnswerIsEnough(t *testing.T) {
	p := servedPKI(t, nil)
	chain := p.chainOf(p.seal(func(c *x509.Certificate) { c.OCSPServer, c.CRLDistributionPoints = nil, nil }))
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), chain), "x5c[0]")
	mustPass(t, p.revocation(Prefer).Check(t.Context(), chain))
}

func TestSourcesAreTriedInTheirOrder(t *testing.T) {
	p := servedPKI(t, nil).pinned()
	dead := "http://127.0.0.1:1/"
	several := func(c *x509.Certificate) {
		c.OCSPServer = []string{"ldap://x/", dead, c.OCSPServer[0]}
		c.CRLDistributionPoints = []string{"ldap://x/", dead, c.CRLDistributionPoints[0]}
	}
	chain := p.chainOf(p.seal(several))
	mustPass(t, p.revocation(Require).Check(t.Context(), chain))
	if p.asked(http.MethodPost) != 1 || p.asked(http.MethodGet) != 0 {
		t.Error("the second responder was not enough")
	}
	p.without(http.MethodPost)
	mustPass(t, p.revocation(Require).Check(t.Context(), chain))
	if p.asked(http.MethodPost) != 2 || p.asked(http.MethodGet) != 1 {
		t.Error("the second list was not asked for after every responder")
	}
}

func TestFewSourcesAreTried(t *testing.T) {
	p := servedPKI(t, nil).pinned()
	p.behind(func(http.Handler) http.Handler { return http.NotFoundHandler() })
	seal := p.seal(func(c *x509.Certificate) {
		for range 10 {
			c.OCSPServer = append(c.OCSPServer, c.OCSPServer[0])
			c.CRLDistributionPoints = append(c.CRLDistributionPoints, c.CRLDistributionPoints[0]+"?"+strings.Repeat("1", len(c.OCSPServer)))
		}
	})
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), p.chainOf(seal)), "404")
	if p.asked(http.MethodPost) != maxSources || p.asked(http.MethodGet) != maxSources {
		t.Errorf("%d responders and %d lists were asked", p.asked(http.MethodPost), p.asked(http.MethodGet))
	}
}

// A check that is under way when the Checker is closed has no answer, which is no reason to let
// anybody through.
func TestCloseLetsNobodyThrough(t *testing.T) {
	p := servedPKI(t, nil).pinned()
	arrived := make(chan struct{}, 1)
	p.behind(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // or the server does not notice that the caller leaves
			select {
			case arrived <- struct{}{}:
			default:
			}
			<-r.Context().Done()
		})
	})
	r := p.revocation(Prefer)
	chain := p.chain()
	waiting := make(chan error, 1)
	go func() { waiting <- r.Check(t.Context(), chain) }()
	<-arrived
	r.Close()
	for when, err := range map[string]error{"under way": <-waiting, "afterwards": r.Check(t.Context(), chain)} {
		if _, ok := errors.AsType[*rule.Outage](err); !ok {
			t.Errorf("%s: %v, want an outage", when, err)
		}
	}
}

func TestCheckOfAGivenUpRequest(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *pki) {
		release := make(chan struct{})
		p.behind(func(service http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-release
				service.ServeHTTP(w, r)
			})
		})
		r := p.inMemory(Prefer)
		chain := p.chain()
		ctx, cancel := context.WithCancel(t.Context())
		impatient, patient := make(chan error, 1), make(chan error, 1)
		go func() { impatient <- r.Check(ctx, chain) }()
		go func() { patient <- r.Check(t.Context(), chain) }()
		synctest.Wait()
		cancel()
		// Not even in Prefer does an unanswered question count as answered.
		if err := <-impatient; !errors.Is(err, context.Canceled) {
			t.Errorf("Check = %v, want context.Canceled", err)
		}
		close(release)
		mustPass(t, <-patient)
		mustPass(t, r.Check(ctx, chain)) // from memory, for which no context is needed
		p.wantAsked(http.MethodPost, 1)
	})
}

// A question that nobody waits for any more ends, and says nothing of whom it was put to.
func TestNobodyWaitsAnyMore(t *testing.T) {
	inBubble(t, withoutLists, func(t *testing.T, p *pki) {
		p.behind(hang)
		r := p.inMemory(Require)
		for range 2 * outbound.FetchFailures {
			ctx, cancel := context.WithCancel(t.Context())
			given := make(chan error, 1)
			go func() { given <- r.Check(ctx, p.chain()) }()
			synctest.Wait()
			cancel()
			if err := <-given; !errors.Is(err, context.Canceled) {
				t.Errorf("Check = %v, want context.Canceled", err)
			}
			synctest.Wait()
			if n := r.questions.Len(); n != 0 {
				t.Errorf("%d questions are left behind", n)
			}
		}
		if stats := r.Stats(); stats.OpenCircuits != 0 || stats.Failures != 0 {
			t.Errorf("counted %+v", stats)
		}
		p.behind(nil)
		mustPass(t, r.Check(t.Context(), p.chain()))
	})
}

func TestThousandSimultaneousChecksAskOnce(t *testing.T) {
	for _, test := range []struct {
		name      string
		configure func(*testca.Config)
		posts     int
		gets      int
	}{
		{"OCSP", nil, 3, 0},
		{"CRL", withoutOCSP, 0, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := servedPKI(t, test.configure)
			r := p.revocation(Require)
			// Half of them bring the same certificates in a chain of their own.
			chain := p.chain()
			other := p.chainOf(&testca.Identity{Chain: chain.Certificates()})
			var together sync.WaitGroup
			start := make(chan struct{})
			for i := range 1000 {
				together.Go(func() {
					<-start
					if err := r.Check(t.Context(), []*trust.Chain{chain, other}[i%2]); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			together.Wait()
			if p.asked(http.MethodPost) != test.posts || p.asked(http.MethodGet) != test.gets {
				t.Errorf("%d OCSP requests and %d lists, want %d and %d",
					p.asked(http.MethodPost), p.asked(http.MethodGet), test.posts, test.gets)
			}
		})
	}
}

// A list is fetched once for all the certificates that name it.
func TestListIsShared(t *testing.T) {
	p := servedPKI(t, withoutOCSP).pinned()
	r := p.revocation(Require)
	revoked := p.chain()
	p.service.Revoke(revoked.Leaf(), ocsp.KeyCompromise)
	for range 3 {
		mustPass(t, r.Check(t.Context(), p.chain()))
	}
	mustBeRevoked(t, r.Check(t.Context(), revoked), "says CRL")
	if n := p.asked(http.MethodGet); n != 1 {
		t.Errorf("the list was fetched %d times", n)
	}
	r.lists.CleanUp() // sizes are brought up to date in the background
	stats := r.Stats()
	if stats.Lists != 1 || stats.KnownLists != 1 || stats.ListAnswers != 4 || stats.ListBytes <= listSize {
		t.Errorf("counted %+v", stats)
	}
}

// Another CA's list of the same address does not speak for this CA.
func TestListIsKeptByIssuer(t *testing.T) {
	p := servedPKI(t, withoutOCSP)
	subList := strings.Replace(p.issuer().CRLDistributionPoints[0], "sub.crl", "issuing.crl", 1)
	seal := p.seal(func(c *x509.Certificate) { c.CRLDistributionPoints = []string{subList} })
	r := p.revocation(Require)
	mustPass(t, r.Check(t.Context(), p.pinned().chainOf(seal)))

	template := p.ca.Template(testca.Issuing)
	template.CRLDistributionPoints = []string{subList}
	other := p.signed(testca.Sub, template)
	p.anchors = trust.Anchors{trust.FingerprintOf(p.ca.Authority(testca.Sub).Certificate()): "test sub CA"}
	under, err := p.ca.Seal(testca.SealRequest{Organization: "Consumer", Issuer: other})
	if err != nil {
		t.Fatal(err)
	}
	mustBeUnavailable(t, r.Check(t.Context(), p.chainOf(under)), "not signed by the issuer")
}

func TestClose(t *testing.T) {
	p := servedPKI(t, nil).pinned()
	arrived := make(chan struct{}, 2) // the chain has two certificates to ask about
	p.behind(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // or the server does not see that the client hangs up
			arrived <- struct{}{}
			<-r.Context().Done()
		})
	})
	r, err := New(Config{AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	chain := p.chain()
	go func() { waiting <- r.Check(t.Context(), chain) }()
	<-arrived
	r.Close()
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stacks.String(), "flight.(*Group[...]).join.func") { // who asked may still be on its way to wait
		t.Errorf("a goroutine is left after Close:\n%s", stacks.String())
	}
	mustBeUnavailable(t, <-waiting, "closed")
	mustBeUnavailable(t, r.Check(t.Context(), p.chain()), "closed")
	r.Close() // a second time does no harm
}

func TestStatuses(t *testing.T) {
	p := servedPKI(t, nil)
	chain := p.chainOf(p.seal(func(c *x509.Certificate) { c.OCSPServer = nil }))
	p.service.Revoke(p.issuer(), ocsp.CACompromise)
	p.service.Tamper(testca.Tampering{OCSP: func(a *testca.OCSPAnswer) {
		if a.Issuer == p.ca.Authority(testca.Root).Certificate() {
			a.Status = ocsp.Unknown
		}
	}})
	p.behind(func(service http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/root.crl" {
				http.NotFound(w, r)
				return
			}
			service.ServeHTTP(w, r)
		})
	})
	r := p.revocation(Require)
	statuses := r.Statuses(t.Context(), chain)
	if len(statuses) != 3 {
		t.Fatalf("%d statuses", len(statuses))
	}
	leaf, issuing, sub := statuses[0], statuses[1], statuses[2]
	if leaf.Source != "CRL" || leaf.Address != chain.Leaf().CRLDistributionPoints[0] || leaf.Revoked != "" || leaf.Err != nil ||
		!leaf.ThisUpdate.Before(time.Now()) || !leaf.NextUpdate.After(time.Now()) {
		t.Errorf("of the leaf: %+v", leaf)
	}
	if issuing.Index != 1 || issuing.Source != "OCSP" || !strings.HasPrefix(issuing.Revoked, "is revoked since ") {
		t.Errorf("of the issuing CA: %+v", issuing)
	}
	if sub.Index != 2 || sub.Source != "" || sub.Err == nil || !strings.Contains(sub.Err.Error(), "; CRL at http") {
		t.Errorf("of the sub CA: %+v", sub)
	}
	if stats := r.Stats(); stats.Revoked+stats.Undecided+stats.SoftFailed != 0 || stats.OCSPAnswers != 1 || stats.ListAnswers != 1 || stats.Failures != 1 {
		t.Errorf("counted %+v", stats)
	}
}

func TestModesAreNamedAsInAConfiguration(t *testing.T) {
	for _, mode := range []Mode{Require, Prefer, ModeOff} {
		read := Mode(-1)
		if err := read.UnmarshalText([]byte(mode.String())); err != nil || read != mode {
			t.Errorf("%s is read as %s, %v", mode, read, err)
		}
	}
	read := Require
	for _, text := range []string{"", "Prefer", "soft", "RevocationMode(7)"} {
		if err := read.UnmarshalText([]byte(text)); err == nil || read != Require {
			t.Errorf("%q is read as %s, %v", text, read, err)
		}
	}
	if Require.String() != "require" || Prefer.String() != "prefer" || ModeOff.String() != "off" || Mode(7).String() != "RevocationMode(7)" {
		t.Error("modes are named otherwise")
	}
}

// The sentence is for error_description, whatever a CA puts into an answer.
func TestReasonsAreNamed(t *testing.T) {
	for code, want := range map[int]string{0: "unspecified", 1: "keyCompromise", 6: "certificateHold", 10: "aACompromise", 11: "reason unknown", -1: "reason unknown", 256 + 6: "reason unknown"} {
		if got := reasonName(code); got != want {
			t.Errorf("reason %d is %q, want %q", code, got, want)
		}
	}
	rejection := rule.CertificateRevoked.Because("x5c[0] %s", &revocationEntry{reason: 1})
	if strings.Contains(rejection.Description(), "?") {
		t.Errorf("%s", rejection.Description())
	}
}
