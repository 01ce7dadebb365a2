package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/durable"
)

const (
	// MaxTokenRevocationAge is how old a copy may be by which tokens are checked.
	MaxTokenRevocationAge = time.Second

	// sharedClockMargin is how far ahead of the process that revokes the clock of another one may be, which has issued
	// a token before.
	sharedClockMargin = 2 * time.Second
)

// ErrTokenRevocationsOld says that a copy is older than [MaxTokenRevocationAge]: a token may have been revoked
// meanwhile, and nobody is let in.
var ErrTokenRevocationsOld = errors.New("what is known of revocations is too old")

// A TokenRevocationLine is a revocation as a line of text, for a log that processes share. What it means is not the log's
// business.
type TokenRevocationLine struct {
	Text  string    // printable ASCII, some hundred bytes at most
	Until time.Time // from when on nobody needs it
}

// SharedTokenRevocations is a [TokenRevocations] of processes that share a log. Each checks by a copy of the log in its own
// memory, so that no check waits for another machine. Who reads the log, several times a second, has the copy
// learn from it. A check by a copy older than [MaxTokenRevocationAge] fails with [ErrTokenRevocationsOld]: what one process
// has revoked is revoked in the others within a second, or they let nobody in.
//
// A revocation of a party or certificate hits what is issued up to two seconds later, too, for the
// clocks of other processes may be that far ahead.
type SharedTokenRevocations struct {
	add    func(context.Context, []TokenRevocationLine) error // to the log
	copied MemoryTokenRevocations                             // which keeps nothing in a folder
	asOf   atomic.Int64                                       // when the log was read, in nanoseconds since copied.opened; 0: never
}

var _ TokenRevocations = (*SharedTokenRevocations)(nil)

// NewSharedTokenRevocations begins with a copy that is too old to check by. Add adds lines to the log, all or none,
// and returns nil when it holds them; what it holds already is no error. A log that is full returns
// [ErrTokenRevocationsFull].
func NewSharedTokenRevocations(add func(context.Context, []TokenRevocationLine) error) *SharedTokenRevocations {
	return &SharedTokenRevocations{
		add:    add,
		copied: MemoryTokenRevocations{limit: DefaultTokenRevocationLimit, opened: time.Now()},
	}
}

// Learn takes over lines of the log. With them the copy holds all that the log held at the moment asOf, of which the monotonic
// reading counts. An error says that there is a line that cannot be read: the copy has learnt the others, and is no
// newer than before.
func (s *SharedTokenRevocations) Learn(lines []string, asOf time.Time) error {
	if err := s.copied.learn(lines); err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	s.asOf.Store(max(int64(asOf.Sub(s.copied.opened)), 1))
	return nil
}

// Age is how old the copy is, or [MaxLifetime] when nothing has been learnt.
func (s *SharedTokenRevocations) Age() time.Duration {
	asOf := s.asOf.Load()
	if asOf == 0 {
		return MaxLifetime
	}
	return time.Since(s.copied.opened) - time.Duration(asOf)
}

// Len is how many revocations the copy holds.
func (s *SharedTokenRevocations) Len() int { return s.copied.Len() }

// Revoked implements [TokenRevocationChecker].
func (s *SharedTokenRevocations) Revoked(ctx context.Context, c *Claims) (bool, error) {
	if age := s.Age(); age > MaxTokenRevocationAge {
		return false, fmt.Errorf("revocations: %w", ErrTokenRevocationsOld)
	}
	return s.copied.Revoked(ctx, c)
}

// Revoke implements [TokenRevocations]. The copy learns the revocation when the log holds it.
func (s *SharedTokenRevocations) Revoke(ctx context.Context, r TokenRevocation) error {
	what, err := r.target()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		line := sharedLine(what, effectOf(r, time.Now()).ahead())
		if err = s.add(ctx, []TokenRevocationLine{line}); err == nil {
			err = s.copied.learn([]string{line.Text})
		}
	}
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

// Lines are all revocations of the copy that somebody may still need: what a log that has lost its memory gets back.
func (s *SharedTokenRevocations) Lines() []TokenRevocationLine {
	held := s.copied.current.Load().unexpired(s.copied.now())
	lines := make([]TokenRevocationLine, 0, held.len())
	for t, e := range held.effects {
		lines = append(lines, sharedLine(t, e))
	}
	return lines
}

// RevokeAllLine is the line that withdraws every token issued up to a time: what a log begins with when nobody knows
// what an earlier one held.
func RevokeAllLine(through time.Time) TokenRevocationLine {
	e := effectOf(TokenRevocation{}, through).ahead()
	return sharedLine(everyone(), e)
}

// VacateTokenRevocations is for a process that from now on shares its revocations: it returns those that its folder holds, for the log. A
// [MemoryTokenRevocations] that is opened in the folder later knows by the missing end of the journal that it lacks some. Where it is
// not known what the journal held, every token issued so far is revoked.
func VacateTokenRevocations(dir string) (lines []TokenRevocationLine, err error) {
	j, err := openJournal(dir)
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	defer func() { err = errors.Join(err, j.close()) }()
	ended, err := durable.IfThere(j.folder.ReadFile(revocationsEnd))
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	held, recoveryErr, err := j.read(false)
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	for t, e := range held.effects {
		lines = append(lines, sharedLine(t, e))
	}
	if ended == nil { // there was no journal, or it was vacated before
		return lines, nil
	}
	if recoveryErr != nil {
		lines = append(lines, RevokeAllLine(time.Now()))
	}
	if err := j.folder.Remove(revocationsEnd); err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	return lines, nil
}

// ahead is the effect with the margin for the clocks of others.
func (e effect) ahead() effect {
	if e.through != whenever {
		e.through += int64(sharedClockMargin / time.Second)
	}
	return e
}

// sharedLine is "kind value through until", the times in UNIX seconds, as in the journal.
func sharedLine(t target, e effect) TokenRevocationLine {
	return TokenRevocationLine{
		Text:  fmt.Sprintf("%s %s %d %d", t.kind, t.value, e.through, e.until),
		Until: time.Unix(e.until, 0),
	}
}

// parseSharedLine accepts exactly what sharedLine writes.
func parseSharedLine(text string) (target, effect, error) {
	fields := strings.Split(text, " ")
	if len(fields) != 4 {
		return target{}, effect{}, errSharedLine
	}
	t, e, err := parseRevocation(fields)
	if err != nil || sharedLine(t, e).Text != text {
		return target{}, effect{}, errSharedLine
	}
	return t, e, nil
}

var errSharedLine = errors.New("there is a line in the log that is no revocation; another version may have written it")

// learn puts the lines into the set, and holds each from now on for as long as a token can live or, when there are too
// many, until the tokens have expired by the clock.
func (m *MemoryTokenRevocations) learn(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	next := m.current.Load().unexpired(now)
	var bad error
	for _, line := range lines {
		t, e, err := parseSharedLine(line)
		if err != nil {
			bad = err
			continue
		}
		e.held = now.open + holdFor
		next.put(t, e)
	}
	if next.len() > m.limit { // the log is not full, and forgets by the clock alone
		maps.DeleteFunc(next.effects, func(_ target, e effect) bool { return e.until <= now.wall })
	}
	if next.len() > m.limit {
		return ErrTokenRevocationsFull
	}
	m.current.Store(next)
	return bad
}
