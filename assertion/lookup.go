package assertion

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// Each seal has a share of the lookups, so that whoever holds one cannot flood a Participant Registry
// by naming clients that do not exist, or others who do: LookupBurst at once, and one more in each
// LookupInterval. A lookup costs nothing when the source answers from memory, and is given back when the party that is
// found has registered the seal.
const (
	LookupBurst    = 10
	LookupInterval = time.Second
)

// A MeteredSource is a [FreshSource] that lets the verifier decide whether a call may go out to somebody else, such
// as a Participant Registry. Its methods are those of FreshSource, but they call may, in the goroutine of the caller,
// before this call has somebody else asked: for a party that is not in memory, or for a fresh record. When may
// returns an error, they return it and ask nobody. A [Verifier] looks for this interface in [Config].Parties.
type MeteredSource interface {
	PartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error)
	FreshPartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error)
}

// shares are what is left to each seal, by its thumbprint.
type shares = bucket.Set[string]

func newShares() (*shares, error) {
	return bucket.New[string](bucket.Rate{Events: 1, Period: LookupInterval, Burst: LookupBurst})
}

// lookUp asks who the party is: the first stage that may leave this machine, and
// it needs a proof.
func (v *Verifier) lookUp(ctx context.Context, id ishare.PartyID, p *proof, at time.Time) (*ishare.Party, error) {
	metered, ok := v.config.Parties.(MeteredSource)
	if !ok {
		return v.lookUpUnmetered(ctx, id, p, nil)
	}
	return v.atShare(p, at, func(may func() error) (*ishare.Party, error) {
		party, err := metered.PartyIf(ctx, id, may)
		return known(id, party, err)
	})
}

// lookUpUnmetered is lookUp at nobody's cost.
func (v *Verifier) lookUpUnmetered(ctx context.Context, id ishare.PartyID, _ *proof, trail *rule.Trace) (*ishare.Party, error) {
	party, err := v.config.Parties.Party(ctx, id)
	party, err = known(id, party, err)
	if rejection, _ := rule.Classify(err); err == nil || rejection != nil {
		trail.Record(rule.PartyUnknown, rejection)
	}
	return party, err
}

// atShare has a lookup made at the cost of the seal that signed.
func (v *Verifier) atShare(p *proof, at time.Time, look func(may func() error) (*ishare.Party, error)) (*ishare.Party, error) {
	seal, paid := p.chain.Thumbprint(), false
	party, err := look(func() error {
		if wait := v.shares.Take(seal); wait > 0 {
			return &rule.Outage{
				Rule: rule.Limited, RetryAfter: max(wait, time.Second),
				Cause: fmt.Errorf("the certificate has had too many unknown clients looked up (SHA-256 %s)", seal),
			}
		}
		paid = true
		return nil
	})
	if paid && party != nil && party.CheckCertificate(seal, at) == nil {
		v.shares.Give(seal)
	}
	return party, err
}

// known gives the answer of a source its meaning: a record, a rejection by party.unknown, or
// an outage.
func known(id ishare.PartyID, party *ishare.Party, err error) (*ishare.Party, error) {
	switch {
	case rule.IsUnknownParty(err):
		return nil, rule.PartyUnknown.Because("the client %s is not known to this server's Participant Registry", rule.Quote(string(id))).From(err)
	case err != nil:
		return nil, outage(rule.UnavailableRegistry, err)
	case party == nil:
		return nil, outage(rule.UnavailableRegistry, errNoRecord)
	}
	return party, nil
}

var errNoRecord = errors.New("the source answered with no record")

// admitAfresh gives a party that was refused by a record from memory the benefit of
// a fresh one: it may have renewed its compliance or its certificate a moment ago.
// When none is to be had, nobody knows, and the old refusal is no answer.
func (v *Verifier) admitAfresh(ctx context.Context, id ishare.PartyID, p *proof, at time.Time, refusal error) (*admitted, error) {
	var party *ishare.Party
	var err error
	switch source := v.config.Parties.(type) {
	case MeteredSource:
		party, err = v.atShare(p, at, func(may func() error) (*ishare.Party, error) { return source.FreshPartyIf(ctx, id, may) })
	case FreshSource:
		party, err = source.FreshParty(ctx, id)
	default:
		return nil, refusal
	}
	if party, err = known(id, party, err); err != nil {
		return nil, err
	}
	return v.admit(party, p, at, nil)
}
