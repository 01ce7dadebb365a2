package registry

import (
	"bytes"
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

// A record is what a registry says of a party, in the shape of 3.0. The claims are
// as they were written.
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

// party reads the claims one by one. One that cannot be read counts for nothing: a claim
// of a kind that nobody here knows must not lock its party out. But a claim that is
// withdrawn speaks against others of the same thing, so it counts as far as it can be
// read. A name under which nobody could ask for the party counts for nothing too.
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

// readWithdrawn reads what a claim that cannot be read as a whole says of what it is about
// and of its status, each member by itself. It reports whether the claim is one that was
// taken back. Such a claim has no dates: of those that are there, nobody knows whether
// they can be believed, and without them it never ceases to hold.
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

// pick finds the party that goes by id among the records of an answer. The error
// wraps errNobody when there are none.
//
// A registry, or somebody between, that answers about another party could let that
// one in under the name of the first. And an answer that is no answer to the question is not
// a no.
func pick(records []jsontext.Value, version Version, id ishare.PartyID, log *slog.Logger) (*ishare.Party, error) {
	var picked *record
	var broken error
	for _, written := range records {
		r, err := readRecord(written, version)
		switch {
		case err != nil:
			broken = err
		case r.ID != string(id) && !slices.Contains(r.AlsoKnownAs, string(id)):
		case picked != nil:
			return nil, errSeveral
		default:
			picked = r
		}
	}
	switch {
	case picked != nil:
		return picked.party(log)
	case broken != nil:
		return nil, broken
	case len(records) > 0:
		return nil, errAnother
	}
	return nil, errNobody
}
