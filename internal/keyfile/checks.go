package keyfile

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// Limits of the key of a seal, in bits (iSHARE 3.0, certificates).
	minKeyBits = 2048
	maxKeyBits = 8192

	// maxChain is how many certificates a server reads from an assertion.
	maxChain = 10

	// renewalTime is how long before the end of a certificate it is time to act: a new
	// one has to be ordered and, for a seal, registered with the Participant Registry.
	renewalTime = 30 * 24 * time.Hour
)

// A subject is a key with certificates that both could be read, under inspection.
type subject struct {
	keyFile, certFile string
	key               crypto.Signer
	listed            []*x509.Certificate // as the file lists them
	chain             []*x509.Certificate // what belongs together, in order
}

func newSubject(key crypto.Signer, certs []*x509.Certificate, unordered bool) *subject {
	s := &subject{key: key, listed: certs}
	s.chain = chainFrom(s.leaf(), certs)
	if unordered { // then no order can be wrong
		s.listed = s.chain
	}
	return s
}

// leaf is the certificate of the key or, when there is none, the first that has
// issued no other.
func (s *subject) leaf() *x509.Certificate {
	if i := slices.IndexFunc(s.listed, s.ofKey); i >= 0 {
		return s.listed[i]
	}
	for _, c := range s.listed {
		if !slices.ContainsFunc(s.listed, func(other *x509.Certificate) bool { return other != c && issued(c, other) }) {
			return c
		}
	}
	return s.listed[0]
}

// ofKey reports whether a certificate is for the public half of the key.
func (s *subject) ofKey(c *x509.Certificate) bool {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(s.key.Public())
}

// chainFrom follows the issuers from the leaf up, as far as they are there.
func chainFrom(leaf *x509.Certificate, certs []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for {
		top := chain[len(chain)-1]
		next := slices.IndexFunc(certs, func(c *x509.Certificate) bool {
			return !slices.Contains(chain, c) && issued(c, top)
		})
		if selfIssued(top) || next < 0 {
			return chain
		}
		chain = append(chain, certs[next])
	}
}

// issued reports whether the issuer signed the certificate. The names alone do not
// tell: a CA that has renewed its key keeps its name. A signature too weak to be
// checked counts, and is found by strength.
func issued(issuer, c *x509.Certificate) bool {
	if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
		return false
	}
	err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	weak := x509.InsecureAlgorithmError(0)
	return err == nil || errors.As(err, &weak)
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// match checks that one of the certificates belongs to the key.
func (s *subject) match() []Problem {
	if slices.ContainsFunc(s.listed, s.ofKey) {
		return nil
	}
	return []Problem{{
		File:    s.certFile,
		Message: fmt.Sprintf("no certificate in the file belongs to the private key in %s (the leaf is %s)", s.keyFile, name(s.chain[0])),
		Mend:    "Give the key and the certificate that were made together; after a renewal both files change.",
	}}
}

// strength checks the key's kind and size, and how the certificates are signed.
func (s *subject) strength() []Problem {
	var problems []Problem
	key, isRSA := s.key.Public().(*rsa.PublicKey)
	switch {
	case !isRSA:
		problems = append(problems, Problem{
			File: s.keyFile, Message: "the private key is not RSA, which iSHARE demands",
			Mend: "Give the key of an iSHARE seal; a key for TLS does not serve.",
		})
	case key.N.BitLen() < minKeyBits || key.N.BitLen() > maxKeyBits:
		problems = append(problems, Problem{
			File:    s.keyFile,
			Message: fmt.Sprintf("the RSA key has %d bits; %d to %d are accepted", key.N.BitLen(), minKeyBits, maxKeyBits),
			Mend:    "Ask your trust service provider for a seal with a key of 2048 bits or more.",
		})
	}
	for _, c := range s.chain {
		if weaklySigned(c) {
			problems = append(problems, Problem{
				File: s.certFile, Message: fmt.Sprintf("%s is signed with %s, which no server accepts", name(c), c.SignatureAlgorithm),
				Mend: "Ask your trust service provider for a certificate signed with SHA-256 or better.",
			})
		}
	}
	return problems
}

// weaklySigned leaves roots alone: nothing depends on the signature of a root.
func weaklySigned(c *x509.Certificate) bool {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return !selfIssued(c)
	default:
		return false
	}
}

// order checks that the file lists the chain from the leaf up and nothing else
// (RFC 7515 section 4.1.6), and says what the right order is.
func (s *subject) order() []Problem {
	var problems []Problem
	var found, strangers []string
	for i, c := range s.listed {
		if !slices.Contains(s.chain, c) {
			strangers = append(strangers, fmt.Sprintf("%d (%s)", i+1, name(c)))
		}
	}
	for _, c := range s.chain {
		found = append(found, fmt.Sprintf("%d (%s)", slices.Index(s.listed, c)+1, name(c)))
	}
	inOrder := slices.IsSortedFunc(s.chain, func(a, b *x509.Certificate) int {
		return slices.Index(s.listed, a) - slices.Index(s.listed, b)
	})
	if !inOrder {
		problems = append(problems, Problem{
			File: s.certFile, Message: "the certificates are in the wrong order",
			Mend: "Put them in this order, by their present numbers: " + strings.Join(found, ", ") + ".",
		})
	}
	if len(strangers) > 0 {
		problems = append(problems, Problem{
			File: s.certFile, Message: "a certificate does not belong to the chain of " + name(s.chain[0]) + ": number " + strings.Join(strangers, ", "),
			Mend: "Remove it; or add what is missing between it and the chain.",
		})
	}
	return problems
}

// complete checks that the chain goes up to its root. A chain that ends earlier is
// enough for a server whose trusted list names a certificate in it, but never if it
// holds the leaf alone.
func (s *subject) complete() []Problem {
	top := s.chain[len(s.chain)-1]
	switch {
	case len(s.chain) > maxChain:
		return []Problem{{
			File: s.certFile, Message: fmt.Sprintf("the chain has %d certificates; servers accept at most %d", len(s.chain), maxChain),
			Mend: "Leave out the certificates above the one that is on the trusted list.",
		}}
	case selfIssued(top):
		return nil
	case len(s.chain) == 1:
		return []Problem{{
			File: s.certFile, Message: "the chain is incomplete: it holds " + name(top) + " and not its issuer, " + strconv.Quote(top.Issuer.String()),
			Mend: "Add the certificates of the issuers below it, up to the root; your trust service provider publishes them.",
		}}
	}
	return []Problem{{
		File: s.certFile, Warning: true,
		Message: "the chain ends with " + name(top) + ", whose issuer, " + strconv.Quote(top.Issuer.String()) + ", is not there",
		Mend:    "Add the certificates up to the root; without them only servers that trust a CA in the file accept it.",
	}}
}

// What to do when a certificate ends. Only seals are registered.
const (
	renewSeal = "Renew the certificate, and register the new one with the Participant Registry."
	renewTLS  = "Renew the certificate, put the new one in its place, and reload the server (SIGHUP)."
)

// validity checks the dates of every certificate. Renew is the mend.
func (s *subject) validity(at time.Time, renew string) []Problem {
	var problems []Problem
	for i, c := range s.chain {
		problem := Problem{File: s.certFile, Mend: renew}
		switch {
		case at.After(c.NotAfter):
			problem.Message = name(c) + " expired on " + day(c.NotAfter)
		case at.Before(c.NotBefore):
			problem.Message = name(c) + " is not valid before " + day(c.NotBefore)
			problem.Mend = "Wait until then, or set this machine's clock right (NTP)."
		case i == 0 && at.Add(renewalTime).After(c.NotAfter):
			problem.Message, problem.Warning = name(c)+" expires on "+day(c.NotAfter), true
		default:
			continue
		}
		problems = append(problems, problem)
	}
	return problems
}

func day(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// usage checks that the leaf is a seal: not a CA, and meant for signing
// (RFC 5280 sections 4.2.1.3 and 4.2.1.9). A certificate without key usage may be
// used for anything.
func (s *subject) usage() []Problem {
	leaf := s.chain[0]
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	switch {
	case leaf.IsCA:
		return []Problem{{
			File: s.certFile, Message: name(leaf) + " is the certificate of a CA",
			Mend: "Give the seal that the CA issued to the party, and its private key.",
		}}
	case leaf.KeyUsage != 0 && leaf.KeyUsage&signing == 0:
		return []Problem{{
			File: s.certFile, Message: name(leaf) + " is not meant for signing: its key usage has neither digitalSignature nor nonRepudiation",
			Mend: "Ask your trust service provider for an electronic seal.",
		}}
	}
	return nil
}

// name is how a certificate is called in a message.
func name(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return strconv.Quote(c.Subject.CommonName)
	}
	return strconv.Quote(c.Subject.String())
}
