package isharetest

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/trust"
)

// A CA is a certificate authority of three levels, shaped like the test PKI of
// iSHARE: a root, a sub CA, an issuing CA, and seals below it.
type CA struct {
	ca *testca.CA
}

// NewCA makes a certificate authority. All have the same names and different keys:
// a server that goes by names takes one for the other.
func NewCA() *CA {
	return &CA{ca: must(testca.New(testca.Config{NewKey: testca.PooledKey}))}
}

// LoadCA reads a CA from the folder in which a sandbox keeps it, such as waybill-sandbox/ca.
func LoadCA(dir string) (*CA, error) {
	ca, err := testca.Load(dir, testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		return nil, fmt.Errorf("isharetest: %w", err)
	}
	return &CA{ca: ca}, nil
}

// Root is the certificate to trust.
func (c *CA) Root() *x509.Certificate { return c.ca.Authority(testca.Root).Certificate() }

// RootPEM is the certificate to trust, for a file of trust anchors.
func (c *CA) RootPEM() []byte { return testca.EncodeCertificates(c.Root()) }

// Anchors trusts this CA and nothing else.
func (c *CA) Anchors() trust.Anchors {
	return trust.Anchors{trust.FingerprintOf(c.Root()): c.Root().Subject.String()}
}

// Party makes a party with a seal of this CA and a record that says it is in good
// standing, unless a standing says otherwise. It panics when the identifier is none.
func (c *CA) Party(id ishare.PartyID, name string, standing ...Standing) *Party {
	if _, err := ishare.ParsePartyID(string(id)); err != nil {
		panic(fmt.Sprintf("isharetest: %q: %v", id, err))
	}
	p := &Party{ca: c}
	p.setSeal(must(c.ca.Seal(sealRequest(id, name))))
	p.Record = Record(id, name, p.Certificates[0])
	return p.With(standing...)
}

// setSeal has the party sign with a seal, whose key must be an ordinary one.
func (p *Party) setSeal(seal *testca.Identity) {
	key, ok := seal.Key.(*rsa.PrivateKey)
	if !ok {
		panic(fmt.Sprintf("isharetest: a party has no key of type %T", seal.Key))
	}
	p.Key, p.Certificates = key, seal.Chain
}

// sealRequest puts the identifier where seals carry it: organizationIdentifier, or serialNumber for the identifiers of
// the 2.x framework. Identifiers of other methods stand in no certificate.
func sealRequest(id ishare.PartyID, name string) testca.SealRequest {
	r := testca.SealRequest{Organization: name}
	if strings.HasPrefix(string(id), "EU.EORI.") {
		r.SerialNumber = string(id)
		return r
	}
	parts := strings.SplitN(string(id), ".", 3) // did:ishare:EU, NL, NTRNL-10000001
	if derived, err := ishare.DeriveID(parts[len(parts)-1]); err == nil && derived == id {
		r.Country, r.Identifier = parts[1], parts[2]
	}
	return r
}

// must is for what can only go wrong when this package is wrong.
func must[T any](value T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("isharetest: %v", err))
	}
	return value
}
