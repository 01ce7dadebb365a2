package revocation

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/trust"
)

const (
	// ocspLife is how long an answer is good that does not say how long it is:
	// its responder makes answers when they are asked for (RFC 6960 section
	// 4.2.2.1), and a short life bounds how long a copy of one can be shown again.
	ocspLife = 15 * time.Minute
	// maxSkew is how far the clock of an authority may run ahead of ours. Ends are
	// not stretched by it.
	maxSkew = time.Minute
	// maxResponders is how many of the certificates in an answer are looked at.
	maxResponders = 4
)

// A subject is a certificate whose status is asked for, with the issuer that is
// next to it in a trusted chain.
type subject struct {
	certificate *x509.Certificate
	issuer      *x509.Certificate
}

// A statement is what an OCSP responder said, when it had a right to and it is in
// force.
type statement struct {
	verdict verdict
	signer  *x509.Certificate // the subject's issuer itself, or a responder that it named
}

// readOCSP reads the answer of a responder and believes it when RFC 6960
// section 3.2 says so: the signer may answer for the issuer, the signature holds, and the
// answer is about this certificate and in force.
//
// No nonce is asked for and none is compared: most responders hand out
// answers that were signed before, and how long such an answer can be shown again is
// bounded by its nextUpdate.
func readOCSP(der []byte, of subject, at time.Time) (*statement, error) {
	basic, err := parseOCSP(der)
	if err != nil {
		return nil, err
	}
	signer, err := basic.signer(of.issuer, at)
	if err != nil {
		return nil, err
	}
	v, err := basic.about(of, at)
	if err != nil {
		return nil, err
	}
	return &statement{verdict: v, signer: signer}, nil
}

// signer finds out who signed: the issuer itself, or a responder to which the
// issuer delegated it (RFC 6960 section 4.2.2.2). No key is used before the
// issuer has vouched for it.
func (b *ocspBasic) signer(issuer *x509.Certificate, at time.Time) (*x509.Certificate, error) {
	if !certcheck.StrongSignature(signatureAlgorithm(b.Algorithm)) {
		return nil, fmt.Errorf("the answer is signed with the algorithm %s; SHA-256 or better is asked for", certcheck.Shorten(b.Algorithm.Algorithm.String()))
	}
	problem := errors.New("the answer is signed neither by the issuer nor by a responder that it named")
	if b.Data.names(issuer) {
		if problem = b.verify(issuer); problem == nil {
			return issuer, nil
		}
	}
	for _, raw := range b.Certificates[:min(len(b.Certificates), maxResponders)] {
		cert, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil || !b.Data.names(cert) {
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
	err := signer.CheckSignature(signatureAlgorithm(b.Algorithm), b.Data.Raw, b.Signature.RightAlign())
	if err != nil {
		return fmt.Errorf("the signature of the answer does not hold: %w", err)
	}
	return nil
}

// names reports whether the answer says that the certificate's owner made it.
func (d *ocspData) names(cert *x509.Certificate) bool {
	if d.Responder.Class != asn1.ClassContextSpecific {
		return false
	}
	switch d.Responder.Tag {
	case ocspByName:
		return trust.SameName(d.Responder.Bytes, cert.RawSubject)
	case ocspByKey:
		var hash []byte
		err := unmarshalAll(d.Responder.Bytes, &hash)
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
	if err := issuer.CheckSignature(responder.SignatureAlgorithm, responder.RawTBSCertificate, responder.Signature); err != nil {
		return fmt.Errorf("the responder's certificate is not signed by the issuer: %w", err)
	}
	return nil
}

// about finds what the answer says of the certificate. Another CA's
// certificate may have the same serial number, and its responder the same key.
//
// Nothing forbids an answer to speak of a certificate twice. A revocation counts whatever
// else is said; otherwise all must be good, until the first of them ends.
func (b *ocspBasic) about(of subject, at time.Time) (verdict, error) {
	if err := certcheck.CheckExtensions(b.Data.Extensions); err != nil {
		return verdict{}, err
	}
	var good *verdict
	var problem error
	for i := range b.Data.Responses {
		single := &b.Data.Responses[i]
		if !single.ID.names(of) {
			continue
		}
		v, err := single.read(at)
		switch {
		case err != nil:
			problem = err
		case v.revoked != nil:
			return v, nil
		case good == nil || v.nextUpdate.Before(good.nextUpdate):
			good = &v
		}
	}
	switch {
	case problem != nil:
		return verdict{}, problem
	case good == nil:
		return verdict{}, errors.New("the answer is about another certificate")
	}
	return *good, nil
}

func (id *ocspCertID) names(of subject) bool {
	if id.Serial.Cmp(of.certificate.SerialNumber) != 0 {
		return false
	}
	hash, ok := hashAlgorithm(id.Hash)
	if !ok || !bytes.Equal(id.IssuerKeyHash, digest(hash, publicKeyBits(of.issuer))) {
		return false
	}
	// A hash is of bytes. RFC 6960 section 4.1.1 wants those in the certificate; some
	// responders have those of the issuer's own certificate, where the same name may be
	// written in another way.
	return bytes.Equal(id.IssuerNameHash, digest(hash, of.certificate.RawIssuer)) ||
		bytes.Equal(id.IssuerNameHash, digest(hash, of.issuer.RawSubject))
}

// read takes a statement that is in force for what it says.
func (s *ocspSingle) read(at time.Time) (verdict, error) {
	if err := certcheck.CheckExtensions(s.Extensions); err != nil {
		return verdict{}, err
	}
	v := verdict{thisUpdate: s.ThisUpdate, nextUpdate: s.NextUpdate}
	if v.nextUpdate.IsZero() {
		v.nextUpdate = v.thisUpdate.Add(ocspLife)
	}
	if err := v.inForce(at); err != nil {
		return verdict{}, err
	}
	if s.Status.Class != asn1.ClassContextSpecific {
		return verdict{}, errors.New("the answer holds no status")
	}
	switch s.Status.Tag {
	case ocspGood:
		return v, nil
	case ocspIsGone:
		var err error
		v.revoked, err = s.revocation()
		return v, err
	case ocspUnknown:
		return verdict{}, errors.New("the responder does not know the certificate")
	}
	return verdict{}, errors.New("the answer holds no status")
}

func (s *ocspSingle) revocation() (*withdrawal, error) {
	var gone ocspRevoked
	rest, err := asn1.UnmarshalWithParams(s.Status.FullBytes, &gone, "tag:1")
	if err != nil || len(rest) > 0 {
		return nil, errors.New("the answer is malformed: revokedInfo")
	}
	return &withdrawal{at: gone.At, reason: reasonOf(int(gone.Reason))}, nil
}
