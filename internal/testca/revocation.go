package testca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

// maxQuestion bounds an OCSP request, in bytes.
const maxQuestion = 16 << 10

// A StatusService tells which certificates of a [CA] are revoked. As a handler it is an OCSP responder for every POST
// (RFC 6960 appendix A.1), and answers GET …/<level>.crl with the revocation list of the CA at the level. Unless it is
// tampered with, every answer is made and signed when it is asked for, by the CA that issued the certificate.
type StatusService struct {
	ca   *CA
	life time.Duration

	mu       sync.Mutex
	revoked  map[revokedKey]x509.RevocationListEntry
	number   int64 // of the last list
	tampered Tampering
}

// revokedKey is an issuer and the serial number that it gave.
type revokedKey struct {
	issuer string // raw name
	serial string
}

func keyOf(cert *x509.Certificate) revokedKey {
	return revokedKey{issuer: string(cert.RawIssuer), serial: cert.SerialNumber.String()}
}

// NewStatusService returns a service that knows of no revocation yet. Its answers end when they are as old as life.
func NewStatusService(ca *CA, life time.Duration) *StatusService {
	return &StatusService{ca: ca, life: life, revoked: map[revokedKey]x509.RevocationListEntry{}}
}

// Revoke has a certificate revoked from now on, for a reason of RFC 5280 section 5.3.1 such as [ocsp.KeyCompromise].
func (s *StatusService) Revoke(cert *x509.Certificate, reason int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked[keyOf(cert)] = x509.RevocationListEntry{
		SerialNumber:   cert.SerialNumber,
		RevocationTime: time.Now(),
		ReasonCode:     reason,
	}
}

// Reinstate forgets that a certificate was revoked, as a CA may after a hold.
func (s *StatusService) Reinstate(cert *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.revoked, keyOf(cert))
}

// Tampering changes answers before they are signed, and so can make false ones. A nil function leaves them true.
type Tampering struct {
	OCSP func(*OCSPAnswer)
	List func(*ListAnswer)
}

// Tamper replaces the tampering of before.
func (s *StatusService) Tamper(t Tampering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tampered = t
}

// An OCSPAnswer is an answer of the responder before it is signed.
type OCSPAnswer struct {
	ocsp.Response // Certificate is enclosed unless it is nil

	Issuer    *x509.Certificate // of the certificate that the answer is about
	Responder *x509.Certificate // that the answer names as its signer
	Key       crypto.Signer
}

// Sign makes the answer as it is sent.
func (a *OCSPAnswer) Sign() ([]byte, error) {
	der, err := ocsp.CreateResponse(a.Issuer, a.Responder, a.Response, a.Key)
	if err != nil {
		return nil, fmt.Errorf("test CA: OCSP answer: %w", err)
	}
	return der, nil
}

// SignWith has the answer made by another identity than the issuer, whose certificate is enclosed.
func (a *OCSPAnswer) SignWith(responder *Identity) {
	a.Responder, a.Certificate, a.Key = responder.Certificate(), responder.Certificate(), responder.Key
}

// A ListAnswer is a revocation list before it is signed.
type ListAnswer struct {
	x509.RevocationList

	Issuer *x509.Certificate
	Key    crypto.Signer

	// Edit, unless it is nil, changes the members of the TBSCertList at the end (RFC 5280 section 5.1), so that lists
	// can be made that crypto/x509 does not make. The list is then signed with SHA-256.
	Edit func(members []asn1.RawValue) []asn1.RawValue
	// PEM puts PEM around the list.
	PEM bool
}

// Sign makes the list as it is sent.
func (l *ListAnswer) Sign() ([]byte, error) {
	der, err := x509.CreateRevocationList(rand.Reader, &l.RevocationList, l.Issuer, l.Key)
	if err == nil && l.Edit != nil {
		der, err = l.signEdited(der)
	}
	if err != nil {
		return nil, fmt.Errorf("test CA: revocation list: %w", err)
	}
	if l.PEM {
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
	}
	return der, nil
}

func (l *ListAnswer) signEdited(der []byte) ([]byte, error) {
	var list struct {
		Members   []asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &list); err != nil {
		return nil, err
	}
	list.Members = l.Edit(list.Members)
	tbs, err := asn1.Marshal(list.Members)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(tbs)
	signature, err := l.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	list.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(list)
}

var oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// ResponderTemplate is the certificate of an OCSP responder before a CA signs it:
// for OCSP only, for 30 days, and exempt from being checked itself.
func (ca *CA) ResponderTemplate() *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:         pkix.Name{Country: []string{"NL"}, Organization: []string{ca.config.Name}, CommonName: ca.config.Name + " OCSP Responder"},
		NotBefore:       now.Add(-backdating),
		NotAfter:        now.AddDate(0, 0, 30),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}},
	}
}

// ServeHTTP answers OCSP requests and hands out revocation lists.
func (s *StatusService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		question, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
		if err != nil {
			http.Error(w, "the question cannot be read", http.StatusBadRequest)
			return
		}
		answer, err := s.OCSP(question)
		send(w, "application/ocsp-response", answer, err)
		return
	}
	name := strings.TrimSuffix(path.Base(r.URL.Path), ".crl")
	level := slices.IndexFunc(Levels(), func(l Level) bool { return l.String() == name })
	if level < 0 || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	list, err := s.List(Level(level))
	send(w, "application/pkix-crl", list, err)
}

func send(w http.ResponseWriter, mediaType string, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Write(body)
}

// OCSP answers an OCSP request.
func (s *StatusService) OCSP(question []byte) ([]byte, error) {
	request, err := ocsp.ParseRequest(question)
	if err != nil {
		return ocsp.MalformedRequestErrorResponse, nil //nolint:nilerr // that is the answer
	}
	issuer, err := s.ca.issuerOf(request)
	if err != nil {
		return nil, err
	}
	if issuer == nil {
		return ocsp.UnauthorizedErrorResponse, nil
	}
	now := time.Now()
	answer := &OCSPAnswer{
		Response: ocsp.Response{
			Status:       ocsp.Good,
			SerialNumber: request.SerialNumber,
			IssuerHash:   request.HashAlgorithm,
			ThisUpdate:   now,
			NextUpdate:   now.Add(s.life),
		},
		Issuer:    issuer.Certificate(),
		Responder: issuer.Certificate(),
		Key:       issuer.Key,
	}
	s.mu.Lock()
	tamper := s.tampered.OCSP
	key := revokedKey{issuer: string(issuer.Certificate().RawSubject), serial: request.SerialNumber.String()}
	if entry, ok := s.revoked[key]; ok {
		answer.Status, answer.RevokedAt, answer.RevocationReason = ocsp.Revoked, entry.RevocationTime, entry.ReasonCode
	}
	s.mu.Unlock()
	if tamper != nil {
		tamper(answer)
	}
	return answer.Sign()
}

// issuerOf finds the CA that a request names by its hashes, or nil.
func (ca *CA) issuerOf(request *ocsp.Request) (*Identity, error) {
	for _, level := range Levels() {
		issuer := ca.Authority(level)
		// The package shows the hashes of an issuer only in a request about it.
		der, err := ocsp.CreateRequest(issuer.Certificate(), issuer.Certificate(), &ocsp.RequestOptions{Hash: request.HashAlgorithm})
		if err != nil {
			return nil, fmt.Errorf("test CA: OCSP: %w", err)
		}
		own, err := ocsp.ParseRequest(der)
		if err != nil {
			return nil, fmt.Errorf("test CA: OCSP: %w", err)
		}
		if bytes.Equal(own.IssuerKeyHash, request.IssuerKeyHash) && bytes.Equal(own.IssuerNameHash, request.IssuerNameHash) {
			return issuer, nil
		}
	}
	return nil, nil
}

// List makes the revocation list of the CA at a level.
func (s *StatusService) List(level Level) ([]byte, error) {
	issuer := s.ca.Authority(level)
	s.mu.Lock()
	tamper := s.tampered.List
	now := time.Now()
	s.number++
	list := &ListAnswer{
		RevocationList: x509.RevocationList{Number: big.NewInt(s.number), ThisUpdate: now, NextUpdate: now.Add(s.life)},
		Issuer:         issuer.Certificate(),
		Key:            issuer.Key,
	}
	for key, entry := range s.revoked {
		if key.issuer == string(issuer.Certificate().RawSubject) {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, entry)
		}
	}
	s.mu.Unlock()
	if tamper != nil {
		tamper(list)
	}
	return list.Sign()
}
