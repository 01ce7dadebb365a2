package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
)

// A listed verifier does not refuse a chain by its anchor, or for want of one, while the
// trusted list that could vouch for it is out of reach: that would be a guess.
type listedVerifier struct {
	*assertion.Verifier

	list *registry.TrustedList
}

var errNoTrustedList = errors.New("the trusted list is not in force")

// Verify is [assertion.Verifier.Verify], but for the trusted list, which may come or end
// while the chain is judged.
func (v listedVerifier) Verify(ctx context.Context, clientID ishare.PartyID, compact string) (*assertion.Client, assertion.UnverifiedInfo, error) {
	before := v.list.InForce()
	client, seen, err := v.Verifier.Verify(ctx, clientID, compact)
	if rejection, _ := rule.Classify(err); isGuess(rejection) && (!before || !v.list.InForce()) {
		return nil, seen, withoutList(rejection)
	}
	return client, seen, err
}

// isGuess reports whether a trusted list that is not in force could have prevented the rejection.
// It may also grant a CA below the anchor that we chose, and what stands above the lowest anchor
// is not judged: neither its signatures nor its name constraints and policies. A rejection does
// not say where in the chain the fault is, so a chain that is bad whatever the list says has to
// wait for it too, like any chain that reaches no anchor.
func isGuess(r *rule.Rejection) bool {
	return r != nil && slices.Contains([]*rule.Rule{rule.ChainOrder, rule.ChainIssuer, rule.ChainUntrusted}, r.Rule)
}

func withoutList(guess *rule.Rejection) *rule.Outage {
	return &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: listRetry, Cause: fmt.Errorf("%w: %w", errNoTrustedList, guess)}
}

// listRetry is about how long it takes until the registry is asked for the list again.
const listRetry = 5 * time.Second

// Explain judges an assertion as a provider with this configuration would at that
// time, and admits nobody: see [assertion.Verifier.Explain]. Nothing of Config.Data is read or written.
func Explain(ctx context.Context, c Config, compact string, at time.Time) (explanation *Explanation, err error) {
	s, err := openOutside(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.clients.list != nil {
		_ = s.clients.list.Update(ctx) // which logs it; without the list, only our own anchors count
	}
	explainer, err := assertion.NewExplainer(s.verifierConfig(), s.config.Leeway)
	if err != nil {
		return nil, err
	}
	explanation = &Explanation{Report: explainer.Explain(ctx, compact, at)}
	if s.clients.list != nil {
		stats := s.clients.list.Stats()
		explanation.TrustedList = &stats
	}
	if s.revocation != nil && explanation.Chain != nil {
		explanation.Revocation = s.revocation.Statuses(ctx, explanation.Chain)
	}
	if s.clients.list != nil && !s.clients.list.InForce() && isGuess(explanation.Rejection) {
		explanation.Outage = withoutList(explanation.Rejection)
		explanation.Rejection = nil
	}
	return explanation, nil
}

// openOutside opens the sources apart from a provider that may be running: nothing is shared with it or kept.
func openOutside(c Config) (*sources, error) {
	c = c.withDefaults()
	if problems := c.missing(); len(problems) > 0 {
		return nil, problems
	}
	return openSources(c, newParts())
}

// An Explanation is a report with what others said that it is based on.
type Explanation struct {
	*assertion.Report

	TrustedList *registry.TrustedListStats // nil: not asked for
	Revocation  []revocation.Status        // one for each certificate below the anchor, leaf first
}
