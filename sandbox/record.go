package sandbox

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
)

// record is what a registrar says of the member, in the shape of 3.0.
func (m *member) record(registrar ishare.PartyID) *ishare.Party {
	c := claims{registrar: registrar, from: m.seal.Certificate().NotBefore, to: m.seal.Certificate().NotAfter}
	c.compliance(standingOf(m.standing.get()))
	c.role(m.role)
	if seal := m.registeredSeal(); seal != nil {
		c.certificate(seal)
	}
	return &ishare.Party{
		ID: m.ID, Name: m.Name, Claims: c.list,
		AlsoKnownAs: append([]ishare.PartyID{m.ID}, m.AlsoKnownAs...), // as registries do
	}
}

// claims collects what a registrar says of one party.
type claims struct {
	registrar ishare.PartyID
	from, to  time.Time
	list      []ishare.Claim
}

func (c *claims) add(kind string, edit func(*ishare.Claim)) {
	claim := ishare.Claim{
		ID: fmt.Sprintf("11111111-0000-4000-8000-%012d", len(c.list)+1), Type: kind, Status: "active",
		RegistrarID: string(c.registrar), Start: c.from, End: c.to,
	}
	edit(&claim)
	c.list = append(c.list, claim)
}

// compliance that has ended did so a month before it is asked about.
func (c *claims) compliance(s standing) {
	c.add(ishare.ClaimFrameworkCompliance, func(claim *ishare.Claim) {
		claim.FrameworkID, claim.Status = ishare.FrameworkISHARE, s.status
		if s.ended {
			today := time.Now().UTC().Truncate(24 * time.Hour)
			claim.Start, claim.End = today.AddDate(-1, 0, 0), today.AddDate(0, -1, 0)
		}
	})
}

func (c *claims) role(role string) {
	c.add(ishare.ClaimFrameworkRole, func(claim *ishare.Claim) {
		claim.FrameworkID, claim.RoleID, claim.LoA = ishare.FrameworkISHARE, role, "high"
	})
}

func (c *claims) certificate(seal *testca.Identity) {
	cert := seal.Certificate()
	c.add(ishare.ClaimX509Certificate, func(claim *ishare.Claim) {
		claim.SubjectName, claim.CertificateType = cert.Subject.String(), "eSEAL"
		claim.X5C, claim.X5T = base64.StdEncoding.EncodeToString(cert.Raw), ishare.Thumbprint(cert.Raw)
		claim.Start, claim.End = cert.NotBefore, cert.NotAfter
	})
}
