package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// listKey: a list is kept as what its issuer signed, so that a list which
// another CA's certificates name too is believed for each of them separately.
type listKey struct {
	address string
	issuer  Fingerprint
}

// A listing is what is known of one list.
type listing struct {
	asked[*list]

	failing atomic.Bool // the log knows that there is no new one
}

// askList answers from a list, which is shared by all certificates of the issuer
// that name it.
func (r *Revocation) askList(ctx context.Context, address string, of subject) (*answer[verdict], error) {
	held, err := r.list(ctx, address, of.issuer)
	if err != nil {
		return nil, err
	}
	v, err := held.value.about(of.certificate)
	if err != nil {
		return nil, err
	}
	v.source, v.address = byList, address
	// When the list itself is due, it is on its way.
	again := later(held.again, wallClock().Add(unreachableMemory))
	return v.answer(earlier(again, held.until), held.until), nil
}

func (r *Revocation) list(ctx context.Context, address string, issuer *x509.Certificate) (*answer[*list], error) {
	key := listKey{address: address, issuer: FingerprintOf(issuer)}
	entry, _ := r.lists.SetIfAbsent(key, &listing{})
	now := time.Now()
	entry.prompt(now, r.workers, func(ctx context.Context) (*answer[*list], error) {
		held := entry.live(time.Now())
		found, err := r.fetchList(ctx, address, issuer, held)
		r.tellList(entry, address, held, err)
		return found, err
	})
	held, err := entry.wait(ctx, now)
	if err == nil {
		r.lists.Set(key, entry) // weighs what was found
	}
	return held, err
}

func (r *Revocation) fetchList(ctx context.Context, address string, issuer *x509.Certificate, held *answer[*list]) (*answer[*list], error) {
	body, err := r.fetcher.fetch(ctx, call{
		method:  http.MethodGet,
		address: address,
		limit:   maxListAnswer,
		timeout: listTimeout,
	})
	if err != nil {
		return nil, err
	}
	now := wallClock()
	found, err := readList(body, issuer, now)
	if err != nil {
		return nil, err
	}
	if held != nil && found.thisUpdate.Before(held.value.thisUpdate) {
		return nil, errors.New("the list is older than the one at hand")
	}
	r.counters.lists.Add(1)
	until := earlier(found.nextUpdate, now.Add(maxLife))
	return &answer[*list]{value: found, again: halfway(now, until), until: until}, nil
}

// tellList warns of a list that is in use and of which there is no new one. Where
// none is in use, the certificates that need it are what the log tells of.
func (r *Revocation) tellList(l *listing, address string, held *answer[*list], err error) {
	if err == nil {
		l.failing.Store(false)
		return
	}
	if held == nil || r.workers.ctx.Err() != nil || l.failing.Swap(true) {
		return
	}
	r.log.Warn("a revocation list cannot be fetched again",
		slog.String("address", address), slog.Any("error", err), slog.Time("list_in_use_until", held.until))
}
