// Package certcheck holds the checks of single certificates and lists that chains and revocation have in common: keys that
// are safe to verify with, signatures that are strong, key usage of an issuer, extensions that are critical.
package certcheck

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/waybill-token/waybill/internal/rsaverify"
)

// Extensions that its callers process.
var (
	OIDKeyUsage              = asn1.ObjectIdentifier{2, 5, 29, 15}
	OIDSubjectAltName        = asn1.ObjectIdentifier{2, 5, 29, 17}
	OIDBasicConstraints      = asn1.ObjectIdentifier{2, 5, 29, 19}
	OIDNameConstraints       = asn1.ObjectIdentifier{2, 5, 29, 30}
	OIDCRLDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	OIDCertificatePolicies   = asn1.ObjectIdentifier{2, 5, 29, 32}
	OIDPolicyMappings        = asn1.ObjectIdentifier{2, 5, 29, 33}
	OIDPolicyConstraints     = asn1.ObjectIdentifier{2, 5, 29, 36}
	OIDExtKeyUsage           = asn1.ObjectIdentifier{2, 5, 29, 37}
	OIDInhibitAnyPolicy      = asn1.ObjectIdentifier{2, 5, 29, 54}
)

// UnprocessedCritical names the first critical extension that is not among those which the caller processes, or returns
// "". RFC 5280 section 4.2 has such a certificate refused.
//
// What crypto/x509 leaves out of UnhandledCriticalExtensions is dealt with by its
// Verify, or by nobody. Here each caller lists what it reads itself.
func UnprocessedCritical(extensions []pkix.Extension, processed ...asn1.ObjectIdentifier) string {
	for _, ext := range extensions {
		if ext.Critical && !slices.ContainsFunc(processed, ext.Id.Equal) {
			return ExtensionName(ext.Id)
		}
	}
	return ""
}

// CheckCritical is [UnprocessedCritical] as an error.
func CheckCritical(extensions []pkix.Extension, processed ...asn1.ObjectIdentifier) error {
	if name := UnprocessedCritical(extensions, processed...); name != "" {
		return fmt.Errorf("there is the critical extension %s, which is not processed here", name)
	}
	return nil
}

// CheckExtensions is [CheckCritical], and refuses an extension that stands there twice (RFC 5280 section 4.2): readers
// differ in which of the two they believe. Of certificates, crypto/x509 does so.
func CheckExtensions(extensions []pkix.Extension, processed ...asn1.ObjectIdentifier) error {
	seen := make(map[string]struct{}, len(extensions))
	for _, ext := range extensions {
		id := ext.Id.String()
		if _, twice := seen[id]; twice {
			return fmt.Errorf("the extension %s stands there twice, which RFC 5280 section 4.2 forbids", ExtensionName(ext.Id))
		}
		seen[id] = struct{}{}
	}
	return CheckCritical(extensions, processed...)
}

// ExtensionName gives the object identifier, after the name that certificate viewers print where there is one.
func ExtensionName(id asn1.ObjectIdentifier) string {
	number := id.String()
	name := map[string]string{
		"1.3.6.1.5.5.7.1.3":        "qcStatements",
		"1.3.6.1.5.5.7.1.24":       "tlsFeature",
		"1.3.6.1.5.5.7.48.1.5":     "id-pkix-ocsp-nocheck",
		"1.3.6.1.4.1.11129.2.4.3":  "CT precertificate poison",
		"2.5.29.9":                 "subjectDirectoryAttributes",
		"2.5.29.16":                "privateKeyUsagePeriod",
		"2.5.29.18":                "issuerAltName",
		"2.16.840.1.113730.1.1":    "netscape-cert-type",
		OIDSubjectAltName.String(): "subjectAltName", OIDBasicConstraints.String(): "basicConstraints",
		OIDNameConstraints.String(): "nameConstraints", OIDCRLDistributionPoints.String(): "cRLDistributionPoints",
		OIDCertificatePolicies.String(): "certificatePolicies", OIDPolicyMappings.String(): "policyMappings",
		OIDPolicyConstraints.String(): "policyConstraints", OIDExtKeyUsage.String(): "extKeyUsage",
		OIDInhibitAnyPolicy.String(): "inhibitAnyPolicy", OIDKeyUsage.String(): "keyUsage",
	}[number]
	if name == "" {
		return Shorten(number)
	}
	return name + " (" + number + ")"
}

// Extension finds an extension of a certificate.
func Extension(cert *x509.Certificate, id asn1.ObjectIdentifier) (pkix.Extension, bool) {
	i := slices.IndexFunc(cert.Extensions, func(ext pkix.Extension) bool { return ext.Id.Equal(id) })
	if i < 0 {
		return pkix.Extension{}, false
	}
	return cert.Extensions[i], true
}

// IssuerMay reports whether the key usage of a CA allows one of these uses. A certificate without the extension limits
// nothing (RFC 5280 sections 6.1.4 (n) and 6.3.3 (f): "if a key usage extension is present").
func IssuerMay(issuer *x509.Certificate, uses x509.KeyUsage) bool {
	_, limited := Extension(issuer, OIDKeyUsage)
	return !limited || issuer.KeyUsage&uses != 0
}

// Bounds of an RSA key. Verifying costs with the square of the size: 8192 bits
// cost about a millisecond, 16384 bits four.
const (
	minKeyBits  = 2048
	maxKeyBits  = 8192
	minExponent = 1<<16 + 1
	maxExponent = 1<<31 - 1 // also the limit of crypto/rsa
)

// KeyFault says what makes a key unsafe to verify with, or returns "".
func KeyFault(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
			return fmt.Sprintf("has %d bits; %d to %d are accepted", bits, minKeyBits, maxKeyBits)
		}
		if key.E < minExponent || key.E > maxExponent || key.E%2 == 0 {
			return fmt.Sprintf("has the public exponent %d, which is not safe", key.E)
		}
		if HasROCA(key.N) {
			return "can be computed from the certificate: it was made with a faulty generator (ROCA, CVE-2017-15361)"
		}
	case *ecdsa.PublicKey:
	default:
		return "is not RSA"
	}
	return ""
}

// StrongSignature reports whether a signature is made with SHA-256 or better.
func StrongSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return true
	default:
		return false
	}
}

// Shorten bounds what a sentence quotes, whatever stands there.
func Shorten(s string) string {
	const most = 80
	const enough = utf8.UTFMax * (most + 1) // bytes, for one character more than is quoted
	if runes := []rune(s[:min(len(s), enough)]); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return s
}

// CheckSignature reports why a certificate is not signed with the issuer's key. It does not ask whether the issuer may sign.
func CheckSignature(certificate, issuer *x509.Certificate) error {
	return CheckSignatureOf(issuer, certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature)
}

// CheckSignatureOf reports why something is not signed with the key of a certificate, as its method CheckSignature does,
// in less time where that can be.
func CheckSignatureOf(signer *x509.Certificate, algorithm x509.SignatureAlgorithm, signed, signature []byte) error {
	var hash crypto.Hash
	switch algorithm { //nolint:exhaustive // the others are not RSASSA-PKCS1-v1_5 with SHA-2
	case x509.SHA256WithRSA:
		hash = crypto.SHA256
	case x509.SHA384WithRSA:
		hash = crypto.SHA384
	case x509.SHA512WithRSA:
		hash = crypto.SHA512
	}
	key, isRSA := signer.PublicKey.(*rsa.PublicKey)
	if hash == 0 || !isRSA {
		return signer.CheckSignature(algorithm, signed, signature)
	}
	h := hash.New()
	h.Write(signed)
	return rsaverify.New(key).Verify(hash, h.Sum(nil), signature)
}
