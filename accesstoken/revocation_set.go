package accesstoken

import (
	"errors"
	"maps"
	"math"
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
	through int64 // the last second of issue that it hits
	until   int64 // from this second on, every token that it hits has expired
}

// ever is the reach through of a revocation that hits whenever the token was issued.
const ever = math.MaxInt64

// reachOf counts from now. What would be over when all tokens have expired is kept for
// a while longer, so that a clock that is set back within [clockMargin] brings no
// revoked token back to life.
func reachOf(r Revocation, now time.Time) reach {
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
	return reach{through: max(r.through, other.through), until: max(r.until, other.until)}
}

// A revokedSet is the revocations of one moment. It never changes, so that checks
// read it without a lock. Nil is the empty set.
type revokedSet struct {
	reaches map[mark]reach
	end     int64 // when the last of them is over
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

// living copies what is not over at the second now.
func (s *revokedSet) living(now int64) *revokedSet {
	if s == nil {
		return newRevokedSet()
	}
	next := &revokedSet{reaches: maps.Clone(s.reaches), end: s.end}
	maps.DeleteFunc(next.reaches, func(_ mark, r reach) bool { return r.until <= now })
	return next
}

// put is for a set that nobody else sees yet.
func (s *revokedSet) put(m mark, r reach) {
	s.reaches[m] = r.widest(s.reaches[m])
	s.end = max(s.end, r.until)
}
