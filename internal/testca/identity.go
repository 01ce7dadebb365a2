package testca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
)

// serialBits keeps serial numbers positive and within 20 octets (RFC 5280
// section 4.1.2.2). They are random, so that nothing has to count them.
const serialBits = 159

// An Identity is a key with the chain of its certificate: of a CA, of a seal, or of a forgery.
type Identity struct {
	Key   crypto.Signer
	Chain []*x509.Certificate // its own certificate first, the root last
}

// Certificate is the identity's own certificate.
func (id *Identity) Certificate() *x509.Certificate { return id.Chain[0] }

// Issue signs a certificate for a key, and returns it with the chain of the identity behind it. Neither the identity
// nor the template is checked. A serial number and a subject key identifier are added where the template has none.
func (id *Identity) Issue(template *x509.Certificate, key crypto.Signer) (*Identity, error) {
	cert, err := sign(template, id.Certificate(), key.Public(), id.Key)
	if err != nil {
		return nil, err
	}
	return &Identity{Key: key, Chain: slices.Insert(slices.Clone(id.Chain), 0, cert)}, nil
}

// SelfSign makes an identity with a self-signed certificate, as roots have.
func SelfSign(template *x509.Certificate, key crypto.Signer) (*Identity, error) {
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Identity{Key: key, Chain: []*x509.Certificate{cert}}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	t := *template
	if t.SerialNumber == nil {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
		if err != nil {
			return nil, fmt.Errorf("test CA: serial number: %w", err)
		}
		t.SerialNumber = serial.Add(serial, big.NewInt(1)) // never zero
	}
	if t.SubjectKeyId == nil {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("test CA: public key of %s: %w", t.Subject, err)
		}
		sum := sha256.Sum256(der)
		t.SubjectKeyId = sum[:20] // RFC 7093 section 2
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, parent, public, by)
	if err != nil {
		return nil, fmt.Errorf("test CA: certificate of %s: %w", t.Subject, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("test CA: certificate of %s: %w", t.Subject, err)
	}
	return cert, nil
}
