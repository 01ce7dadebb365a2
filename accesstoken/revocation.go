package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// ErrRevoked says that the token is ours and unaltered, that its time is not over,
// and that it was revoked. It wraps [ErrInvalid]: to its bearer it is one more way in
// which a token is no good (RFC 6750 section 3.1, invalid_token).
var ErrRevoked = fmt.Errorf("%w: it was revoked", ErrInvalid)

var (
	// ErrTokenRevocation says that a revocation cannot be made, because it does not say
	// rightly what it is of.
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

// mark is what the revocation is of. The error wraps [ErrTokenRevocation].
func (r TokenRevocation) mark() (mark, error) {
	var marks []mark
	for _, m := range []mark{{tokenMark, r.TokenID}, {partyMark, string(r.Party)}, {certificateMark, r.Thumbprint}} {
		if m.value != "" {
			marks = append(marks, m)
		}
	}
	if len(marks) != 1 {
		return mark{}, fmt.Errorf("%w: want exactly one of a token id, a party and a certificate thumbprint", ErrTokenRevocation)
	}
	if r.TokenID == "" && !r.Expires.IsZero() {
		return mark{}, fmt.Errorf("%w: only one token has a time of expiry", ErrTokenRevocation)
	}
	if err := marks[0].check(); err != nil {
		return mark{}, fmt.Errorf("%w: %w", ErrTokenRevocation, err)
	}
	return marks[0], nil
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
