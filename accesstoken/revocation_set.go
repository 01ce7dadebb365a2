package accesstoken

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// A markKind says by what tokens are recognised.
type markKind string

const (
	tokenMark       markKind = "token"
	partyMark       markKind = "party"
	certificateMark markKind = "certificate"
	everyoneMark    markKind = "everyone" // all tokens, when nobody knows which were revoked
)

// A mark is what tokens are recognised by. Its value has no blank and no line break,
// and stands as it is in the file.
type mark struct {
	kind  markKind
	value string
}

func everyone() mark { return mark{everyoneMark, "-"} }

// check refuses a value that no token has, or that would not stand in a line.
func (m mark) check() error {
	switch m.kind {
	case tokenMark:
		return checkTokenID(m.value)
	case partyMark:
		_, err := ishare.ParsePartyID(m.value)
		return err
	case certificateMark:
		_, err := decodeThumbprint(m.value)
		return err
	case everyoneMark:
		if m == everyone() {
			return nil
		}
	}
	return errors.New("unknown kind")
}

func checkTokenID(id string) error {
	if id == "" || len(id) > maxTokenID || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("not a token id")
	}
	return nil
}

// A reach is which tokens with a mark a revocation hits, and how long it is needed.
type reach struct {
	through int64         // the last second of issue that it hits
	until   int64         // from this second on, by the wall clock, every token that it hits has expired
	held    time.Duration // the same in the time that the store has been open; not in the journal
}

// ever is the reach through of a revocation that hits whenever the token was issued.
const ever = math.MaxInt64

// An instant is a moment by two clocks. The one on the wall can be set, and may be wrong
// for a while. The time for which the store has been open is monotonic: it only grows, at
// the pace of real time or below, as it may stand still while the machine sleeps.
type instant struct {
	wall int64 // UNIX seconds
	open time.Duration
}

// holdFor is how long a revocation is held at least. No token that it hits lives longer.
const holdFor = MaxLifetime + clockMargin

// over reports whether the revocation can be forgotten. A wall clock that runs ahead does
// not bring this about, as the store has known the revocation for a whole [MaxLifetime] by
// then; and time that passed while no store was open counts by the wall clock.
func (r reach) over(at instant) bool { return r.until <= at.wall && r.held <= at.open }

// reachOf counts from now. What would be over when all tokens have expired is kept for
// a while longer, so that a clock that is set back within [clockMargin] brings no
// revoked token back to life.
func reachOf(r TokenRevocation, now time.Time) reach {
	longest := now.Add(MaxLifetime)
	if r.TokenID == "" {
		return reach{through: now.Unix(), until: keepUntil(longest)}
	}
	expires := longest
	if !r.Expires.IsZero() && r.Expires.Before(longest) {
		expires = r.Expires
	}
	return reach{through: ever, until: keepUntil(expires)}
}

func keepUntil(expires time.Time) int64 { return expires.Add(clockMargin).Unix() + 1 }

// widest unites two reaches of one mark.
func (r reach) widest(other reach) reach {
	return reach{through: max(r.through, other.through), until: max(r.until, other.until), held: max(r.held, other.held)}
}

// A revokedSet is the revocations of one moment. It never changes, so that checks
// read it without a lock. Nil is the empty set.
type revokedSet struct {
	reaches map[mark]reach
	all     reach // unites them
}

// hits reports whether the set revokes the token.
func (s *revokedSet) hits(c *Claims) bool {
	issued := c.Issued.Unix()
	for _, m := range [...]mark{
		{tokenMark, c.ID}, {partyMark, string(c.Party)}, {partyMark, string(c.Client)}, {certificateMark, c.Thumbprint}, everyone(),
	} {
		if r, ok := s.reaches[m]; ok && issued <= r.through {
			return true
		}
	}
	return false
}

func newRevokedSet() *revokedSet { return &revokedSet{reaches: map[mark]reach{}} }

func (s *revokedSet) len() int {
	if s == nil {
		return 0
	}
	return len(s.reaches)
}

// living copies what is not over.
func (s *revokedSet) living(at instant) *revokedSet {
	if s == nil {
		return newRevokedSet()
	}
	next := &revokedSet{reaches: maps.Clone(s.reaches), all: s.all}
	maps.DeleteFunc(next.reaches, func(_ mark, r reach) bool { return r.over(at) })
	return next
}

// loaded is the set as a store begins with it, which is open from now on and holds each
// revocation for the whole time again: its clock may have been set ahead while none was
// open. Only of more than room are those dropped that the clock says are over, the longest
// ago first.
func (s *revokedSet) loaded(now int64, room int) *revokedSet {
	marks := slices.SortedFunc(maps.Keys(s.reaches), func(a, b mark) int {
		return cmp.Compare(s.reaches[b].until, s.reaches[a].until)
	})
	next := newRevokedSet()
	for i, m := range marks {
		if r := s.reaches[m]; i < room || r.until > now {
			r.held = holdFor
			next.put(m, r)
		}
	}
	return next
}

// put is for a set that nobody else sees yet.
func (s *revokedSet) put(m mark, r reach) {
	s.reaches[m] = r.widest(s.reaches[m])
	s.all = r.widest(s.all)
}
