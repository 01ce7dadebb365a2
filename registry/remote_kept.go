package registry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/waybill-token/waybill/internal/kept"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const (
	defaultKeep = 24 * time.Hour
	keptFiles   = 2 * DefaultCacheSize
	keptBytes   = 256 << 20
	keptList    = "trusted list"
)

// keptParty is the name of the answer about a party, by the identifier that was asked for.
func keptParty(id ishare.PartyID) string { return "party\x00" + string(id) }

// An answerStore keeps answers in the order in which they were asked for.
type answerStore struct {
	folder *kept.Folder // nil: nothing is kept
	life   time.Duration

	mu      sync.Mutex
	pending map[string]*pendingQuestions // by name, as long as there are any
}

// pendingQuestions are those under way whose answers have the same name.
type pendingQuestions struct {
	underWay int
	answered time.Time // when the last one was put of those that were answered
}

// begin notes that a question is put, until done is called.
func (s *answerStore) begin(name string) (done func()) {
	if s.folder == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.pending[name]
	if q == nil {
		q = &pendingQuestions{}
		if s.pending == nil {
			s.pending = map[string]*pendingQuestions{}
		}
		s.pending[name] = q
	}
	q.underWay++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		q.underWay--
		if q.underWay == 0 {
			delete(s.pending, name)
		}
	}
}

// put keeps the answer to a question that began at a time and is still noted; an empty one, that there is nobody, is
// not kept. What was kept before is removed whatever becomes of the new one. An answer to an earlier question than one
// that was answered already is ignored.
func (s *answerStore) put(name, compact string, began time.Time) {
	if s.folder == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.pending[name]; q != nil {
		if began.Before(q.answered) {
			return
		}
		q.answered = began
	}
	s.folder.Remove(name)
	if compact != "" {
		s.folder.Put(name, []byte(compact), time.Now().Add(s.life))
	}
}

// A [Cache] and a [TrustedList] look for these in their source.
var (
	_ PersistentSource     = (*Remote)(nil)
	_ PersistentListSource = (*Remote)(nil)
)

// RecallParty returns the record in the last answer about a party that was kept, and since when
// it may be out of date, at the latest; nil if there is none to be believed. The registry is not asked.
func (r *Remote) RecallParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, time.Time) {
	payload, asOf := r.recall(ctx, keptParty(id))
	records, version, _ := partyRecords(payload) // none when there is no payload, or none that can be read
	party, _ := selectParty(records, version, id, slog.New(slog.DiscardHandler))
	return party, asOf
}

// RecallTrustedList is [Remote.RecallParty] for the trusted list.
func (r *Remote) RecallTrustedList(ctx context.Context) (trust.Anchors, time.Time) {
	payload, asOf := r.recall(ctx, keptList)
	anchors, _, _ := parseTrustedList(payload, slog.New(slog.DiscardHandler)) // likewise
	return anchors, asOf
}

// recall verifies a kept answer again, and removes one that is not believed any more. It stays when nobody
// can tell. An answer is taken to be older than it says by as much as the registry's clock may be ahead.
func (r *Remote) recall(ctx context.Context, name string) (payload []byte, asOf time.Time) {
	compact, ok := r.kept.folder.Get(name)
	if !ok {
		return nil, time.Time{}
	}
	bounded, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	payload, issued, err := r.verifier.ReadKept(bounded, string(compact))
	if err != nil {
		if _, outage := rule.Classify(err); outage == nil && bounded.Err() == nil && !errors.Is(err, context.Canceled) {
			r.kept.folder.Remove(name)
		}
		return nil, time.Time{}
	}
	return payload, issued.Add(-r.leeway)
}
