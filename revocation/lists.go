package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/trust"
)

// listKey: a list is kept as what its issuer signed, so that a list which
// another CA's certificates name too is believed for each of them separately.
type listKey struct {
	address string
	issuer  trust.Fingerprint
}

func newListKey(address string, issuer *x509.Certificate) listKey {
	return listKey{address: address, issuer: trust.FingerprintOf(issuer)}
}

// A listing is what is known of one list.
type listing struct {
	asked[*list]

	recalled sync.Once   // from what is kept
	failing  atomic.Bool // the log knows that there is no new one
}

func (r *Checker) listing(address string, issuer *x509.Certificate) *listing {
	entry, _ := r.lists.SetIfAbsent(newListKey(address, issuer), &listing{})
	return entry
}

// askList answers from a list, which is shared by all certificates of the issuer
// that name it.
func (r *Checker) askList(ctx context.Context, address string, of subject) (told, error) {
	held, err := r.list(ctx, address, of.issuer)
	if err != nil {
		return told{}, err
	}
	found, err := fromList(held, address, of.certificate)
	return told{found, record{address: address}}, err
}

// fromList is what a list says of a certificate. The list may have ended; so has the answer then, unless
// it is final.
func fromList(held *answer[*list], address string, cert *x509.Certificate) (*answer[verdict], error) {
	v, err := held.value.about(cert)
	if err != nil {
		return nil, err
	}
	v.source, v.address = byList, address
	// When the list itself is due, it is on its way.
	again := later(held.again, wallClock().Add(failureMemory))
	return v.answer(earlier(again, held.until), held.until), nil
}

// list returns the list at hand, or waits for the one under way. That goes on when nobody waits any
// more: a large list may take longer than anybody would, and there are as many as there are authorities.
func (r *Checker) list(ctx context.Context, address string, issuer *x509.Certificate) (*answer[*list], error) {
	entry := r.listing(address, issuer)
	r.recallList(entry, address, issuer)
	now := time.Now()
	if at, err := entry.known(now); at != nil || err != nil && entry.live(now) == nil {
		return at, err
	}
	under, err := r.fetching.Start(entry, func(ctx context.Context) (*answer[*list], error) {
		return r.findList(ctx, entry, address, issuer)
	})
	switch at := entry.live(now); {
	case at != nil:
		return at, nil
	case err != nil:
		return nil, err
	}
	return under.Wait(ctx)
}

// findList looks for a list in memory and at its address.
func (r *Checker) findList(ctx context.Context, entry *listing, address string, issuer *x509.Certificate) (*answer[*list], error) {
	now := time.Now()
	if at, err := entry.known(now); at != nil || err != nil {
		return at, err
	}
	held := entry.live(now)
	found, rec, err := r.fetchList(ctx, address, issuer)
	if err == nil && held != nil && found.value.thisUpdate.Before(held.value.thisUpdate) {
		err = errors.New("the list is older than the one at hand")
	}
	if !flight.GivenUp(ctx) {
		r.tellList(entry, address, held, err)
	}
	if found, err = entry.settle(ctx, found, err); err != nil {
		return nil, err
	}
	key := newListKey(address, issuer)
	r.lists.Set(key, entry) // weighs what was found
	r.keep(key.kept(), rec, issuer.NotAfter)
	return found, nil
}

func (r *Checker) fetchList(ctx context.Context, address string, issuer *x509.Certificate) (*answer[*list], record, error) {
	body, err := r.fetcher.Fetch(ctx, outbound.Call{
		Method:  http.MethodGet,
		Address: address,
		Limit:   maxListAnswer,
		Timeout: listTimeout,
	})
	if err != nil {
		return nil, record{}, err
	}
	rec := record{wallClock(), address, body}
	found, err := rec.list(issuer)
	if err != nil {
		return nil, record{}, &costlyError{err, int64(len(body))}
	}
	r.counters.lists.Add(1)
	return found, rec, nil
}

// list believes the record, when it is of a list of that issuer.
func (rec record) list(issuer *x509.Certificate) (*answer[*list], error) {
	found, err := readList(rec.signed, issuer, rec.obtained)
	if err != nil {
		return nil, err
	}
	until := earlier(found.nextUpdate, rec.obtained.Add(maxLife))
	return &answer[*list]{value: found, again: halfway(rec.obtained, until), until: until}, nil
}

// tellList warns of a list that is in use and of which there is no new one. Where
// none is in use, the certificates that need it are what the log tells of.
func (r *Checker) tellList(l *listing, address string, held *answer[*list], err error) {
	if err == nil {
		l.failing.Store(false)
		return
	}
	if held == nil || l.failing.Swap(true) {
		return
	}
	r.log.Warn("a revocation list cannot be fetched again",
		slog.String("address", address), slog.Any("error", err), slog.Time("list_in_use_until", held.until))
}
