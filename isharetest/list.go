package isharetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
)

// A List is a Participant Registry in memory, whose word can be changed while a
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

// Remove forgets the party that goes by this identifier.
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

// Fail puts the list out of reach with this error. Nil brings it back.
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

// Party returns the record of the party that goes by id. The error wraps
// [ishare.ErrUnknownParty] when there is none.
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
