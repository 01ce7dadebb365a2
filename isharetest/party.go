package isharetest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
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

// Assertion makes a client assertion for a server, which takes it once and within 30 seconds.
func (p *Party) Assertion(audience ishare.PartyID) string {
	return must(p.Maker().Make(audience))
}

// With returns a copy of the party in another standing. The party itself stays as it is.
func (p *Party) With(standing ...Standing) *Party {
	changed := *p
	changed.Record = clone(p.Record)
	for _, change := range standing {
		change(&changed)
	}
	return &changed
}

// Resealed returns a copy of the party with another seal, and a record that registers both. The function, which may be
// nil, can change the certificate before it is signed: its validity, its key usage, its extensions.
func (p *Party) Resealed(change func(*x509.Certificate)) *Party {
	r := sealRequest(p.ID(), p.Record.Name)
	r.Template = change
	resealed := p.With()
	resealed.setSeal(must(p.ca.ca.Seal(r)))
	register(resealed.Record, resealed.Certificates[0])
	return resealed
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
		register(record, cert)
	}
	return record
}

func roleClaim(role string) ishare.Claim {
	c := claim(ishare.ClaimFrameworkRole)
	c.FrameworkID = ishare.FrameworkISHARE
	c.RoleID, c.LoA = role, "high"
	return c
}

// register adds a certificate to a record.
func register(record *ishare.Party, cert *x509.Certificate) {
	c := claim(ishare.ClaimX509Certificate)
	c.SubjectName = cert.Subject.CommonName
	c.CertificateType = "eSEAL"
	c.X5C = base64.StdEncoding.EncodeToString(cert.Raw)
	c.X5T = ishare.Thumbprint(cert.Raw)
	record.Claims = append(record.Claims, c)
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

// A Standing changes what the Participant Registry says of a party. Without any, a party is in good standing.
type Standing func(*Party)

// Inactive says that the party's compliance is inactive.
func Inactive(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Status = "inactive" })
}

// Pending says that the party has applied and is not admitted yet. A [Registry] of 3.0, which knows no such status,
// says that its compliance is inactive.
func Pending(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Status = statusPending })
}

// Suspended says that the party's compliance is suspended.
func Suspended(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Status = "suspended" })
}

// Revoked says that the party's compliance is revoked.
func Revoked(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Status = "revoked" })
}

// Ended says that the party's compliance ended yesterday. Its status is active still.
func Ended(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.End = time.Now().UTC().AddDate(0, 0, -1) })
}

// NotYetBegun says that the party's compliance begins tomorrow. Its status is active already.
func NotYetBegun(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Start = time.Now().UTC().AddDate(0, 0, 1) })
}

// WithoutDates says that the party's compliance is active, and not from when to when.
func WithoutDates(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Start, c.End = time.Time{}, time.Time{} })
}

// OtherFramework says that the party complies with another framework than iSHARE.
func OtherFramework(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.FrameworkID = "OTHER" })
}

// WithoutCompliance says nothing of the party's compliance.
func WithoutCompliance(p *Party) { p.remove(ishare.ClaimFrameworkCompliance) }

// WithoutCertificate says that no certificate is registered for the party.
func WithoutCertificate(p *Party) { p.remove(ishare.ClaimX509Certificate) }

// OtherCertificate says that another seal of the same CA, with the same subject, is
// registered for the party than the one that it signs with.
func OtherCertificate(p *Party) {
	WithoutCertificate(p)
	register(p.Record, must(p.ca.ca.Seal(sealRequest(p.ID(), p.Record.Name))).Certificate())
}

// InactiveCertificate says that the party's certificate is registered, and not active.
func InactiveCertificate(p *Party) {
	p.change(ishare.ClaimX509Certificate, func(c *ishare.Claim) { c.Status = "inactive" })
}

// EndedCertificate says that the registration of the party's certificate ended yesterday.
func EndedCertificate(p *Party) {
	p.change(ishare.ClaimX509Certificate, func(c *ishare.Claim) { c.End = time.Now().UTC().AddDate(0, 0, -1) })
}

// WithoutRole says that the party holds no framework role.
func WithoutRole(p *Party) { p.remove(ishare.ClaimFrameworkRole) }

// InactiveRole says that the party's framework roles are not active.
func InactiveRole(p *Party) {
	p.change(ishare.ClaimFrameworkRole, func(c *ishare.Claim) { c.Status = "inactive" })
}

// AlsoKnownAs says that the party goes by these identifiers as well.
func AlsoKnownAs(ids ...ishare.PartyID) Standing {
	return func(p *Party) { p.Record.AlsoKnownAs = append(p.Record.AlsoKnownAs, ids...) }
}

// WithRole says that the party holds a further framework role.
func WithRole(role string) Standing {
	return func(p *Party) { p.Record.Claims = append(p.Record.Claims, roleClaim(role)) }
}

// MemberOf says that the party is a member of a data space.
func MemberOf(dataspace string) Standing {
	return func(p *Party) {
		c := claim(ishare.ClaimDataspaceMembership)
		c.DataspaceID = dataspace
		p.Record.Claims = append(p.Record.Claims, c)
	}
}

// A List is a Participant Registry in memory, whose records can be changed while a
// test runs. It is safe for concurrent use.
type List struct {
	mu      sync.Mutex
	records []*ishare.Party
	outage  error
}

var _ assertion.PartySource = (*List)(nil)

// NewList makes a list of these parties.
func NewList(parties ...*Party) *List {
	l := &List{}
	for _, p := range parties {
		l.Put(p)
	}
	return l
}

// Put adds a party as its record stands now, or takes the record in place of an
// earlier one with the same canonical identifier:
//
//	list.Put(consumer.With(isharetest.Suspended))
func (l *List) Put(p *Party) {
	record := clone(p.Record)
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.records, func(r *ishare.Party) bool { return r.ID == record.ID }); i >= 0 {
		l.records[i] = record
		return
	}
	l.records = append(l.records, record)
}

// Remove removes the party with this identifier.
func (l *List) Remove(id ishare.PartyID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = slices.DeleteFunc(l.records, func(r *ishare.Party) bool { return r.KnownAs(id) })
}

// Replace makes these parties the only ones, in this order.
func (l *List) Replace(parties ...*Party) {
	records := make([]*ishare.Party, len(parties))
	for i, p := range parties {
		records[i] = clone(p.Record)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = records
}

// Fail has every lookup end with this error. Nil ends that.
func (l *List) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outage = err
}

// all returns every record.
func (l *List) all() ([]*ishare.Party, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records), l.outage
}

// Party returns the record of the party that goes by id. The error wraps [ishare.ErrUnknownParty] when there is none.
func (l *List) Party(_ context.Context, id ishare.PartyID) (*ishare.Party, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.outage != nil {
		return nil, l.outage
	}
	for _, r := range l.records {
		if r.KnownAs(id) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("isharetest: %s: %w", id, ishare.ErrUnknownParty)
}
