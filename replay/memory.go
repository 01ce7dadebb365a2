package replay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
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
// kept, and what was issued before the start is refused as undecided.
type Config struct {
	// Dir is the folder of the lock, the hand-over and the watermark; it is made
	// (mode 0700) when it is missing. It belongs to one process at a time. Empty
	// means that nothing outlives the process, and every start is like one after a
	// crash.
	Dir string

	// Leeway is how far a client's clock may be off: 0 to [MaxLeeway]. A pair from
	// further ahead is refused. See [Store.Leeway].
	Leeway time.Duration

	// NoHistory says that this is the first start of the party that the assertions are
	// meant for, so that none can have been used before: a sandbox, a test. It is
	// ignored when Dir shows that an earlier process has used it.
	NoHistory bool

	// Limit is the number of living pairs at which new ones are refused with
	// [ErrFull]; 0 means [DefaultLimit]. A pair takes some 150 bytes.
	Limit int
}

// Memory is a [Store] in the memory of one process.
type Memory struct {
	leeway      time.Duration
	acceptFrom  time.Time // pairs issued before are undecided
	recoveryErr error
	folder      *folder // nil when nothing is kept
	shared      shared
	lastSweep   atomic.Int64 // the second of the last sweep when the store was full
	shards      [shards]shard
	closing     func() error
}

var _ Store = (*Memory)(nil)

// Open begins a store, which the caller must close. When it returns, the hand-over of
// an earlier run has been taken over and removed. [ErrInUse] means that another
// process, or another store of this one, has the folder.
func Open(c Config) (*Memory, error) {
	if c.Leeway < 0 || c.Leeway > MaxLeeway {
		return nil, fmt.Errorf("replay store: leeway %v is not between 0 and %v", c.Leeway, MaxLeeway)
	}
	if c.Limit < 0 {
		return nil, fmt.Errorf("replay store: limit %d is negative", c.Limit)
	}
	if c.Dir == "" {
		return newMemory(c, nil, recoverState(c, time.Now(), past{})), nil
	}
	claimed, err := durable.Claim(c.Dir, lockFile)
	if err != nil {
		return nil, fmt.Errorf("replay store: %w", err)
	}
	f := &folder{Folder: claimed}
	// The clock is read after the lock is ours: until then, the earlier run may still
	// accept pairs.
	s := recoverState(c, time.Now(), f.read())
	var id [8]byte
	rand.Read(id[:]) // never fails
	w := watermark{id: int64(binary.BigEndian.Uint64(id[:])), issuedBefore: s.issuedBefore, leeway: c.Leeway}
	if err := f.start(w); err != nil {
		return nil, fmt.Errorf("replay store: %w", errors.Join(err, f.close()))
	}
	return newMemory(c, f, s), nil
}

func newMemory(c Config, f *folder, s initialState) *Memory {
	m := &Memory{leeway: c.Leeway, acceptFrom: s.acceptFrom, recoveryErr: s.recoveryErr, folder: f}
	m.shared.limit = DefaultLimit
	if c.Limit > 0 {
		m.shared.limit = int64(c.Limit)
	}
	m.shared.raiseFloor(s.swept)
	for i := range m.shards {
		m.shards[i].used = make(map[Key]struct{})
		m.shards[i].swept = s.swept
	}
	for k, end := range s.records.all() {
		m.shard(k).put(k, end)
	}
	// A limit below what was handed over refuses new pairs, and forgets none.
	m.shared.held.Store(int64(s.records.len()))
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

// use refuses first what the store could not give a true answer about.
func (m *Memory) use(now time.Time, p Pair) (bool, error) {
	if err := p.Check(now); err != nil {
		return false, err
	}
	// The rule for crashes rests on this: what was used was issued by then.
	if p.IssuedAt.After(now.Add(m.leeway)) {
		return false, fmt.Errorf("%w: it was issued in the future", ErrPair)
	}
	if p.IssuedAt.Before(m.acceptFrom) {
		return false, Undecided("it was issued before the time that the store vouches for", now, m.acceptFrom)
	}
	if err := m.folder.raise(p.IssuedAt.Unix() + 1); err != nil {
		return false, err
	}
	k, end := p.Key(), p.Until.Unix()+1
	first, err := m.shard(k).use(now, k, end, &m.shared)
	// The shards that nobody asks hold on to what has ended. They are swept once a second at most.
	if second := now.Unix(); errors.Is(err, ErrFull) && m.lastSweep.Swap(second) != second {
		for i := range m.shards {
			s := &m.shards[i]
			s.mu.Lock()
			s.sweep(second, &m.shared)
			s.mu.Unlock()
		}
		first, err = m.shard(k).use(now, k, end, &m.shared)
	}
	return first, err
}

// Leeway implements [Store].
func (m *Memory) Leeway() time.Duration { return m.leeway }

// RecoveryError says, for the log, why it is not known which pairs were used before the start,
// and is nil when it is known. [Memory.AcceptsIssuedFrom] says from when on pairs are judged.
func (m *Memory) RecoveryError() error { return m.recoveryErr }

// AcceptsIssuedFrom is the time of issue from which pairs are judged; earlier ones are
// answered with [UndecidedError]. It is zero when it is known which pairs were used before the start.
func (m *Memory) AcceptsIssuedFrom() time.Time { return m.acceptFrom }

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
	return time.Unix(m.shared.floor.Load(), 0)
}

// Len is the number of pairs that the store holds, with some that have just ended:
// what counts against Config.Limit.
func (m *Memory) Len() int { return int(m.shared.held.Load()) }

// Close stops the store and hands the living pairs over to the next one. Every use
// that was answered with yes is in the hand-over, and every later one is answered
// with [ErrClosed]. When the hand-over cannot be written, Close says so, and the next
// start is one after a crash. Further calls return what the first returned.
func (m *Memory) Close() error { return m.closing() }

func (m *Memory) handOver() error {
	for i := range m.shards {
		m.shards[i].close()
	}
	floor := m.shared.raiseFloor(time.Now().Unix())
	if m.folder == nil {
		return nil
	}
	f := m.folder
	h := handOver{id: f.watermark.id, written: floor, leeway: m.leeway, acceptFrom: m.acceptFrom, issuedBefore: f.freeze()}
	h.records = make(records, 0, m.Len()*recordSize)
	for i := range m.shards {
		h.records = m.shards[i].appendTo(h.records, floor)
	}
	// The watermark is forced to the disk first: with one that disagrees the hand-over is
	// mismatched. Another folder that has taken the path of this one gets nothing: it can be
	// that of another store.
	err := f.file.Sync()
	if err == nil {
		err = f.Replace(handOverFile, h.encode())
	}
	if err = errors.Join(err, f.close()); err != nil {
		return fmt.Errorf("replay store: hand-over: %w", err)
	}
	return nil
}
