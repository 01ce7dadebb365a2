package trust

import (
	"crypto/x509"
	"fmt"

	"github.com/maypok86/otter/v2"

	"github.com/waybill-token/waybill/internal/certcheck"
)

// maxLinks bounds how many signatures of issuers are remembered, each in about 200 bytes.
// A framework has some hundred issuers.
const maxLinks = 4096

// A link says that one certificate is signed with the key of another. It is true of
// the two for ever, whatever is trusted.
type link struct{ certificate, issuer Fingerprint }

// links verifies signatures of certificates, and remembers those of issuers that hold, so
// that a forged leaf below public certificates costs one verification and not one for
// each of them.
//
// Chains are verified from the anchor downwards. So what is remembered was signed, step by
// step, by an anchor, and a stranger cannot add to it. What does not hold is not
// remembered, and neither are leaves, which anyone may have many of, nor what was signed
// with the key of a certificate that is no CA: whoever has a seal can sign many such.
type links struct {
	known *otter.Cache[link, struct{}] // nil: nothing is remembered
	check func(certificate, issuer *x509.Certificate) error
}

func newLinks() (links, error) {
	known, err := otter.New(&otter.Options[link, struct{}]{MaximumSize: maxLinks})
	if err != nil {
		return links{}, fmt.Errorf("trust: memory of issuers: %w", err)
	}
	return links{known: known, check: certcheck.CheckSignature}, nil
}

// hold reports why the certificate is not signed with the issuer's key.
func (l links) hold(certificate, issuer *x509.Certificate, isLeaf bool) error {
	if isLeaf || !issuer.IsCA || l.known == nil {
		return l.check(certificate, issuer)
	}
	key := link{certificate: FingerprintOf(certificate), issuer: FingerprintOf(issuer)}
	if _, known := l.known.GetIfPresent(key); known {
		return nil
	}
	if err := l.check(certificate, issuer); err != nil {
		return err
	}
	l.known.Set(key, struct{}{})
	return nil
}
