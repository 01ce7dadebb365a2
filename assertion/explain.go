package assertion

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// An Outcome is what became of one rule.
type Outcome string

// The outcomes of a rule.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"
	Skipped Outcome = "skipped" // not reached, or nothing to apply it to
)

// A Finding is the outcome of one rule.
type Finding struct {
	Rule      *rule.Rule
	Outcome   Outcome
	Rejection *rule.Rejection // set when Outcome is Fail
}

// A Report tells what became of an assertion, rule by rule. It admits nobody.
type Report struct {
	// Accepted says that every rule which could be applied holds. The rules
	// about the request and about replay cannot be applied to an assertion alone.
	Accepted bool
	// Rejection is by the first rule that failed in the order of the
	// catalogue, the one that a server would have answered with; or nil.
	Rejection *rule.Rejection
	// Outage says that no decision was possible, and why; or nil.
	Outage error
	// Findings holds every rule of the catalogue in its order.
	Findings []Finding
	// What could be read of the assertion, true or not.
	Unverified   UnverifiedInfo
	Certificates []*x509.Certificate
	Party        *ishare.Party
	// Chain is set when the certificates are trusted and the signature holds.
	Chain *trust.Chain
}

// Explain judges an assertion at a time as [Verifier.Verify] would, without using it up and without stopping at the
// first rule that fails. The client is taken to be the assertion's own iss.
//
// Participants and revocation are asked about only when signature and chain hold.
func (v *Verifier) Explain(ctx context.Context, compact string, at time.Time) *Report {
	w := &walk{v: v, compact: compact, at: at, trace: &rule.Trace{}}
	err := w.run(ctx, authentication)
	if err == nil {
		err = w.run(ctx, admission)
	}
	r := &Report{Outage: err, Unverified: w.info, Certificates: w.certificates, Party: w.party, Chain: w.signer}
	for _, reason := range rule.All() {
		rejection, applied := w.trace.Outcome(reason)
		f := Finding{Rule: reason, Outcome: Skipped, Rejection: rejection}
		switch {
		case rejection != nil:
			f.Outcome = Fail
			if r.Rejection == nil {
				r.Rejection = rejection
			}
		case applied:
			f.Outcome = Pass
		}
		r.Findings = append(r.Findings, f)
	}
	r.Accepted = w.current != nil && r.Rejection == nil && r.Outage == nil
	return r
}

// An Explainer judges as a [Verifier] of the same configuration does, and admits nobody.
type Explainer struct{ verifier *Verifier }

// NewExplainer checks the configuration and returns an explainer for it. Replay need not be set: an explainer
// remembers nothing. The leeway, 0 to [MaxLeeway], is that of the store of a server.
func NewExplainer(c Config, leeway time.Duration) (*Explainer, error) {
	if c.Parties == nil {
		return nil, errors.New("assertion: Parties must be set")
	}
	v, err := newVerifier(c, leeway)
	if err != nil {
		return nil, err
	}
	return &Explainer{v}, nil
}

// Explain is [Verifier.Explain].
func (e *Explainer) Explain(ctx context.Context, compact string, at time.Time) *Report {
	return e.verifier.Explain(ctx, compact, at)
}
