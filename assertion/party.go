package assertion

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// Each seal has a share of the lookups, so that whoever holds one cannot flood a Participant Registry by naming clients
// that do not exist, or others who do: LookupBurst at once, and one more in each LookupInterval. A lookup costs nothing
// when the source answers from memory, and is given back when the party that is found has registered the seal.
const (
	LookupBurst    = 10
	LookupInterval = time.Second
)

// A PartySource answers who a participant is. An error that wraps [ishare.ErrUnknownParty] is a definite no; any other
// error means that the source is out of reach. A record must not be changed once returned.
type PartySource interface {
	Party(ctx context.Context, id ishare.PartyID) (*ishare.Party, error)
}

// A FreshSource is a [PartySource] that may answer from memory, and can be asked for a record that was obtained just
// now. Before a party is refused by a record of its, the rules are applied again to a fresh one: the party may have
// renewed its compliance or its certificate a moment ago. A [Verifier] looks for this interface in [Config].Parties.
type FreshSource interface {
	PartySource
	FreshParty(ctx context.Context, id ishare.PartyID) (*ishare.Party, error)
}

// A MeteredSource is a [FreshSource] that lets the verifier decide whether a call may go out to somebody else, such
// as a Participant Registry. Its methods are those of FreshSource, but they call may, in the goroutine of the caller,
// before this call has somebody else asked: for a party that is not in memory, or for a fresh record. When may
// returns an error, they return it and ask nobody. A [Verifier] looks for this interface in [Config].Parties.
type MeteredSource interface {
	PartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error)
	FreshPartyIf(ctx context.Context, id ishare.PartyID, may func() error) (*ishare.Party, error)
}

// lookUp asks who the party is: the first stage that may leave this machine, and it needs a proof. Nobody pays for
// an explanation.
func (w *walk) lookUp(ctx context.Context) error {
	if !w.proven() || w.clientID == "" || w.v.config.Parties == nil {
		return errSkipped
	}
	var party *ishare.Party
	var err error
	if source, ok := w.v.config.Parties.(MeteredSource); ok && w.trace == nil {
		party, err = w.atCostOfSeal(func(may func() error) (*ishare.Party, error) { return source.PartyIf(ctx, w.clientID, may) })
	} else {
		party, err = w.v.config.Parties.Party(ctx, w.clientID)
	}
	w.party, err = w.interpret(party, err)
	return err
}

// atCostOfSeal has a lookup made at the cost of the seal that signed.
func (w *walk) atCostOfSeal(ask func(may func() error) (*ishare.Party, error)) (*ishare.Party, error) {
	seal, paid := w.signer.Thumbprint(), false
	party, err := ask(func() error {
		if wait := w.v.lookups.Take(seal); wait > 0 {
			return &rule.Outage{
				Rule: rule.Limited, RetryAfter: max(wait, time.Second),
				Cause: fmt.Errorf("the certificate has had too many unknown clients looked up (SHA-256 %s)", seal),
			}
		}
		paid = true
		return nil
	})
	if paid && err == nil && party != nil && party.CheckCertificate(seal, w.at) == nil {
		w.v.lookups.Give(seal)
	}
	return party, err
}

var errNoRecord = errors.New("the source answered with no record")

// interpret gives the answer of a source its meaning: a record, a rejection by party.unknown, or an outage.
func (w *walk) interpret(party *ishare.Party, err error) (*ishare.Party, error) {
	switch {
	case rule.IsUnknownParty(err):
		return nil, rule.PartyUnknown.Because("the client %s is not known to this server's Participant Registry", rule.Quote(string(w.clientID))).From(err)
	case err != nil:
		return nil, outage(rule.UnavailableRegistry, err)
	case party == nil:
		return nil, outage(rule.UnavailableRegistry, errNoRecord)
	}
	return party, nil
}

// partyInput is what the rules about the party judge.
type partyInput struct {
	party      *ishare.Party
	thumbprint string
	config     *Config
	at         time.Time
}

var partyChecks = []rule.Check[partyInput]{
	{Rule: rule.PartyNotActive, Apply: partyComplies},
	{Rule: rule.PartyCertificate, Apply: certificateIsRegistered},
	{Rule: rule.PartyPolicy, Apply: partyHasWhatIsDemanded},
}

// checkParty judges the standing of the party that signed. When serving, a rejection by a record from memory is checked
// again with a fresh one, if the source has any: the party may have renewed its compliance or its certificate a
// moment ago. When no fresh one is to be had, nobody knows, and the old rejection is no answer.
func (w *walk) checkParty(ctx context.Context) error {
	if !w.proven() || w.party == nil {
		return errSkipped
	}
	input := partyInput{party: w.party, thumbprint: w.info.Thumbprint, config: &w.v.config, at: w.at}
	rejection := rule.Evaluate(w.trace, input, partyChecks)
	if rejection != nil && w.trace == nil {
		var err error
		switch source := w.v.config.Parties.(type) {
		case MeteredSource:
			input.party, err = w.atCostOfSeal(func(may func() error) (*ishare.Party, error) { return source.FreshPartyIf(ctx, w.clientID, may) })
		case FreshSource:
			input.party, err = source.FreshParty(ctx, w.clientID)
		default:
			return rejection
		}
		if input.party, err = w.interpret(input.party, err); err != nil {
			return err
		}
		rejection = rule.Evaluate(nil, input, partyChecks)
	}
	if rejection != nil {
		return rejection
	}
	w.admitted = input.party
	return nil
}

func partyComplies(in partyInput) *rule.Rejection {
	if err := in.party.Compliant(in.at); err != nil {
		return rule.PartyNotActive.Because("%v", err)
	}
	return nil
}

func certificateIsRegistered(in partyInput) *rule.Rejection {
	if err := in.party.CheckCertificate(in.thumbprint, in.at); err != nil {
		return rule.PartyCertificate.Because("%v", err)
	}
	return nil
}

func partyHasWhatIsDemanded(in partyInput) *rule.Rejection {
	for _, role := range in.config.Roles {
		if !in.party.HasRole(role, in.at) {
			return rule.PartyPolicy.Because("the client lacks the role %s, which this server demands", role).
				WithHint("Ask your registrar to add the role %s to your record, active today.", role)
		}
	}
	for _, dataspace := range in.config.Dataspaces {
		if !in.party.MemberOf(dataspace, in.at) {
			return rule.PartyPolicy.Because("the client is not a member of %s, which this server demands", dataspace).
				WithHint("Ask your registrar to add the membership of %s to your record, active today.", dataspace)
		}
	}
	return nil
}
