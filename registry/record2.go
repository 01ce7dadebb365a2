package registry

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
)

// record2 is a party record of 2.x. It is rewritten as what 3.0 would say, so that
// one parser reads both. Agreements and data spaces, which 2.x words in several
// ways, are left out: a policy that demands membership of a data space needs a
// registry of 3.0.
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
	var old record2
	if err := json.Unmarshal(written, &old); err != nil {
		return nil, fmt.Errorf("party record: %.200s", err.Error())
	}
	ids := old.identifiers()
	if len(ids) == 0 {
		return nil, errors.New("party record: no party_id")
	}
	r := &record{ID: ids[0], Name: old.Name, AlsoKnownAs: ids[1:]}
	r.Claims = appendClaim[adherence2](r.Claims, old.Adherence, old.Registrar)
	for _, certificate := range old.Certificates {
		r.Claims = appendClaim[certificate2](r.Claims, certificate, old.Registrar)
	}
	for _, role := range old.Roles {
		r.Claims = appendClaim[role2](r.Claims, role, old.Registrar)
	}
	return r, nil
}

// identifiers lists the canonical one first.
func (r *record2) identifiers() []string {
	var ids []string
	for _, v := range []jsontext.Value{r.PartyID, r.ID, r.AlsoKnownAs} {
		ids = append(ids, texts(v)...)
	}
	return ids
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

// appendClaim rewrites a part of an old record as a claim. A part that is not there
// claims nothing, and one that cannot be read is handed on as it is, for the parser
// of claims to refuse.
func appendClaim[T interface{ claim() *claim3 }](claims []jsontext.Value, written jsontext.Value, registrar string) []jsontext.Value {
	if written == nil || written.Kind() == 'n' {
		return claims
	}
	var part T
	if json.Unmarshal(written, &part) != nil {
		return append(claims, written)
	}
	claim := part.claim()
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

type adherence2 struct {
	Status string `json:"status"`
	Start  string `json:"start_date"`
	End    string `json:"end_date"`
}

func (a adherence2) claim() *claim3 {
	return &claim3{
		Type: ishare.ClaimFrameworkCompliance, FrameworkID: ishare.FrameworkISHARE,
		Status: statusWord(a.Status), Start: a.Start, End: a.End,
	}
}

// statusWord gives a status of 2.x in the words of 3.0. Pending has none, and is
// kept.
func statusWord(status string) string {
	word := strings.NewReplacer(" ", "", "-", "", "_", "").Replace(strings.ToLower(status))
	if word == "notactive" {
		return "inactive"
	}
	return word
}

const active = "active"

type certificate2 struct {
	SubjectName string `json:"subject_name"`
	Type        string `json:"certificate_type"`
	EnabledFrom string `json:"enabled_from"`
	X5C         string `json:"x5c"`
	X5T         string `json:"x5t#s256"`
	X5TUpper    string `json:"x5t#S256"` // as RFC 7515 spells it
}

// claim: 2.x knows no status of a certificate; the registry removes one that no
// longer counts. Published records hold entries without any certificate.
func (c certificate2) claim() *claim3 {
	x5t := cmp.Or(c.X5T, c.X5TUpper)
	if c.X5C == "" && x5t == "" {
		return nil
	}
	return &claim3{
		Type: ishare.ClaimX509Certificate, Status: active, Start: c.EnabledFrom,
		SubjectName: c.SubjectName, CertificateType: c.Type, X5C: c.X5C, X5T: x5t,
	}
}

type role2 struct {
	Role  string `json:"role"`
	Start string `json:"start_date"`
	End   string `json:"end_date"`
	LoA   string `json:"loa"`
}

// claim: the documentation writes roles with blanks, and registries without.
func (r role2) claim() *claim3 {
	return &claim3{
		Type: ishare.ClaimFrameworkRole, Status: active, RoleID: strings.ReplaceAll(r.Role, " ", ""),
		LoA: r.LoA, Start: r.Start, End: r.End, FrameworkID: ishare.FrameworkISHARE,
	}
}
