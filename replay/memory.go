package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/durable"
)

// DefaultLimit is the number of living pairs that a [Memory] holds when its Config
// says nothing: several times what a fast server lets in during the life of a pair, in
// some 600 megabytes.
const DefaultLimit = 4 << 20

// shards is a power of two well above the number of processors that ask at once.
const shards = 64

// A Config says how a [Memory] begins. Its zero value is the careful one: nothing is
// kept, and nothing that came before is vouched for.
type Config struct {
	// Dir is the folder of the lock, the hand-over and the mark of life; it is made
	// (mode 0700) when it is missing. It belongs to one process at a time. Empty
	// means that nothing outlives the process, and every start is like one after a
	// crash.
	Dir string

	// Leeway is how far a client's clock may be off: 0 to [MaxLeeway]. A pair from
	// further ahead is refused. See [Store.Leeway].
	Leeway time.Duration

	// NoHistory says that whoever the assertions are meant for came into being with
	// this start, so that none can have been used before: a sandbox, a test. It is
	// ignored when Dir shows a trace of an earlier life.
	NoHistory bool

	// Limit is the number of living pairs at which new ones are refused with
	// [ErrFull]; 0 means [DefaultLimit]. A pair takes some 150 bytes.
	Limit int
}

func (c Config) check() error {
	if c.Leeway < 0 || c.Leeway > MaxLeeway {
		return fmt.Errorf("leeway %v is not between 0 and %v", c.Leeway, MaxLeeway)
	}
	if c.Limit < 0 {
		return fmt.Errorf("limit %d is negative", c.Limit)
	}
	return nil
}

// Memory is a [Store] in the memory of one process.
type Memory struct {
	leeway    time.Duration
	vouchFrom time.Time // pairs issued before are unsure
	doubt     error
	folder    *folder // nil when nothing is kept
	common    common
	relieved  atomic.Int64 // the second of the last sweep for want of room
	shards    [shards]shard
	closing   func() error
}

var _ Store = (*Memory)(nil)

// Open begins a store, which the caller must close. When it returns, the hand-over of
// an earlier life has been taken over and removed. [ErrInUse] means that another
// process, or another store of this one, has the folder.
func Open(c Config) (*Memory, error) {
	m, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("replay store: %w", err)
	}
	return m, nil
}

func open(c Config) (*Memory, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Dir == "" {
		return begin(c, nil, judge(c, time.Now(), past{})), nil
	}
	claimed, err := durable.Claim(c.Dir, lockFile)
	if err != nil {
		return nil, err
	}
	f := &folder{Folder: claimed}
	// The start is read from the clock after the lock is ours: until then, the
	// earlier life may still be saying yes.
	b := judge(c, time.Now(), f.read())
	if err := f.begin(life{id: newID(), reach: b.reach, leeway: c.Leeway}); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return begin(c, f, b), nil
}

// begin fills a store with what it begins from.
func begin(c Config, f *folder, b beginning) *Memory {
	m := &Memory{leeway: c.Leeway, vouchFrom: b.vouchFrom, doubt: b.doubt, folder: f}
	m.common.limit = DefaultLimit
	if c.Limit > 0 {
		m.common.limit = int64(c.Limit)
	}
	m.common.raise(b.swept)
	for i := range m.shards {
		m.shards[i].used = make(map[Key]struct{})
		m.shards[i].swept = b.swept
	}
	for k, end := range b.records.all() {
		m.shard(k).put(k, end)
	}
	// A smaller limit than the last one's leaves no room, and forgets nothing.
	m.common.held.Store(int64(b.records.len()))
	m.closing = sync.OnceValue(m.handOver)
	return m
}

func (m *Memory) shard(k Key) *shard { return &m.shards[k[0]%shards] }

// Use implements [Store].
func (m *Memory) Use(ctx context.Context, p Pair) (first bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("replay store: %w", err)
	}
	if first, err = m.use(time.Now(), p); err != nil {
		return false, fmt.Errorf("replay store: %w", err)
	}
	return first, nil
}

func (m *Memory) use(now time.Time, p Pair) (bool, error) {
	if err := m.judgeable(now, p); err != nil {
		return false, err
	}
	if err := m.folder.raise(p.IssuedAt.Unix() + 1); err != nil {
		return false, err
	}
	k, end := p.Key(), p.Until.Unix()+1
	first, err := m.shard(k).use(now, k, end, &m.common)
	if errors.Is(err, ErrFull) && m.relieve(now.Unix()) {
		first, err = m.shard(k).use(now, k, end, &m.common)
	}
	return first, err
}

// judgeable refuses what the store could not give a true answer about.
func (m *Memory) judgeable(now time.Time, p Pair) error {
	if err := p.Check(now); err != nil {
		return err
	}
	// The rule for crashes rests on this: what was used was issued by then.
	if p.IssuedAt.After(now.Add(m.leeway)) {
		return fmt.Errorf("%w: it was issued in the future", ErrPair)
	}
	if p.IssuedAt.Before(m.vouchFrom) {
		return unsure("it was issued before the time that the store vouches for", now, m.vouchFrom)
	}
	return nil
}

// relieve sweeps every shard, at most once a second, and reports whether it did: the
// shards that nobody asks hold on to what has ended.
func (m *Memory) relieve(now int64) bool {
	if m.relieved.Swap(now) == now {
		return false
	}
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		m.common.give(s.sweep(m.common.raise(now)))
		s.mu.Unlock()
	}
	return true
}

// Leeway implements [Store].
func (m *Memory) Leeway() time.Duration { return m.leeway }

// RecoveryError says why the store cannot vouch for all that came before its start, in words
// for the log, and nil when it can. [Memory.AcceptsIssuedFrom] says for how long.
func (m *Memory) RecoveryError() error { return m.doubt }

// AcceptsIssuedFrom is the time of issue from which pairs are judged; earlier ones are
// answered with [UndecidedError]. It is zero when the store vouches for everything.
func (m *Memory) AcceptsIssuedFrom() time.Time { return m.vouchFrom }

// Lost is an error when the folder is not at its path any more, or its lock was removed: nothing can be
// handed over to the next start then, which is one after a crash unless the folder is put back. Nobody
// gets a token less or more by it. It is nil when nothing is kept.
func (m *Memory) Lost() error {
	if m.folder == nil {
		return nil
	}
	return m.folder.Lost()
}

// Floor is the time up to which pairs have been forgotten: one that ends by then is answered with
// [UndecidedError]. It is later than now only when the clock has been set back.
func (m *Memory) Floor() time.Time {
	return time.Unix(m.common.second.Load(), 0)
}

// Len is the number of pairs that the store holds, with some that have just ended:
// what counts against Config.Limit.
func (m *Memory) Len() int { return int(m.common.held.Load()) }

// Close stops the store and hands the living pairs over to the next one. Every use
// that was answered with yes is in the hand-over, and every later one is answered
// with [ErrClosed]. When the hand-over cannot be written, Close says so, and the next
// start is one after a crash. Further calls return what the first returned.
func (m *Memory) Close() error { return m.closing() }

func (m *Memory) handOver() error {
	for i := range m.shards {
		m.shards[i].shut()
	}
	floor := m.common.raise(time.Now().Unix())
	if m.folder == nil {
		return nil
	}
	h := handOver{written: floor, leeway: m.leeway, vouchFrom: m.vouchFrom, reach: m.folder.settle()}
	h.records = make(records, 0, m.Len()*recordSize)
	for i := range m.shards {
		m.shards[i].each(floor, func(k Key, end int64) { h.records = h.records.add(k, end) })
	}
	err := m.folder.handOver(h)
	if err = errors.Join(err, m.folder.close()); err != nil {
		return fmt.Errorf("replay store: hand-over: %w", err)
	}
	return nil
}
