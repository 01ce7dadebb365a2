package testca_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/internal/testservice"
)

// servedCA is a CA whose status service answers where its certificates say.
func servedCA(t *testing.T) (*testca.CA, *testca.StatusService) {
	t.Helper()
	var service *testca.StatusService
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { service.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	ca := newCA(t, testca.Config{OCSPURL: server.URL + "/ocsp", CRLURL: server.URL})
	service = testca.NewStatusService(ca, time.Hour)
	return ca, service
}

func ask(t *testing.T, cert, issuer *x509.Certificate, hash crypto.Hash) *ocsp.Response {
	t.Helper()
	question, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(cert.OCSPServer[0], "application/ocsp-request", bytes.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ocsp.ParseResponseForCert(read(t, response, "application/ocsp-response"), cert, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func read(t *testing.T, response *http.Response, mediaType string) []byte {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != mediaType {
		t.Fatalf("status %d and %s: %s", response.StatusCode, got, body)
	}
	return body
}

func fetchList(t *testing.T, cert, issuer *x509.Certificate) *x509.RevocationList {
	t.Helper()
	response, err := http.Get(cert.CRLDistributionPoints[0])
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(read(t, response, "application/pkix-crl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		t.Error(err)
	}
	return list
}

func TestStatusOfEveryLevel(t *testing.T) {
	ca, service := servedCA(t)
	chain := seal(t, ca, testca.SealRequest{Organization: "Consumer"}).Chain
	for i, cert := range chain[:3] {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			answer := ask(t, cert, chain[i+1], hash)
			if answer.Status != ocsp.Good || answer.IssuerHash != hash || answer.NextUpdate.Sub(answer.ThisUpdate) != time.Hour {
				t.Errorf("of %s: %+v", cert.Subject, answer)
			}
		}
		service.Revoke(cert, ocsp.Superseded)
		answer := ask(t, cert, chain[i+1], crypto.SHA1)
		if answer.Status != ocsp.Revoked || answer.RevocationReason != ocsp.Superseded {
			t.Errorf("of %s, revoked: %+v", cert.Subject, answer)
		}
		entries := fetchList(t, cert, chain[i+1]).RevokedCertificateEntries
		if len(entries) != 1 || entries[0].SerialNumber.Cmp(cert.SerialNumber) != 0 || entries[0].ReasonCode != ocsp.Superseded {
			t.Errorf("of %s, revoked: %+v", cert.Subject, entries)
		}
		service.Reinstate(cert)
		if answer := ask(t, cert, chain[i+1], crypto.SHA1); answer.Status != ocsp.Good {
			t.Errorf("of %s, reinstated: %+v", cert.Subject, answer)
		}
		if entries := fetchList(t, cert, chain[i+1]).RevokedCertificateEntries; len(entries) != 0 {
			t.Errorf("of %s, reinstated: %+v", cert.Subject, entries)
		}
	}
}

func TestTampering(t *testing.T) {
	ca, service := servedCA(t)
	chain := seal(t, ca, testca.SealRequest{Organization: "Consumer"}).Chain
	key, err := testca.PooledKey(testca.DefaultKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	responder, err := ca.Authority(testca.Issuing).Issue(ca.ResponderTemplate(), key)
	if err != nil {
		t.Fatal(err)
	}
	service.Tamper(testca.Tampering{
		OCSP: func(a *testca.OCSPAnswer) {
			a.Status = ocsp.Unknown
			a.SignWith(responder)
		},
		List: func(l *testca.ListAnswer) { l.NextUpdate = l.ThisUpdate.Add(time.Minute) },
	})
	if answer := ask(t, chain[0], chain[1], crypto.SHA1); answer.Status != ocsp.Unknown || !answer.Certificate.Equal(responder.Certificate()) {
		t.Errorf("%+v", answer)
	}
	if list := fetchList(t, chain[0], chain[1]); list.NextUpdate.Sub(list.ThisUpdate) != time.Minute {
		t.Errorf("%+v", list)
	}
	service.Tamper(testca.Tampering{})
	if answer := ask(t, chain[0], chain[1], crypto.SHA1); answer.Status != ocsp.Good || answer.Certificate != nil {
		t.Errorf("%+v", answer)
	}
}

func TestStatusServiceRefuses(t *testing.T) {
	ca, service := servedCA(t)
	other := newCA(t, testca.Config{Name: "Other"})
	cert := seal(t, ca, testca.SealRequest{Organization: "Consumer"}).Certificate()
	foreign, err := ocsp.CreateRequest(cert, other.Authority(testca.Root).Certificate(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		method, path string
		body         []byte
		status       int
		want         []byte
	}{
		{http.MethodPost, "/ocsp", []byte("no question"), http.StatusOK, ocsp.MalformedRequestErrorResponse},
		{http.MethodPost, "/ocsp", foreign, http.StatusOK, ocsp.UnauthorizedErrorResponse},
		{http.MethodPost, "/ocsp", make([]byte, 1<<20), http.StatusBadRequest, nil},
		{http.MethodGet, "/ocsp", nil, http.StatusNotFound, nil},
		{http.MethodGet, "/other.crl", nil, http.StatusNotFound, nil},
		{http.MethodPut, "/root.crl", nil, http.StatusNotFound, nil},
	} {
		recorder := httptest.NewRecorder()
		service.ServeHTTP(recorder, httptest.NewRequest(test.method, test.path, bytes.NewReader(test.body)))
		if recorder.Code != test.status || test.want != nil && !bytes.Equal(recorder.Body.Bytes(), test.want) {
			t.Errorf("%s %s: %d %x", test.method, test.path, recorder.Code, recorder.Body.Bytes())
		}
	}
}

// OpenSSL reads our answers as it reads anybody's.
func TestOpenSSLAgrees(t *testing.T) {
	testservice.Program(t, "openssl")
	ca, service := servedCA(t)
	chain := seal(t, ca, testca.SealRequest{Organization: "Consumer"}).Chain
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	leaf := file("leaf.pem", testca.EncodeCertificates(chain[0]))
	issuer := file("issuer.pem", testca.EncodeCertificates(chain[1]))
	root := file("root.pem", testca.EncodeCertificates(chain[1:]...))
	openssl := func(arguments ...string) string {
		out, err := exec.CommandContext(t.Context(), "openssl", arguments...).CombinedOutput()
		if err != nil {
			t.Errorf("openssl %v: %v\n%s", arguments, err, out)
		}
		return string(out)
	}
	status := func() string {
		return openssl("ocsp", "-issuer", issuer, "-cert", leaf, "-url", chain[0].OCSPServer[0], "-CAfile", root)
	}
	if out := status(); !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "leaf.pem: good") {
		t.Errorf("%s", out)
	}
	service.Revoke(chain[0], ocsp.KeyCompromise)
	if out := status(); !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "leaf.pem: revoked") {
		t.Errorf("%s", out)
	}
	list, err := service.List(testca.Issuing)
	if err != nil {
		t.Fatal(err)
	}
	out := openssl("crl", "-inform", "DER", "-in", file("list.crl", list), "-CAfile", root, "-noout", "-text")
	if !strings.Contains(out, "verify OK") || !strings.Contains(out, "Key Compromise") {
		t.Errorf("%s", out)
	}
}
