package revocation

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/waybill-token/waybill/trust"
)

// Stats is what a [Checker] counted since it was made, for metrics.
type Stats struct {
	OCSPAnswers uint64 // statuses found out by OCSP
	ListAnswers uint64 // statuses found out from a revocation list
	Lists       uint64 // revocation lists fetched
	Failures    uint64 // questions about a certificate that no source answered

	Revoked    uint64 // checks refused because a certificate is revoked
	Undecided  uint64 // checks that ended without a decision, in Require
	LetThrough uint64 // checks that passed without an answer, in Prefer

	KnownCertificates int    // certificates in memory, now
	KnownLists        int    // revocation lists in memory, now
	ListBytes         uint64 // memory held by revocation lists, about
	OpenCircuits      int    // addresses that are left alone, now
}

type counters struct {
	ocsp, fromList, lists, failures atomic.Uint64
	refused, undecided, letThrough  atomic.Uint64
}

func (c *counters) count(v verdict) {
	if v.source == byOCSP {
		c.ocsp.Add(1)
	} else {
		c.fromList.Add(1)
	}
}

// Stats returns the present numbers.
func (r *Checker) Stats() Stats {
	c := &r.counters
	return Stats{
		OCSPAnswers:       c.ocsp.Load(),
		ListAnswers:       c.fromList.Load(),
		Lists:             c.lists.Load(),
		Failures:          c.failures.Load(),
		Revoked:           c.refused.Load(),
		Undecided:         c.undecided.Load(),
		LetThrough:        c.letThrough.Load(),
		KnownCertificates: r.certificates.EstimatedSize(),
		KnownLists:        r.lists.EstimatedSize(),
		ListBytes:         r.lists.WeightedSize(),
		OpenCircuits:      r.fetcher.OpenCircuits(),
	}
}

// A Finding is what is known about one certificate of a chain, for
// people who want to see it.
type Finding struct {
	Index      int    // of the certificate in the chain, 0 for the leaf
	Source     string // "OCSP" or "CRL"; empty when there is no answer
	Address    string // that answered
	ThisUpdate time.Time
	NextUpdate time.Time
	Revoked    string // since when and why it is revoked; empty when it is not
	Err        error  // why there is no answer, or nil
}

// Findings tells what [Checker.Check] judges by, certificate by certificate
// from the leaf to the one below the anchor. It waits as Check does, and counts
// nothing as refused or let through.
func (r *Checker) Findings(ctx context.Context, chain *trust.Chain) []Finding {
	now := time.Now()
	statuses := r.statuses(chain)
	waits := r.prompt(chain, statuses, now)
	defer leave(waits)
	ctx, cancel := context.WithDeadlineCause(ctx, now.Add(maxWait), errPatience)
	defer cancel()
	findings := make([]Finding, len(statuses))
	for i, s := range statuses {
		v, err := s.verdict(ctx, i, waits, now)
		findings[i] = Finding{
			Index: i, Source: v.source, Address: v.address,
			ThisUpdate: v.thisUpdate, NextUpdate: v.nextUpdate, Err: err,
		}
		if v.revoked != nil {
			findings[i].Revoked = v.revoked.String()
		}
	}
	return findings
}
