package provider

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/internal/forwarded"
	"github.com/waybill-token/waybill/internal/work"
	"github.com/waybill-token/waybill/rule"
)

const (
	waiting = 8 // requests for each place
	dearer  = 8 // times what a seal costs that is known: one place for each eight
)

// limits bound what strangers can make the server do for tokens.
type limits struct {
	work      *work.Gate
	firstWork *work.Gate              // for seals that are not known yet
	addresses *bucket.Set[netip.Addr] // nil: without a limit
	seals     *bucket.Set[string]     // likewise
	proxies   forwarded.Proxies
}

// newLimits takes over from the limits before, if any, what is to be as it was: a reload gives nobody a full bucket.
func newLimits(c Limits, before *limits) (*limits, error) {
	if before == nil {
		before = &limits{}
	}
	l := &limits{work: before.work, firstWork: before.firstWork, proxies: c.TrustedProxies}
	if places := cmp.Or(c.InWork, work.DefaultPlaces()); l.work == nil || l.work.Places() != places {
		l.work, l.firstWork = work.NewGate(places, waiting*places), work.NewGate(places/dearer, waiting*places)
	}
	var err1, err2 error
	l.addresses, err1 = buckets(c.PerAddress, before.addresses)
	l.seals, err2 = buckets(c.PerParty, before.seals)
	return l, errors.Join(err1, err2)
}

func buckets[K comparable](r Rate, before *bucket.Set[K]) (*bucket.Set[K], error) {
	switch {
	case r == Rate{}:
		return nil, nil //nolint:nilnil // there is no limit
	case before != nil && before.Rate() == bucket.Rate(r):
		return before, nil
	}
	return bucket.New[K](bucket.Rate(r))
}

// screen refuses a token request by where it comes from, or when too many are in work. It costs next to nothing.
func (l *limits) screen(r *http.Request) error {
	if l.addresses != nil {
		if wait := l.addresses.Take(origin(r.RemoteAddr)); wait > 0 {
			return &rule.Outage{Rule: rule.Limited, RetryAfter: wait, Cause: errEager}
		}
	}
	if l.work.Busy() {
		return &rule.Outage{Rule: rule.UnavailableOverload, RetryAfter: time.Second, Cause: work.ErrBusy}
	}
	return nil
}

var errEager = errors.New("too many token requests of one address")

// origin is what counts as one address. Of IPv6 that is a network of 64 bits, as one host can have all of its addresses
// (RFC 4291 section 2.5.4).
func origin(remote string) netip.Addr {
	peer, _ := netip.ParseAddrPort(remote) // one that cannot be read shares a bucket with its like
	a := peer.Addr().Unmap()
	if a.Is6() {
		network, _ := a.Prefix(64)
		return network.Addr()
	}
	return a
}
