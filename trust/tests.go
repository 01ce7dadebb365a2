package trust

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// Bounds of an RSA key. Verifying costs with the square of the size: 8192 bits
// cost about a millisecond, 16384 bits four.
const (
	minKeyBits  = 2048
	maxKeyBits  = 8192
	minExponent = 1<<16 + 1
	maxExponent = 1<<31 - 1 // also the limit of crypto/rsa
)

// A candidate is a chain as its sender presents it.
type candidate struct {
	certificates []*x509.Certificate // at least one
	at           time.Time
	anchor       int // index of the first issuer that is an anchor, or -1
}

var keyTests = []ishare.Test[candidate]{
	{Rule: ishare.CertificateKey, Check: keysAreSafe},
}

var chainTests = []ishare.Test[candidate]{
	{Rule: ishare.CertificateValidity, Check: certificatesAreValid},
	{Rule: ishare.CertificateUsage, Check: leafMaySign},
	{Rule: ishare.ChainOrder, Check: eachIsIssuedByTheNext},
	{Rule: ishare.ChainIssuer, Check: issuersMayIssue},
	{Rule: ishare.ChainUntrusted, Check: anchorIsReached},
}

// keysAreSafe: the leaf has an RSA key within bounds; an issuer may also have an
// ECDSA key, whose curves all are of bounded cost.
func keysAreSafe(c candidate) *ishare.Rejection {
	for i, cert := range c.certificates {
		switch key := cert.PublicKey.(type) {
		case *rsa.PublicKey:
			if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
				return ishare.CertificateKey.Because("the key of x5c[%d] has %d bits; %d to %d are accepted", i, bits, minKeyBits, maxKeyBits)
			}
			if key.E < minExponent || key.E > maxExponent || key.E%2 == 0 {
				return ishare.CertificateKey.Because("the public exponent %d of x5c[%d] is not safe", key.E, i)
			}
		case *ecdsa.PublicKey:
			if i == 0 {
				return ishare.CertificateKey.Because("the key of the first certificate is ECDSA, not RSA")
			}
		default:
			return ishare.CertificateKey.Because("the key of x5c[%d] is not RSA", i)
		}
	}
	return nil
}

// certificatesAreValid: leaf and issuers, those above the anchor included, are
// within their validity period (RFC 5280 section 6.1.3 (a) (2)).
func certificatesAreValid(c candidate) *ishare.Rejection {
	for i, cert := range c.certificates {
		switch {
		case c.at.Before(cert.NotBefore):
			return ishare.CertificateValidity.Because("x5c[%d] is not valid before %s", i, cert.NotBefore.UTC().Format(time.RFC3339))
		case c.at.After(cert.NotAfter):
			return ishare.CertificateValidity.Because("x5c[%d] expired on %s", i, cert.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// leafMaySign: a CA certificate signs certificates, not assertions. Qualified
// seals carry nonRepudiation (Go: ContentCommitment) without digitalSignature;
// their extended key usage says e-mail protection and is left alone.
func leafMaySign(c candidate) *ishare.Rejection {
	leaf := c.certificates[0]
	switch {
	case leaf.IsCA:
		return ishare.CertificateUsage.Because("the first certificate of x5c is a CA; the seal itself comes first")
	case leaf.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return ishare.CertificateUsage.Because("the key usage of the first certificate has neither digitalSignature nor nonRepudiation")
	}
	return nil
}

// eachIsIssuedByTheNext: names chain all the way up (RFC 5280 section 6.1.3 (a)
// (4)), and signatures verify up to the anchor. Without an anchor the chain is
// lost whatever its signatures say, so none is verified.
//
// Anchors are public, and anyone can put one above certificates of his own. So the
// anchor's own signature is verified first: a stranger costs one operation, with a
// key of the anchor's choice, and not nine with the dearest keys that are allowed.
func eachIsIssuedByTheNext(c candidate) *ishare.Rejection {
	for i, cert := range c.certificates[:len(c.certificates)-1] {
		if !sameName(cert.RawIssuer, c.certificates[i+1].RawSubject) {
			return ishare.ChainOrder.Because("x5c[%d] names another issuer than x5c[%d]", i, i+1)
		}
	}
	for i := c.anchor - 1; i >= 0; i-- {
		if rejection := isSignedByTheNext(c, i); rejection != nil {
			return rejection
		}
	}
	return nil
}

func isSignedByTheNext(c candidate, i int) *ishare.Rejection {
	cert, issuer := c.certificates[i], c.certificates[i+1]
	if !strongSignature(cert.SignatureAlgorithm) {
		return ishare.ChainOrder.Because("x5c[%d] is signed with %s; SHA-256 or better is asked for", i, cert.SignatureAlgorithm)
	}
	if err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return ishare.ChainOrder.Because("x5c[%d] is not signed by x5c[%d]", i, i+1).From(err)
	}
	return nil
}

func strongSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return true
	default:
		return false
	}
}

// issuersMayIssue: RFC 5280 section 6.1.4 (g), (k) to (o).
func issuersMayIssue(c candidate) *ishare.Rejection {
	for i, cert := range c.certificates {
		if ext := cert.UnhandledCriticalExtensions; len(ext) > 0 {
			return ishare.ChainIssuer.Because("x5c[%d] has the critical extension %s, which is not known here", i, ext[0])
		}
		if i > 0 {
			if rejection := issuerMayIssue(i, cert); rejection != nil {
				return rejection
			}
		}
	}
	return namesArePermitted(c)
}

func issuerMayIssue(i int, issuer *x509.Certificate) *ishare.Rejection {
	switch {
	case !issuer.BasicConstraintsValid || !issuer.IsCA:
		return ishare.ChainIssuer.Because("x5c[%d] is not a CA", i)
	case !issuerMay(issuer, x509.KeyUsageCertSign):
		return ishare.ChainIssuer.Because("the key usage of x5c[%d] lacks keyCertSign", i)
	case issuer.MaxPathLen >= 0 && i-1 > issuer.MaxPathLen:
		return ishare.ChainIssuer.Because("x5c[%d] allows %d CAs below it, and there are %d", i, issuer.MaxPathLen, i-1)
	}
	return nil
}

// namesArePermitted leaves name constraints to crypto/x509. It is asked only for
// chains that have some below or at their anchor, because it verifies every
// signature once more.
func namesArePermitted(c candidate) *ishare.Rejection {
	if c.anchor < 0 || !hasNameConstraints(c.certificates[1:c.anchor+1]) {
		return nil
	}
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   c.at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	options.Roots.AddCert(c.certificates[c.anchor])
	for _, cert := range c.certificates[1:c.anchor] {
		options.Intermediates.AddCert(cert)
	}
	if _, err := c.certificates[0].Verify(options); err != nil {
		return ishare.ChainIssuer.Because("the name constraints of an issuer do not permit the certificate").From(fmt.Errorf("crypto/x509: %w", err))
	}
	return nil
}

func hasNameConstraints(issuers []*x509.Certificate) bool {
	for _, cert := range issuers {
		for _, ext := range cert.Extensions {
			if ext.Id.Equal(oidNameConstraints) {
				return true
			}
		}
	}
	return false
}

func anchorIsReached(c candidate) *ishare.Rejection {
	if c.anchor < 0 {
		return ishare.ChainUntrusted.Reject()
	}
	return nil
}
