package state

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
)

const (
	// ClockTolerance is how far the clock of a server may be off the store's. One that is further off gets errors only.
	ClockTolerance = time.Second

	// ClockMargin is how much longer than its end a pair is remembered, and how much younger than its epoch
	// an assertion must be: the clocks of two servers can differ by twice [ClockTolerance], and that of a store
	// that takes the place of another by one more.
	ClockMargin = 3 * ClockTolerance

	// pollInterval is how often a server asks how the store is and what was revoked.
	pollInterval = 250 * time.Millisecond
	// pollTimeout is after what time without an answer the store counts as out of reach.
	pollTimeout = time.Second
	// fresh is for how long what was found out about the store counts: a question that takes as long as it may, and another.
	fresh = 2 * (pollInterval + pollTimeout)
	// callTimeout bounds every other question to the store.
	callTimeout = 2 * time.Second

	// lasting is how old a copy of the revocations may be to stand for those that a store has lost. Older than
	// this, others may have revoked what it does not hold.
	lasting = time.Minute
)

// A Config says where a [Store] is.
type Config struct {
	// URL is where the store is: see [URL].
	URL URL

	// Party is whose assertions and tokens these are. Servers of one party share what they remember; others may use the
	// same store.
	Party ishare.PartyID

	// Leeway is how far a client's clock may be off: 0 to [replay.MaxLeeway]. It must be the same for all servers that
	// share a store.
	Leeway time.Duration

	// WaitReplicas is how many replicas of Redis must have a pair before it counts as used for the first time; 0: none
	// is waited for. PostgreSQL has settings of its own for this.
	WaitReplicas int

	// Revoked are revocations that this server knows from before it had the store, which gets them.
	Revoked []accesstoken.TokenRevocationLine

	Log *slog.Logger // nil: nothing is logged
}

// namespace is what everything of the party begins with in a store.
func (c *Config) namespace() string {
	sum := sha256.Sum256([]byte(c.Party))
	return "waybill:" + hex.EncodeToString(sum[:8])
}

// An epoch is a time from which on a store, or a part of it, has forgotten nothing.
type epoch struct {
	bucket int       // which part, from 0
	id     string    // of random bits; not the same for any two epochs
	since  time.Time // by the store's clock
}

var (
	// errOtherEpoch is the answer of a store that is not in the epoch that was named.
	errOtherEpoch = errors.New("the store has lost its memory, or another one has taken its place")

	// errOtherTime is the answer of a store whose clock is further off than [ClockTolerance].
	errOtherTime = fmt.Errorf("this machine's clock and the store's differ by more than %v, or the question took as long", ClockTolerance)

	// errNotFresh is what a server has that was asleep, or too busy to ask.
	errNotFresh = fmt.Errorf("the store was not asked for more than %v how it is", fresh)
)

// A pairStore remembers pairs. It has one or more buckets, the parts that can lose their memory on their own.
type pairStore interface {
	// attest returns the epoch of every bucket, in their order. A bucket begins a new one, at the store's
	// present time, when it is not certain that it remembers every pair and every line since its epoch began. The error says
	// what is wrong when the store cannot be relied upon: its kind, its version, its settings, or that
	// it cannot be reached.
	//
	// Now is the store's clock, read between the call and the return. Without begin the store is only asked whether it
	// can be relied upon: nothing is written, and there may be no epochs.
	attest(ctx context.Context, begin bool) (epochs []*epoch, now time.Time, err error)

	// use remembers the key until the time, and reports whether it was not remembered before; all in one step that
	// cannot be undone, and only in the epoch. It is [errOtherEpoch] otherwise. When the store's clock and now differ by more than
	// [ClockTolerance], it does nothing, and returns [errOtherTime].
	use(ctx context.Context, e *epoch, k replay.Key, now, until time.Time) (first bool, err error)
}

// A revocationLog keeps lines in the order in which they came. It belongs to the first bucket, and an epoch that is not
// its present one is [errOtherEpoch].
type revocationLog interface {
	// read returns the lines behind a position, 0 being the start, and the position of the last. Complete says that
	// something was appended in this epoch.
	read(ctx context.Context, e *epoch, after int64) (lines []string, last int64, complete bool, err error)

	// append adds those lines that the log does not hold, all or none, and forgets lines that are over. It is
	// [accesstoken.ErrTokenRevocationsFull] when more than [accesstoken.DefaultTokenRevocationLimit] would be left.
	append(ctx context.Context, e *epoch, lines []accesstoken.TokenRevocationLine) error
}

// A backend is a kind of store. Its methods may be called by many goroutines at once, and end when the context does.
type backend interface {
	pairStore
	revocationLog
	close()
}

// open makes the backend. It does not wait for the store: out of reach, it is asked for again at every call.
func open(ctx context.Context, c *Config) (backend, error) {
	switch {
	case c.URL == URL{}:
		return nil, errors.New("no URL")
	case c.Party == "":
		return nil, errors.New("no party")
	case c.Leeway < 0 || c.Leeway > replay.MaxLeeway:
		return nil, fmt.Errorf("leeway %v is not between 0 and %v", c.Leeway, replay.MaxLeeway)
	case c.WaitReplicas < 0 || c.WaitReplicas > 0 && c.URL.IsPostgres():
		return nil, errors.New("only replicas of Redis can be waited for")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.URL.IsPostgres() {
		return openPostgres(ctx, c)
	}
	return openRedis(c)
}

// Store is a [replay.Store] that several servers share, and their revocations of access tokens. [Store.Run] must run while
// it is used.
type Store struct {
	config  Config
	backend backend
	revoked *accesstoken.SharedTokenRevocations
	current atomic.Pointer[condition]
	counted outbound.CallCounter

	// What only poll uses.
	copied   *epoch    // of the log that revoked has learnt; nil: none
	position int64     // how far it has learnt it
	warned   time.Time // the time of issue that the log has named last
}

var _ replay.Store = (*Store)(nil)

// A condition is what was last found out about the store.
type condition struct {
	asked       time.Time
	epochs      []*epoch
	problem     error // why no pair can be used
	revocations error // why revocations can be neither made nor read
}

// condition is that of the store, which has a problem when it was found out too long ago: another may have taken its place.
func (s *Store) condition() condition {
	c := *s.current.Load()
	if time.Since(c.asked) > fresh {
		c.problem = cmp.Or(c.problem, errNotFresh)
		c.revocations = cmp.Or(c.revocations, errNotFresh)
	}
	return c
}

// Open begins a store. One that cannot be reached, or not be relied upon, is no error: [Store.Problem] tells of it, nothing
// is accepted, and as soon as it can be relied upon it is used. The caller must call [Store.Run], which closes the store, be
// it with a context that is done.
func Open(ctx context.Context, c Config) (*Store, error) {
	b, err := open(ctx, &c)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	s := &Store{config: c, backend: b}
	s.revoked = accesstoken.NewSharedTokenRevocations(s.append)
	s.current.Store(&condition{})
	s.poll(ctx)
	return s, nil
}

// Check finds out whether a server with the configuration could use its store now, and writes nothing there. The error is in words
// for those who run the server.
func Check(ctx context.Context, c Config) error {
	b, err := open(ctx, &c)
	if err != nil {
		return err
	}
	defer b.close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = attest(ctx, b, false)
	return err
}

// Run asks the store, four times a second, how it is and what was revoked, until ctx is done. Then it closes the store and
// returns nil. It must be called once.
func (s *Store) Run(ctx context.Context) error {
	defer s.backend.close()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.current.Store(&condition{problem: replay.ErrClosed, revocations: accesstoken.ErrTokenRevocationsClosed})
			return nil
		case <-ticker.C:
			s.poll(ctx)
		}
	}
}

// Calls tells how calls to the store ended, for metrics.
func (s *Store) Calls() outbound.Calls { return s.counted.Calls() }

// Leeway implements [replay.Store].
func (s *Store) Leeway() time.Duration { return s.config.Leeway }

// Use implements [replay.Store]. When its context ends or the store does not answer within two seconds, it returns an error,
// and the pair may count as used.
func (s *Store) Use(ctx context.Context, p replay.Pair) (first bool, err error) {
	if first, err = s.use(ctx, time.Now(), p); err != nil {
		return false, fmt.Errorf("replay store: %w", err)
	}
	return first, nil
}

func (s *Store) use(ctx context.Context, now time.Time, p replay.Pair) (bool, error) {
	if err := p.Check(now); err != nil {
		return false, err
	}
	// The rule for what was forgotten rests on this: what was used was issued by then.
	if p.IssuedAt.After(now.Add(s.config.Leeway)) {
		return false, fmt.Errorf("%w: it was issued in the future", replay.ErrPair)
	}
	c := s.condition()
	if c.problem != nil {
		return false, c.problem
	}
	k := p.Key()
	e := c.epochs[int(k[0])%len(c.epochs)]
	if from := s.acceptFrom(e); p.IssuedAt.Before(from) {
		return false, replay.Undecided("it was issued before the time that the store vouches for", now, from)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	first, err := s.backend.use(ctx, e, k, now, p.Until.Add(ClockMargin))
	s.counted.Note(err)
	return first, err
}

// acceptFrom is the time of issue from which on pairs can be judged in an epoch. What was used before
// it had been issued by its beginning, but for the leeway and the difference of clocks.
func (s *Store) acceptFrom(e *epoch) time.Time { return e.since.Add(s.config.Leeway + ClockMargin) }

// AcceptsIssuedFrom is the time of issue from which on all pairs are judged; some earlier ones are answered with
// [replay.UndecidedError]. It is zero while the store cannot be used.
func (s *Store) AcceptsIssuedFrom() (from time.Time) {
	for _, e := range s.current.Load().epochs {
		if t := s.acceptFrom(e); t.After(from) {
			from = t
		}
	}
	return from
}

// Problem is why the store cannot be used, by what was found out last, in words for those who run the server. It is nil when it
// can.
func (s *Store) Problem() error {
	c := s.condition()
	return cmp.Or(c.problem, c.revocations)
}

// Revocations are the access tokens that were revoked by any of the servers.
func (s *Store) Revocations() *accesstoken.SharedTokenRevocations { return s.revoked }

// poll finds out how the store is, and what was revoked.
func (s *Store) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	c := &condition{asked: time.Now()}
	if c.epochs, c.problem = attest(ctx, s.backend, true); c.problem != nil {
		c.revocations = c.problem
	} else {
		c.revocations = s.learn(ctx, c.epochs[0])
	}
	s.counted.Note(cmp.Or(c.problem, c.revocations))
	s.current.Store(c)
	if from := s.AcceptsIssuedFrom(); from.After(time.Now()) && !from.Equal(s.warned) {
		s.warned = from
		s.config.Log.WarnContext(ctx, "the store of used assertions is new, or was restarted, emptied or replaced; assertions issued before get no token, as they may have been used",
			slog.Time("issued_before", from))
	}
}

// attest asks for the epochs, and compares the clocks.
func attest(ctx context.Context, b backend, begin bool) ([]*epoch, error) {
	asked := time.Now()
	epochs, now, err := b.attest(ctx, begin)
	if err != nil {
		return nil, err
	}
	if now.Before(asked.Add(-ClockTolerance)) || now.After(time.Now().Add(ClockTolerance)) {
		return nil, fmt.Errorf("%w: %v", errOtherTime, now.Sub(asked).Round(time.Millisecond))
	}
	return epochs, nil
}

// learn reads what was appended to the log. In a new epoch, the log gets back what it may have lost, from whoever has a copy. Where nobody
// has one, it is not known what was revoked, and everything is.
func (s *Store) learn(ctx context.Context, e *epoch) error {
	same := s.copied != nil && s.copied.id == e.id
	if !same {
		s.position = 0
	}
	asOf := time.Now()
	lines, last, complete, err := s.backend.read(ctx, e, s.position)
	if err != nil {
		return err
	}
	if same {
		if err := s.revoked.Learn(lines, asOf); err != nil {
			return err // and what was not learnt is read again
		}
		s.position = last
		return nil
	}
	back := slices.Clone(s.config.Revoked)
	switch {
	case s.copied != nil && s.revoked.Age() < lasting:
		back = append(back, s.revoked.Lines()...)
	case !complete:
		back = append(back, accesstoken.RevokeAllLine(e.since))
	}
	if len(back) > 0 || !complete {
		if err := s.backend.append(ctx, e, back); err != nil {
			return err
		}
	}
	s.copied = e
	return s.learn(ctx, e) // from the start, with what others have given back
}

// append is for revocations that are made here.
func (s *Store) append(ctx context.Context, lines []accesstoken.TokenRevocationLine) error {
	c := s.condition()
	if c.revocations != nil {
		return c.revocations
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.backend.append(ctx, c.epochs[0], lines)
}
