package accesstoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// ErrRevoked says that the token is ours and unaltered, that its time is not over,
// and that it was revoked. It wraps [ErrInvalid]: to its bearer it is one more way in
// which a token is no good (RFC 6750 section 3.1, invalid_token).
var ErrRevoked = fmt.Errorf("%w: it was revoked", ErrInvalid)

var (
	// ErrTokenRevocation says that a revocation cannot be made, because what it is of is
	// missing, malformed or ambiguous.
	ErrTokenRevocation = errors.New("not a revocation")

	// ErrTokenRevocationsFull says that a store holds as many revocations as it may. It
	// forgets none of them to make room.
	ErrTokenRevocationsFull = errors.New("the store of revocations is full")

	// ErrTokenRevocationsClosed says that the store was closed.
	ErrTokenRevocationsClosed = errors.New("the store of revocations is closed")
)

// maxTokenID is the longest token id that can be revoked, in bytes. Ours have 26.
const maxTokenID = 128

// A TokenRevocation withdraws tokens before they expire. Exactly one of TokenID, Party and
// Thumbprint is set.
type TokenRevocation struct {
	// TokenID is the id of one token: ID in its [Claims]. Not the token's text, of
	// which there can be several.
	TokenID string
	// Expires is when the token of TokenID expires. The zero time means that the
	// caller does not know; the revocation is then kept for [MaxLifetime].
	Expires time.Time

	// Party withdraws every token that was issued up to this second and names the
	// party, as its canonical identifier or as the client_id that was used.
	Party ishare.PartyID

	// Thumbprint withdraws every token that was issued up to this second to the holder
	// of the certificate. It has the form of [ishare.Thumbprint].
	Thumbprint string
}

// target is what the revocation is of. The error wraps [ErrTokenRevocation].
func (r TokenRevocation) target() (target, error) {
	var targets []target
	for _, t := range []target{{tokenTarget, r.TokenID}, {partyTarget, string(r.Party)}, {certificateTarget, r.Thumbprint}} {
		if t.value != "" {
			targets = append(targets, t)
		}
	}
	if len(targets) != 1 {
		return target{}, fmt.Errorf("%w: want exactly one of a token id, a party and a certificate thumbprint", ErrTokenRevocation)
	}
	if r.TokenID == "" && !r.Expires.IsZero() {
		return target{}, fmt.Errorf("%w: only one token has a time of expiry", ErrTokenRevocation)
	}
	if err := targets[0].check(); err != nil {
		return target{}, fmt.Errorf("%w: %w", ErrTokenRevocation, err)
	}
	return targets[0], nil
}

// A TokenRevocationChecker tells whether a token has been revoked.
type TokenRevocationChecker interface {
	// Revoked reports whether the token with these claims has been revoked. The claims
	// are complete, and those of a genuine token that has not expired. With an error
	// nobody may be let in.
	Revoked(ctx context.Context, c *Claims) (bool, error)
}

// TokenRevocations remembers revocations until the tokens that they hit have expired. Its
// methods may be called by many goroutines at once.
//
// [MemoryTokenRevocations] is for one process. Several that share keys need a store that
// they share, or a token that one has revoked is good at the others.
type TokenRevocations interface {
	TokenRevocationChecker

	// Revoke withdraws tokens. When it returns nil, every later check of every process
	// that uses the store sees it, those after a crash included. To revoke again what
	// is revoked is no error: tokens issued in between are withdrawn too.
	//
	// After an error the revocation may hold or not, and should be tried again:
	// [ErrTokenRevocation], which stays, [ErrTokenRevocationsFull], [ErrTokenRevocationsClosed], the
	// error of ctx, or whatever else went wrong.
	Revoke(ctx context.Context, r TokenRevocation) error
}

// The kinds of targets, as they stand in the journal.
const (
	tokenTarget       = "token"
	partyTarget       = "party"
	certificateTarget = "certificate"
	everyoneTarget    = "everyone" // all tokens, when nobody knows which were revoked
)

// A target is what a revocation is of. Its value has no blank and no line break, and stands as
// it is in the journal.
type target struct{ kind, value string }

func everyone() target { return target{everyoneTarget, "-"} }

// check refuses a value that no token has, or that would not stand in a line.
func (t target) check() error {
	switch t.kind {
	case tokenTarget:
		if t.value == "" || len(t.value) > maxTokenID || strings.ContainsFunc(t.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("not a token id")
		}
		return nil
	case partyTarget:
		_, err := ishare.ParsePartyID(t.value)
		return err
	case certificateTarget:
		_, err := decodeThumbprint(t.value)
		return err
	case everyoneTarget:
		if t == everyone() {
			return nil
		}
	}
	return errors.New("unknown kind")
}

// An effect is which tokens of a target a revocation hits, and how long it is needed.
type effect struct {
	through int64         // the last second of issue that it hits
	until   int64         // from this second on, by the wall clock, every token that it hits has expired
	held    time.Duration // the same in the time that the store has been open; not in the journal
}

// whenever is the through of a revocation that hits whenever the token was issued.
const whenever = math.MaxInt64

// An instant is a moment by two clocks. The one on the wall can be set, and may be wrong
// for a while. The time for which the store has been open is monotonic: it only grows, at
// the pace of real time or below, as it may stand still while the machine sleeps.
type instant struct {
	wall int64 // UNIX seconds
	open time.Duration
}

// holdFor is how long a revocation is held at least. No token that it hits lives longer.
const holdFor = MaxLifetime + clockMargin

// expired reports whether the revocation can be forgotten. A wall clock that runs ahead does
// not bring this about, as the store has known the revocation for a whole [MaxLifetime] by
// then; and time that passed while no store was open counts by the wall clock.
func (e effect) expired(at instant) bool { return e.until <= at.wall && e.held <= at.open }

// effectOf counts from now. What could be forgotten when all tokens have expired is kept for
// a while longer, so that a clock that is set back within [clockMargin] makes no
// revoked token valid again.
func effectOf(r TokenRevocation, now time.Time) effect {
	through, expires := now.Unix(), now.Add(MaxLifetime)
	if r.TokenID != "" {
		through = whenever
		if !r.Expires.IsZero() && r.Expires.Before(expires) {
			expires = r.Expires
		}
	}
	return effect{through: through, until: expires.Add(clockMargin).Unix() + 1}
}

// union unites two effects on one target.
func (e effect) union(other effect) effect {
	return effect{through: max(e.through, other.through), until: max(e.until, other.until), held: max(e.held, other.held)}
}

// A revocationSet is the revocations of one moment. It never changes, so that checks
// read it without a lock. Nil is the empty set.
type revocationSet struct {
	effects map[target]effect
	all     effect // unites them
}

func newRevocationSet() *revocationSet { return &revocationSet{effects: map[target]effect{}} }

func (s *revocationSet) len() int {
	if s == nil {
		return 0
	}
	return len(s.effects)
}

// unexpired copies what has not expired.
func (s *revocationSet) unexpired(at instant) *revocationSet {
	if s == nil {
		return newRevocationSet()
	}
	next := &revocationSet{effects: maps.Clone(s.effects), all: s.all}
	maps.DeleteFunc(next.effects, func(_ target, e effect) bool { return e.expired(at) })
	return next
}

// restored is the set as a store begins with it, which is open from now on and holds each
// revocation for the whole time again: its clock may have been set ahead while none was
// open. Of more than capacity, those are dropped that the clock says are over, the longest
// ago first.
func (s *revocationSet) restored(now int64, capacity int) *revocationSet {
	targets := slices.SortedFunc(maps.Keys(s.effects), func(a, b target) int {
		return cmp.Compare(s.effects[b].until, s.effects[a].until)
	})
	next := newRevocationSet()
	for i, t := range targets {
		if e := s.effects[t]; i < capacity || e.until > now {
			e.held = holdFor
			next.put(t, e)
		}
	}
	return next
}

// put is for a set that nobody else sees yet.
func (s *revocationSet) put(t target, e effect) {
	s.effects[t] = e.union(s.effects[t])
	s.all = e.union(s.all)
}
