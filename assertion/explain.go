package assertion

import (
	"context"
	"crypto/x509"
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
	Unknown Outcome = "unknown" // it takes what the explainer was not given: see Finding.Needs
)

// What a rule takes besides the assertion.
const (
	NeedsAudience   = "audience"
	NeedsTrust      = "trust"
	NeedsParties    = "parties"
	NeedsRevocation = "revocation"
	NeedsScopes     = "scopes"
)

// A Finding is the outcome of one rule.
type Finding struct {
	Rule      *rule.Rule
	Outcome   Outcome
	Rejection *rule.Rejection // set when Outcome is Fail
	Needs     string          // set when Outcome is Unknown: one of the constants
}

// A Report tells what became of an assertion, rule by rule. It admits nobody.
type Report struct {
	// Accepted says that every rule holds which can be applied to an assertion, with what the server has. The rules
	// about the request count when it was given, and that about replay never.
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

// A Request is an assertion to explain, with what is known of the request that carries it.
type Request struct {
	Assertion string
	// ClientID is the client_id of the request. The assertion's own iss is taken for it when it is empty, or no party
	// identifier.
	ClientID string
	// Trace has the outcomes of the rules about the request, as tokenendpoint.Explain records them. Optional.
	Trace *rule.Trace
	// AnyScope says that it is not known which values of the scope the server knows, besides iSHARE, and that there are some.
	AnyScope bool
}

// Explain judges an assertion at a time as [Verifier.Verify] would, without using it up and without stopping at the
// first rule that fails. The client is taken to be the assertion's own iss.
//
// Participants and revocation are asked about only when signature and chain hold.
func (v *Verifier) Explain(ctx context.Context, compact string, at time.Time) *Report {
	return v.explain(ctx, Request{Assertion: compact}, at)
}

func (v *Verifier) explain(ctx context.Context, request Request, at time.Time) *Report {
	w := &walk{v: v, compact: request.Assertion, at: at, trace: request.Trace}
	if w.trace == nil {
		w.trace = &rule.Trace{}
	}
	w.clientID, _ = ishare.ParsePartyID(request.ClientID)
	var err error
	if request.Assertion != "" || request.Trace == nil { // that a request has none is said by request.missing-parameter
		if err = w.run(ctx, authentication); err == nil {
			err = w.run(ctx, admission)
		}
	}
	r := &Report{Outage: err, Unverified: w.info, Certificates: w.certificates, Party: w.party, Chain: w.signer}
	unknown := false
	for _, reason := range rule.All() {
		f := Finding{Rule: reason, Outcome: Skipped}
		rejection, applied := w.trace.Outcome(reason)
		needs := v.lacks(reason)
		if reason == rule.RequestScope && request.AnyScope {
			needs = NeedsScopes
		}
		switch {
		case rejection != nil:
			f.Outcome, f.Rejection = Fail, rejection
			if r.Rejection == nil {
				r.Rejection = rejection
			}
		case needs != "": // what could be judged without it holds
			f.Outcome, f.Needs = Unknown, needs
			unknown = true
		case applied:
			f.Outcome = Pass
		}
		r.Findings = append(r.Findings, f)
	}
	r.Accepted = w.current != nil && r.Rejection == nil && r.Outage == nil && !unknown
	return r
}

// lacks names what a rule takes and the configuration does not have.
func (v *Verifier) lacks(reason *rule.Rule) string {
	c := &v.config
	switch reason {
	case rule.ClaimAud:
		if len(c.Audience) == 0 {
			return NeedsAudience
		}
	case rule.ChainUntrusted:
		if c.Trust == nil {
			return NeedsTrust
		}
	case rule.PartyUnknown, rule.PartyNotActive, rule.PartyCertificate, rule.PartyPolicy:
		if c.Parties == nil {
			return NeedsParties
		}
	case rule.CertificateRevoked:
		if c.Revocation == nil {
			return NeedsRevocation
		}
	}
	return ""
}

// An Explainer judges as a [Verifier] of the same configuration does, and admits nobody.
type Explainer struct{ verifier *Verifier }

// NewExplainer checks the configuration and returns an explainer for it. Replay need not be set: an explainer
// remembers nothing. Nor need Audience, Trust, Parties and Revocation: the rules that take one that is not set are
// [Unknown]. The leeway, 0 to [MaxLeeway], is that of the store of a server.
func NewExplainer(c Config, leeway time.Duration) (*Explainer, error) {
	v, err := newPartialVerifier(c, leeway)
	if err != nil {
		return nil, err
	}
	return &Explainer{v}, nil
}

// Explain is [Verifier.Explain].
func (e *Explainer) Explain(ctx context.Context, compact string, at time.Time) *Report {
	return e.verifier.Explain(ctx, compact, at)
}

// ExplainRequest is Explain for an assertion of a request of which more is known. It adds to the trace of the request.
func (e *Explainer) ExplainRequest(ctx context.Context, request Request, at time.Time) *Report {
	return e.verifier.explain(ctx, request, at)
}
