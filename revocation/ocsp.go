package revocation

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/trust"
)

const (
	// ocspLife is how long an answer is good that does not say how long it is: its responder makes answers when they
	// are asked for (RFC 6960 section 4.2.2.1), and a short life bounds how long a copy of one can be shown again.
	ocspLife = 15 * time.Minute
	// maxResponders is how many of the certificates in an answer are looked at.
	maxResponders = 4
)

// askOCSP asks one responder.
func (r *Checker) askOCSP(ctx context.Context, address string, cert, issuer *x509.Certificate) (_ *cached[certStatus], _ record, err error) {
	defer func() { count(ctx, &r.counters.responders, err) }()
	named := *issuer
	named.RawSubject = cert.RawIssuer // the bytes to hash, by RFC 6960 section 4.1.1
	request, err := ocsp.CreateRequest(cert, &named, nil)
	if err != nil {
		return nil, record{}, fmt.Errorf("question: %w", err)
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
		return nil, record{}, err
	}
	rec := record{wallClock(), address, body}
	status, signer, err := readOCSP(body, cert, issuer, rec.obtained)
	if err != nil {
		return nil, record{}, err
	}
	until, err := r.signerValidUntil(ctx, signer, issuer)
	if err != nil {
		return nil, record{}, err
	}
	return fromOCSP(status, rec, until), rec, nil
}

// fromOCSP is what the record says, by a signer who is in good standing until then.
func fromOCSP(status certStatus, rec record, until time.Time) *cached[certStatus] {
	status.source, status.address = byOCSP, rec.address
	until = earlier(until, status.nextUpdate, rec.obtained.Add(maxLife))
	return status.cache(earlier(rec.halfway(until), rec.obtained.Add(ocspRefresh)), until)
}

// signerValidUntil is until when a signer is known to be in good standing. The issuer is for as long as the chain is. A
// delegated responder is until its certificate ends, when that is exempt from being checked (id-pkix-ocsp-nocheck) or
// names no list; and otherwise for as long as the list says (RFC 6960 section 4.2.2.2.1). OCSP is not asked about OCSP.
func (r *Checker) signerValidUntil(ctx context.Context, signer, issuer *x509.Certificate) (time.Time, error) {
	if signer == issuer {
		return forever(), nil
	}
	if _, exempt := certcheck.Extension(signer, oidOCSPNoCheck); exempt || len(callable(signer.CRLDistributionPoints)) == 0 {
		return signer.NotAfter, nil
	}
	found, _, err := r.askSources(ctx, byList, signer, issuer)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("the responder's own certificate: %w", err)
	case found.value.revoked != nil:
		return time.Time{}, fmt.Errorf("the responder's own certificate %s", found.value.revoked)
	}
	return earlier(signer.NotAfter, found.until), nil
}

// readOCSP reads the answer of a responder and believes it when RFC 6960
// section 3.2 says so: the signer may answer for the issuer, the signature holds, and the
// answer is about this certificate and in force. The signer is the issuer itself, or a responder that it named.
//
// No nonce is asked for and none is compared: most responders hand out answers that were signed before, and how long
// such an answer can be shown again is bounded by its nextUpdate.
func readOCSP(der []byte, cert, issuer *x509.Certificate, at time.Time) (certStatus, *x509.Certificate, error) {
	basic, err := parseOCSP(der)
	if err != nil {
		return certStatus{}, nil, err
	}
	signer, err := basic.signer(issuer, at)
	if err != nil {
		return certStatus{}, nil, err
	}
	status, err := basic.statusOf(cert, issuer, at)
	return status, signer, err
}

// The answer of an OCSP responder as it stands on the wire (RFC 6960 section
// 4.2.1): a BasicOCSPResponse with its SingleResponses.
//
// golang.org/x/crypto/ocsp makes our questions and reads no answers for us. It compares serial numbers and not issuers,
// verifies with the key of an enclosed certificate before it knows whose that is, leaves everything else about that
// certificate unchecked, and refuses a CA that encloses its own (golang/go#59641,
// #81395).
type (
	ocspBasic struct {
		Data struct {
			Raw        asn1.RawContent
			Version    int `asn1:"optional,default:0,explicit,tag:0"`
			Responder  asn1.RawValue
			ProducedAt time.Time `asn1:"generalized"`
			Responses  []ocspSingle
			Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
		}
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	ocspSingle struct {
		ID struct {
			Hash           pkix.AlgorithmIdentifier
			IssuerNameHash []byte
			IssuerKeyHash  []byte
			Serial         *big.Int
		}
		Status     asn1.RawValue
		ThisUpdate time.Time        `asn1:"generalized"`
		NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
)

// Tags of the choices in an answer.
const (
	ocspByName = 1 // ResponderID
	ocspByKey  = 2

	ocspGood    = 0 // CertStatus
	ocspRevoked = 1
	ocspUnknown = 2
)

var (
	oidOCSPBasic   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// parseOCSP takes an answer apart and verifies nothing.
func parseOCSP(der []byte) (*ocspBasic, error) {
	if err := wantDER(der, "an OCSP answer"); err != nil {
		return nil, err
	}
	var answer struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type asn1.ObjectIdentifier
			DER  []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	if err := unmarshalAll(der, &answer); err != nil {
		return nil, fmt.Errorf("the answer is malformed: %w", err)
	}
	switch status := ocsp.ResponseStatus(answer.Status); status {
	case ocsp.Success:
	case ocsp.TryLater, ocsp.InternalError:
		return nil, &outbound.UnreachableError{Cause: fmt.Errorf("the responder answers %q", status)}
	default:
		return nil, fmt.Errorf("the responder answers %q", status)
	}
	if !answer.Bytes.Type.Equal(oidOCSPBasic) {
		return nil, fmt.Errorf("the answer has the type %s, which is not known here", certcheck.Shorten(answer.Bytes.Type.String()))
	}
	var basic ocspBasic
	if err := unmarshalAll(answer.Bytes.DER, &basic); err != nil {
		return nil, fmt.Errorf("the answer is malformed: %w", err)
	}
	if basic.Data.Version != 0 {
		return nil, fmt.Errorf("the answer has the version %d; 1 is known here", basic.Data.Version+1)
	}
	return &basic, nil
}

// signer finds out who signed: the issuer itself, or a responder to which the issuer delegated it (RFC 6960 section
// 4.2.2.2). No key is used before the issuer has vouched for it.
func (b *ocspBasic) signer(issuer *x509.Certificate, at time.Time) (*x509.Certificate, error) {
	if !certcheck.StrongSignature(signatureAlgorithm(b.Algorithm)) {
		return nil, fmt.Errorf("the answer is signed with the algorithm %s; SHA-256 or better is asked for", certcheck.Shorten(b.Algorithm.Algorithm.String()))
	}
	problem := errors.New("the answer is signed neither by the issuer nor by a responder that it named")
	if b.isBy(issuer) {
		if problem = b.verify(issuer); problem == nil {
			return issuer, nil
		}
	}
	for _, raw := range b.Certificates[:min(len(b.Certificates), maxResponders)] {
		cert, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil || !b.isBy(cert) {
			continue // certificates that help a reader to verify; we need none
		}
		if problem = mayRespond(cert, issuer, at); problem != nil {
			continue
		}
		if problem = b.verify(cert); problem == nil {
			return cert, nil
		}
	}
	return nil, problem
}

func (b *ocspBasic) verify(signer *x509.Certificate) error {
	err := certcheck.CheckSignatureOf(signer, signatureAlgorithm(b.Algorithm), b.Data.Raw, b.Signature.RightAlign())
	if err != nil {
		return fmt.Errorf("the signature of the answer does not hold: %w", err)
	}
	return nil
}

// isBy reports whether the answer says that the certificate's owner made it.
func (b *ocspBasic) isBy(cert *x509.Certificate) bool {
	responder := &b.Data.Responder
	if responder.Class != asn1.ClassContextSpecific {
		return false
	}
	switch responder.Tag {
	case ocspByName:
		return trust.SameName(responder.Bytes, cert.RawSubject)
	case ocspByKey:
		var hash []byte
		err := unmarshalAll(responder.Bytes, &hash)
		return err == nil && bytes.Equal(hash, digest(crypto.SHA1, publicKeyBits(cert))) // SHA-1 by definition
	}
	return false
}

// mayRespond says why a certificate gives no right to answer for the issuer.
func mayRespond(responder, issuer *x509.Certificate, at time.Time) error {
	switch {
	case !trust.SameName(responder.RawIssuer, issuer.RawSubject):
		return errors.New("the responder's certificate has another issuer")
	case !slices.Contains(responder.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the responder's certificate lacks the extended key usage OCSPSigning")
	case !certcheck.IssuerMay(responder, x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment):
		return errors.New("the key usage of the responder's certificate does not include signing")
	case at.Before(responder.NotBefore) || at.After(responder.NotAfter):
		return errors.New("the responder's certificate is not valid at this time")
	case certcheck.KeyFault(responder.PublicKey) != "":
		return fmt.Errorf("the key of the responder's certificate %s", certcheck.KeyFault(responder.PublicKey))
	case !certcheck.StrongSignature(responder.SignatureAlgorithm):
		return fmt.Errorf("the responder's certificate is signed with %s; SHA-256 or better is asked for", responder.SignatureAlgorithm)
	}
	// What the policies and further names of a responder say limits nothing of what it is used for.
	known := []asn1.ObjectIdentifier{certcheck.OIDKeyUsage, certcheck.OIDExtKeyUsage, certcheck.OIDBasicConstraints, certcheck.OIDSubjectAltName, certcheck.OIDCertificatePolicies, oidOCSPNoCheck}
	if err := certcheck.CheckCritical(responder.Extensions, known...); err != nil {
		return fmt.Errorf("the responder's certificate: %w", err)
	}
	if err := certcheck.CheckSignature(responder, issuer); err != nil {
		return fmt.Errorf("the responder's certificate is not signed by the issuer: %w", err)
	}
	return nil
}

// statusOf finds what the answer says of the certificate.
//
// Nothing forbids an answer to speak of a certificate twice. A revocation counts whatever
// else is said; otherwise all must be good, until the first of them ends.
func (b *ocspBasic) statusOf(cert, issuer *x509.Certificate, at time.Time) (certStatus, error) {
	if err := certcheck.CheckExtensions(b.Data.Extensions); err != nil {
		return certStatus{}, err
	}
	var good *certStatus
	var problem error
	for i := range b.Data.Responses {
		single := &b.Data.Responses[i]
		if !single.isAbout(cert, issuer) {
			continue
		}
		status, err := single.read(at)
		switch {
		case err != nil:
			problem = err
		case status.revoked != nil:
			return status, nil
		case good == nil || status.nextUpdate.Before(good.nextUpdate):
			good = &status
		}
	}
	switch {
	case problem != nil:
		return certStatus{}, problem
	case good == nil:
		return certStatus{}, errors.New("the answer is about another certificate")
	}
	return *good, nil
}

// isAbout compares the issuer too: another CA's certificate may have the same serial number, and its responder the
// same key.
func (s *ocspSingle) isAbout(cert, issuer *x509.Certificate) bool {
	if s.ID.Serial.Cmp(cert.SerialNumber) != 0 {
		return false
	}
	hash, ok := hashAlgorithm(s.ID.Hash)
	if !ok || !bytes.Equal(s.ID.IssuerKeyHash, digest(hash, publicKeyBits(issuer))) {
		return false
	}
	// A hash is of bytes. RFC 6960 section 4.1.1 wants those in the certificate; some responders have those of the
	// issuer's own certificate, where the same name may be written in another way.
	return bytes.Equal(s.ID.IssuerNameHash, digest(hash, cert.RawIssuer)) ||
		bytes.Equal(s.ID.IssuerNameHash, digest(hash, issuer.RawSubject))
}

// read returns what is said of one certificate, when that is in force.
func (s *ocspSingle) read(at time.Time) (certStatus, error) {
	if err := certcheck.CheckExtensions(s.Extensions); err != nil {
		return certStatus{}, err
	}
	status := certStatus{thisUpdate: s.ThisUpdate, nextUpdate: s.NextUpdate}
	if status.nextUpdate.IsZero() {
		status.nextUpdate = status.thisUpdate.Add(ocspLife)
	}
	if err := inForce(status.thisUpdate, status.nextUpdate, at); err != nil {
		return certStatus{}, err
	}
	if s.Status.Class != asn1.ClassContextSpecific {
		return certStatus{}, errors.New("the answer holds no status")
	}
	switch s.Status.Tag {
	case ocspGood:
		return status, nil
	case ocspRevoked:
		var info struct {
			At     time.Time       `asn1:"generalized"`
			Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
		}
		rest, err := asn1.UnmarshalWithParams(s.Status.FullBytes, &info, "tag:1")
		if err != nil || len(rest) > 0 {
			return certStatus{}, errors.New("the answer is malformed: revokedInfo")
		}
		status.revoked = &revocationEntry{at: info.At, reason: int(info.Reason)}
		return status, nil
	case ocspUnknown:
		return certStatus{}, errors.New("the responder does not know the certificate")
	}
	return certStatus{}, errors.New("the answer holds no status")
}
