package assertion

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/revocation"
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

// Explain judges an assertion at a time as [Verifier.Verify] would, without using
// it up and without stopping at the first rule that fails. The client is taken
// to be the assertion's own iss.
//
// Participants and revocation are asked about only when signature and chain hold.
func (v *Verifier) Explain(ctx context.Context, compact string, at time.Time) *Report {
	e := explanation{v: v, at: at, trail: &rule.Trace{}}
	e.walk(ctx, compact)
	return e.report()
}

type explanation struct {
	v     *Verifier
	at    time.Time
	trail *rule.Trace
	seen  Report
	done  bool // the walk came to its end
}

// walk goes through the stages of verify as far as each has what it needs.
func (e *explanation) walk(ctx context.Context, compact string) {
	token, err := split(compact)
	e.note(rule.JWTCompact, err)
	if err != nil {
		return
	}
	o, headerErr := e.v.open(token, e.trail)
	if headerErr == nil {
		e.seen.Certificates = o.certificates
		e.seen.Unverified.certificate(o)
	}
	id := e.hear(token)
	if headerErr != nil {
		return
	}
	if p := e.prove(token, o); p != nil && id != "" {
		e.meet(ctx, id, p)
	}
}

// hear judges the claims and returns iss when it is a party identifier.
func (e *explanation) hear(token *jws.Token) ishare.PartyID {
	claimed, err := decodeClaims(token)
	e.note(rule.JWTPayload, err)
	if err != nil {
		return ""
	}
	e.seen.Unverified.claims(claimed)
	iss, _ := text(claimed.Iss)
	id, _ := ishare.ParsePartyID(iss)
	_, _ = e.v.judgeClaims(claimed, id, e.at, e.trail) // the trail has it
	return id
}

// prove judges chain and signature; the signature also when the chain is not
// trusted, as long as the key is safe to verify with.
func (e *explanation) prove(token *jws.Token, o *opened) *proof {
	chain, err := e.v.config.Trust.Validate(o.certificates, e.at, e.trail)
	if rejection, reached := e.trail.Outcome(rule.CertificateKey); !reached || rejection != nil {
		return nil
	}
	key, _ := o.certificates[0].PublicKey.(*rsa.PublicKey)
	signed := leafSigned(signing{token: token, algorithm: o.algorithm, key: key})
	e.trail.Record(rule.JWTSignature, signed)
	if err != nil || signed != nil {
		return nil
	}
	e.seen.Chain = chain
	return &proof{chain: chain}
}

// meet asks about the party and about revocation.
func (e *explanation) meet(ctx context.Context, id ishare.PartyID, p *proof) {
	party, err := e.v.lookUpUnmetered(ctx, id, p, e.trail)
	if e.outage(err) {
		return
	}
	if party != nil {
		e.seen.Party = party
		_, _ = e.v.admit(party, p, e.at, e.trail) // the trail has it
	}
	e.done = true
	if _, off := e.v.config.Revocation.(revocation.Off); off {
		return
	}
	if err := e.v.askRevocation(ctx, p.chain); !e.outage(err) {
		e.note(rule.CertificateRevoked, err)
	}
}

// note remembers the outcome of a stage that is one rule.
func (e *explanation) note(reason *rule.Rule, err error) {
	rejection, _ := rule.Classify(err)
	e.trail.Record(reason, rejection)
}

// outage keeps an error that is no rejection.
func (e *explanation) outage(err error) bool {
	if rejection, _ := rule.Classify(err); err == nil || rejection != nil {
		return false
	}
	e.seen.Outage = err
	return true
}

func (e *explanation) report() *Report {
	r := e.seen
	for _, reason := range rule.All() {
		rejection, reached := e.trail.Outcome(reason)
		f := Finding{Rule: reason, Outcome: Skipped, Rejection: rejection}
		switch {
		case rejection != nil:
			f.Outcome = Fail
			if r.Rejection == nil {
				r.Rejection = rejection
			}
		case reached:
			f.Outcome = Pass
		}
		r.Findings = append(r.Findings, f)
	}
	r.Accepted = e.done && r.Rejection == nil && r.Outage == nil
	return &r
}
