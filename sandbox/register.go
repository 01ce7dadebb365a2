package sandbox

import (
	"context"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
)

// A register is what the registrar says of everybody at this moment.
type register struct {
	registrar ishare.PartyID
	members   []*member
}

var _ assertion.PartySource = (*register)(nil)

// An entry is what the register says of one party.
type entry struct {
	record   *ishare.Party
	standing standing
}

// entries lists everybody who is in the register.
func (r *register) entries() []entry {
	var list []entry
	for _, m := range r.members {
		if s := standingOf(m.standing.get()); s.name != unknown {
			list = append(list, entry{record: m.record(r.registrar), standing: s})
		}
	}
	return list
}

// find is the entry of whoever goes by the identifier.
func (r *register) find(id ishare.PartyID) (entry, bool) {
	for _, e := range r.entries() {
		if e.record.KnownAs(id) {
			return e, true
		}
	}
	return entry{}, false
}

// otherThan is the entry of somebody who does not go by the identifier.
func (r *register) otherThan(id ishare.PartyID) (entry, bool) {
	for _, e := range r.entries() {
		if !e.record.KnownAs(id) {
			return e, true
		}
	}
	return entry{}, false
}

// Party makes the register a source for the registry's own token endpoint.
func (r *register) Party(_ context.Context, id ishare.PartyID) (*ishare.Party, error) {
	if e, ok := r.find(id); ok {
		return e.record, nil
	}
	return nil, ishare.ErrUnknownParty
}

// A search is what a client looks for. Fields that are not set match everybody.
type search struct {
	id, alias     ishare.PartyID
	name          string // may hold one * for any text
	activeOnly    bool
	page, perPage int // pages count from 1
}

func (s search) matches(e entry) bool {
	return (s.id == "" || e.record.KnownAs(s.id)) &&
		(s.alias == "" || slices.Contains(e.record.AlsoKnownAs, s.alias)) &&
		(s.name == "" || matchesName(s.name, e.record.Name)) &&
		(!s.activeOnly || e.standing.name == active)
}

func matchesName(pattern, name string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == name
	}
	return len(name) >= len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

// A page is a part of what was found.
type page struct {
	search

	entries []entry
	total   int // on all pages
}

func (p page) pages() int { return (p.total + p.perPage - 1) / p.perPage }

func (r *register) search(s search) page {
	found := slices.DeleteFunc(r.entries(), func(e entry) bool { return !s.matches(e) })
	from := min((s.page-1)*s.perPage, len(found))
	to := min(from+s.perPage, len(found))
	return page{search: s, entries: found[from:to], total: len(found)}
}
