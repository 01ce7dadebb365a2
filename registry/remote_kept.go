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

func (r *Remote) openKept(dir string) {
	if dir == "" {
		return
	}
	folder, err := kept.Open(dir, kept.Limits{Files: keptFiles, Bytes: keptBytes}, r.log)
	if err != nil {
		r.log.Warn("signed answers of the registry cannot be kept for the next start", slog.Any("error", err))
		return
	}
	r.kept.folder = folder
}

// Answers are kept in the order in which they were asked for.
type answers struct {
	folder *kept.Folder // nil: nothing is kept
	life   time.Duration

	mu    sync.Mutex
	asked map[string]*questions // by name, as long as there are any
}

// questions are those under way to which the answer has the same name.
type questions struct {
	underWay int
	answered time.Time // when the one was put that was put last of those that were answered
}

// ask notes that a question is put, until done is called.
func (k *answers) ask(name string) (done func()) {
	if k.folder == nil {
		return func() {}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	q := k.asked[name]
	if q == nil {
		q = &questions{}
		if k.asked == nil {
			k.asked = map[string]*questions{}
		}
		k.asked[name] = q
	}
	q.underWay++
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		q.underWay--
		if q.underWay == 0 {
			delete(k.asked, name)
		}
	}
}

// take takes an answer to a question that was put at a time, and is still noted: a no if it is empty. What was kept
// before is taken away whatever becomes of the new one. An answer to an earlier question than one that
// was answered already is not kept.
func (k *answers) take(name, compact string, asked time.Time) {
	if k.folder == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if q := k.asked[name]; q != nil {
		if asked.Before(q.answered) {
			return
		}
		q.answered = asked
	}
	k.folder.Remove(name)
	if compact != "" {
		k.folder.Put(name, []byte(compact), time.Now().Add(k.life))
	}
}

// RecallParty returns the record in the last answer about a party that was kept, and since when
// it may be out of date, at the latest; nil if there is none to be believed. The registry is not asked.
func (r *Remote) RecallParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, time.Time) {
	payload, asOf := r.recall(ctx, keptParty(id))
	if payload == nil {
		return nil, asOf
	}
	records, version, err := partyRecords(payload)
	if err != nil {
		return nil, asOf
	}
	party, err := pick(records, version, id, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, asOf
	}
	return party, asOf
}

// RecallTrustedList is [Remote.RecallParty] for the trusted list.
func (r *Remote) RecallTrustedList(ctx context.Context) (trust.Anchors, time.Time) {
	payload, asOf := r.recall(ctx, keptList)
	if payload == nil {
		return nil, asOf
	}
	anchors, _, err := grantedBy(payload, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, asOf
	}
	return anchors, asOf
}

// recall verifies a kept answer again, and removes one that is not believed any more. It stays when nobody
// can tell. An answer is taken to be older than it says by as much as the registry's clock may be ahead.
func (r *Remote) recall(ctx context.Context, name string) (payload []byte, asOf time.Time) {
	compact, ok := r.kept.folder.Get(name)
	if !ok {
		return nil, time.Time{}
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	payload, issued, err := r.reader.ReadKept(bounded, string(compact))
	if err != nil {
		if _, outage := rule.Classify(err); outage == nil && bounded.Err() == nil && !errors.Is(err, context.Canceled) {
			r.kept.folder.Remove(name)
		}
		return nil, time.Time{}
	}
	return payload, issued.Add(-r.leeway)
}
