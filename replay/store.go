package replay

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// MaxLife is the longest time that a store agrees to remember a pair. An assertion
// lives 30 seconds, and the leeway of at most [MaxLeeway] counts once before and once
// after; a pair that ends later than this is a mistake, and one that would stay for
// ever must not take the place of others.
const MaxLife = 5 * time.Minute

// MaxLeeway is the largest leeway between clocks that can be configured.
const MaxLeeway = time.Minute

var (
	// ErrPair says that a pair cannot be used at all: it lacks its issuer, its jti or
	// its time of issue, it is over, it lasts longer than [MaxLife], or it was issued
	// further in the future than the leeway allows. A verifier that checks assertions
	// before it asks never sees it.
	ErrPair = errors.New("not a pair that can be used")

	// ErrFull says that the store holds as many living pairs as it may. It forgets
	// none of them to make room.
	ErrFull = errors.New("the store is full")

	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// A Store remembers pairs. Its methods may be called by many goroutines at once.
type Store interface {
	// Use reports whether p is used for the first time in its life, and remembers it
	// until p.Until. One question, asked and answered in one step: finding and then
	// saving would let simultaneous copies of an assertion pass.
	//
	// False with a nil error means that the pair was used before. With an error,
	// first is false and nobody may be let in: [UndecidedError] when the store cannot
	// tell yet, [ErrPair], [ErrFull], [ErrClosed], the error of ctx, or whatever else
	// went wrong. A pair that met an error may have been remembered all the same.
	//
	// The pair alone decides: asked again with other times, the answer is still no
	// while the first use lives.
	Use(ctx context.Context, p Pair) (first bool, err error)

	// Leeway is how far the clock of a client may be off: 0 to [MaxLeeway], and the same
	// as long as the store lives. Whoever judges assertions takes it from here: with a
	// smaller leeway than the verifier, a store would forget pairs that are still accepted.
	Leeway() time.Duration
}

// A Pair is what names an assertion, and the time during which it counts. A jti is
// unique to its issuer only: the framework's own examples use one value for several.
type Pair struct {
	Issuer   ishare.PartyID // iss, the client
	JTI      string         // jti; compared byte for byte
	IssuedAt time.Time      // iat
	Until    time.Time      // the last moment at which the assertion could be accepted: exp and the leeway
}

// A Key stands for a pair in a store. It is of fixed size, so that an issuer cannot
// take more memory with longer values.
type Key [sha256.Size]byte

// Key is the SHA-256 of issuer and jti. The issuer's length goes first: without it,
// the issuer "a" with the jti "bc" could use up the pair of "ab" and "c".
func (p Pair) Key() Key {
	// Room on the stack for the longest values that the rules let through.
	buf := make([]byte, 0, 8+2*ishare.MaxPartyIDLength)
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(p.Issuer)))
	buf = append(buf, p.Issuer...)
	buf = append(buf, p.JTI...)
	return sha256.Sum256(buf)
}

// Check returns [ErrPair], with the reason, when the pair cannot be used at the time,
// whichever was used before: a part is missing, it is over, or it ends later than
// [MaxLife] from then. Every store begins with it.
func (p Pair) Check(at time.Time) error {
	switch {
	case p.Issuer == "":
		return fmt.Errorf("%w: no issuer", ErrPair)
	case p.JTI == "":
		return fmt.Errorf("%w: no jti", ErrPair)
	case p.IssuedAt.IsZero():
		return fmt.Errorf("%w: no time of issue", ErrPair)
	case p.Until.Before(at):
		return fmt.Errorf("%w: it is over", ErrPair)
	case p.Until.After(at.Add(MaxLife)):
		return fmt.Errorf("%w: it lasts longer than %v", ErrPair, MaxLife)
	}
	return nil
}

// An UndecidedError says that the store cannot tell whether the pair was used before,
// and nobody may be let in by it. The client has done nothing wrong: a new assertion
// after RetryAfter is judged as usual.
type UndecidedError struct {
	RetryAfter time.Duration // whole seconds, at least one
	Reason     string        // for the log
}

// Error tells the reason and the wait.
func (e *UndecidedError) Error() string {
	return fmt.Sprintf("the store cannot tell whether the pair was used before: %s (retry after %v)", e.Reason, e.RetryAfter)
}

// Undecided is the answer to a pair that cannot be judged, though one can that is issued at until. It counts the wait from
// now in whole seconds, as Retry-After does (RFC 9110 section 10.2.3). Times of issue are whole seconds too: a client that
// comes back within the last second of it would be too early again.
func Undecided(reason string, now, until time.Time) *UndecidedError {
	end := time.Unix(ceilSecond(until), 0)
	wait := max(end.Sub(now), time.Second)
	return &UndecidedError{RetryAfter: (wait + time.Second - 1).Truncate(time.Second), Reason: reason}
}

// ceilSecond is the first whole second that is not before t.
func ceilSecond(t time.Time) int64 {
	if t.Nanosecond() == 0 {
		return t.Unix()
	}
	return t.Unix() + 1
}
