package accesstoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultTokenRevocationLimit is the number of revocations that [MemoryTokenRevocations] holds
// when its config says nothing: far more than a day brings, in some ten megabytes. Each
// revocation copies them all, so whoever means all tokens of a party should say so.
const DefaultTokenRevocationLimit = 1 << 16

// A TokenRevocationConfig says how a [MemoryTokenRevocations] begins.
type TokenRevocationConfig struct {
	// Dir is the folder in which revocations outlive the process; it is made (mode
	// 0700) when it is missing. It belongs to one process at a time. Empty means
	// that nothing is kept, and that a restart forgets every revocation.
	Dir string

	// NoHistory says that no token can have been issued before this start that is
	// accepted after it, because the keys are made only now: see [HaveKeys]. Then a
	// folder without a journal is taken for that of a first start. Otherwise the
	// journal is missing, and it is not known which tokens had been revoked.
	NoHistory bool

	// Limit is the number of revocations at which new ones are refused with
	// [ErrTokenRevocationsFull]; 0 means [DefaultTokenRevocationLimit].
	Limit int
}

// MemoryTokenRevocations is a [TokenRevocations] in the memory of one process, with a journal from
// which its successor learns them. To check a token costs a few nanoseconds while
// nothing is revoked, and some look-ups in a map otherwise; no lock is taken.
//
// # What a crash costs
//
// Nothing. Revoke returns when the revocation is on the disk, and so is what says that the
// journal ends with it. A line behind that end, or a part of one, had not been promised to
// anybody: it counts if it is whole, and is dropped otherwise.
//
// # What damage costs
//
// When the journal is missing, shorter than it was, or not as it was written, nobody
// knows which revocations it held: then every token that was issued before the
// start is refused, and clients that ask for a new one notice nothing else.
// [MemoryTokenRevocations.RecoveryError] tells of it until these tokens have expired, and the damaged
// file is kept beside the new one for whoever wants to know. The files must not come from
// a backup: one of them put back is found, but not both together, as they were.
//
// # When the clock is wrong
//
// A revocation is held for [MaxLifetime] and an hour by the monotonic clock, from when it
// was made or read from the journal, and until the tokens have expired by the wall clock.
// So one that runs ahead, at a start too, makes the store forget none. Those that are over
// by the wall clock alone are dropped in one case: at a start that finds more of them than
// half of Limit. While the clock is ahead, a revocation of a party or certificate hits
// what is issued until the right time has made up for the difference.
type MemoryTokenRevocations struct {
	current atomic.Pointer[revocationSet] // what checks see; nil while nothing is revoked
	limit   int
	opened  time.Time // with its monotonic reading
	found   error     // why the journal could not be relied upon at the start

	mu      sync.Mutex // held while the set is exchanged
	journal *journal   // nil when nothing is kept
	closed  bool
}

var _ TokenRevocations = (*MemoryTokenRevocations)(nil)

// OpenTokenRevocations begins a store, which the caller must close. [ErrTokenRevocationsInUse]
// means that another process, or another store of this one, has the folder.
func OpenTokenRevocations(c TokenRevocationConfig) (*MemoryTokenRevocations, error) {
	if c.Limit < 0 {
		return nil, fmt.Errorf("revocations: limit %d is negative", c.Limit)
	}
	m := &MemoryTokenRevocations{limit: DefaultTokenRevocationLimit, opened: time.Now()}
	if c.Limit > 0 {
		m.limit = c.Limit
	}
	if c.Dir == "" {
		return m, nil
	}
	var err error
	if m.journal, err = openJournal(c.Dir); err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	if err := m.load(c.NoHistory); err != nil {
		return nil, fmt.Errorf("revocations: %w", errors.Join(err, m.journal.close()))
	}
	return m, nil
}

// load takes over what an earlier run left. Damage is no error: it revokes everything
// issued so far, besides what could be read.
func (m *MemoryTokenRevocations) load(noHistory bool) error {
	found, recoveryErr, err := m.journal.read(noHistory)
	if err != nil {
		return err
	}
	// The clock is read after the lock is ours: until then, the earlier run may still
	// have been issuing tokens.
	now := time.Now()
	if m.found = recoveryErr; recoveryErr != nil {
		found.put(everyone(), effectOf(TokenRevocation{}, now))
	}
	kept := found.restored(now.Unix(), m.limit/2)
	if kept.len() > 0 {
		m.current.Store(kept)
	}
	return m.journal.rewrite(kept)
}

// now is the time by both clocks.
func (m *MemoryTokenRevocations) now() instant {
	t := time.Now()
	return instant{wall: t.Unix(), open: t.Sub(m.opened)}
}

// Revoked implements [TokenRevocationChecker]. It never fails.
func (m *MemoryTokenRevocations) Revoked(_ context.Context, c *Claims) (bool, error) {
	s := m.current.Load()
	if s == nil {
		return false, nil
	}
	if s.all.expired(m.now()) {
		m.current.CompareAndSwap(s, nil) // all are over: later checks are cheap again
		return false, nil
	}
	issued := c.Issued.Unix()
	for _, t := range [...]target{
		{tokenTarget, c.ID}, {partyTarget, string(c.Party)}, {partyTarget, string(c.Client)}, {certificateTarget, c.Thumbprint}, everyone(),
	} {
		if e, ok := s.effects[t]; ok && issued <= e.through {
			return true, nil
		}
	}
	return false, nil
}

// Revoke implements [TokenRevocations]. When the revocation cannot be written to the disk
// it holds nevertheless, until the process ends, and Revoke says so with an error.
func (m *MemoryTokenRevocations) Revoke(ctx context.Context, r TokenRevocation) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("revocations: %w", err)
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	what, err := r.target()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrTokenRevocationsClosed
	}
	// The clocks are read under the lock: a token that was issued while we waited
	// is revoked as well.
	now := m.now()
	how := effectOf(r, time.Unix(now.wall, 0))
	how.held = now.open + holdFor
	next := m.current.Load().unexpired(now)
	next.put(what, how)
	if next.len() > m.limit {
		return ErrTokenRevocationsFull
	}
	m.current.Store(next)
	return m.journal.add(next, what, how)
}

// Len is the number of revocations held, with some that are over: what counts against
// Limit.
func (m *MemoryTokenRevocations) Len() int { return m.current.Load().len() }

// RecoveryError says why it was not known at a start which tokens had been revoked, so that all
// issued before it are refused, in words for the log. It is nil once these have expired,
// and when it was known.
func (m *MemoryTokenRevocations) RecoveryError() error {
	s := m.current.Load()
	if s == nil || s.effects[everyone()].until <= time.Now().Unix() {
		return nil
	}
	through := time.Unix(s.effects[everyone()].through, 0).UTC().Format(time.RFC3339)
	return fmt.Errorf("access tokens issued up to %s are refused, as they may have been revoked: the journal of revocations: %w",
		through, cmp.Or(m.found, errFoundEarlier))
}

// Lost is an error when the folder is not at its path any more, or its lock was removed. Until it is back,
// revocations hold in this process alone, and [MemoryTokenRevocations.Revoke] says so: none is written, above all
// into no folder that has taken its place. The first one after that is written with all of them. It is nil when
// nothing is kept.
func (m *MemoryTokenRevocations) Lost() error {
	if m.journal == nil {
		return nil
	}
	return m.journal.folder.Lost()
}

// Close lets go of the folder. Checks go on to be answered; revocations are refused
// with [ErrTokenRevocationsClosed]. There is nothing left to write, so a process that is
// killed instead loses nothing.
func (m *MemoryTokenRevocations) Close() error {
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

var errFoundEarlier = errors.New("it was damaged at an earlier start")
