package revocation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/testca"
)

// An exchange is one OCSP answer with what it is about, out of any network.
type exchange struct {
	t      testing.TB
	cert   *x509.Certificate
	ca     *x509.Certificate // the issuer's
	issuer *testca.Identity
	answer testca.OCSPAnswer
	at     time.Time
}

// newExchange has fixed ECDSA keys, so that an answer that is kept can be read again
// by another process.
func newExchange(tb testing.TB) *exchange {
	tb.Helper()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	issuer, err := testca.SelfSign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuer"},
		NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, fixedKey(tb, 1))
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := issuer.Issue(&x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "Leaf"},
		NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(1, 0, 0),
	}, fixedKey(tb, 2))
	if err != nil {
		tb.Fatal(err)
	}
	e := &exchange{t: tb, issuer: issuer, at: at, cert: leaf.Certificate(), ca: issuer.Certificate()}
	e.answer = testca.OCSPAnswer{
		Response: ocsp.Response{
			Status: ocsp.Good, SerialNumber: big.NewInt(4711),
			ThisUpdate: at.Add(-time.Hour), NextUpdate: at.Add(time.Hour),
		},
		Issuer: issuer.Certificate(), Responder: issuer.Certificate(), Key: issuer.Key,
	}
	return e
}

// read is what the answer says of the exchange's certificate.
func (e *exchange) read(der []byte, at time.Time) (certStatus, error) {
	status, _, err := readOCSP(der, e.cert, e.ca, at)
	return status, err
}

func fixedKey(tb testing.TB, n byte) crypto.Signer {
	tb.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), n))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// responder is a delegated one, with a name of its own.
func (e *exchange) responder() *testca.Identity {
	e.t.Helper()
	id, err := e.issuer.Issue(&x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Responder"},
		NotBefore: e.at.AddDate(0, -1, 0), NotAfter: e.at.AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}, fixedKey(e.t, 3))
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

func (e *exchange) sign() []byte {
	e.t.Helper()
	der, err := e.answer.Sign()
	if err != nil {
		e.t.Fatal(err)
	}
	return der
}

// signEdited makes an answer that golang.org/x/crypto/ocsp cannot make.
func (e *exchange) signEdited(edit func(*ocspBasic)) []byte {
	e.t.Helper()
	basic, err := parseOCSP(e.sign())
	if err != nil {
		e.t.Fatal(err)
	}
	edit(basic)
	basic.Data.Raw = nil
	e.seal(basic, e.answer.Key)
	return encodeOCSP(e.t, basic)
}

func (e *exchange) seal(basic *ocspBasic, key crypto.Signer) {
	e.t.Helper()
	data := marshal(e.t, basic.Data)
	digest := sha256.Sum256(data)
	var options crypto.SignerOpts = crypto.SHA256
	if signatureAlgorithm(basic.Algorithm) == x509.SHA256WithRSAPSS {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	signature, err := key.Sign(rand.Reader, digest[:], options)
	if err != nil {
		e.t.Fatal(err)
	}
	basic.Data.Raw = data
	basic.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
}

// OCSPResponse and CertificateList as they stand on the wire.
type (
	ocspAnswer struct {
		Status asn1.Enumerated
		Bytes  ocspBytes `asn1:"explicit,tag:0,optional"`
	}
	ocspBytes struct {
		Type asn1.ObjectIdentifier
		DER  []byte
	}
	signedList struct {
		List      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
)

func encodeOCSP(tb testing.TB, basic *ocspBasic) []byte {
	tb.Helper()
	return marshal(tb, ocspAnswer{Bytes: ocspBytes{Type: oidOCSPBasic, DER: marshal(tb, *basic)}})
}

func raw(certificates ...*x509.Certificate) []asn1.RawValue {
	var list []asn1.RawValue
	for _, cert := range certificates {
		list = append(list, asn1.RawValue{FullBytes: cert.Raw})
	}
	return list
}

func byKey(tb testing.TB, cert *x509.Certificate) asn1.RawValue {
	tb.Helper()
	return asn1.RawValue{
		Class: asn1.ClassContextSpecific, Tag: ocspByKey, IsCompound: true,
		Bytes: marshal(tb, digest(crypto.SHA1, publicKeyBits(cert))),
	}
}

func byName(name []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspByName, IsCompound: true, Bytes: name}
}

// Answers of a form that the usual test responder does not give.
func TestOCSPAnswersOfOtherForms(t *testing.T) {
	e := newExchange(t)
	responder := e.responder().Certificate()
	stranger := newExchange(t).cert
	good := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspGood}
	unknown := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspUnknown}
	twice := slices.Repeat([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.NullBytes}}, 2)
	for _, test := range []struct {
		name string
		by   *testca.Identity // nil: the issuer
		edit func(*ocspBasic)
		want string // empty: it counts
	}{
		{"plain", nil, func(*ocspBasic) {}, ""},
		{"issuer by its key", nil, func(b *ocspBasic) { b.Data.Responder = byKey(t, e.ca) }, ""},
		{"responder by its key", e.responder(), func(b *ocspBasic) { b.Data.Responder = byKey(t, responder) }, ""},
		{"issuer with its whole chain, as EJBCA", nil, func(b *ocspBasic) {
			b.Certificates = raw(e.ca, stranger)
		}, ""},
		{"responder after others", e.responder(), func(b *ocspBasic) { b.Certificates = raw(e.ca, stranger, responder) }, ""},
		{"responder after too many others", e.responder(), func(b *ocspBasic) {
			b.Certificates = raw(stranger, stranger, stranger, stranger, responder)
		}, "signed neither by"},
		{"responder among what is no certificate", e.responder(), func(b *ocspBasic) {
			b.Certificates = append([]asn1.RawValue{{FullBytes: asn1.NullBytes}}, raw(responder)...)
		}, ""},
		{"several statements, ours last", nil, func(b *ocspBasic) {
			other := b.Data.Responses[0]
			other.ID.Serial = big.NewInt(1)
			other.Status = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspUnknown}
			b.Data.Responses = append([]ocspSingle{other}, b.Data.Responses...)
		}, ""},
		{"the same serial number of another issuer first", nil, func(b *ocspBasic) {
			other := b.Data.Responses[0]
			other.ID.IssuerKeyHash = make([]byte, 20)
			other.Status = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspUnknown}
			b.Data.Responses = append([]ocspSingle{other}, b.Data.Responses...)
		}, ""},
		{"good twice", nil, says(good, good), ""},
		{"good, then unknown", nil, says(good, unknown), "does not know the certificate"},
		{"unknown, then good", nil, says(unknown, good), "does not know the certificate"},
		{"good, then what cannot be read", nil, says(good, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3}), "no status"},
		{"good, then out of force", nil, func(b *ocspBasic) {
			says(good, good)(b)
			b.Data.Responses[1].ThisUpdate, b.Data.Responses[1].NextUpdate = e.at.Add(-2*time.Hour), e.at.Add(-time.Hour)
		}, "it ended on"},
		{"good, then with a critical extension", nil, func(b *ocspBasic) {
			says(good, good)(b)
			b.Data.Responses[1].Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes}}
		}, "critical extension 1.2.3"},
		{"an extension of the answer twice", nil, func(b *ocspBasic) { b.Data.Extensions = twice }, "the extension 1.2.3 stands there twice"},
		{"an extension of the statement twice", nil, func(b *ocspBasic) { b.Data.Responses[0].Extensions = twice }, "the extension 1.2.3 stands there twice"},
		{"an extension of the answer", nil, func(b *ocspBasic) {
			b.Data.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: []byte{4, 1, 7}}}
		}, ""},
		{"a critical extension of the answer", nil, func(b *ocspBasic) {
			b.Data.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes}}
		}, "critical extension 1.2.3"},
		{"named by a key that is not the signer's", nil, func(b *ocspBasic) { b.Data.Responder = byKey(t, stranger) }, "signed neither by"},
		{"named in a way that does not exist", nil, func(b *ocspBasic) {
			b.Data.Responder = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: e.ca.RawSubject}
		}, "signed neither by"},
		{"named by a value of another kind", nil, func(b *ocspBasic) {
			b.Data.Responder = asn1.RawValue{Tag: ocspByName, Bytes: e.ca.RawSubject}
		}, "signed neither by"},
		{"no statement", nil, func(b *ocspBasic) { b.Data.Responses = nil }, "another certificate"},
		{"an issuer hash that nobody knows", nil, func(b *ocspBasic) {
			b.Data.Responses[0].ID.Hash.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}
		}, "another certificate"},
		{"a status that does not exist", nil, func(b *ocspBasic) {
			b.Data.Responses[0].Status = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3}
		}, "no status"},
		{"a status of another kind", nil, func(b *ocspBasic) {
			b.Data.Responses[0].Status = asn1.RawValue{Tag: ocspUnknown, Bytes: []byte{1}}
		}, "no status"},
		{"revoked without saying when", nil, func(b *ocspBasic) {
			b.Data.Responses[0].Status = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspRevoked, IsCompound: true}
		}, "revokedInfo"},
		{"a version to come", nil, func(b *ocspBasic) { b.Data.Version = 1 }, "version 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newExchange(t)
			if test.by != nil {
				e.answer.SignWith(test.by)
			}
			_, err := e.read(e.signEdited(test.edit), e.at)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("readOCSP = %v, want %q", err, test.want)
			}
		})
	}
}

// says makes an answer say this of the same certificate, one after the other.
func says(statuses ...asn1.RawValue) func(*ocspBasic) {
	return func(b *ocspBasic) {
		b.Data.Responses = slices.Repeat(b.Data.Responses, len(statuses))
		for i, status := range statuses {
			b.Data.Responses[i].Status = status
		}
	}
}

// An answer that speaks of one certificate twice is taken for the worse, wherever that stands.
func TestOCSPAnswersThatSayTwoThings(t *testing.T) {
	e := newExchange(t)
	good := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspGood}
	unknown := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspUnknown}
	gone := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: ocspRevoked, IsCompound: true, Bytes: []byte("\x18\x0f20261123110000Z")}
	for name, statuses := range map[string][]asn1.RawValue{
		"good, then revoked":    {good, gone},
		"revoked, then good":    {gone, good},
		"unknown, then revoked": {unknown, gone},
		"revoked, then unknown": {gone, unknown},
	} {
		said, err := e.read(e.signEdited(says(statuses...)), e.at)
		if err != nil || said.revoked == nil || !said.revoked.at.Equal(e.at.Add(-time.Hour)) {
			t.Errorf("%s: %+v, %v", name, said, err)
		}
	}
	for _, shorter := range []int{0, 1} {
		said, err := e.read(e.signEdited(func(b *ocspBasic) {
			says(good, good)(b)
			b.Data.Responses[shorter].NextUpdate = e.at.Add(time.Minute)
		}), e.at)
		if err != nil || !said.nextUpdate.Equal(e.at.Add(time.Minute)) {
			t.Errorf("good twice: %+v, %v, want the first end", said, err)
		}
	}
}

// renamed is the issuer of the exchange with its name written otherwise, as older and newer
// software of one CA does.
func (e *exchange) renamed() *testca.Identity {
	e.t.Helper()
	cert := *e.issuer.Certificate()
	cert.RawSubject = otherwise(e.t, cert.RawSubject)
	return &testca.Identity{Chain: []*x509.Certificate{&cert}, Key: e.issuer.Key}
}

// RFC 5280 section 7.1: names are equal whose case, blanks and types of strings differ.
func TestOCSPNamesThatAreWrittenOtherwise(t *testing.T) {
	hash := func(raw []byte) []byte { return digest(crypto.SHA1, raw) }
	for _, test := range []struct {
		name string
		edit func(e *exchange, b *ocspBasic)
		want string // empty: it counts
	}{
		{"the issuer's name as in the certificate", func(e *exchange, b *ocspBasic) {
			b.Data.Responses[0].ID.IssuerNameHash = hash(e.cert.RawIssuer)
		}, ""},
		{"the issuer's name as in the issuer's certificate", func(e *exchange, b *ocspBasic) {
			b.Data.Responses[0].ID.IssuerNameHash = hash(e.ca.RawSubject)
		}, ""},
		{"the issuer's name in a third way", func(e *exchange, b *ocspBasic) {
			b.Data.Responses[0].ID.IssuerNameHash = hash(otherwise(e.t, e.cert.RawIssuer))
		}, "another certificate"},
		{"the signer by its name", func(e *exchange, b *ocspBasic) {
			b.Data.Responder = byName(e.cert.RawIssuer)
		}, ""},
		{"a responder whose certificate names the issuer", func(e *exchange, b *ocspBasic) {
			e.issuer = e.renamed()
			e.answer.SignWith(e.responder())
			b.Certificates = raw(e.answer.Certificate)
			b.Data.Responder = byName(otherwise(e.t, e.answer.Certificate.RawSubject))
		}, ""},
		{"the signer by another name", func(e *exchange, b *ocspBasic) {
			b.Data.Responder = byName(directory(e.t, "Issuer", "Other").Bytes)
		}, "signed neither by"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newExchange(t)
			leaf, err := e.renamed().Issue(&x509.Certificate{
				SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "Leaf"}, NotBefore: e.at, NotAfter: e.at.AddDate(1, 0, 0),
			}, fixedKey(t, 2))
			if err != nil {
				t.Fatal(err)
			}
			e.cert = leaf.Certificate()
			if bytes.Equal(e.cert.RawIssuer, e.ca.RawSubject) {
				t.Fatal("the names are written in the same way")
			}
			der := e.signEdited(func(b *ocspBasic) { test.edit(e, b) })
			_, err = e.read(der, e.at)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("readOCSP = %v, want %q", err, test.want)
			}
		})
	}
}

// RFC 6960 section 4.1.1: a question hashes the issuer's name as the certificate writes it.
func TestOCSPQuestionNamesTheIssuerAsTheCertificateDoes(t *testing.T) {
	e := newExchange(t)
	leaf, err := e.renamed().Issue(&x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "Leaf"}, NotBefore: e.at, NotAfter: e.at.AddDate(1, 0, 0),
	}, fixedKey(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var question *ocsp.Request
	r.fetcher.Client.Transport = roundTripper(func(request *http.Request) (*http.Response, error) {
		der, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		question, err = ocsp.ParseRequest(der)
		return nil, errors.Join(errors.New("asked"), err)
	})
	cert := leaf.Certificate()
	if _, _, err := r.askOCSP(t.Context(), "http://status.test/", cert, e.ca); err == nil || question == nil {
		t.Fatalf("no question: %v", err)
	}
	if want := digest(crypto.SHA1, cert.RawIssuer); !bytes.Equal(question.IssuerNameHash, want) {
		t.Errorf("the question names the issuer by %x, want %x", question.IssuerNameHash, want)
	}
}

// What crypto/x509 would leave to its Verify, and what is listed as processed.
func TestCriticalExtensionsOfResponders(t *testing.T) {
	id := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, last} }
	name := marshal(t, []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("a.test")}})
	for _, test := range []struct {
		name string
		ext  pkix.Extension
		want bool
	}{
		{"extKeyUsage", pkix.Extension{Id: certcheck.OIDExtKeyUsage, Value: marshal(t, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 9}})}, true},
		{"id-pkix-ocsp-nocheck", pkix.Extension{Id: oidOCSPNoCheck, Value: asn1.NullBytes}, true},
		{"subjectAltName", pkix.Extension{Id: certcheck.OIDSubjectAltName, Value: name}, true},
		{"policyConstraints", pkix.Extension{Id: id(36), Value: []byte{0x30, 3, 0x80, 1, 0}}, false},
		{"inhibitAnyPolicy", pkix.Extension{Id: id(54), Value: []byte{2, 1, 0}}, false},
		{"nameConstraints", pkix.Extension{Id: id(30), Value: []byte{0x30, 10, 0xa0, 8, 0x30, 6, 0x82, 4, 't', 'e', 's', 't'}}, false},
		{"one that nobody knows", pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.NullBytes}, false},
	} {
		for _, critical := range []bool{false, true} {
			e := newExchange(t)
			ext := test.ext
			ext.Critical = critical
			template := &x509.Certificate{
				SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Responder"},
				NotBefore: e.at.AddDate(0, -1, 0), NotAfter: e.at.AddDate(0, 1, 0),
				KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{ext},
			}
			if !ext.Id.Equal(certcheck.OIDExtKeyUsage) {
				template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
			}
			responder, err := e.issuer.Issue(template, fixedKey(t, 3))
			if err != nil {
				t.Fatal(err)
			}
			e.answer.SignWith(responder)
			if _, err := e.read(e.sign(), e.at); (err == nil) != (test.want || !critical) {
				t.Errorf("%s, critical: %v: %v", test.name, critical, err)
			}
		}
	}
}

// A key usage without any bit allows nothing; one that is absent limits nothing.
func TestResponderWhoseKeyUsageIsEmpty(t *testing.T) {
	e := newExchange(t)
	responder, err := e.issuer.Issue(&x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Responder"},
		NotBefore: e.at.AddDate(0, -1, 0), NotAfter: e.at.AddDate(0, 1, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: certcheck.OIDKeyUsage, Critical: true, Value: []byte{3, 1, 0}}},
	}, fixedKey(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	e.answer.SignWith(responder)
	if _, err := e.read(e.sign(), e.at); err == nil || !strings.Contains(err.Error(), "does not include signing") {
		t.Errorf("readOCSP = %v", err)
	}
}

// A responder that says that it cannot answer now may be well again in a moment.
func TestWhatAResponderSaysInPlaceOfAnAnswer(t *testing.T) {
	for der, again := range map[string]bool{
		string(ocsp.TryLaterErrorResponse):         true,
		string(ocsp.InternalErrorErrorResponse):    true,
		string(ocsp.UnauthorizedErrorResponse):     false,
		string(ocsp.MalformedRequestErrorResponse): false,
		string(ocsp.SigRequredErrorResponse):       false,
	} {
		_, err := parseOCSP([]byte(der))
		if err == nil || errors.As(err, new(*outbound.UnreachableError)) != again {
			t.Errorf("%x: %v", der, err)
		}
	}
}

// Some trust service providers sign with RSASSA-PSS only.
func TestOCSPAnswerSignedWithPSS(t *testing.T) {
	e := newExchange(t)
	key, err := testca.PooledKey(testca.DefaultKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	certificate := *e.ca
	certificate.SignatureAlgorithm = x509.UnknownSignatureAlgorithm // that of the key
	certificate.PublicKey = key.Public()
	if e.issuer, err = testca.SelfSign(&certificate, key); err != nil {
		t.Fatal(err)
	}
	e.ca = e.issuer.Certificate()
	e.answer.Issuer, e.answer.Responder, e.answer.Key = e.ca, e.ca, key
	template := &x509.RevocationList{Number: big.NewInt(1), SignatureAlgorithm: x509.SHA256WithRSAPSS, NextUpdate: e.at}
	list, err := x509.CreateRevocationList(rand.Reader, template, e.ca, key)
	if err != nil {
		t.Fatal(err)
	}
	var signed signedList
	if err := unmarshalAll(list, &signed); err != nil {
		t.Fatal(err)
	}
	der := e.signEdited(func(b *ocspBasic) { b.Algorithm = signed.Algorithm })
	if _, err := e.read(der, e.at); err != nil {
		t.Error(err)
	}
}

// Whatever a bit of an answer says otherwise, it is the same answer or none.
func TestOCSPAnswerWithOneBitFlipped(t *testing.T) {
	for _, delegated := range []bool{false, true} {
		e := newExchange(t)
		e.answer.Status, e.answer.RevokedAt, e.answer.RevocationReason = ocsp.Revoked, e.at.Add(-time.Minute), ocsp.KeyCompromise
		if delegated {
			e.answer.SignWith(e.responder())
		}
		der := e.sign()
		want, err := e.read(der, e.at)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(der) * 8 {
			flipped := bytes.Clone(der)
			flipped[i/8] ^= 1 << (i % 8)
			got, err := e.read(flipped, e.at)
			if err == nil && !same(got, want) {
				t.Errorf("bit %d makes it %+v", i, got)
			}
		}
		for i := range der {
			if _, err := e.read(der[:i], e.at); err == nil {
				t.Errorf("%d bytes of it are enough", i)
			}
		}
	}
}

func same(a, b certStatus) bool {
	return a.thisUpdate.Equal(b.thisUpdate) && a.nextUpdate.Equal(b.nextUpdate) &&
		(a.revoked == nil) == (b.revoked == nil) &&
		(a.revoked == nil || a.revoked.at.Equal(b.revoked.at) && a.revoked.reason == b.revoked.reason)
}

func TestOCSPTimes(t *testing.T) {
	e := newExchange(t)
	begin, end := e.answer.ThisUpdate, e.answer.NextUpdate
	der := e.sign()
	for _, test := range []struct {
		at   time.Time
		want bool
	}{
		{begin.Add(-maxSkew - time.Second), false},
		{begin.Add(-maxSkew), true},
		{begin, true},
		{end.Add(-time.Second), true},
		{end, false},
		{end.Add(maxSkew), false},
	} {
		if _, err := e.read(der, test.at); (err == nil) != test.want {
			t.Errorf("at %s: %v", test.at, err)
		}
	}
}

// FuzzOCSP reads answers of a responder of which nothing can be relied on.
func FuzzOCSP(f *testing.F) {
	e := newExchange(f)
	f.Add(e.sign())
	f.Add(e.signEdited(func(b *ocspBasic) { b.Data.Responder = byKey(f, e.ca) }))
	e.answer.Status, e.answer.RevokedAt = ocsp.Revoked, e.at
	f.Add(e.sign())
	e.answer.SignWith(e.responder())
	e.answer.NextUpdate = time.Time{}
	f.Add(e.sign())
	e.answer.Status = ocsp.Unknown
	f.Add(e.sign())
	f.Add(ocsp.TryLaterErrorResponse)
	f.Fuzz(func(t *testing.T, der []byte) {
		said, err := e.read(der, e.at)
		if err == nil {
			agreesWithXCrypto(t, e, der, said)
		}
		// What the signature keeps out is read here without it.
		basic, err := parseOCSP(der)
		if err != nil {
			return
		}
		basic.isBy(e.ca)
		if v, err := basic.statusOf(e.cert, e.ca, e.at); err == nil && !v.nextUpdate.After(e.at) {
			t.Errorf("an answer counts that ended on %s", v.nextUpdate)
		}
	})
}

// agreesWithXCrypto holds an answer that we take against golang.org/x/crypto/ocsp,
// as far as that reads it.
func agreesWithXCrypto(t *testing.T, e *exchange, der []byte, said certStatus) {
	t.Helper()
	other, err := ocsp.ParseResponseForCert(der, e.cert, e.ca)
	if err != nil {
		return // it refuses some that are right, see ocsp.go
	}
	if (other.Status == ocsp.Revoked) != (said.revoked != nil) || !other.ThisUpdate.Equal(said.thisUpdate) {
		t.Errorf("%+v is read by golang.org/x/crypto/ocsp as %+v", said, other)
	}
	if other.Status == ocsp.Unknown {
		t.Error("unknown counts as an answer")
	}
}

// FuzzCRL reads lists of a server of which nothing can be relied on.
func FuzzCRL(f *testing.F) {
	for _, der := range listSeeds(f) {
		f.Add(der)
	}
	e := newExchange(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		if l, err := readList(der, e.ca, e.at); err == nil && !l.nextUpdate.After(e.at) {
			t.Errorf("a list counts that ended on %s", l.nextUpdate)
		}
		// What the signature keeps out is read here without it.
		der, err := derOfList(der)
		if err != nil {
			return
		}
		var signed signedList
		if unmarshalAll(der, &signed) != nil {
			return
		}
		ours, err := parseList(signed.List.FullBytes, signed.Algorithm)
		if err == nil && ours.entries.understood(ours.versionOne) == nil {
			agreesWithX509(t, ours, der)
		}
	})
}

// agreesWithX509 holds a list as we read it against crypto/x509.
func agreesWithX509(t *testing.T, ours *tbsCertList, der []byte) {
	t.Helper()
	theirs, err := x509.ParseRevocationList(der)
	if err != nil {
		return // it looks at the issuer's name too, and at extensions that we need not know
	}
	if !ours.thisUpdate.Equal(theirs.ThisUpdate) || !ours.nextUpdate.Equal(theirs.NextUpdate) ||
		!bytes.Equal(ours.issuer, theirs.RawIssuer) || len(ours.extensions) != len(theirs.Extensions) {
		t.Errorf("%+v is read by crypto/x509 as %+v", ours, theirs)
	}
	times := map[string]int{}
	for _, e := range theirs.RevokedCertificateEntries {
		times[e.SerialNumber.String()]++
	}
	for _, e := range theirs.RevokedCertificateEntries {
		if e.SerialNumber.Sign() < 0 || times[e.SerialNumber.String()] > 1 {
			continue
		}
		w, err := ours.entries.find(contentsOf(e.SerialNumber))
		switch {
		case err != nil:
			t.Errorf("%d is not found: %v", e.SerialNumber, err)
		case e.ReasonCode == ocsp.RemoveFromCRL:
			if w != nil {
				t.Errorf("%d is revoked although it was removed", e.SerialNumber)
			}
		case w == nil || !w.at.Equal(e.RevocationTime) || w.reason != e.ReasonCode:
			t.Errorf("%d is revoked as %+v, want %+v", e.SerialNumber, w, e)
		}
	}
}

func listSeeds(tb testing.TB) [][]byte {
	tb.Helper()
	e := newExchange(tb)
	var seeds [][]byte
	for _, extensions := range [][]pkix.Extension{
		nil,
		{issuingPoint(tb, issuingDistributionPoint{UsersOnly: true})},
		{issuingPoint(tb, issuingDistributionPoint{Indirect: true})},
		{issuingPoint(tb, issuingDistributionPoint{Name: distributionPointName{Full: []asn1.RawValue{uri("http://status.test/a")}}})},
		{{Id: oidDeltaCRLIndicator, Critical: true, Value: []byte{2, 1, 1}}},
	} {
		l := testca.ListAnswer{
			RevocationList: x509.RevocationList{
				Number: big.NewInt(1), ThisUpdate: e.at.Add(-time.Hour), NextUpdate: e.at.Add(time.Hour), ExtraExtensions: extensions,
				RevokedCertificateEntries: []x509.RevocationListEntry{
					{SerialNumber: big.NewInt(4711), RevocationTime: e.at, ReasonCode: 1},
					{SerialNumber: big.NewInt(4712), RevocationTime: e.at, ReasonCode: 8},
				},
			},
			Issuer: e.ca, Key: e.issuer.Key,
		}
		der, err := l.Sign()
		if err != nil {
			tb.Fatal(err)
		}
		seeds = append(seeds, der)
	}
	old := testca.ListAnswer{
		RevocationList: x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: e.at.Add(-time.Hour), NextUpdate: e.at.Add(time.Hour),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(4711), RevocationTime: e.at}},
		},
		Issuer: e.ca, Key: e.issuer.Key, Edit: versionOne,
	}
	for _, old.PEM = range []bool{false, true} {
		der, err := old.Sign()
		if err != nil {
			tb.Fatal(err)
		}
		seeds = append(seeds, der)
	}
	return seeds
}

// Whatever a bit of a list says otherwise, it is the same list or none.
func TestListWithOneBitFlipped(t *testing.T) {
	seeds := listSeeds(t)
	for name, der := range map[string][]byte{"version 2": seeds[0], "version 1": seeds[len(seeds)-2], "PEM": seeds[len(seeds)-1]} {
		t.Run(name, func(t *testing.T) { flipEveryBit(t, der) })
	}
}

func flipEveryBit(t *testing.T, der []byte) {
	t.Helper()
	e := newExchange(t)
	want, err := readList(der, e.ca, e.at)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := want.statusOf(e.cert); err != nil || v.revoked == nil {
		t.Fatalf("the certificate is not on the list: %+v, %v", v, err)
	}
	for i := range len(der) * 8 {
		flipped := bytes.Clone(der)
		flipped[i/8] ^= 1 << (i % 8)
		l, err := readList(flipped, e.ca, e.at)
		if err != nil {
			continue
		}
		if v, err := l.statusOf(e.cert); err != nil || v.revoked == nil {
			t.Errorf("bit %d takes the certificate off the list", i)
		}
	}
}

// What is quoted of an answer is cut short, whatever it is: an object identifier may be as long as the answer.
func TestQuotesOfAnswersAreBounded(t *testing.T) {
	endless := make(asn1.ObjectIdentifier, 1000)
	endless[0] = 1
	algorithm := pkix.AlgorithmIdentifier{Algorithm: endless}
	_, ofType := parseOCSP(mustMarshal(ocspAnswer{Bytes: ocspBytes{Type: endless, DER: asn1.NullBytes}}))
	_, signedAnswer := (&ocspBasic{Algorithm: algorithm}).signer(nil, time.Now())
	_, signed := parseSignedList(mustMarshal(signedList{List: asn1.RawValue{FullBytes: asn1.NullBytes}, Algorithm: algorithm}), &x509.Certificate{})
	for _, err := range []error{ofType, signedAnswer, signed} {
		if err == nil || !strings.Contains(err.Error(), "1.0.0.0") || len(err.Error()) > 200 {
			t.Errorf("%v", err)
		}
	}
}

func mustMarshal(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return der
}
