package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/ishare"
)

var _ Source = (*File)(nil)

func party(id ishare.PartyID, aliases ...ishare.PartyID) *ishare.Party {
	return &ishare.Party{ID: id, Name: "The " + string(id), AlsoKnownAs: aliases}
}

func TestListFindsEveryIdentifier(t *testing.T) {
	t.Parallel()
	a := party("did:ishare:EU.NL.NTRNL-1", "did:ishare:EU.NL.NTRNL-1", "EU.EORI.NL1", "did:web:one.example")
	b := party("did:ishare:EU.NL.NTRNL-2")
	list, err := NewList([]*ishare.Party{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if list.Len() != 2 {
		t.Errorf("Len() = %d, want 2", list.Len())
	}
	for _, id := range []ishare.PartyID{a.ID, "EU.EORI.NL1", "did:web:one.example"} {
		if got, err := list.Party(t.Context(), id); got != a || err != nil {
			t.Errorf("Party(%s) = %v, %v, want the first record", id, got, err)
		}
	}
	for _, id := range []ishare.PartyID{"", "did:ishare:EU.NL.NTRNL-3", "eu.eori.nl1", "EU.EORI.NL1 "} {
		if got, err := list.Party(t.Context(), id); got != nil || !errors.Is(err, ErrUnknown) {
			t.Errorf("Party(%q) = %v, %v, want ErrUnknown", id, got, err)
		}
	}
}

func TestZeroListKnowsNobody(t *testing.T) {
	t.Parallel()
	var list List
	if _, err := list.Party(t.Context(), "did:x:1"); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
}

func TestListRefusesIdentifierOfTwoRecords(t *testing.T) {
	t.Parallel()
	cases := map[string][]*ishare.Party{
		"alias and alias":   {party("did:x:1", "did:x:shared"), party("did:x:2", "did:x:shared")},
		"id and alias":      {party("did:x:1"), party("did:x:2", "did:x:1")},
		"alias and id":      {party("did:x:1", "did:x:2"), party("did:x:2")},
		"the same id twice": {party("did:x:1"), party("did:x:1")},
	}
	for name, parties := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := NewList(parties)
			if err == nil {
				t.Fatal("accepted")
			}
			for i, p := range parties {
				if n := []string{"number 0 (", "number 1 ("}[i]; !strings.Contains(err.Error(), n+string(p.ID)) {
					t.Errorf("the error does not name record %d: %v", i, err)
				}
			}
		})
	}
}

func TestListReportsEveryConflict(t *testing.T) {
	t.Parallel()
	_, err := NewList([]*ishare.Party{party("did:x:1", "did:x:a", "did:x:b"), party("did:x:2", "did:x:a"), party("did:x:3", "did:x:b")})
	if err == nil || !strings.Contains(err.Error(), "did:x:a") || !strings.Contains(err.Error(), "did:x:b") {
		t.Errorf("error %v does not name both identifiers", err)
	}
}
