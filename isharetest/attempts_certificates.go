package isharetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// A forgery is an identity of the consumer with a certificate, or a chain, that breaks a rule, or for nil none. The
// leaf is registered for the consumer, so that nothing else can be the reason for a refusal.
type forgery struct {
	rule        *rule.Rule
	name, about string
	official    string
	identity    *testca.Identity
}

// certificateAttempts make forgeries, register their leaves for the consumer, and present them.
func (s *Attempts) certificateAttempts() []Attempt {
	forgeries := slices.Concat(s.rightSeals(), s.wrongSeals(), s.wrongOrder(), s.wrongIssuers())
	attempts := make([]Attempt, len(forgeries))
	for i, f := range forgeries {
		if leaf := f.identity.Certificate(); !s.Consumer.Record.Certified(ishare.Thumbprint(leaf.Raw), time.Now()) {
			register(s.Consumer.Record, leaf)
		}
		attempts[i] = s.attempt(f.rule, s.Consumer, variant{name: f.name, about: f.about, official: f.official, edit: func(r *Request) {
			r.Assertion.Header.Set("x5c", X5C(f.identity.Chain...))
			r.Assertion.Key = f.identity.Key // which cannot sign rightly when it is not RSA
			if key, ok := f.identity.Key.(ed25519.PrivateKey); ok {
				r.Assertion.Sign = func(signed string) []byte { return ed25519.Sign(key, []byte(signed)) }
			}
		}})
	}
	return attempts
}

// seal forges a seal of the consumer, with the consumer's key unless the request names another.
func (s *Attempts) seal(r testca.SealRequest) *testca.Identity {
	return must(s.ca.ca.Seal(s.sealRequest(r)))
}

func (s *Attempts) sealRequest(r testca.SealRequest) testca.SealRequest {
	own := sealRequest(s.Consumer.ID(), s.Consumer.Record.Name)
	r.Organization, r.Country = own.Organization, own.Country
	if r.SerialNumber == "" {
		r.Identifier = own.Identifier
	}
	if r.Key == nil {
		r.Key = s.Consumer.Key
	}
	return r
}

// sealWith forges a seal whose certificate is changed before it is signed.
func (s *Attempts) sealWith(change func(*x509.Certificate)) *testca.Identity {
	return s.seal(testca.SealRequest{Template: change})
}

// authority forges a CA of the level below another one. Parent and change may be nil.
func (s *Attempts) authority(level testca.Level, parent *testca.Identity, change func(*x509.Certificate)) *testca.Identity {
	if parent == nil {
		parent = s.ca.ca.Authority(level - 1)
	}
	template := s.ca.ca.Template(level)
	if change != nil {
		change(template)
	}
	return must(parent.Issue(template, must(testca.PooledKey(testca.DefaultKeyBits))))
}

// issuing forges an issuing CA, and a seal below it.
func (s *Attempts) issuing(change func(*x509.Certificate)) *testca.Identity {
	return s.seal(testca.SealRequest{Issuer: s.authority(testca.Issuing, nil, change)})
}

// reordered is the consumer's own identity with its chain in another arrangement, by index.
func (s *Attempts) reordered(order ...int) *testca.Identity {
	id := &testca.Identity{Key: s.Consumer.Key}
	for _, i := range order {
		id.Chain = append(id.Chain, s.Consumer.Certificates[i])
	}
	return id
}

func (s *Attempts) rightSeals() []forgery {
	usage := func(u x509.KeyUsage) *testca.Identity {
		return s.sealWith(func(c *x509.Certificate) { c.KeyUsage = u })
	}
	deep := s.ca.ca.Authority(testca.Root)
	for range 8 {
		deep = s.authority(testca.Sub, deep, nil)
	}
	return []forgery{
		{name: "digitalSignature", about: "The seal's key usage is digitalSignature.", identity: usage(x509.KeyUsageDigitalSignature)},
		{name: "digitalSignature and nonRepudiation", about: "The seal's key usage is digitalSignature and nonRepudiation.", identity: usage(
			x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		)},
		{name: "no basic constraints", about: "The seal has no basic constraints, as those of an older CA.", identity: s.sealWith(func(c *x509.Certificate) {
			c.BasicConstraintsValid = false
		})},
		{name: "identifier in serialNumber", about: "The seal carries an EU.EORI identifier in serialNumber, as those of the 2.x framework.", identity: s.seal(testca.SealRequest{SerialNumber: "EU.EORI.NL900000001"})},
		{name: "no identifier", about: "The seal's subject carries no identifier: what is registered decides, not what is written.", identity: s.sealWith(func(c *x509.Certificate) { c.Subject.ExtraNames = nil })},
		{name: "key of 4096 bits", about: "The seal's key has 4096 bits.", identity: s.seal(testca.SealRequest{Key: must(testca.NewOddKey(4096, 65537))})},
		{name: "key of 8192 bits", about: "The seal's key has 8192 bits.", identity: s.seal(testca.SealRequest{Key: must(testca.NewOddKey(8192, 65537))})},
		{name: "signed with SHA-512", about: "The seal is signed with SHA-512.", identity: s.sealWith(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA512WithRSA })},
		{name: "chain of two", about: "The root issued the seal.", identity: s.seal(testca.SealRequest{Issuer: s.ca.ca.Authority(testca.Root)})},
		{name: "chain of ten", about: "Eight CAs stand between the seal and the root.", identity: s.seal(testca.SealRequest{Issuer: deep})},
	}
}

// wrongSeals break the rules about one certificate.
func (s *Attempts) wrongSeals() []forgery {
	odd := func(bits, exponent int) *testca.Identity {
		return s.seal(testca.SealRequest{Key: must(testca.NewOddKey(bits, exponent))})
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(ed, err)
	short := must(s.ca.ca.Authority(testca.Sub).Issue(s.ca.ca.Template(testca.Issuing), must(testca.PooledKey(1024))))
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(-3, 0, 0), time.Now().Add(-time.Hour)
	}
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
	usage := func(u x509.KeyUsage) *testca.Identity {
		return s.sealWith(func(c *x509.Certificate) { c.KeyUsage = u })
	}
	authority := s.sealWith(func(c *x509.Certificate) {
		c.IsCA = true
		c.KeyUsage |= x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	})
	return slices.Concat(violating(rule.CertificateKey, []forgery{
		{name: "1024 bits", about: "The seal's key has 1024 bits.", official: "certificate under 2048 bits", identity: s.seal(testca.SealRequest{Key: must(testca.PooledKey(1024))})},
		{name: "2047 bits", about: "The seal's key has 2047 bits.", identity: odd(2047, 65537)},
		{name: "8193 bits", about: "The seal's key has 8193 bits.", identity: odd(8193, 65537)},
		{name: "16384 bits", about: "The seal's key has 16384 bits: verifying with it costs milliseconds.", identity: odd(16384, 65537)},
		{name: "exponent 3", about: "The seal's key has the exponent 3.", identity: odd(2048, 3)},
		{name: "exponent 1", about: "The seal's key has the exponent 1, so that everybody can sign.", identity: odd(2048, 1)},
		{name: "ECDSA", about: "The seal's key is on the curve P-256.", official: "certificate not RSA", identity: s.seal(testca.SealRequest{Key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))})},
		{name: "Ed25519", about: "The seal's key is Ed25519.", identity: s.seal(testca.SealRequest{Key: ed})},
		{name: "issuer of 1024 bits", about: "The issuing CA's key has 1024 bits.", identity: s.seal(testca.SealRequest{Issuer: short})},
	}), violating(rule.CertificateValidity, []forgery{
		{name: "expired", about: "The seal expired an hour ago.", official: "certificate expired", identity: s.sealWith(expired)},
		{name: "not yet valid", about: "The seal is valid from an hour from now.", identity: s.sealWith(future)},
		{name: "issuer expired", about: "The issuing CA expired an hour ago.", identity: s.issuing(expired)},
		{name: "issuer not yet valid", about: "The issuing CA is valid from an hour from now.", identity: s.issuing(future)},
	}), violating(rule.CertificateUsage, []forgery{
		{name: "leaf is a CA", about: "The seal is a CA.", identity: authority},
		{name: "root first", about: "The chain begins with the root.", identity: s.reordered(3, 2, 1, 0)},
		{name: "keyEncipherment", about: "The seal's key usage is keyEncipherment.", identity: usage(x509.KeyUsageKeyEncipherment)},
		{name: "keyAgreement and cRLSign", about: "The seal's key usage is keyAgreement and cRLSign.", identity: usage(x509.KeyUsageKeyAgreement | x509.KeyUsageCRLSign)},
		{name: "no key usage", about: "The seal states no key usage.", identity: usage(0)},
	}))
}

// violating sets the rule that forgeries break.
func violating(reason *rule.Rule, forgeries []forgery) []forgery {
	for i := range forgeries {
		forgeries[i].rule = reason
	}
	return forgeries
}

func (s *Attempts) wrongOrder() []forgery {
	other := s.Other.Certificates[0]
	strange := must(testca.New(testca.Config{Name: "Strange", NewKey: testca.PooledKey}))
	follows := s.reordered(0, 1, 2, 3)
	follows.Chain = append(follows.Chain, strange.Authority(testca.Root).Certificate())
	between := s.reordered(0)
	between.Chain = append(between.Chain, other, s.Consumer.Certificates[1], s.Consumer.Certificates[2], s.ca.Root())
	altered := s.sealWith(nil) // in the lowest bit of its serial number
	leaf := altered.Certificate()
	der := slices.Clone(leaf.Raw)
	serial := must(asn1.Marshal(leaf.SerialNumber))
	der[bytes.Index(der, serial)+len(serial)-1] ^= 1
	altered.Chain[0] = must(x509.ParseCertificate(der))
	swapped := func(from int) *testca.Identity { // with the chain of the trusted CA from an index on
		id := s.sealOfOtherCA()
		id.Chain = append(id.Chain[:from:from], s.Consumer.Certificates[from:]...)
		return id
	}
	sha1 := func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }
	return violating(rule.ChainOrder, []forgery{
		{name: "issuers from the root down", about: "The issuers stand in the wrong order.", identity: s.reordered(0, 3, 2, 1)},
		{name: "two exchanged", about: "The issuing CA and the sub CA are exchanged.", identity: s.reordered(0, 2, 1, 3)},
		{name: "link missing", about: "The sub CA is missing.", identity: s.reordered(0, 1, 3)},
		{name: "leaf and root only", about: "Both CAs between seal and root are missing.", identity: s.reordered(0, 3)},
		{name: "leaf twice", about: "The seal stands in x5c twice.", identity: s.reordered(0, 0, 1, 2, 3)},
		{name: "stranger behind the root", about: "A root with another name follows the root.", identity: follows},
		{name: "stranger between", about: "Another party's seal stands between seal and issuing CA.", identity: between},
		// From here on the names fit, the signatures do not.
		{name: "another key under the same name", about: "An issuing CA with the name of the real one and another key issued the seal, and the real one is shown.", identity: swapped(1)},
		{name: "last link", about: "Another CA with the same names issued the seal, and the trusted root is shown in place of its own.", identity: swapped(3)},
		{name: "altered", about: "The seal's serial number was changed after it was signed.", identity: altered},
		{name: "signed with SHA-1", about: "The seal is signed with SHA-1.", identity: s.sealWith(sha1)},
		{name: "issuer signed with SHA-1", about: "The issuing CA is signed with SHA-1.", identity: s.issuing(sha1)},
	})
}

// sealOfOtherCA is a seal of the consumer that another CA with the same names issued.
func (s *Attempts) sealOfOtherCA() *testca.Identity {
	return must(NewCA().ca.Seal(s.sealRequest(testca.SealRequest{})))
}

// wrongIssuers break the rules about who issued a certificate.
func (s *Attempts) wrongIssuers() []forgery {
	leaf := &testca.Identity{Key: s.Other.Key, Chain: s.Other.Certificates}
	// The identifier is under the arc for examples (ITU-T X.660 section A.8).
	unknown := func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 999, 1}, Critical: true, Value: []byte{5, 0}})
	}
	pathLength := s.authority(testca.Sub, nil, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	constrained := s.authority(testca.Issuing, nil, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedEmailAddresses = true, []string{"permitted.example.org"}
	})
	selfSigned := must(testca.SelfSign(must(s.ca.ca.SealTemplate(s.sealRequest(testca.SealRequest{}))), s.Consumer.Key))
	return slices.Concat(violating(rule.ChainIssuer, []forgery{
		{name: "leaf as a CA", about: "Another party's seal issued the seal: every participant could pass as every other.", identity: s.seal(testca.SealRequest{Issuer: leaf})},
		{name: "CA:FALSE", about: "The issuing CA's basic constraints say that it is none.", identity: s.issuing(func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLen = false, 0
		})},
		{name: "no basic constraints", about: "The issuing CA has no basic constraints.", identity: s.issuing(func(c *x509.Certificate) {
			c.BasicConstraintsValid, c.IsCA, c.MaxPathLen = false, false, 0
		})},
		{name: "no keyCertSign", about: "The issuing CA's key usage lacks keyCertSign.", identity: s.issuing(func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
		})},
		// PolicyConstraints with requireExplicitPolicy 0.
		{name: "policy demanded", about: "The issuing CA demands a certificate policy, and the seal has none.", identity: s.issuing(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 3, 0x80, 1, 0}})
		})},
		{name: "path length", about: "The sub CA may have no CA below it, and has one.", identity: s.seal(testca.SealRequest{Issuer: s.authority(testca.Issuing, pathLength, nil)})},
		{name: "name constraints", about: "The issuing CA may issue for other mail domains than the seal's.", identity: s.seal(testca.SealRequest{
			Issuer: constrained, Template: func(c *x509.Certificate) { c.EmailAddresses = []string{"seal@elsewhere.example.org"} },
		})},
		{name: "unknown critical extension", about: "The seal has a critical extension that nobody knows.", identity: s.sealWith(unknown)},
		{name: "unknown critical extension of the issuer", about: "The issuing CA has a critical extension that nobody knows.", identity: s.issuing(unknown)},
	}), violating(rule.ChainUntrusted, []forgery{
		{name: "another CA", about: "A CA that is not trusted issued the seal.", official: "certificate untrusted", identity: s.sealOfOtherCA()},
		{name: "self-signed", about: "The seal is signed with its own key.", identity: selfSigned},
		{name: "leaf only", about: "x5c holds the seal alone.", identity: s.reordered(0)},
		{name: "without the root", about: "x5c ends below the root, which is what the server trusts.", identity: s.reordered(0, 1, 2)},
	}))
}
