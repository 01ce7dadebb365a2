package assertion_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/trust"
)

// outcomes names the rules that did not pass: "fail" and "skipped". The rules about
// the request, and replay, are always skipped and left out.
func outcomes(t *testing.T, r *assertion.Report) map[string]string {
	t.Helper()
	if len(r.Findings) != len(ishare.Rules()) {
		t.Fatalf("%d findings", len(r.Findings))
	}
	got := map[string]string{}
	for i, f := range r.Findings {
		if f.Rule != ishare.Rules()[i] {
			t.Errorf("finding %d is about %s", i, f.Rule.ID)
		}
		if (f.Outcome == assertion.Fail) != (f.Rejection != nil) || f.Rejection != nil && f.Rejection.Rule != f.Rule {
			t.Errorf("%s: %s with %v", f.Rule.ID, f.Outcome, f.Rejection)
		}
		if always := strings.HasPrefix(f.Rule.ID, "request.") || f.Rule == ishare.JTIReplayed; always {
			if f.Outcome != assertion.Skipped {
				t.Errorf("%s: %s", f.Rule.ID, f.Outcome)
			}
		} else if f.Outcome != assertion.Pass {
			got[f.Rule.ID] = string(f.Outcome)
		}
	}
	return got
}

func merge(sets ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, s := range sets {
		maps.Copy(all, s)
	}
	return all
}

// skipped are the rules from one to another, both included.
func skipped(from, to *ishare.Rule) map[string]string {
	set := map[string]string{}
	for _, rule := range ishare.Rules()[order(from) : order(to)+1] {
		set[rule.ID] = "skipped"
	}
	return set
}

func fail(rules ...*ishare.Rule) map[string]string {
	set := map[string]string{}
	for _, rule := range rules {
		set[rule.ID] = "fail"
	}
	return set
}

// Whatever fails, the explanation goes on with all that can still be judged, and
// says of the rest that it was not reached.
func TestExplainOutcomes(t *testing.T) {
	var (
		chain   = skipped(ishare.CertificateKey, ishare.ChainUntrusted)
		signed  = skipped(ishare.JWTSignature, ishare.JWTSignature)
		party   = skipped(ishare.PartyUnknown, ishare.CertificateRevoked)
		members = skipped(ishare.JWTAlg, ishare.JWTX5C)
		claims  = skipped(ishare.ClaimIss, ishare.ClaimNbf)
	)
	wants := map[*ishare.Rule]map[string]string{
		ishare.JWTCompact:          merge(skipped(ishare.JWTHeader, ishare.CertificateRevoked), fail(ishare.JWTCompact)),
		ishare.JWTHeader:           merge(members, chain, signed, party, fail(ishare.JWTHeader)),
		ishare.JWTAlg:              merge(chain, signed, party, fail(ishare.JWTAlg)),
		ishare.JWTTyp:              merge(chain, signed, party, fail(ishare.JWTTyp)),
		ishare.JWTHeaderParameter:  merge(chain, signed, party, fail(ishare.JWTHeaderParameter)),
		ishare.JWTX5C:              merge(chain, signed, party, fail(ishare.JWTX5C)),
		ishare.JWTPayload:          merge(claims, party, fail(ishare.JWTPayload)),
		ishare.ClaimIss:            merge(party, fail(ishare.ClaimIss, ishare.ClaimSub)), // sub is compared with iss
		ishare.ClaimSub:            fail(ishare.ClaimSub),
		ishare.ClaimAud:            fail(ishare.ClaimAud),
		ishare.ClaimJTI:            fail(ishare.ClaimJTI),
		ishare.ClaimIat:            fail(ishare.ClaimIat, ishare.ClaimLifetime), // exp is compared with iat
		ishare.ClaimExp:            fail(ishare.ClaimExp),
		ishare.ClaimLifetime:       fail(ishare.ClaimLifetime),
		ishare.ClaimNbf:            fail(ishare.ClaimNbf),
		ishare.CertificateKey:      merge(skipped(ishare.CertificateValidity, ishare.ChainUntrusted), signed, party, fail(ishare.CertificateKey)),
		ishare.CertificateValidity: merge(party, fail(ishare.CertificateValidity)),
		ishare.CertificateUsage:    merge(party, fail(ishare.CertificateUsage)),
		ishare.ChainOrder:          merge(party, fail(ishare.ChainOrder)),
		ishare.ChainIssuer:         merge(party, fail(ishare.ChainIssuer)),
		ishare.ChainUntrusted:      merge(party, fail(ishare.ChainUntrusted)),
		ishare.JWTSignature:        merge(party, fail(ishare.JWTSignature)),
		ishare.PartyUnknown:        merge(skipped(ishare.PartyNotActive, ishare.PartyPolicy), fail(ishare.PartyUnknown)),
		ishare.PartyNotActive:      fail(ishare.PartyNotActive),
		ishare.PartyCertificate:    fail(ishare.PartyCertificate),
		ishare.PartyPolicy:         fail(ishare.PartyPolicy),
		ishare.CertificateRevoked:  fail(ishare.CertificateRevoked),
		ishare.JTIReplayed:         {},
	}
	for _, b := range breaches() {
		within(t, func(t *testing.T, w *world) {
			d := newDraft()
			b.apply(t, w, d)
			compact, counted := d.compact(t, w), w.asked()
			r := w.verifier(t).Explain(t.Context(), compact, time.Now())
			if diff := cmp.Diff(wants[b.rule], outcomes(t, r)); diff != "" {
				t.Errorf("%s: rules that did not pass (-want +got):\n%s", b.rule.ID, diff)
			}
			if r.Accepted != (b.rule == ishare.JTIReplayed) {
				t.Errorf("%s: accepted is %t", b.rule.ID, r.Accepted)
			}
			// Nobody is asked unless signature and chain hold, and the memory never.
			want := counted
			if wants[b.rule]["party.unknown"] != "skipped" {
				want.registry++
				want.revocation++
			}
			if got := w.asked(); got != want {
				t.Errorf("%s: asked %+v, want %+v", b.rule.ID, got, want)
			}
		})
	}
}

func TestExplainOfAGoodAssertion(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		compact := newDraft().compact(t, w)
		for range 2 { // it is not used up
			r := v.Explain(t.Context(), compact, time.Now())
			if !r.Accepted || r.Rejection != nil || r.Outage != nil {
				t.Errorf("accepted %t, %v, %v", r.Accepted, r.Rejection, r.Outage)
			}
			if got := outcomes(t, r); len(got) != 0 {
				t.Errorf("did not pass: %v", got)
			}
			if r.Party != w.registry.records[client] || len(r.Certificates) != 4 || r.Sighting.Issuer != string(client) ||
				r.Sighting.Thumbprint != ishare.Thumbprint(w.seal.Certificate().Raw) || r.Sighting.JTIHash == "" {
				t.Errorf("what was seen: %+v, %d certificates, party %v", r.Sighting, len(r.Certificates), r.Party)
			}
		}
		if v.Remembered() != 0 {
			t.Error("an explanation is remembered")
		}
		checkAccepted(t, v, compact)
	})
}

// The time of an explanation is its own: certificates, claims and record are judged
// as they were then.
func TestExplainAtAnotherTime(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v, begin := w.verifier(t), time.Now()
		compact := newDraft().compact(t, w)
		time.Sleep(6 * 365 * 24 * time.Hour) // the seal has ended
		if r := v.Explain(t.Context(), compact, begin); !r.Accepted {
			t.Errorf("at its own time: %v", r.Rejection)
		}
		r := v.Explain(t.Context(), compact, time.Now())
		want := merge(skipped(ishare.PartyUnknown, ishare.CertificateRevoked), fail(ishare.ClaimExp, ishare.CertificateValidity))
		if diff := cmp.Diff(want, outcomes(t, r)); diff != "" {
			t.Errorf("years later (-want +got):\n%s", diff)
		}
		r = v.Explain(t.Context(), compact, begin.AddDate(-1, 0, 0))
		want = merge(skipped(ishare.PartyUnknown, ishare.CertificateRevoked), fail(ishare.ClaimIat, ishare.CertificateValidity))
		if diff := cmp.Diff(want, outcomes(t, r)); diff != "" {
			t.Errorf("a year before (-want +got):\n%s", diff)
		}
	})
}

func TestExplainWithoutRevocation(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.config.Revocation = trust.NoRevocation{}
		r := w.verifier(t).Explain(t.Context(), newDraft().compact(t, w), time.Now())
		if diff := cmp.Diff(skipped(ishare.CertificateRevoked, ishare.CertificateRevoked), outcomes(t, r)); diff != "" || !r.Accepted {
			t.Errorf("accepted %t, did not pass (-want +got):\n%s", r.Accepted, diff)
		}
		checkAccepted(t, w.verifier(t), newDraft().compact(t, w))
	})
}

func TestExplainThroughAnOutage(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		compact := newDraft().compact(t, w)
		w.registry.err = errGone
		r := w.verifier(t).Explain(t.Context(), compact, time.Now())
		if diff := cmp.Diff(skipped(ishare.PartyUnknown, ishare.CertificateRevoked), outcomes(t, r)); diff != "" || r.Accepted {
			t.Errorf("accepted %t, did not pass (-want +got):\n%s", r.Accepted, diff)
		}
		w.registry.err, w.revocation.err = nil, errGone
		w.claim(ishare.ClaimFrameworkCompliance).Status = "revoked"
		r = w.verifier(t).Explain(t.Context(), compact, time.Now())
		if r.Rejection == nil || r.Rejection.Rule != ishare.PartyNotActive || r.Outage == nil || r.Accepted {
			t.Errorf("accepted %t, %v, %v", r.Accepted, r.Rejection, r.Outage)
		}
	})
}

// An explanation may name a key that it would not dream of trusting, and verifies
// nothing with it that is too dear.
func TestExplainOddKeys(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string]crypto.Signer{"an elliptic curve": curve}
		for _, bits := range []int{1024, 8193, 16384} {
			if keys[strconv.Itoa(bits)], err = testca.NewOddKey(bits, 65537); err != nil {
				t.Fatal(err)
			}
		}
		for name, key := range keys {
			d := newDraft()
			d.own, d.seal.Key, d.signer = true, key, w.seal.Key
			r := w.verifier(t).Explain(t.Context(), d.compact(t, w), time.Now())
			if got := outcomes(t, r); got["certificate.key"] != "fail" || got["jwt.signature"] != "skipped" {
				t.Errorf("%s: %v", name, got)
			}
		}
	})
}

func TestExplainer(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.config.Replay = nil
		e, err := assertion.NewExplainer(w.config)
		if err != nil {
			t.Fatal(err)
		}
		if r := e.Explain(t.Context(), newDraft().compact(t, w), time.Now()); !r.Accepted {
			t.Errorf("refused: %v", r.Rejection)
		}
		w.config.Trust = nil
		if e, err := assertion.NewExplainer(w.config); err == nil || e != nil {
			t.Error("an explainer without trust was made")
		}
	})
}
