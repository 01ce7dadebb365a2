package revocation

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/outbound"
)

// The answer of an OCSP responder as it stands on the wire (RFC 6960 section
// 4.2.1).
//
// golang.org/x/crypto/ocsp makes our questions and reads no answers for us. It
// compares serial numbers and not issuers, verifies with the key of an enclosed
// certificate before it knows whose that is, leaves everything else about that
// certificate unchecked, and refuses a CA that encloses its own (golang/go#59641,
// #81395).
type (
	ocspAnswer struct {
		Status asn1.Enumerated
		Bytes  ocspBytes `asn1:"explicit,tag:0,optional"`
	}
	ocspBytes struct {
		Type asn1.ObjectIdentifier
		DER  []byte
	}
	ocspBasic struct {
		Data         ocspData
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	ocspData struct {
		Raw        asn1.RawContent
		Version    int `asn1:"optional,default:0,explicit,tag:0"`
		Responder  asn1.RawValue
		ProducedAt time.Time `asn1:"generalized"`
		Responses  []ocspSingle
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	ocspSingle struct {
		ID         ocspCertID
		Status     asn1.RawValue
		ThisUpdate time.Time        `asn1:"generalized"`
		NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	ocspCertID struct {
		Hash           pkix.AlgorithmIdentifier
		IssuerNameHash []byte
		IssuerKeyHash  []byte
		Serial         *big.Int
	}
	ocspRevoked struct {
		At     time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
	}
)

// Tags of the choices in an answer.
const (
	ocspByName = 1 // ResponderID
	ocspByKey  = 2

	ocspGood    = 0 // CertStatus
	ocspIsGone  = 1
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
	var answer ocspAnswer
	if err := unmarshalAll(der, &answer); err != nil {
		return nil, fmt.Errorf("the answer is malformed: %w", err)
	}
	if status := ocsp.ResponseStatus(answer.Status); status != ocsp.Success {
		return nil, responderError(status)
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

// responderError is what a responder says in place of an answer.
func responderError(status ocsp.ResponseStatus) error {
	err := fmt.Errorf("the responder answers %q", status)
	if status == ocsp.TryLater || status == ocsp.InternalError {
		return &outbound.UnreachableError{Cause: err}
	}
	return err
}

// unmarshalAll reads a DER value with nothing behind it.
func unmarshalAll(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		return errors.New("there is something behind it")
	}
	return err
}

// hashAlgorithm is the hash by which an answer names an issuer. SHA-1 will do
// for that, and is what nearly every responder uses: the answer is signed, and nobody
// gains by an issuer whose name and key have the same hashes.
func hashAlgorithm(algorithm pkix.AlgorithmIdentifier) (hash crypto.Hash, ok bool) {
	switch algorithm.Algorithm.String() {
	case "1.3.14.3.2.26":
		return crypto.SHA1, true
	case "2.16.840.1.101.3.4.2.1":
		return crypto.SHA256, true
	case "2.16.840.1.101.3.4.2.2":
		return crypto.SHA384, true
	case "2.16.840.1.101.3.4.2.3":
		return crypto.SHA512, true
	}
	return 0, false
}

// signatureAlgorithm is what crypto/x509 calls the algorithm, for those that
// StrongSignature lets pass. Parameters need no look beyond the hash of RSASSA-PSS:
// crypto/x509 verifies with the only ones that it knows, and with others the
// signature does not hold.
func signatureAlgorithm(algorithm pkix.AlgorithmIdentifier) x509.SignatureAlgorithm {
	switch algorithm.Algorithm.String() {
	case "1.2.840.113549.1.1.11":
		return x509.SHA256WithRSA
	case "1.2.840.113549.1.1.12":
		return x509.SHA384WithRSA
	case "1.2.840.113549.1.1.13":
		return x509.SHA512WithRSA
	case "1.2.840.10045.4.3.2":
		return x509.ECDSAWithSHA256
	case "1.2.840.10045.4.3.3":
		return x509.ECDSAWithSHA384
	case "1.2.840.10045.4.3.4":
		return x509.ECDSAWithSHA512
	case "1.2.840.113549.1.1.10":
		return pssAlgorithm(algorithm.Parameters)
	}
	return x509.UnknownSignatureAlgorithm
}

func pssAlgorithm(parameters asn1.RawValue) x509.SignatureAlgorithm {
	var pss struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(parameters.FullBytes, &pss); err != nil {
		return x509.UnknownSignatureAlgorithm
	}
	switch hash, _ := hashAlgorithm(pss.Hash); hash {
	case crypto.SHA256:
		return x509.SHA256WithRSAPSS
	case crypto.SHA384:
		return x509.SHA384WithRSAPSS
	case crypto.SHA512:
		return x509.SHA512WithRSAPSS
	default:
		return x509.UnknownSignatureAlgorithm
	}
}

// publicKeyBits is the key alone, without its algorithm: what OCSP hashes to name
// an issuer or a responder.
func publicKeyBits(cert *x509.Certificate) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil // crypto/x509 has read it before
	}
	return info.Key.RightAlign()
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}
