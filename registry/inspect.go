package registry

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/certparse"
	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// A Finding is what is odd about one record in a file: nobody can ever be admitted by it, or a
// name in it is likely misspelt. A server reads the file all the same.
type Finding struct {
	Party   ishare.PartyID
	Line    int // of the file, at which the record begins
	Message string
	Hint    string
}

// Inspect reads the party records in a file and returns what is odd about them at a time, in their order and one
// finding for each record. A party that a registrar has suspended, or whose compliance begins later, is not odd.
//
// The error is that of [OpenFile].
func Inspect(path string, at time.Time) ([]Finding, error) {
	data, err := readFile(path, MaxFileSize)
	if err != nil {
		return nil, err
	}
	found, err := inspect(data, at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

func inspect(data []byte, at time.Time) (found []Finding, err error) {
	text, lines, err := asJSON(data)
	if err != nil {
		return nil, err
	}
	parties, err := ishare.ParseParties(text)
	if err != nil {
		return nil, err
	}
	if lines == nil {
		lines = linesOf(text)
	}
	var written []jsontext.Value
	if err := json.Unmarshal(text, &written); err != nil {
		return nil, err
	}
	for i, party := range parties {
		slips := misspelt(written[i])
		if wrong := slices.Concat(obstacles(party, at), slips); len(wrong) > 0 {
			f := Finding{Party: party.ID, Line: lines[i], Message: strings.Join(wrong, "; "), Hint: "Correct the record, or remove it."}
			if len(wrong) > len(slips) {
				f.Message = "nobody can be admitted by this record: " + f.Message
			}
			found = append(found, f)
		}
	}
	return found, nil
}

// linesOf are the lines at which the elements of a list in JSON begin.
func linesOf(text []byte) []int {
	var lines []int
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	_, _ = dec.ReadToken() // the list was parsed before
	line, seen := 1, 0
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			break
		}
		begin := int(dec.InputOffset()) - len(value)
		line += bytes.Count(text[seen:begin], []byte("\n"))
		lines, seen = append(lines, line), begin
	}
	return lines
}

// obstacles say why nobody will ever be admitted by a record.
func obstacles(p *ishare.Party, at time.Time) []string {
	var why []string
	if err := p.Compliant(at); err != nil && !intended(p.Claims, at) {
		why = append(why, err.Error())
		for _, c := range p.Claims {
			if c.Type == ishare.ClaimFrameworkCompliance && c.FrameworkID != ishare.FrameworkISHARE {
				why = append(why, "its compliance has the frameworkId "+rule.Quote(c.FrameworkID))
			}
		}
	}
	certificate := "it holds no claim of the type " + ishare.ClaimX509Certificate
	for _, c := range p.Claims {
		if c.Type == ishare.ClaimX509Certificate {
			if certificate = useless(&c, at); certificate == "" {
				break
			}
		}
	}
	if certificate != "" {
		why = append(why, certificate)
	}
	return why
}

// intended reports whether somebody wants the party not to comply, or not yet.
func intended(claims []ishare.Claim, at time.Time) bool {
	return slices.ContainsFunc(claims, func(c ishare.Claim) bool {
		if c.Type != ishare.ClaimFrameworkCompliance || c.FrameworkID != ishare.FrameworkISHARE {
			return false
		}
		switch strings.ToLower(c.Status) {
		case "inactive", "revoked", "suspended", "pending":
			return true
		case active:
			return c.Start.After(at) && c.End.After(c.Start)
		}
		return false
	})
}

// useless says why no certificate will ever be taken for the one that is claimed.
func useless(c *ishare.Claim, at time.Time) string {
	switch {
	case c.Status == "":
		return "its certificate has no status, which must be active"
	case !strings.EqualFold(c.Status, active):
		return fmt.Sprintf("the status of its certificate is %s, not active", rule.Quote(c.Status))
	case !c.End.IsZero() && at.After(c.End):
		return "the registration of its certificate ended on " + c.End.UTC().Format(time.DateOnly)
	case c.X5C == "":
		return ""
	}
	der, err := base64.StdEncoding.DecodeString(c.X5C)
	if err != nil {
		return "its x5c is not base64" // which the parser of records refuses
	}
	certificate, err := certparse.Parse(der)
	switch {
	case err != nil:
		return fmt.Sprintf("its x5c cannot be read: %v", err)
	case at.After(certificate.NotAfter):
		return "its certificate expired on " + certificate.NotAfter.UTC().Format(time.DateOnly)
	}
	return ""
}

// misspelt names what in a record, its claims and their types differs by a slip of the hand
// from what is known. What differs by more may be anything that a registry adds.
func misspelt(record jsontext.Value) []string {
	var members map[string]jsontext.Value
	if json.Unmarshal(record, &members) != nil {
		return nil
	}
	slips := slipsIn(members, reflect.TypeFor[ishare.Party]())
	var claims []map[string]jsontext.Value
	if json.Unmarshal(members["claims"], &claims) != nil {
		return slips
	}
	types := []string{ishare.ClaimFrameworkCompliance, ishare.ClaimX509Certificate, ishare.ClaimFrameworkRole, ishare.ClaimDataspaceMembership}
	for i, claim := range claims {
		where := fmt.Sprintf("claim %d: ", i+1)
		for _, slip := range slipsIn(claim, reflect.TypeFor[ishare.Claim]()) {
			slips = append(slips, where+slip)
		}
		var name string
		if json.Unmarshal(claim["type"], &name) != nil || slices.Contains(types, name) {
			continue
		}
		if near := spelling.Nearest(name, types); near != "" {
			slips = append(slips, fmt.Sprintf("%sthe type %s is unknown, did you mean %s?", where, rule.Quote(name), near))
		}
	}
	return slips
}

// slipsIn compares names with the members of a type. So many short words are near to short ones
// that these are left out.
func slipsIn(members map[string]jsontext.Value, of reflect.Type) []string {
	const short = 3
	var known, slips []string
	for _, field := range reflect.VisibleFields(of) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		known = append(known, name)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if slices.Contains(known, name) {
			continue
		}
		near := spelling.Nearest(name, known)
		if _, taken := members[near]; len(near) > short && !taken {
			slips = append(slips, fmt.Sprintf("the member %s is unknown, did you mean %s?", rule.Quote(name), near))
		}
	}
	return slips
}
