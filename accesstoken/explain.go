package accesstoken

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// An Explanation tells what became of an access token, for a person. It admits nobody.
type Explanation struct {
	Claims  *Claims // nil: the token is not ours
	Ours    error   // why it is not: [ErrInvalid], or that it cannot be found out
	Expired error   // [ErrExpired]
	Revoked error   // [ErrRevoked], or that it cannot be found out
}

// Explain judges a token at a time as [Issuer.Check] does, and does not stop at the first thing that is wrong.
func (i *Issuer) Explain(ctx context.Context, token string, at time.Time) Explanation {
	c, err := i.read(ctx, token)
	if err != nil {
		return Explanation{Ours: err}
	}
	return Explanation{Claims: c, Expired: expired(c, at), Revoked: i.isRevoked(ctx, c)}
}

// ReadKeys reads the keys of a source once, also of one that a server uses: for whoever checks tokens and makes none. In
// contrast to [OpenKeys] nothing is made or changed there, and the ring need not be run or closed.
func ReadKeys(source string) (*KeyRing, error) {
	k := &KeyRing{source: source, log: slog.New(slog.DiscardHandler), rereadLimiter: rate.NewLimiter(rate.Every(rereadPause), 1), closed: true}
	set, err := readOnce(source)
	if err != nil {
		return nil, fmt.Errorf("access token keys: %w", err)
	}
	k.set.Store(set)
	return k, nil
}

func readOnce(source string) (*keySet, error) {
	if IsKeySet(source) {
		return readKeySet(source, newKeySet())
	}
	f, err := openFolder(source)
	if err != nil {
		return nil, err
	}
	defer f.root.Close() //nolint:errcheck // a folder handle: nothing is lost
	return f.readSound()
}

// ReadTokenRevocations reads once what a store keeps in a folder, also while a server has it: for whoever checks tokens. The error
// says why it is not known what was revoked. In contrast to [OpenTokenRevocations] nothing is changed there.
func ReadTokenRevocations(dir string) (TokenRevocationChecker, error) {
	found, recoveryErr, err := lookAtJournal(dir, false)
	if err != nil {
		return nil, err
	}
	if recoveryErr != nil {
		return nil, fmt.Errorf("the journal of revocations: %w", recoveryErr)
	}
	m := &MemoryTokenRevocations{opened: time.Now()}
	m.current.Store(found.restored(m.opened.Unix(), DefaultTokenRevocationLimit))
	return m, nil
}
