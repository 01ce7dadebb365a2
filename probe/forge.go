package probe

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
)

// A forge makes keys and certificates that nobody asked for. It makes each key once. It is not safe for concurrent use.
type forge struct {
	endpoint string
	newKey   newKey
	keys     [2]*rsa.PrivateKey
}

// A newKey makes a key. That of tests is cheaper than rsa.GenerateKey.
type newKey func(bits int) (*rsa.PrivateKey, error)

func generate(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }

// Whose keys a forge makes.
const (
	strangersKey = iota
	authoritysKey
)

func (f *forge) key(whose int) (*rsa.PrivateKey, error) {
	if f.keys[whose] == nil {
		made, err := f.newKey(testca.DefaultKeyBits)
		if err != nil {
			return nil, err
		}
		f.keys[whose] = made
	}
	return f.keys[whose], nil
}

// stranger is a key that belongs to no certificate.
func (f *forge) stranger() (*rsa.PrivateKey, error) { return f.key(strangersKey) }

// endpointURL is where the token endpoint is, or could be.
func (f *forge) endpointURL() string {
	return cmp.Or(f.endpoint, "https://provider.example"+ishare.TokenPath)
}

// selfSigned is a certificate of nobody.
func (f *forge) selfSigned(name string) (*testca.Identity, error) {
	key, err := f.stranger()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return testca.SelfSign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, key)
}

// like is a certificate with the names, the dates and the uses of another one, before it is signed.
func like(c *x509.Certificate) *x509.Certificate {
	return &x509.Certificate{
		RawSubject: c.RawSubject, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		KeyUsage: c.KeyUsage, ExtKeyUsage: c.ExtKeyUsage, UnknownExtKeyUsage: c.UnknownExtKeyUsage,
		BasicConstraintsValid: c.BasicConstraintsValid, IsCA: c.IsCA, MaxPathLen: c.MaxPathLen, MaxPathLenZero: c.MaxPathLenZero,
		OCSPServer: c.OCSPServer, CRLDistributionPoints: c.CRLDistributionPoints,
	}
}

// mirror makes a chain like another one, with other keys. The last certificate is signed by itself.
func (f *forge) mirror(chain []*x509.Certificate) (*testca.Identity, error) {
	authority, err := f.key(authoritysKey)
	if err != nil {
		return nil, err
	}
	leaf, err := f.stranger()
	if err != nil {
		return nil, err
	}
	var id *testca.Identity
	for i, c := range slices.Backward(chain) {
		key := authority
		if i == 0 {
			key = leaf
		}
		if id == nil {
			id, err = testca.SelfSign(like(c), key)
		} else {
			id, err = id.Issue(like(c), key)
		}
		if err != nil {
			return nil, err
		}
	}
	return id, nil
}

// below makes a certificate like the seal's own, issued by the seal.
func (f *forge) below(s Seal) (*testca.Identity, error) {
	key, err := f.stranger()
	if err != nil {
		return nil, err
	}
	return (&testca.Identity{Key: s.Key, Chain: s.Certificates}).Issue(like(s.Certificates[0]), key)
}

// TestSeals are seals that a test CA issued in the name of a client: a right one, and wrong ones that only a CA can make.
type TestSeals struct {
	made   map[string]*testca.Identity
	failed map[string]error
}

// A sealer makes one seal: like the client's own, by the CA.
type sealer func(ca *testca.Identity, own *x509.Certificate) (*testca.Identity, error)

// sealers are all seals that a test CA makes.
func sealers(newKey newKey) map[string]sealer {
	with := func(change func(*x509.Certificate)) sealer {
		return func(ca *testca.Identity, own *x509.Certificate) (*testca.Identity, error) {
			return issue(ca, own, newKey, change)
		}
	}
	key := func(made func() (crypto.Signer, error)) sealer {
		return func(ca *testca.Identity, own *x509.Certificate) (*testca.Identity, error) {
			key, err := made()
			if err != nil {
				return nil, err
			}
			return ca.Issue(like(own), key)
		}
	}
	below := func(change func(*x509.Certificate)) sealer { // a CA below the CA
		return func(ca *testca.Identity, own *x509.Certificate) (*testca.Identity, error) {
			t := like(ca.Certificate())
			t.RawSubject = nil
			t.Subject = pkix.Name{Organization: []string{"Probe"}, CommonName: "Probe CA"}
			change(t)
			key, err := newKey(testca.DefaultKeyBits)
			if err != nil {
				return nil, err
			}
			sub, err := ca.Issue(t, key)
			if err != nil {
				return nil, err
			}
			return issue(sub, own, newKey, func(*x509.Certificate) {})
		}
	}
	expire := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
	}
	return map[string]sealer{
		"right":           with(func(*x509.Certificate) {}),
		"expired":         with(expire),
		"not-yet-valid":   with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
		"keyEncipherment": with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }),
		"leaf-is-a-CA": with(func(c *x509.Certificate) {
			c.BasicConstraintsValid, c.IsCA = true, true
			c.KeyUsage |= x509.KeyUsageCertSign
		}),
		"SHA-1":          with(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }),
		"1024-bits":      key(func() (crypto.Signer, error) { return newKey(1024) }),
		"ECDSA":          key(func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }),
		"issuer-expired": below(expire),
		"no-keyCertSign": below(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature }),
		"of-another-party": func(ca *testca.Identity, own *x509.Certificate) (*testca.Identity, error) {
			return forAnother(ca, own, newKey)
		},
	}
}

func issue(ca *testca.Identity, own *x509.Certificate, newKey newKey, change func(*x509.Certificate)) (*testca.Identity, error) {
	key, err := newKey(testca.DefaultKeyBits)
	if err != nil {
		return nil, err
	}
	t := like(own)
	change(t)
	return ca.Issue(t, key)
}

// Where a seal carries the identifier of its party.
var (
	oidOrganizationIdentifier = asn1.ObjectIdentifier{2, 5, 4, 97}
	oidSerialNumber           = asn1.ObjectIdentifier{2, 5, 4, 5}
)

// forAnother makes a seal that holds the identifier of another party.
func forAnother(ca *testca.Identity, own *x509.Certificate, newKey newKey) (*testca.Identity, error) {
	var names []pkix.AttributeTypeAndValue
	found := false
	for _, attribute := range own.Subject.Names {
		if text, ok := attribute.Value.(string); ok && (attribute.Type.Equal(oidOrganizationIdentifier) || attribute.Type.Equal(oidSerialNumber)) {
			attribute.Value, found = string(otherParty(ishare.PartyID(text))), true
		}
		names = append(names, attribute)
	}
	if !found {
		return nil, errors.New("one's own seal holds no identifier in organizationIdentifier or serialNumber")
	}
	return issue(ca, own, newKey, func(c *x509.Certificate) { c.RawSubject, c.Subject = nil, pkix.Name{ExtraNames: names} })
}

// NewTestSeals has a CA issue seals like the client's own. The CA is its key and its certificates, in any order; the
// server must trust it. What their chain lacks is taken from that of the client, where its certificates have issued it. The key of
// the CA signs a dozen certificates, and some keys are made, which takes a second or two.
func NewTestSeals(key crypto.Signer, certificates, own []*x509.Certificate) (*TestSeals, error) {
	return newTestSeals(key, certificates, own, generate)
}

func newTestSeals(key crypto.Signer, certificates, own []*x509.Certificate, newKey newKey) (*TestSeals, error) {
	if len(own) == 0 {
		return nil, errors.New("probe: the client has no certificate")
	}
	chain, err := authorityOf(key, certificates, own[1:])
	if err != nil {
		return nil, err
	}
	s := &TestSeals{map[string]*testca.Identity{}, map[string]error{}}
	for name, seal := range sealers(newKey) {
		id, err := seal(&testca.Identity{Key: key, Chain: chain}, own[0])
		if err != nil {
			s.failed[name] = err
			continue
		}
		s.made[name] = id
	}
	return s, nil
}

// authorityOf is the chain of the CA whose key that is, as far as there are certificates.
func authorityOf(key crypto.Signer, certificates, more []*x509.Certificate) ([]*x509.Certificate, error) {
	public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	first := slices.IndexFunc(certificates, func(c *x509.Certificate) bool { return ok && public.Equal(c.PublicKey) })
	switch {
	case first < 0:
		return nil, errors.New("probe: no certificate of the test CA is for its key")
	case !certificates[first].IsCA:
		return nil, errors.New("probe: the certificate of the test CA is not that of a CA")
	}
	chain := certificates[first : first+1 : first+1]
	for range len(certificates) + len(more) {
		last := chain[len(chain)-1]
		for _, c := range slices.Concat(certificates, more) {
			if !slices.ContainsFunc(chain, c.Equal) && last.CheckSignatureFrom(c) == nil {
				chain = append(chain, c)
				break
			}
		}
	}
	return chain, nil
}

func (s *TestSeals) identity(name string) (*testca.Identity, error) {
	if id := s.made[name]; id != nil {
		return id, nil
	}
	return nil, cmp.Or(s.failed[name], fs.ErrNotExist)
}

// Certificates are those to register for the client, so that a server has no other reason to refuse them than the
// one that a case is about.
func (s *TestSeals) Certificates() []*x509.Certificate {
	var leaves []*x509.Certificate
	for _, name := range slices.Sorted(maps.Keys(s.made)) {
		if name != "of-another-party" {
			leaves = append(leaves, s.made[name].Certificate())
		}
	}
	return leaves
}

// Save writes the seals into a folder, NAME.pem and NAME-key.pem each, to be registered and used again.
func (s *TestSeals) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	for name, id := range s.made {
		if err := id.Save(filepath.Join(dir, name+"-key.pem"), filepath.Join(dir, name+".pem")); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	}
	return nil
}

// LoadTestSeals reads what [TestSeals.Save] wrote. The error wraps [fs.ErrNotExist] when there is nothing.
func LoadTestSeals(dir string) (*TestSeals, error) {
	s := &TestSeals{map[string]*testca.Identity{}, map[string]error{}}
	for name := range sealers(generate) {
		id, err := testca.LoadIdentity(filepath.Join(dir, name+"-key.pem"), filepath.Join(dir, name+".pem"))
		switch {
		case name == "right" && err != nil:
			return nil, fmt.Errorf("probe: %w", err)
		case err != nil:
			s.failed[name] = err
		default:
			s.made[name] = id
		}
	}
	return s, nil
}
