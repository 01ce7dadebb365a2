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
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/rsaverify"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// A Validator judges chains by its anchors, which may be exchanged while it works. It is safe for concurrent use.
type Validator struct {
	anchors    atomic.Pointer[Anchors]
	signatures signatures
	issuers    *otter.Cache[Fingerprint, *issuer] // of chains that were trusted; nil: nothing is remembered
}

// An issuer is the certificate of a CA that stood in a trusted chain. All chains below it share it.
type issuer struct {
	certificate *x509.Certificate
	fingerprint Fingerprint
}

// maxIssuerMemory bounds what is spent on issuers, by a cautious estimate of a parsed certificate. Nobody but a CA under
// an anchor can add to it, and a framework has some hundred.
const maxIssuerMemory = 64 << 20

// New returns a validator that trusts these anchors. There must be at least one.
func New(anchors Anchors) (*Validator, error) {
	if len(anchors) == 0 {
		return nil, errors.New("trust: no anchors: every chain would be refused")
	}
	v := &Validator{
		signatures: signatures{
			known: otter.Must(&otter.Options[signature, struct{}]{MaximumSize: maxSignatures}),
			check: certcheck.CheckSignature,
		},
		issuers: otter.Must(&otter.Options[Fingerprint, *issuer]{
			MaximumWeight: maxIssuerMemory,
			Weigher:       func(_ Fingerprint, i *issuer) uint32 { return uint32(4096 + 8*len(i.certificate.Raw)) },
		}),
	}
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

// Issuer returns the certificate with this DER when it is that of an issuer in a chain that was trusted before, and
// else nil: whoever reads a chain need not parse again what comes with every seal. That it is here means nothing for
// another chain.
func (v *Validator) Issuer(der []byte) *x509.Certificate {
	if known, ok := v.issuers.GetIfPresent(sha256.Sum256(der)); ok {
		return known.certificate
	}
	return nil
}

// shared is the issuer that is the same for all chains.
func (v *Validator) shared(i *issuer) *issuer {
	if v.issuers != nil {
		i, _ = v.issuers.SetIfAbsent(i.fingerprint, i)
	}
	return i
}

// A Chain is a chain that a [Validator] found trusted: leaf first, the anchor last. Nothing else can make one.
type Chain struct {
	*Proof
	leaf func() *x509.Certificate
}

// A Proof is what is left of a [Chain] without the leaf's certificate: enough to verify with its key, and to tell whether
// it still holds, in about a kilobyte. It is for whoever remembers many chains.
type Proof struct {
	key                 *rsaverify.Key
	thumbprint          string
	issuers             []*issuer // from that of the leaf to the anchor
	notBefore, notAfter int64     // UNIX seconds, as certificates have them
	anchors             *Anchors  // by which the chain was trusted
}

// ProofSize is about how many bytes a [Proof] with a key of 2048 bits takes, in a cache that holds it.
const ProofSize = 1536

// Size is about how many bytes the proof takes, in a cache that holds it.
func (p *Proof) Size() int { return ProofSize + 3*(p.key.Size()-256) }

// Chain gives the chain back. When somebody wants to see the leaf, parse is called, once, and must return the
// certificate that it was: another, or nil, counts as nil.
func (p *Proof) Chain(parse func() *x509.Certificate) *Chain {
	return &Chain{p, sync.OnceValue(func() *x509.Certificate {
		if leaf := parse(); leaf != nil && ishare.Thumbprint(leaf.Raw) == p.thumbprint {
			return leaf
		}
		return nil
	})}
}

// Leaf is the certificate that signs. It is nil only for a chain of [Proof.Chain] whose leaf is not to be had any more.
func (c *Chain) Leaf() *x509.Certificate { return c.leaf() }

// Key is the leaf's key as package jws takes it, of a size that is safe to verify with.
func (p *Proof) Key() *rsaverify.Key { return p.key }

// Thumbprint is the leaf's [ishare.Thumbprint].
func (p *Proof) Thumbprint() string { return p.thumbprint }

// Len is the number of certificates from the leaf up to the anchor, both included: at least two.
func (p *Proof) Len() int { return 1 + len(p.issuers) }

// Fingerprint is that of a certificate of the chain, 0 being the leaf.
func (p *Proof) Fingerprint(i int) Fingerprint {
	if i > 0 {
		return p.issuers[i-1].fingerprint
	}
	f, _ := ParseFingerprint(p.thumbprint) // which is one
	return f
}

// Certificates lists the chain from the leaf up to the anchor, both included. As to the leaf, see [Chain.Leaf].
func (c *Chain) Certificates() []*x509.Certificate {
	certificates := make([]*x509.Certificate, 1, c.Len())
	certificates[0] = c.Leaf()
	for _, i := range c.issuers {
		certificates = append(certificates, i.certificate)
	}
	return certificates
}

// Holds reports whether a chain that was trusted before still is: the anchors
// are the same, and every certificate is valid at the time.
func (v *Validator) Holds(p *Proof, at time.Time) bool {
	return p.anchors == v.anchors.Load() && !at.Before(time.Unix(p.notBefore, 0)) && !at.After(time.Unix(p.notAfter, 0))
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
	c := chainInput{certificates: certificates, at: at, anchor: -1, signatures: v.signatures, selfIssued: map[int]bool{}}
	c.fingerprints = make([]Fingerprint, len(certificates))
	for i := len(certificates) - 1; i > 0; i-- {
		c.fingerprints[i] = FingerprintOf(certificates[i])
		if _, ok := (*anchors)[c.fingerprints[i]]; ok {
			c.anchor = i // the first one counts
		}
	}
	if err := rule.Evaluate(trace, c, keyChecks); err != nil {
		if trace != nil { // no signature is verified with a key that is not of a safe size, not even to explain
			_ = rule.Evaluate(trace, c, keylessChecks)
		}
		return nil, err
	}
	if err := rule.Evaluate(trace, c, chainChecks); err != nil {
		return nil, err
	}
	leaf := certificates[0]
	key, _ := leaf.PublicKey.(*rsa.PublicKey) // certificate.key holds
	p := &Proof{
		key:        rsaverify.New(key),
		thumbprint: ishare.Thumbprint(leaf.Raw),
		issuers:    make([]*issuer, c.anchor),
		anchors:    anchors,
		notBefore:  leaf.NotBefore.Unix(),
		notAfter:   leaf.NotAfter.Unix(),
	}
	for i, cert := range certificates[1:] { // those above the anchor included
		p.notBefore = max(p.notBefore, cert.NotBefore.Unix())
		p.notAfter = min(p.notAfter, cert.NotAfter.Unix())
		if i < c.anchor {
			p.issuers[i] = v.shared(&issuer{cert, c.fingerprints[i+1]})
		}
	}
	return &Chain{p, func() *x509.Certificate { return leaf }}, nil
}

// Judge records in the trace what a server would say of a chain whose trust anchor is the last certificate of it: for
// whoever does not know the anchors. It returns the first rejection, and no [Chain], as nobody is trusted.
func Judge(certificates []*x509.Certificate, at time.Time, trace *rule.Trace) error {
	if len(certificates) == 0 {
		return rule.JWTX5C.Reject()
	}
	v := &Validator{signatures: signatures{check: certcheck.CheckSignature}} // for one use: nothing to remember
	v.SetAnchors(Anchors{FingerprintOf(certificates[len(certificates)-1]): ""})
	_, err := v.Validate(certificates, at, trace)
	return err
}

// Check judges a chain as [Judge] does, and returns every rejection in the order of the catalogue, and not the first
// alone: for whoever makes assertions, who wants to know before the server says so.
func Check(certificates []*x509.Certificate, at time.Time) []*rule.Rejection {
	trace := &rule.Trace{}
	err := Judge(certificates, at, trace)
	if err == nil {
		return nil
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

// verify reports why a certificate of the chain is not signed with the key of the next.
func (s signatures) verify(c chainInput, i int) error {
	certificate, issuer := c.certificates[i], c.certificates[i+1]
	if i == 0 || !issuer.IsCA || s.known == nil {
		return s.check(certificate, issuer)
	}
	key := signature{certificate: c.fingerprints[i], issuer: c.fingerprints[i+1]}
	if _, known := s.known.GetIfPresent(key); known {
		return nil
	}
	if err := s.check(certificate, issuer); err != nil {
		return err
	}
	s.known.Set(key, struct{}{})
	return nil
}
