package registry

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/trust"
)

// A record is what a registry says of a party, in the shape of 3.0. The claims are as they were written.
type record struct {
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	AlsoKnownAs []string         `json:"alsoKnownAs"`
	Claims      []jsontext.Value `json:"claims"`
}

func readRecord(written jsontext.Value, version Version) (*record, error) {
	if version == Version2 {
		return readRecord2(written)
	}
	var r record
	if err := json.Unmarshal(written, &r); err != nil {
		return nil, fmt.Errorf("party record: %.200s", err.Error())
	}
	return &r, nil
}

// party reads the claims one by one. One that cannot be read counts for nothing: a claim of a kind that nobody here
// knows must not lock its party out. But a claim that is withdrawn speaks against others of the same thing, so it
// counts as far as it can be read. A name under which nobody could ask for the party counts for nothing too.
func (r *record) party(log *slog.Logger) (*ishare.Party, error) {
	id, err := ishare.ParsePartyID(r.ID)
	if err != nil {
		return nil, fmt.Errorf("party record: id: %w", err)
	}
	party := &ishare.Party{ID: id, Name: r.Name}
	for _, alias := range r.AlsoKnownAs {
		if known, err := ishare.ParsePartyID(alias); err == nil {
			party.AlsoKnownAs = append(party.AlsoKnownAs, known)
		}
	}
	for i, written := range r.Claims {
		claim, err := readClaim(written)
		if err == nil {
			party.Claims = append(party.Claims, claim)
			continue
		}
		which := []any{slog.String("party", string(id)), slog.Int("claim", i), slog.Any("error", err)}
		if withdrawn, ok := readWithdrawn(written); ok {
			party.Claims = append(party.Claims, withdrawn)
			log.Warn("a claim in a party record cannot be read and counts as withdrawn", which...)
			continue
		}
		log.Warn("a claim in a party record cannot be read and counts for nothing", which...)
	}
	return party, nil
}

// readClaim leaves it to the one parser of party records what a claim is.
func readClaim(written jsontext.Value) (ishare.Claim, error) {
	var alone bytes.Buffer
	alone.WriteString(`{"id":"did:ishare:claim","name":"","claims":[`)
	alone.Write(written)
	alone.WriteString(`]}`)
	party, err := ishare.ParseParty(alone.Bytes())
	switch {
	case err != nil:
		return ishare.Claim{}, fmt.Errorf("%.200s", err.Error())
	case party.Claims[0].Type == "":
		return ishare.Claim{}, errors.New("it has no type")
	}
	return party.Claims[0], nil
}

// readWithdrawn reads what a claim that cannot be read as a whole says of what it is about and of its status, each
// member by itself. It reports whether the claim is one that was taken back. Such a claim has no dates: of those that
// are there, nobody knows whether they can be believed, and without them it never ceases to hold.
func readWithdrawn(written jsontext.Value) (ishare.Claim, bool) {
	var members map[string]jsontext.Value
	if json.Unmarshal(written, &members) != nil {
		return ishare.Claim{}, false
	}
	c := ishare.Claim{
		Type: textOf(members["type"]), Status: textOf(members["status"]),
		FrameworkID: textOf(members["frameworkId"]), RoleID: textOf(members["roleId"]), DataspaceID: textOf(members["dataspaceId"]),
	}
	if c.Type == ishare.ClaimX509Certificate {
		c.X5T = thumbprintOf(textOf(members["x5c"]), textOf(members["x5t#s256"]))
		if c.X5T == "" {
			return ishare.Claim{}, false // it may be about any certificate
		}
	}
	return c, c.Type != "" && c.Withdrawn(time.Now())
}

// textOf is a member that is a text, and otherwise empty.
func textOf(member jsontext.Value) (text string) {
	if json.Unmarshal(member, &text) != nil {
		return ""
	}
	return text
}

// thumbprintOf is that of a certificate, or else the one that is stated; empty when
// neither can be read. As in every claim, the certificate itself is the truth.
func thumbprintOf(x5c, stated string) string {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(x5c), ""))
	if err == nil && len(der) > 0 {
		return ishare.Thumbprint(der)
	}
	fingerprint, err := trust.ParseFingerprint(strings.TrimSpace(stated))
	if err != nil {
		return ""
	}
	return fingerprint.String()
}

var (
	errAnother = errors.New("the answer is about another party")
	errSeveral = errors.New("several parties go by the identifier")
)

// selectParty finds the party that goes by id among the records of an answer. The error
// wraps errNobody when there are none.
//
// A registry, or somebody between, that answers about another party could let that one in under the name of the first.
// And an answer that is no answer to the question is not a no.
func selectParty(records []jsontext.Value, version Version, id ishare.PartyID, log *slog.Logger) (*ishare.Party, error) {
	var selected *record
	var broken error
	for _, written := range records {
		r, err := readRecord(written, version)
		switch {
		case err != nil:
			broken = err
		case r.ID != string(id) && !slices.Contains(r.AlsoKnownAs, string(id)):
		case selected != nil:
			return nil, errSeveral
		default:
			selected = r
		}
	}
	switch {
	case selected != nil:
		return selected.party(log)
	case broken != nil:
		return nil, broken
	case len(records) > 0:
		return nil, errAnother
	}
	return nil, errNobody
}

// record2 is a party record of 2.x. It is rewritten as what 3.0 would say, so that one parser reads both. Agreements
// and data spaces, which 2.x words in several ways, are left out: a policy that demands membership of a data space
// needs a registry of 3.0.
type record2 struct {
	PartyID      jsontext.Value   `json:"party_id"` // a text, and from 2.1 on also a list
	ID           jsontext.Value   `json:"id"`
	AlsoKnownAs  jsontext.Value   `json:"alsoKnownAs"`
	Name         string           `json:"party_name"`
	Registrar    string           `json:"registrar_id"`
	Adherence    jsontext.Value   `json:"adherence"`
	Certificates []jsontext.Value `json:"certificates"`
	Roles        []jsontext.Value `json:"roles"`
}

func readRecord2(written jsontext.Value) (*record, error) {
	type adherence struct {
		Status string `json:"status"`
		Start  string `json:"start_date"`
		End    string `json:"end_date"`
	}
	type certificate struct {
		SubjectName string `json:"subject_name"`
		Type        string `json:"certificate_type"`
		EnabledFrom string `json:"enabled_from"`
		X5C         string `json:"x5c"`
		X5T         string `json:"x5t#s256"`
		X5TUpper    string `json:"x5t#S256"` // as RFC 7515 spells it
	}
	type role struct {
		Role  string `json:"role"`
		Start string `json:"start_date"`
		End   string `json:"end_date"`
		LoA   string `json:"loa"`
	}
	var old record2
	if err := json.Unmarshal(written, &old); err != nil {
		return nil, fmt.Errorf("party record: %.200s", err.Error())
	}
	ids := slices.Concat(texts(old.PartyID), texts(old.ID), texts(old.AlsoKnownAs)) // the canonical one first
	if len(ids) == 0 {
		return nil, errors.New("party record: no party_id")
	}
	r := &record{ID: ids[0], Name: old.Name, AlsoKnownAs: ids[1:]}
	r.Claims = appendClaim(r.Claims, old.Adherence, old.Registrar, func(a adherence) *claim3 {
		return &claim3{
			Type: ishare.ClaimFrameworkCompliance, FrameworkID: ishare.FrameworkISHARE,
			Status: statusWord(a.Status), Start: a.Start, End: a.End,
		}
	})
	for _, part := range old.Certificates {
		// 2.x knows no status of a certificate; the registry removes one that no longer counts. Published records hold
		// entries without any certificate.
		r.Claims = appendClaim(r.Claims, part, old.Registrar, func(c certificate) *claim3 {
			x5t := cmp.Or(c.X5T, c.X5TUpper)
			if c.X5C == "" && x5t == "" {
				return nil
			}
			return &claim3{
				Type: ishare.ClaimX509Certificate, Status: active, Start: c.EnabledFrom,
				SubjectName: c.SubjectName, CertificateType: c.Type, X5C: c.X5C, X5T: x5t,
			}
		})
	}
	for _, part := range old.Roles {
		// The documentation writes roles with blanks, and registries without.
		r.Claims = appendClaim(r.Claims, part, old.Registrar, func(r role) *claim3 {
			return &claim3{
				Type: ishare.ClaimFrameworkRole, Status: active, RoleID: strings.ReplaceAll(r.Role, " ", ""),
				LoA: r.LoA, Start: r.Start, End: r.End, FrameworkID: ishare.FrameworkISHARE,
			}
		})
	}
	return r, nil
}

// texts reads a text or a list of them, and nothing else.
func texts(v jsontext.Value) []string {
	var one string
	var several []string
	if v.Kind() == '"' && json.Unmarshal(v, &one) == nil {
		return []string{one}
	}
	if v.Kind() == '[' && json.Unmarshal(v, &several) == nil {
		return several
	}
	return nil
}

// claim3 is a claim of 3.0 to be read like one that was received.
type claim3 struct {
	Type            string `json:"type"`
	Status          string `json:"status"`
	RegistrarID     string `json:"registrarId,omitempty"`
	Start           string `json:"startDate,omitempty"`
	End             string `json:"endDate,omitempty"`
	FrameworkID     string `json:"frameworkId,omitempty"`
	RoleID          string `json:"roleId,omitempty"`
	LoA             string `json:"loa,omitempty"`
	SubjectName     string `json:"subjectName,omitempty"`
	CertificateType string `json:"certificateType,omitempty"`
	X5C             string `json:"x5c,omitempty"`
	X5T             string `json:"x5t#s256,omitempty"`
}

// appendClaim rewrites a part of an old record as a claim. A part that is not there claims nothing, and one that cannot
// be read is handed on as it is, for the parser of claims to refuse.
func appendClaim[T any](claims []jsontext.Value, written jsontext.Value, registrar string, rewrite func(T) *claim3) []jsontext.Value {
	if written == nil || written.Kind() == 'n' {
		return claims
	}
	var part T
	if json.Unmarshal(written, &part) != nil {
		return append(claims, written)
	}
	claim := rewrite(part)
	if claim == nil {
		return claims
	}
	claim.RegistrarID = registrar
	rewritten, err := json.Marshal(claim)
	if err != nil {
		return append(claims, written)
	}
	return append(claims, rewritten)
}

// statusWord gives a status of 2.x in the words of 3.0. Pending has none, and is kept.
func statusWord(status string) string {
	word := strings.NewReplacer(" ", "", "-", "", "_", "").Replace(strings.ToLower(status))
	if word == "notactive" {
		return "inactive"
	}
	return word
}

const active = "active"
