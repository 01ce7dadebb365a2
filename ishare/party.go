package ishare

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// TokenPath is where the token endpoint is, below the base URL of a server (iSHARE 3.0, access token).
const TokenPath = "/connect/token"

// ErrUnknownParty is wrapped by a source of party records that was asked and
// knows no such participant: a definite answer, unlike a source out of reach.
var ErrUnknownParty = errors.New("no such participant")

// Types of the claims that a party record makes and that a token request
// depends on. Others are carried along and mean nothing here.
const (
	ClaimFrameworkCompliance = "frameworkCompliance"
	ClaimFrameworkRole       = "frameworkRole"
	ClaimX509Certificate     = "x509Certificate"
	ClaimDataspaceMembership = "dataspaceMembership"
)

// FrameworkISHARE is the frameworkId of the compliance that admits a party.
const FrameworkISHARE = "iSHARE"

// A Party is a party record as iSHARE 3.0 shapes it: who the party is, by which
// other identifiers it goes, and what its registrar claims of it.
type Party struct {
	ID          PartyID   `json:"id"`
	Name        string    `json:"name"`
	AlsoKnownAs []PartyID `json:"alsoKnownAs,omitempty"`
	Claims      []Claim   `json:"claims"`
}

// A Claim is one statement of a registrar about a party. Which of the fields
// beyond the common ones are set depends on Type.
type Claim struct {
	ID          string    `json:"id,omitempty"`
	Type        string    `json:"type"`
	Status      string    `json:"status,omitempty"`
	RegistrarID string    `json:"registrarId,omitempty"`
	Start       time.Time `json:"startDate,omitzero"`
	End         time.Time `json:"endDate,omitzero"`

	FrameworkID string `json:"frameworkId,omitempty"`
	RoleID      string `json:"roleId,omitempty"`
	LoA         string `json:"loa,omitempty"`
	DataspaceID string `json:"dataspaceId,omitempty"`

	SubjectName     string `json:"subjectName,omitempty"`
	CertificateType string `json:"certificateType,omitempty"`
	X5C             string `json:"x5c,omitempty"`      // one certificate: standard base64 of DER, line breaks allowed
	X5T             string `json:"x5t#s256,omitempty"` // SHA-256 of the DER, in hex, either case
}

// ParseParty reads one party record from JSON, strictly: no duplicate members,
// exact member names, valid UTF-8, nothing behind the value.
func ParseParty(data []byte) (*Party, error) {
	var p Party
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("party record: %w", unreadable(err))
	}
	if err := p.normalise(); err != nil {
		return nil, fmt.Errorf("party record: %w", err)
	}
	return &p, nil
}

// ParseParties reads a list of party records, as strictly as [ParseParty].
func ParseParties(data []byte) ([]*Party, error) {
	var list []*Party
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("party records: %w", unreadable(err))
	}
	if list == nil {
		return nil, errors.New("party records: null")
	}
	for i, p := range list {
		if p == nil {
			return nil, fmt.Errorf("party record %d: null", i+1)
		}
		if err := p.normalise(); err != nil {
			return nil, fmt.Errorf("party record %d (%s): %w", i+1, p.ID, err)
		}
	}
	return list, nil
}

// unreadable says which member is not what it should be, in the words of JSON and not of Go.
func unreadable(err error) error {
	wrong, ok := errors.AsType[*json.SemanticError](err)
	if !ok || wrong.GoType == nil {
		return err
	}
	want := "an object"
	switch kind := wrong.GoType.Kind(); {
	case wrong.GoType == reflect.TypeFor[time.Time]():
		want = "a time such as 2026-01-02T15:04:05Z (RFC 3339)"
	case kind == reflect.String:
		want = "text"
	case kind == reflect.Slice:
		want = "a list"
	case kind == reflect.Bool:
		want = "true or false"
	}
	return fmt.Errorf("%s is not %s", cmp.Or(string(wrong.JSONPointer), "the whole"), want)
}

// normalise checks identifiers and certificates, and removes what published
// records carry by accident: blanks around registrarId, line breaks in x5c.
func (p *Party) normalise() error {
	if _, err := ParsePartyID(string(p.ID)); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	for _, id := range p.AlsoKnownAs {
		if _, err := ParsePartyID(string(id)); err != nil {
			return fmt.Errorf("alsoKnownAs: %w", err)
		}
	}
	for i := range p.Claims {
		if err := p.Claims[i].normalise(); err != nil {
			return fmt.Errorf("claim %d (%s): %w", i+1, p.Claims[i].Type, err)
		}
	}
	return nil
}

func (c *Claim) normalise() error {
	c.RegistrarID = strings.TrimSpace(c.RegistrarID)
	c.X5C = strings.Join(strings.Fields(c.X5C), "")
	if c.Type != ClaimX509Certificate {
		return nil
	}
	if c.X5C == "" && c.X5T == "" {
		return errors.New("neither x5c nor x5t#s256")
	}
	c.X5T = strings.ToLower(c.X5T)
	if c.X5C == "" {
		if raw, err := hex.DecodeString(c.X5T); err != nil || len(raw) != sha256.Size {
			return errors.New("x5t#s256 is not a SHA-256 in hex")
		}
		return nil
	}
	der, err := base64.StdEncoding.DecodeString(c.X5C)
	if err != nil {
		return fmt.Errorf("x5c is not base64 of a DER certificate: %w", err)
	}
	// The certificate itself is the truth: published records carry fingerprints of other certificates.
	c.X5T = Thumbprint(der)
	return nil
}

// Thumbprint is the SHA-256 of a certificate's DER in lower-case hex, the form of x5t#s256 in party records.
func Thumbprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Identifiers lists every identifier the party goes by, the canonical one first.
func (p *Party) Identifiers() []PartyID {
	ids := []PartyID{p.ID}
	for _, id := range p.AlsoKnownAs {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// KnownAs reports whether id is one of the party's identifiers.
func (p *Party) KnownAs(id PartyID) bool {
	return id == p.ID || slices.Contains(p.AlsoKnownAs, id)
}

// fault says why the registrar does not stand by the claim at the time; it is empty when the claim's status is active
// (without regard to case) and every date that it states is kept. Compliance must state both its dates.
func (c *Claim) fault(at time.Time) string {
	switch {
	case !strings.EqualFold(c.Status, "active"):
		return "is " + statusWord(c.Status)
	case c.Type == ClaimFrameworkCompliance && (c.Start.IsZero() || c.End.IsZero()):
		return "states no start or end date"
	case !c.Start.IsZero() && at.Before(c.Start):
		return "begins on " + c.Start.UTC().Format(time.DateOnly)
	case !c.End.IsZero() && at.After(c.End):
		return "ended on " + c.End.UTC().Format(time.DateOnly)
	}
	return ""
}

// Withdrawn reports whether the registrar took the claim back (its status is revoked or suspended,
// without regard to case), and the time for which it was made is not over; without an end it never
// is. One that begins later counts: it takes back what is to come.
func (c *Claim) Withdrawn(at time.Time) bool {
	return (strings.EqualFold(c.Status, "revoked") || strings.EqualFold(c.Status, "suspended")) &&
		(c.End.IsZero() || !at.After(c.End))
}

// fault says why none of the claims about the same thing holds at the time, and found
// whether there are any. One that is in force is enough, unless another is withdrawn: as with an
// authority that the trusted list grants and withdraws at once, the withdrawal wins.
func (p *Party) fault(at time.Time, same func(*Claim) bool) (fault string, found bool) {
	inForce := false
	for i := range p.Claims {
		c := &p.Claims[i]
		if !same(c) {
			continue
		}
		why := c.fault(at)
		if c.Withdrawn(at) {
			return why, true
		}
		inForce, found = inForce || why == "", true
		if why != "" {
			fault = why
		}
	}
	if inForce {
		return "", true
	}
	return fault, found
}

// Compliant returns nil when the party complies with the framework at the time, and otherwise an error that says what
// is wrong. Compliance must state both its dates: a claim without them admits nobody.
//
// A record may hold several claims of compliance, such as a former one and its successor. One in force is enough, but
// while another is revoked or suspended and its endDate, if it states one, has not passed, the party does not comply.
// The same goes for several claims of one certificate, role or membership.
func (p *Party) Compliant(at time.Time) error {
	fault, found := p.fault(at, func(c *Claim) bool {
		return c.Type == ClaimFrameworkCompliance && c.FrameworkID == FrameworkISHARE
	})
	switch {
	case !found:
		return errors.New("the record holds no compliance with iSHARE")
	case fault != "":
		return errors.New("compliance " + fault)
	}
	return nil
}

// statusWord names a status in a sentence that a stranger may read: one of the
// framework's words, and never text of the record's own.
func statusWord(status string) string {
	known := []string{"inactive", "revoked", "suspended", "pending"}
	if i := slices.IndexFunc(known, func(w string) bool { return strings.EqualFold(w, status) }); i >= 0 {
		return known[i]
	}
	return "not active"
}

// Certified reports whether the certificate with this [Thumbprint] is registered for the party and active at the time.
// The whole certificate decides: names in certificates differ between systems and prove nothing.
func (p *Party) Certified(thumbprint string, at time.Time) bool {
	return p.CheckCertificate(thumbprint, at) == nil
}

// CheckCertificate returns nil when the party is [Party.Certified], and otherwise an error that says what is wrong.
func (p *Party) CheckCertificate(thumbprint string, at time.Time) error {
	registered := 0
	for i := range p.Claims {
		if p.Claims[i].Type == ClaimX509Certificate {
			registered++
		}
	}
	fault, found := p.fault(at, func(c *Claim) bool { return c.Type == ClaimX509Certificate && c.X5T == thumbprint })
	switch {
	case fault != "":
		return fmt.Errorf("the certificate is registered for the client, and its registration %s (SHA-256 %s)", fault, thumbprint)
	case found:
		return nil
	case registered == 0:
		return fmt.Errorf("no certificate is registered for the client; it signed with SHA-256 %s", thumbprint)
	}
	return fmt.Errorf("the certificate is none of the %d that are registered for the client (SHA-256 %s)", registered, thumbprint)
}

// HasRole reports whether the party holds the framework role at the time.
func (p *Party) HasRole(role string, at time.Time) bool {
	fault, found := p.fault(at, func(c *Claim) bool { return c.Type == ClaimFrameworkRole && c.RoleID == role })
	return found && fault == ""
}

// MemberOf reports whether the party is a member of the data space at the time.
func (p *Party) MemberOf(dataspace string, at time.Time) bool {
	fault, found := p.fault(at, func(c *Claim) bool { return c.Type == ClaimDataspaceMembership && c.DataspaceID == dataspace })
	return found && fault == ""
}
