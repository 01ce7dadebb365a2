package isharetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
)

// RoleServiceConsumer is the framework role that every party here holds.
const RoleServiceConsumer = "ServiceConsumer"

// Registrar is the registry that stands behind every claim of a [Record].
const Registrar = "did:ishare:EU.NL.NTRNL-00000000"

// A Party is a participant with all that it needs to ask for a token.
type Party struct {
	// Record is what the Participant Registry says of the party.
	Record *ishare.Party
	// Key is the private key of the party's seal.
	Key *rsa.PrivateKey
	// Certificates is the chain of the seal, leaf first, root last.
	Certificates []*x509.Certificate

	ca *CA
}

// ID is the party's canonical identifier.
func (p *Party) ID() ishare.PartyID { return p.Record.ID }

// Maker makes the party's client assertions.
func (p *Party) Maker() *assertion.Maker {
	return &assertion.Maker{ClientID: p.ID(), Key: p.Key, Certificates: p.Certificates}
}

// Assertion makes a client assertion for a server, which takes it once and within
// 30 seconds.
func (p *Party) Assertion(audience ishare.PartyID) string {
	return must(p.Maker().Make(audience))
}

// With returns a copy of the party in another standing. The party itself stays as
// it is.
func (p *Party) With(standing ...Standing) *Party {
	changed := *p
	changed.Record = clone(p.Record)
	for _, change := range standing {
		change(&changed)
	}
	return &changed
}

// Resealed returns a copy of the party with another seal, and a record that
// registers both. The function, which may be nil, can change the certificate before
// it is signed: its validity, its key usage, its extensions.
func (p *Party) Resealed(change func(*x509.Certificate)) *Party {
	r := sealRequest(p.ID(), p.Record.Name)
	r.Template = change
	resealed := p.With()
	resealed.take(must(p.ca.ca.Seal(r)))
	resealed.register(resealed.Certificates[0])
	return resealed
}

// register adds a certificate to the record.
func (p *Party) register(certificates ...*x509.Certificate) {
	for _, cert := range certificates {
		p.Record.Claims = append(p.Record.Claims, certificateClaim(cert))
	}
}

// change edits the claims of one type.
func (p *Party) change(claimType string, edit func(*ishare.Claim)) {
	for i := range p.Record.Claims {
		if c := &p.Record.Claims[i]; c.Type == claimType {
			edit(c)
		}
	}
}

// remove deletes the claims of one type.
func (p *Party) remove(claimType string) {
	p.Record.Claims = slices.DeleteFunc(p.Record.Claims, func(c ishare.Claim) bool { return c.Type == claimType })
}

func clone(record *ishare.Party) *ishare.Party {
	c := *record
	c.AlsoKnownAs = slices.Clone(c.AlsoKnownAs)
	c.Claims = slices.Clone(c.Claims)
	return &c
}

// Record is the record of a party in good standing: compliant from a year ago to a
// year from now, in the role [RoleServiceConsumer], with these certificates.
func Record(id ishare.PartyID, name string, certificates ...*x509.Certificate) *ishare.Party {
	compliance := claim(ishare.ClaimFrameworkCompliance)
	compliance.FrameworkID = ishare.FrameworkISHARE
	record := &ishare.Party{ID: id, Name: name, Claims: []ishare.Claim{compliance, roleClaim(RoleServiceConsumer)}}
	for _, cert := range certificates {
		record.Claims = append(record.Claims, certificateClaim(cert))
	}
	return record
}

func roleClaim(role string) ishare.Claim {
	c := claim(ishare.ClaimFrameworkRole)
	c.FrameworkID = ishare.FrameworkISHARE
	c.RoleID, c.LoA = role, "high"
	return c
}

func certificateClaim(cert *x509.Certificate) ishare.Claim {
	c := claim(ishare.ClaimX509Certificate)
	c.SubjectName = cert.Subject.CommonName
	c.CertificateType = "eSEAL"
	c.X5C = base64.StdEncoding.EncodeToString(cert.Raw)
	c.X5T = ishare.Thumbprint(cert.Raw)
	return c
}

func claim(claimType string) ishare.Claim {
	now := time.Now().UTC().Truncate(time.Second)
	return ishare.Claim{
		ID: uuid(), Type: claimType, Status: "active", RegistrarID: Registrar,
		Start: now.AddDate(-1, 0, 0), End: now.AddDate(1, 0, 0),
	}
}

// uuid makes a random UUID (RFC 9562 section 5.4), as claims in real records have.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
