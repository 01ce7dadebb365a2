package keyfile

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// renewalTime is how long before the end of a certificate it is time to act: a new one has to be
// ordered and, for a seal, registered with the Participant Registry.
const renewalTime = 30 * 24 * time.Hour

// An inspection is of a key and certificates that could both be read.
type inspection struct {
	keyFile, certFile string
	shared            bool // certFile is keyFile
	key               crypto.Signer
	listed            []*x509.Certificate // as the file lists them
	chain             []*x509.Certificate // what belongs together, in order
}

// newInspection begins the chain with the certificate of the key or, when there is none, with the first that has
// issued no other.
func newInspection(key crypto.Signer, certs []*x509.Certificate, unordered bool) *inspection {
	s := &inspection{key: key, listed: certs}
	leaf := slices.IndexFunc(certs, s.belongsToKey)
	if leaf < 0 {
		leaf = slices.IndexFunc(certs, func(c *x509.Certificate) bool {
			return !slices.ContainsFunc(certs, func(other *x509.Certificate) bool { return other != c && issued(c, other) })
		})
	}
	s.chain = chainOf(certs[max(leaf, 0)], certs)
	if unordered { // then no order can be wrong
		s.listed = s.chain
	}
	return s
}

func (s *inspection) belongsToKey(c *x509.Certificate) bool { return belongs(c, s.key) }

// chainOf follows the issuers from the leaf up, as far as they are there.
func chainOf(leaf *x509.Certificate, certs []*x509.Certificate) []*x509.Certificate {
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
// checked counts, and is found by the rules.
func issued(issuer, c *x509.Certificate) bool {
	if !trust.SameName(c.RawIssuer, issuer.RawSubject) {
		return false
	}
	err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	weak := x509.InsecureAlgorithmError(0)
	return err == nil || errors.As(err, &weak)
}

func selfIssued(c *x509.Certificate) bool { return trust.SameName(c.RawIssuer, c.RawSubject) }

// problem is one of the file of the certificates.
func (s *inspection) problem(hint, format string, args ...any) Problem {
	return Problem{File: s.certFile, Message: fmt.Sprintf(format, args...), Hint: hint, Certificates: !s.shared}
}

// checkSeal applies every rule by which a server checks the certificates of an assertion, and finds what only
// whoever signs can know: whether the key is theirs, and in which order the file would be right.
func (s *inspection) checkSeal(at time.Time) []Problem {
	problems := s.checkKey()
	rejections := trust.Check(s.listed, at)
	// Whether the order was refused, or not checked because of a key.
	hidden := slices.ContainsFunc(rejections, func(r *rule.Rejection) bool {
		return r.Rule == rule.ChainOrder || r.Rule == rule.CertificateKey
	})
	order := s.checkOrder()
	if len(order) > 0 && (!s.belongsToKey(s.listed[0]) || hidden) {
		problems = append(problems, order...)
		rejections = trust.Check(s.chain, at)
	} else {
		s.chain = s.listed
	}
	problems = append(problems, s.checkComplete()...)
	for _, r := range rejections {
		if r.Rule != rule.ChainUntrusted { // a chain of one, which checkComplete tells of
			problems = append(problems, s.translate(r))
		}
	}
	return append(problems, s.checkExpiry(at, renewSeal)...)
}

// entry is how a rejection calls a certificate, with its name or without.
var entry = regexp.MustCompile(`x5c\[(\d+)\](?: \("(?:[^"\\]|\\.)*"\))?`)

// translate says of a file what a rule says of an assertion. The rejection's own hint stays,
// in which the file takes the place of x5c.
func (s *inspection) translate(r *rule.Rejection) Problem {
	sentence := entry.ReplaceAllStringFunc(r.Sentence, func(found string) string {
		i, err := strconv.Atoi(entry.FindStringSubmatch(found)[1])
		if err != nil || i >= len(s.chain) {
			return found
		}
		return name(s.chain[i])
	})
	sentence = strings.ReplaceAll(sentence, ", the first certificate of x5c,", "")
	return s.problem(strings.ReplaceAll(r.Hint, "x5c", "the file"), "%s (%s)", sentence, r.Rule.ID)
}

// checkKey checks that one of the certificates belongs to the key.
func (s *inspection) checkKey() []Problem {
	if slices.ContainsFunc(s.listed, s.belongsToKey) {
		return nil
	}
	return []Problem{s.problem("Give the key and the certificate that were made together; after a renewal both files change.",
		"no certificate in the file belongs to the private key in %s (the leaf is %s)", s.keyFile, name(s.chain[0]))}
}

// checkOrder checks that the file lists the chain from the leaf up and nothing else
// (RFC 7515 section 4.1.6), and says what the right order is.
func (s *inspection) checkOrder() []Problem {
	var problems []Problem
	var found, unrelated []string
	for i, c := range s.listed {
		if !slices.Contains(s.chain, c) {
			unrelated = append(unrelated, fmt.Sprintf("%d (%s)", i+1, name(c)))
		}
	}
	for _, c := range s.chain {
		found = append(found, fmt.Sprintf("%d (%s)", slices.Index(s.listed, c)+1, name(c)))
	}
	inOrder := slices.IsSortedFunc(s.chain, func(a, b *x509.Certificate) int {
		return slices.Index(s.listed, a) - slices.Index(s.listed, b)
	})
	if !inOrder {
		problems = append(problems, s.problem("Put them in this order, by their present numbers: "+strings.Join(found, ", ")+".",
			"the certificates are in the wrong order"))
	}
	if len(unrelated) > 0 {
		problems = append(problems, s.problem("Remove it; or add what is missing between it and the chain.",
			"a certificate does not belong to the chain of %s: number %s", name(s.chain[0]), strings.Join(unrelated, ", ")))
	}
	return problems
}

// checkComplete checks that the chain goes up to its root. A chain that ends earlier is
// enough for a server whose trusted list names a certificate in it, but never if it
// holds the leaf alone.
func (s *inspection) checkComplete() []Problem {
	top := s.chain[len(s.chain)-1]
	switch {
	case len(s.chain) > jws.MaxCertificates:
		return []Problem{s.problem("Leave out the certificates above the one that is on the trusted list.",
			"the chain has %d certificates; servers accept at most %d", len(s.chain), jws.MaxCertificates)}
	case len(s.chain) == 1 && selfIssued(top):
		return []Problem{s.problem("Give the seal that a trust service provider issued, and its chain.",
			"%s is issued by itself, so no server trusts it", name(top))}
	case selfIssued(top):
		return nil
	case len(s.chain) == 1:
		return []Problem{s.problem("Add the certificates of the issuers below it, up to the root; your trust service provider publishes them.",
			"the chain is incomplete: it holds %s and not its issuer, %q", name(top), top.Issuer)}
	}
	warning := s.problem("Add the certificates up to the root; without them only servers that trust a CA in the file accept it.",
		"the chain ends with %s, whose issuer, %q, is not there", name(top), top.Issuer)
	warning.Warning = true
	return []Problem{warning}
}

// What to do when a certificate ends. Only seals are registered.
const (
	renewSeal = "Renew the certificate, and register the new one with the Participant Registry."
	renewTLS  = "Renew the certificate, and put the new one in its place: a server that runs takes it by itself."
)

// checkExpiry warns that the leaf ends soon. Renew is the hint.
func (s *inspection) checkExpiry(at time.Time, renew string) []Problem {
	leaf := s.chain[0]
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) || !at.Add(renewalTime).After(leaf.NotAfter) {
		return nil
	}
	warning := s.problem(renew, "%s expires on %s", name(leaf), day(leaf.NotAfter))
	warning.Warning = true
	return []Problem{warning}
}

// checkTLS finds what clients of a TLS server refuse, as far as it is known here.
func (s *inspection) checkTLS(at time.Time) []Problem {
	problems := slices.Concat(s.checkKey(), s.checkOrder())
	for _, c := range s.chain {
		switch {
		case at.After(c.NotAfter):
			problems = append(problems, s.problem(renewTLS, "%s expired on %s", name(c), day(c.NotAfter)))
		case at.Before(c.NotBefore):
			problems = append(problems, s.problem("Wait until then, or set this machine's clock right (NTP).",
				"%s is not valid before %s", name(c), day(c.NotBefore)))
		}
	}
	return append(problems, s.checkExpiry(at, renewTLS)...)
}

func day(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// name is how a certificate is called in a message.
func name(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return strconv.Quote(c.Subject.CommonName)
	}
	return strconv.Quote(c.Subject.String())
}
