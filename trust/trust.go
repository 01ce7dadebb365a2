// Package trust decides whether a chain of certificates may speak for a participant of the framework (iSHARE 3.0,
// certificates; RFC 5280 section 6).
//
//	anchors, err := trust.LoadAnchors([]string{"ca.pem"})
//	…
//	validator, err := trust.New(anchors)
//	…
//	chain, err := validator.Validate(certificates, time.Now(), nil)
//
// [New] makes a [Validator] that trusts some [Anchors], which [LoadAnchors] reads from files. [Validator.Validate]
// judges the certificates of a JWS header and returns a [Chain], which nothing else can make, or a rejection by one of
// the rules certificate.key to chain.untrusted. [Check] judges a chain for its holder, who wants to know before a
// server says so.
//
// A chain is trusted when it is well formed from end to end and one of its issuers is a trust anchor. Signatures are
// verified from the first anchor down to the leaf and not above it: what stands above an anchor adds nothing. A chain
// without an anchor is refused before any signature is verified, so that a stranger cannot make the server work for
// nothing.
//
// Whether a certificate of a trusted chain has been revoked is for package revocation to find out.
package trust

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// A Validator judges chains by its anchors, which may be exchanged while it works. It is safe for concurrent use.
type Validator struct {
	anchors    atomic.Pointer[Anchors]
	signatures signatures
}

// New returns a validator that trusts these anchors. There must be at least one.
func New(anchors Anchors) (*Validator, error) {
	if len(anchors) == 0 {
		return nil, errors.New("trust: no anchors: every chain would be refused")
	}
	v := &Validator{signatures: signatures{
		known: otter.Must(&otter.Options[signature, struct{}]{MaximumSize: maxSignatures}),
		check: certcheck.CheckSignature,
	}}
	v.SetAnchors(anchors)
	return v, nil
}

// SetAnchors exchanges the anchors. Chains that were trusted before no longer
// [Validator.Holds], unless the anchors are the same.
func (v *Validator) SetAnchors(anchors Anchors) {
	if old := v.anchors.Load(); old != nil && maps.Equal(*old, anchors) {
		return
	}
	anchors = maps.Clone(anchors)
	v.anchors.Store(&anchors)
}

// Anchors returns a copy of the present anchors.
func (v *Validator) Anchors() Anchors { return maps.Clone(*v.anchors.Load()) }

// A Chain is a chain that a [Validator] found trusted: leaf first, the anchor last. Nothing else can make one.
type Chain struct {
	certificates        []*x509.Certificate
	thumbprint          string
	notBefore, notAfter time.Time
	anchors             *Anchors // by which it was trusted
}

// Leaf is the certificate that signs.
func (c *Chain) Leaf() *x509.Certificate { return c.certificates[0] }

// Key is the leaf's key, of a size that is safe to verify with.
func (c *Chain) Key() *rsa.PublicKey {
	key, _ := c.Leaf().PublicKey.(*rsa.PublicKey) // certificate.key holds for every Chain
	return key
}

// Thumbprint is the leaf's [ishare.Thumbprint].
func (c *Chain) Thumbprint() string { return c.thumbprint }

// Certificates lists the chain from the leaf up to the anchor, both included.
func (c *Chain) Certificates() []*x509.Certificate { return slices.Clone(c.certificates) }

// Holds reports whether a chain that was trusted before still is: the anchors
// are the same, and every certificate is valid at the time.
func (v *Validator) Holds(c *Chain, at time.Time) bool {
	return c.anchors == v.anchors.Load() && !at.Before(c.notBefore) && !at.After(c.notAfter)
}

// Validate judges the certificates of a JWS header, leaf first, at a time. The
// trace is nil except for an explanation; see [rule.Evaluate].
//
// The error is an [*rule.Rejection] by one of the rules certificate.key, certificate.validity, certificate.usage,
// chain.order, chain.issuer and chain.untrusted.
func (v *Validator) Validate(certificates []*x509.Certificate, at time.Time, trace *rule.Trace) (*Chain, error) {
	if len(certificates) == 0 {
		return nil, rule.JWTX5C.Reject()
	}
	anchors := v.anchors.Load()
	// The leaf is no issuer: the trusted list is of CAs, and pinning a leaf is what party records do.
	c := chainInput{certificates: certificates, at: at, anchor: -1, signatures: v.signatures}
	for i := len(certificates) - 1; i > 0; i-- {
		if _, ok := (*anchors)[FingerprintOf(certificates[i])]; ok {
			c.anchor = i // the first one counts
		}
	}
	// No signature is verified with a key that is not of a safe size, not even to explain.
	if err := rule.Evaluate(trace, c, keyChecks); err != nil {
		return nil, err
	}
	if err := rule.Evaluate(trace, c, chainChecks); err != nil {
		return nil, err
	}
	chain := &Chain{
		certificates: slices.Clone(certificates[:c.anchor+1]),
		thumbprint:   ishare.Thumbprint(certificates[0].Raw),
		anchors:      anchors,
		notBefore:    certificates[0].NotBefore,
		notAfter:     certificates[0].NotAfter,
	}
	for _, cert := range certificates[1:] { // those above the anchor included
		if cert.NotBefore.After(chain.notBefore) {
			chain.notBefore = cert.NotBefore
		}
		if cert.NotAfter.Before(chain.notAfter) {
			chain.notAfter = cert.NotAfter
		}
	}
	return chain, nil
}

// Check judges a chain as a server would whose trust anchor is the last certificate of
// it, and returns every rejection in the order of the catalogue, and not the first
// alone: for whoever makes assertions, who wants to know before the server says so.
func Check(certificates []*x509.Certificate, at time.Time) []*rule.Rejection {
	if len(certificates) == 0 {
		return []*rule.Rejection{rule.JWTX5C.Reject()}
	}
	v := &Validator{signatures: signatures{check: certcheck.CheckSignature}} // for one use: nothing to remember
	v.SetAnchors(Anchors{FingerprintOf(certificates[len(certificates)-1]): ""})
	trace := &rule.Trace{}
	_, err := v.Validate(certificates, at, trace)
	if err == nil {
		return nil
	}
	if rejection, _ := trace.Outcome(rule.CertificateKey); rejection != nil { // no key may be used, and these need none
		_ = rule.Evaluate(trace, chainInput{certificates: certificates, at: at, anchor: -1}, chainChecks[:keyless])
	}
	var rejections []*rule.Rejection
	for _, reason := range rule.All() {
		if rejection, _ := trace.Outcome(reason); rejection != nil {
			rejections = append(rejections, rejection)
		}
	}
	if first, _ := rule.Classify(err); len(rejections) == 0 { // a rejection that the trace lacks is one all the same
		return []*rule.Rejection{first}
	}
	return rejections
}

// maxSignatures bounds how many signatures of issuers are remembered, each in about 200 bytes.
// A framework has some hundred issuers.
const maxSignatures = 4096

// A signature says that one certificate is signed with the key of another. It is true of
// the two for ever, whatever is trusted.
type signature struct{ certificate, issuer Fingerprint }

// signatures verifies those of certificates, and remembers those of issuers that hold, so that a forged leaf below
// public certificates costs one verification and not one for each of them.
//
// Chains are verified from the anchor downwards. So what is remembered was signed, step by step, by an anchor, and a
// stranger cannot add to it. What does not hold is not remembered, and neither are leaves, which anyone may have many
// of, nor what was signed with the key of a certificate that is no CA: whoever has a seal can sign many such.
type signatures struct {
	known *otter.Cache[signature, struct{}] // nil: nothing is remembered
	check func(certificate, issuer *x509.Certificate) error
}

// verify reports why the certificate is not signed with the issuer's key.
func (s signatures) verify(certificate, issuer *x509.Certificate, isLeaf bool) error {
	if isLeaf || !issuer.IsCA || s.known == nil {
		return s.check(certificate, issuer)
	}
	key := signature{certificate: FingerprintOf(certificate), issuer: FingerprintOf(issuer)}
	if _, known := s.known.GetIfPresent(key); known {
		return nil
	}
	if err := s.check(certificate, issuer); err != nil {
		return err
	}
	s.known.Set(key, struct{}{})
	return nil
}
