package trust

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/rule"
)

// hintReissue is the hint where only the CA can do something.
const hintReissue = "Its CA must issue another certificate; the holder cannot mend this one."

// chainInput is what the rules about chains judge: the certificates as their sender presents them.
type chainInput struct {
	certificates []*x509.Certificate // at least one
	at           time.Time
	fingerprints []Fingerprint // of the issuers; that of the leaf is not needed
	anchor       int           // index of the first issuer that is an anchor, or -1
	signatures   signatures
	selfIssued   map[int]bool // what isSelfIssued has found out
}

// label says which certificate a sentence is about, for people: its place and its name.
func (c chainInput) label(i int) string {
	name := shortName(c.certificates[i].Subject)
	if name == "" {
		return fmt.Sprintf("x5c[%d]", i)
	}
	return fmt.Sprintf("x5c[%d] (%q)", i, name)
}

// shortName is what people call a name by.
func shortName(name pkix.Name) string {
	if name.CommonName != "" {
		return certcheck.Shorten(name.CommonName)
	}
	return fullName(name)
}

// maxAttributes is how many attributes a name may have that is written out. Real names have about ten.
const maxAttributes = 32

// fullName is a name with all its attributes, cut short. A stranger chooses how many there are, and what
// pkix.Name.String costs grows with the square of that: of a name with too many, only the number is told.
func fullName(name pkix.Name) string {
	if n := len(name.Names); n > maxAttributes {
		return fmt.Sprintf("a name of %d attributes", n)
	}
	return certcheck.Shorten(name.String())
}

var keyChecks = []rule.Check[chainInput]{
	{Rule: rule.CertificateKey, Apply: keysAreSafe},
}

var chainChecks = []rule.Check[chainInput]{
	{Rule: rule.CertificateValidity, Apply: certificatesAreValid},
	{Rule: rule.CertificateUsage, Apply: leafMaySign},
	{Rule: rule.ChainOrder, Apply: eachIsIssuedByTheNext},
	{Rule: rule.ChainIssuer, Apply: issuersMayIssue},
	{Rule: rule.ChainUntrusted, Apply: anchorIsReached},
}

// keylessChecks are those of chainChecks that verify no signature and rest on none.
var keylessChecks = []rule.Check[chainInput]{chainChecks[0], chainChecks[1], chainChecks[len(chainChecks)-1]}

// keysAreSafe: the leaf has an RSA key within bounds; an issuer may also have an
// ECDSA key, whose curves all are of bounded cost.
func keysAreSafe(c chainInput) *rule.Rejection {
	for i, cert := range c.certificates {
		if _, isECDSA := cert.PublicKey.(*ecdsa.PublicKey); isECDSA && i == 0 {
			return rule.CertificateKey.Because("the key of %s is ECDSA, not RSA", c.label(i))
		}
		if fault := certcheck.KeyFault(cert.PublicKey); fault != "" {
			rejection := rule.CertificateKey.Because("the key of %s %s", c.label(i), fault)
			if i > 0 {
				rejection = rejection.WithHint("The key is that of the CA. Use a seal of a CA whose keys are RSA of 2048 to 8192 bits with the exponent 65537, or ECDSA.")
			}
			return rejection
		}
	}
	return nil
}

// certificatesAreValid: leaf and issuers, those above the anchor included, are
// within their validity period (RFC 5280 section 6.1.3 (a) (2)).
func certificatesAreValid(c chainInput) *rule.Rejection {
	for i, cert := range c.certificates {
		var rejection *rule.Rejection
		switch {
		case c.at.Before(cert.NotBefore):
			rejection = rule.CertificateValidity.Because("%s is not valid before %s, which is in %s",
				c.label(i), cert.NotBefore.UTC().Format(time.RFC3339), span(cert.NotBefore.Sub(c.at))).
				WithHint("Wait until then, or set the clock right: the one here says %s.", c.at.UTC().Format(time.RFC3339))
		case c.at.After(cert.NotAfter):
			rejection = rule.CertificateValidity.Because("%s expired on %s, %s ago",
				c.label(i), cert.NotAfter.UTC().Format(time.RFC3339), span(c.at.Sub(cert.NotAfter)))
			if i > 0 {
				rejection = rejection.WithHint("The certificate is that of a CA. If the CA has a newer one for the same key, put that into x5c; otherwise get a seal of a CA that is valid.")
			}
		default:
			continue
		}
		return rejection
	}
	return nil
}

// span is a length of time as people say it.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return d.Round(time.Second).String()
}

// leafMaySign: a CA certificate signs certificates, not assertions. Qualified
// seals carry nonRepudiation (Go: ContentCommitment) without digitalSignature;
// their extended key usage says e-mail protection, which counts only where it is critical.
//
// A leaf without key usage is refused, although RFC 5280 section 4.2.1.3 does not limit it:
// nobody has said that it is a seal.
func leafMaySign(c chainInput) *rule.Rejection {
	leaf := c.certificates[0]
	_, stated := certcheck.Extension(leaf, certcheck.OIDKeyUsage)
	switch {
	case leaf.IsCA:
		return rule.CertificateUsage.Because("%s, the first certificate of x5c, is a CA; the seal itself comes first", c.label(0)).
			WithHint("Put the seal first in x5c. If this is the seal, it was issued with CA:TRUE, as openssl req -x509 does unless told otherwise: issue it again with basicConstraints CA:FALSE.")
	case !stated:
		return rule.CertificateUsage.Because("%s has no key usage, neither digitalSignature nor nonRepudiation: the extension is absent", c.label(0)).
			WithHint("Its CA must issue a seal that has the extension keyUsage with digitalSignature or nonRepudiation.")
	case leaf.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return rule.CertificateUsage.Because("the key usage of %s has neither digitalSignature nor nonRepudiation", c.label(0)).
			WithHint("Use a seal; certificates for encryption or key agreement do not sign.")
	}
	return nil
}

// eachIsIssuedByTheNext: names chain all the way up (RFC 5280 section 6.1.3 (a) (4)), and signatures verify up to the
// anchor. Without an anchor the chain is lost whatever its signatures say, so none is verified.
//
// Anchors are public, and anyone can put one above certificates of his own. So the
// anchor's own signature is verified first: a stranger costs one operation, with a
// key of the anchor's choice, and not nine with the dearest keys that are allowed.
func eachIsIssuedByTheNext(c chainInput) *rule.Rejection {
	for i, cert := range c.certificates[:len(c.certificates)-1] {
		next := c.certificates[i+1]
		if SameName(cert.RawIssuer, next.RawSubject) {
			continue
		}
		issuer := shortName(cert.Issuer)
		if issuer == shortName(next.Subject) {
			issuer = fullName(cert.Issuer)
		}
		return rule.ChainOrder.Because("%s names another issuer than %s: %q", c.label(i), c.label(i+1), issuer).
			WithHint("Put the certificate of %q behind it: x5c goes from the leaf up to the root, without gaps or strangers.", issuer)
	}
	for i := c.anchor - 1; i >= 0; i-- {
		if rejection := isSignedByTheNext(c, i); rejection != nil {
			return rejection
		}
	}
	return nil
}

func isSignedByTheNext(c chainInput, i int) *rule.Rejection {
	cert := c.certificates[i]
	if !certcheck.StrongSignature(cert.SignatureAlgorithm) {
		return rule.ChainOrder.Because("%s is signed with %s; SHA-256 or better is asked for", c.label(i), cert.SignatureAlgorithm).
			WithHint("Its CA must issue the certificate again, signed with SHA-256 or better.")
	}
	if err := c.signatures.verify(c, i); err != nil {
		return rule.ChainOrder.Because("%s is not signed by %s", c.label(i), c.label(i+1)).From(err).
			WithHint("The names fit and the key does not. Look for another certificate of %q: a CA that has changed its key has several.", shortName(cert.Issuer))
	}
	return nil
}

// issuersMayIssue: RFC 5280 section 6.1.3 (b) to (f), 6.1.4 and 6.1.5.
func issuersMayIssue(c chainInput) *rule.Rejection {
	below := 0 // CAs below the certificate that count
	for i := range c.certificates {
		if rejection := extensionsAreProcessed(c, i); rejection != nil {
			return rejection
		}
		if i == 0 {
			continue
		}
		if rejection := issuerMayIssue(c, i, below); rejection != nil {
			return rejection
		}
		if !c.isSelfIssued(i) {
			below++
		}
	}
	if rejection := namesArePermitted(c); rejection != nil {
		return rejection
	}
	return policiesHold(c)
}

// Extensions that are processed in a leaf and in an issuer. Where the chain goes
// on above its anchor, nothing depends on what they say. Package revocation reads the distribution points.
var (
	leafExtensions = []asn1.ObjectIdentifier{
		certcheck.OIDKeyUsage, certcheck.OIDBasicConstraints, certcheck.OIDSubjectAltName, certcheck.OIDExtKeyUsage,
		certcheck.OIDCertificatePolicies, certcheck.OIDPolicyConstraints, certcheck.OIDCRLDistributionPoints,
	}
	issuerExtensions = []asn1.ObjectIdentifier{
		certcheck.OIDKeyUsage, certcheck.OIDBasicConstraints, certcheck.OIDSubjectAltName, certcheck.OIDExtKeyUsage,
		certcheck.OIDCertificatePolicies, certcheck.OIDPolicyConstraints, certcheck.OIDCRLDistributionPoints,
		certcheck.OIDNameConstraints, certcheck.OIDPolicyMappings, certcheck.OIDInhibitAnyPolicy,
	}
)

// extensionsAreProcessed: RFC 5280 section 4.2.
func extensionsAreProcessed(c chainInput, i int) *rule.Rejection {
	cert, processed := c.certificates[i], leafExtensions
	if i > 0 {
		processed = issuerExtensions
	}
	if name := certcheck.UnprocessedCritical(cert.Extensions, processed...); name != "" {
		return rule.ChainIssuer.Because("%s has the critical extension %s, which is not processed here", c.label(i), name).
			WithHint("RFC 5280 section 4.2 has such a certificate refused, whoever issued it. Its CA must issue another one, in which %s is not critical.", name)
	}
	if ext, _ := certcheck.Extension(cert, certcheck.OIDExtKeyUsage); ext.Critical && !mayServeSigning(cert) {
		return rule.ChainIssuer.Because("%s is limited to other purposes than signing (critical extension %s)", c.label(i), certcheck.ExtensionName(certcheck.OIDExtKeyUsage)).
			WithHint("Use a seal; certificates that are limited to servers, code or time stamps do not sign assertions.")
	}
	return nil
}

// mayServeSigning looks at an extended key usage that is critical: it must include a
// purpose that seals have (RFC 5280 section 4.2.1.12).
func mayServeSigning(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageAny || u == x509.ExtKeyUsageEmailProtection || u == x509.ExtKeyUsageClientAuth
	}) || slices.ContainsFunc(cert.UnknownExtKeyUsage, func(id asn1.ObjectIdentifier) bool {
		return slices.Contains([]string{
			"1.3.6.1.5.5.7.3.36",      // document signing (RFC 9336)
			"1.3.6.1.4.1.311.10.3.12", // the same, of Microsoft
			"1.2.840.113583.1.1.5",    // the same, of Adobe
		}, id.String())
	})
}

func issuerMayIssue(c chainInput, i, below int) *rule.Rejection {
	issuer := c.certificates[i]
	switch {
	case !issuer.BasicConstraintsValid:
		return rule.ChainIssuer.Because("%s is not a CA: it has no basicConstraints", c.label(i)).
			WithHint("Only a certificate with basicConstraints CA:TRUE may issue others; a root of X.509 version 1 has to be replaced by one of version 3.")
	case !issuer.IsCA:
		return rule.ChainIssuer.Because("%s is not a CA: its basicConstraints say CA:FALSE", c.label(i)).
			WithHint("Use a seal of a trust service provider; a seal cannot issue certificates itself.")
	case !certcheck.IssuerMay(issuer, x509.KeyUsageCertSign):
		return rule.ChainIssuer.Because("the key usage of %s lacks keyCertSign", c.label(i)).
			WithHint("The CA must have a certificate whose key usage includes keyCertSign, or has no key usage at all.")
	case issuer.MaxPathLen >= 0 && below > issuer.MaxPathLen:
		return rule.ChainIssuer.Because("%s allows %d CAs below it, and there are %d", c.label(i), issuer.MaxPathLen, below).
			WithHint("The path length in its basicConstraints forbids the CAs below it. Use a seal that one of the permitted CAs issued.")
	}
	return nil
}

// anchorIsReached names the last issuer, which may be the one that was left out.
func anchorIsReached(c chainInput) *rule.Rejection {
	if c.anchor >= 0 {
		return nil
	}
	last := len(c.certificates) - 1
	cert := c.certificates[last]
	issuer := shortName(cert.Issuer)
	switch selfIssued := c.isSelfIssued(last); {
	case last == 0 && !selfIssued:
		return rule.ChainUntrusted.Because("x5c holds one certificate, that of %s; the one of its issuer %q is missing", c.label(0), issuer).
			WithHint("Send the complete chain: put the certificate of %q behind x5c[0], and behind that those of the CAs above it.", issuer)
	case selfIssued:
		return rule.ChainUntrusted.Because("%s; it ends in the root %s", rule.ChainUntrusted.Sentence, c.label(last)).
			WithHint("Use a seal of a CA on the trusted list of this server's Participant Registry. If %q should be trusted, its operator adds it to trust.anchors.", issuer)
	}
	return rule.ChainUntrusted.Because("%s; it ends in %s, issued by %q", rule.ChainUntrusted.Sentence, c.label(last), issuer).
		WithHint("Send the complete chain: put the certificate of %q behind x5c[%d]. If that does not help, use a seal of a CA on the trusted list of this server's Participant Registry.", issuer, last)
}
