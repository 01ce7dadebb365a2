package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
)

// Extensions that this package processes.
var (
	oidKeyUsage              = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName        = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints      = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints       = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidCertificatePolicies   = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidPolicyMappings        = asn1.ObjectIdentifier{2, 5, 29, 33}
	oidPolicyConstraints     = asn1.ObjectIdentifier{2, 5, 29, 36}
	oidExtKeyUsage           = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidInhibitAnyPolicy      = asn1.ObjectIdentifier{2, 5, 29, 54}
)

// unprocessedCritical names the first critical extension that is not among those which
// the caller processes, or returns "". RFC 5280 section 4.2 has such a certificate
// refused.
//
// What crypto/x509 leaves out of UnhandledCriticalExtensions is dealt with by its
// Verify, or by nobody. Here each caller lists what it reads itself.
func unprocessedCritical(extensions []pkix.Extension, processed ...asn1.ObjectIdentifier) string {
	for _, ext := range extensions {
		if ext.Critical && !slices.ContainsFunc(processed, ext.Id.Equal) {
			return extensionName(ext.Id)
		}
	}
	return ""
}

// knowsCritical is unprocessedCritical as an error.
func knowsCritical(extensions []pkix.Extension, processed ...asn1.ObjectIdentifier) error {
	if name := unprocessedCritical(extensions, processed...); name != "" {
		return fmt.Errorf("there is the critical extension %s, which is not processed here", name)
	}
	return nil
}

// onceAndKnown is knowsCritical, and refuses an extension that stands there twice (RFC 5280
// section 4.2): readers differ in which of the two they believe. Of certificates, crypto/x509
// does so.
func onceAndKnown(extensions []pkix.Extension, processed ...asn1.ObjectIdentifier) error {
	seen := make(map[string]struct{}, len(extensions))
	for _, ext := range extensions {
		id := ext.Id.String()
		if _, twice := seen[id]; twice {
			return fmt.Errorf("the extension %s stands there twice, which RFC 5280 section 4.2 forbids", extensionName(ext.Id))
		}
		seen[id] = struct{}{}
	}
	return knowsCritical(extensions, processed...)
}

// extensionName gives the object identifier, after the name that certificate viewers
// print where there is one.
func extensionName(id asn1.ObjectIdentifier) string {
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
		oidSubjectAltName.String(): "subjectAltName", oidBasicConstraints.String(): "basicConstraints",
		oidNameConstraints.String(): "nameConstraints", oidCRLDistributionPoints.String(): "cRLDistributionPoints",
		oidCertificatePolicies.String(): "certificatePolicies", oidPolicyMappings.String(): "policyMappings",
		oidPolicyConstraints.String(): "policyConstraints", oidExtKeyUsage.String(): "extKeyUsage",
		oidInhibitAnyPolicy.String(): "inhibitAnyPolicy", oidKeyUsage.String(): "keyUsage",
	}[number]
	if name == "" {
		return shorten(number)
	}
	return name + " (" + number + ")"
}

// extension finds an extension of a certificate.
func extension(cert *x509.Certificate, id asn1.ObjectIdentifier) (pkix.Extension, bool) {
	i := slices.IndexFunc(cert.Extensions, func(ext pkix.Extension) bool { return ext.Id.Equal(id) })
	if i < 0 {
		return pkix.Extension{}, false
	}
	return cert.Extensions[i], true
}

// issuerMay reports whether the key usage of a CA allows one of these uses. A certificate
// without the extension limits nothing (RFC 5280 sections 6.1.4 (n) and 6.3.3 (f):
// "if a key usage extension is present").
func issuerMay(issuer *x509.Certificate, uses x509.KeyUsage) bool {
	_, limited := extension(issuer, oidKeyUsage)
	return !limited || issuer.KeyUsage&uses != 0
}
