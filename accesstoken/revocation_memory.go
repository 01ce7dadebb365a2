package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultRevocationLimit is the number of revocations that [MemoryRevocations] holds
// when its config says nothing: far more than a day brings, in some ten megabytes. Each
// revocation copies them all, so whoever means all tokens of a party should say so.
const DefaultRevocationLimit = 1 << 16

// A RevocationConfig says how a [MemoryRevocations] begins.
type RevocationConfig struct {
	// Dir is the folder in which revocations outlive the process; it is made (mode
	// 0700) when it is missing. It belongs to one process at a time. Empty means
	// that nothing is kept, and that a restart forgets every revocation.
	Dir string

	// Limit is the number of revocations at which new ones are refused with
	// [ErrRevocationsFull]; 0 means [DefaultRevocationLimit].
	Limit int
}

// MemoryRevocations is a [Revocations] in the memory of one process, with a file from
// which its successor learns them. To check a token costs a few nanoseconds while
// nothing is revoked, and some look-ups in a map otherwise; no lock is taken.
//
// # What a crash costs
//
// Revoke returns when the revocation is on the disk. A line that a crash cut short was
// not promised to anybody, and is dropped. When the file is damaged in any other way,
// nobody knows which revocations it held: then every token that was issued before the
// start is refused, and clients that ask for a new one notice nothing else. [MemoryRevocations.Doubt]
// tells of it, and the damaged file is kept beside the new one for whoever wants to know.
type MemoryRevocations struct {
	current atomic.Pointer[revokedSet]
	limit   int
	doubt   error

	mu      sync.Mutex // held while the set is exchanged
	journal *journal   // nil when nothing is kept
	closed  bool
}

var _ Revocations = (*MemoryRevocations)(nil)

// OpenRevocations begins a store, which the caller must close. [ErrRevocationsInUse]
// means that another process, or another store of this one, has the folder.
func OpenRevocations(c RevocationConfig) (*MemoryRevocations, error) {
	m, err := openRevocations(c)
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	return m, nil
}

func openRevocations(c RevocationConfig) (*MemoryRevocations, error) {
	if c.Limit < 0 {
		return nil, fmt.Errorf("limit %d is negative", c.Limit)
	}
	m := &MemoryRevocations{limit: DefaultRevocationLimit}
	if c.Limit > 0 {
		m.limit = c.Limit
	}
	if c.Dir == "" {
		return m, nil
	}
	j, kept, err := openJournal(c.Dir, time.Now())
	if err != nil {
		return nil, err
	}
	m.journal, m.doubt = j, j.doubt
	m.exchange(kept)
	return m, nil
}

// exchange makes a set the one that checks see.
func (m *MemoryRevocations) exchange(s *revokedSet) {
	if s.len() == 0 {
		s = nil
	}
	m.current.Store(s)
}

// Revoked implements [RevocationChecker]. It never fails.
func (m *MemoryRevocations) Revoked(_ context.Context, c *Claims) (bool, error) {
	s := m.current.Load()
	if s == nil {
		return false, nil
	}
	if time.Now().Unix() >= s.end {
		m.current.CompareAndSwap(s, nil) // all are over: later checks are cheap again
		return false, nil
	}
	return s.hits(c), nil
}

// Revoke implements [Revocations]. When the revocation cannot be written to the disk
// it holds nevertheless, until the process ends, and Revoke says so with an error.
func (m *MemoryRevocations) Revoke(ctx context.Context, r Revocation) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	if err := m.revoke(r); err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

func (m *MemoryRevocations) revoke(r Revocation) error {
	what, err := r.mark()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrRevocationsClosed
	}
	// The clock is read under the lock: a token that was issued while we waited
	// is revoked as well.
	now := time.Now()
	how := reachOf(r, now)
	if how.until <= now.Unix() {
		return nil // the token has been dead for long
	}
	next := m.current.Load().living(now.Unix())
	next.put(what, how)
	if next.len() > m.limit {
		return ErrRevocationsFull
	}
	m.exchange(next)
	return m.journal.add(next, what, how)
}

// Len is the number of revocations held, with some that are over: what counts against
// Limit.
func (m *MemoryRevocations) Len() int { return m.current.Load().len() }

// Doubt says why the store could not tell at its start which tokens had been revoked, and
// so revoked them all, in words for the log; nil when it could.
func (m *MemoryRevocations) Doubt() error { return m.doubt }

// Close lets go of the folder. Checks go on to be answered; revocations are refused
// with [ErrRevocationsClosed]. There is nothing left to write, so a process that is
// killed instead loses nothing.
func (m *MemoryRevocations) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	if err := m.journal.close(); err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

var errDamaged = errors.New("the file of revocations is damaged, so that all tokens issued before this start are refused")
