package isharetest

import (
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// A Standing changes what the Participant Registry says of a party. Without any, a
// party is in good standing.
type Standing func(*Party)

// Inactive says that the party's compliance is inactive.
func Inactive(p *Party) { complianceIs("inactive")(p) }

// Pending says that the party has applied and is not admitted yet. A [Registry] of 3.0, which knows no such status,
// says that its compliance is inactive.
func Pending(p *Party) { complianceIs(statusPending)(p) }

// Suspended says that the party's compliance is suspended.
func Suspended(p *Party) { complianceIs("suspended")(p) }

// Revoked says that the party's compliance is revoked.
func Revoked(p *Party) { complianceIs("revoked")(p) }

func complianceIs(status string) Standing {
	return func(p *Party) {
		p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Status = status })
	}
}

// Ended says that the party's compliance ended yesterday. Its status is active still.
func Ended(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.End = time.Now().UTC().AddDate(0, 0, -1) })
}

// NotYetBegun says that the party's compliance begins tomorrow. Its status is
// active already.
func NotYetBegun(p *Party) {
	p.change(ishare.ClaimFrameworkCompliance, func(c *ishare.Claim) { c.Start = time.Now().UTC().AddDate(0, 0, 1) })
}

// WithoutDates says that the party's compliance is active, and not from when to
// when.
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
	p.register(must(p.ca.ca.Seal(sealRequest(p.ID(), p.Record.Name))).Certificate())
}

// InactiveCertificate says that the party's certificate is registered, and not
// active.
func InactiveCertificate(p *Party) {
	p.change(ishare.ClaimX509Certificate, func(c *ishare.Claim) { c.Status = "inactive" })
}

// EndedCertificate says that the registration of the party's certificate ended
// yesterday.
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
