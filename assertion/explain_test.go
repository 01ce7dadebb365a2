package assertion_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
)

// outcomes names the rules that did not pass: "fail" and "skipped". The rules about
// the request, and replay, are always skipped and left out.
func outcomes(t *testing.T, r *assertion.Report) map[string]string {
	t.Helper()
	if len(r.Findings) != len(rule.All()) {
		t.Fatalf("%d findings", len(r.Findings))
	}
	got := map[string]string{}
	for i, f := range r.Findings {
		if f.Rule != rule.All()[i] {
			t.Errorf("finding %d is about %s", i, f.Rule.ID)
		}
		if (f.Outcome == assertion.Fail) != (f.Rejection != nil) || f.Rejection != nil && f.Rejection.Rule != f.Rule {
			t.Errorf("%s: %s with %v", f.Rule.ID, f.Outcome, f.Rejection)
		}
		if always := strings.HasPrefix(f.Rule.ID, "request.") || f.Rule == rule.JTIReplayed; always {
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
func skipped(from, to *rule.Rule) map[string]string {
	set := map[string]string{}
	for _, reason := range rule.All()[order(from) : order(to)+1] {
		set[reason.ID] = "skipped"
	}
	return set
}

func fail(rules ...*rule.Rule) map[string]string {
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
		chain   = skipped(rule.CertificateKey, rule.ChainUntrusted)
		signed  = skipped(rule.JWTSignature, rule.JWTSignature)
		party   = skipped(rule.PartyUnknown, rule.CertificateRevoked)
		members = skipped(rule.JWTAlg, rule.JWTX5C)
		claims  = skipped(rule.ClaimIss, rule.ClaimNbf)
	)
	wants := map[*rule.Rule]map[string]string{
		rule.JWTCompact:          merge(skipped(rule.JWTHeader, rule.CertificateRevoked), fail(rule.JWTCompact)),
		rule.JWTHeader:           merge(members, chain, signed, party, fail(rule.JWTHeader)),
		rule.JWTAlg:              merge(signed, party, fail(rule.JWTAlg)),
		rule.JWTTyp:              fail(rule.JWTTyp),
		rule.JWTHeaderParameter:  fail(rule.JWTHeaderParameter),
		rule.JWTX5C:              merge(chain, signed, party, fail(rule.JWTX5C)),
		rule.JWTPayload:          merge(claims, party, fail(rule.JWTPayload)),
		rule.ClaimIss:            merge(party, fail(rule.ClaimIss, rule.ClaimSub)), // sub is compared with iss
		rule.ClaimSub:            fail(rule.ClaimSub),
		rule.ClaimAud:            fail(rule.ClaimAud),
		rule.ClaimJTI:            fail(rule.ClaimJTI),
		rule.ClaimIat:            fail(rule.ClaimIat, rule.ClaimLifetime), // exp is compared with iat
		rule.ClaimExp:            fail(rule.ClaimExp),
		rule.ClaimLifetime:       fail(rule.ClaimLifetime),
		rule.ClaimNbf:            fail(rule.ClaimNbf),
		rule.CertificateKey:      merge(skipped(rule.ChainOrder, rule.ChainIssuer), signed, party, fail(rule.CertificateKey)),
		rule.CertificateValidity: merge(party, fail(rule.CertificateValidity)),
		rule.CertificateUsage:    merge(party, fail(rule.CertificateUsage)),
		rule.ChainOrder:          merge(party, fail(rule.ChainOrder)),
		rule.ChainIssuer:         merge(party, fail(rule.ChainIssuer)),
		rule.ChainUntrusted:      merge(party, fail(rule.ChainUntrusted)),
		rule.JWTSignature:        merge(party, fail(rule.JWTSignature)),
		rule.PartyUnknown:        merge(skipped(rule.PartyNotActive, rule.PartyPolicy), fail(rule.PartyUnknown)),
		rule.PartyNotActive:      fail(rule.PartyNotActive),
		rule.PartyCertificate:    fail(rule.PartyCertificate),
		rule.PartyPolicy:         fail(rule.PartyPolicy),
		rule.CertificateRevoked:  fail(rule.CertificateRevoked),
		rule.JTIReplayed:         {},
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
			if r.Accepted != (b.rule == rule.JTIReplayed) {
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
			if r.Party != w.registry.records[client] || len(r.Certificates) != 4 || r.Unverified.Issuer != string(client) ||
				r.Unverified.Thumbprint != ishare.Thumbprint(w.seal.Certificate().Raw) || r.Unverified.JTIHash == "" {
				t.Errorf("what was seen: %+v, %d certificates, party %v", r.Unverified, len(r.Certificates), r.Party)
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
		want := merge(skipped(rule.PartyUnknown, rule.CertificateRevoked), fail(rule.ClaimExp, rule.CertificateValidity))
		if diff := cmp.Diff(want, outcomes(t, r)); diff != "" {
			t.Errorf("years later (-want +got):\n%s", diff)
		}
		r = v.Explain(t.Context(), compact, begin.AddDate(-1, 0, 0))
		want = merge(skipped(rule.PartyUnknown, rule.CertificateRevoked), fail(rule.ClaimIat, rule.CertificateValidity))
		if diff := cmp.Diff(want, outcomes(t, r)); diff != "" {
			t.Errorf("a year before (-want +got):\n%s", diff)
		}
	})
}

func TestExplainWithoutRevocation(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.config.Revocation = revocation.Off{}
		r := w.verifier(t).Explain(t.Context(), newDraft().compact(t, w), time.Now())
		if diff := cmp.Diff(skipped(rule.CertificateRevoked, rule.CertificateRevoked), outcomes(t, r)); diff != "" || !r.Accepted {
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
		if diff := cmp.Diff(skipped(rule.PartyUnknown, rule.CertificateRevoked), outcomes(t, r)); diff != "" || r.Accepted {
			t.Errorf("accepted %t, did not pass (-want +got):\n%s", r.Accepted, diff)
		}
		w.registry.err, w.revocation.err = nil, errGone
		w.claim(ishare.ClaimFrameworkCompliance).Status = "revoked"
		r = w.verifier(t).Explain(t.Context(), compact, time.Now())
		if r.Rejection == nil || r.Rejection.Rule != rule.PartyNotActive || r.Outage == nil || r.Accepted {
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
		e, err := assertion.NewExplainer(w.config, leeway)
		if err != nil {
			t.Fatal(err)
		}
		if r := e.Explain(t.Context(), newDraft().compact(t, w), time.Now()); !r.Accepted {
			t.Errorf("refused: %v", r.Rejection)
		}
		w.config.Audience = []ishare.PartyID{"https://provider.example"}
		if e, err := assertion.NewExplainer(w.config, leeway); err == nil || e != nil {
			t.Error("an explainer for an audience that is none was made")
		}
	})
}

// What was not given is not known, and hides nothing of the rest.
func TestExplainWithoutKnowledge(t *testing.T) {
	unknown := func(rules ...*rule.Rule) map[string]string {
		set := map[string]string{}
		for _, reason := range rules {
			set[reason.ID] = "unknown"
		}
		return set
	}
	var (
		aud     = unknown(rule.ClaimAud)
		anchor  = unknown(rule.ChainUntrusted)
		party   = unknown(rule.PartyUnknown, rule.PartyNotActive, rule.PartyCertificate, rule.PartyPolicy)
		revoked = unknown(rule.CertificateRevoked)
	)
	for name, test := range map[string]struct {
		take  func(*assertion.Config)
		draft func(*draft)
		want  map[string]string
	}{
		"nothing":      {func(c *assertion.Config) { *c = assertion.Config{} }, nil, merge(aud, anchor, party, revoked)},
		"no audience":  {func(c *assertion.Config) { c.Audience = nil }, nil, aud},
		"no anchors":   {func(c *assertion.Config) { c.Trust = nil }, nil, merge(anchor, skipped(rule.CertificateRevoked, rule.CertificateRevoked))},
		"no parties":   {func(c *assertion.Config) { c.Parties = nil }, nil, party},
		"no checker":   {func(c *assertion.Config) { c.Revocation = nil }, nil, revoked},
		"aud is a URL": {func(c *assertion.Config) { c.Audience = nil }, func(d *draft) { d.payload["aud"] = "https://provider.example" }, fail(rule.ClaimAud)},
		"aud is a list": {
			func(c *assertion.Config) { c.Audience = nil }, func(d *draft) { d.payload["aud"] = []string{string(server)} }, fail(rule.ClaimAud),
		},
		"the leaf alone": {
			func(c *assertion.Config) { *c = assertion.Config{} },
			func(d *draft) {
				d.editChain = append(d.editChain, func(c []*x509.Certificate) []*x509.Certificate { return c[:1] })
			},
			merge(aud, fail(rule.ChainUntrusted), party, revoked),
		},
	} {
		within(t, func(t *testing.T, w *world) {
			d := newDraft()
			if test.draft != nil {
				test.draft(d)
			}
			compact, asked := d.compact(t, w), w.asked()
			test.take(&w.config)
			e, err := assertion.NewExplainer(w.config, leeway)
			if err != nil {
				t.Fatal(err)
			}
			r := e.Explain(t.Context(), compact, time.Now())
			if diff := cmp.Diff(test.want, outcomes(t, r)); diff != "" {
				t.Errorf("%s: rules that did not pass (-want +got):\n%s", name, diff)
			}
			if r.Accepted {
				t.Errorf("%s: accepted by an explainer that does not know", name)
			}
			for _, f := range r.Findings {
				if (f.Outcome == assertion.Unknown) != (f.Needs != "") {
					t.Errorf("%s: %s is %s and needs %q", name, f.Rule.ID, f.Outcome, f.Needs)
				}
			}
			if r.Chain == nil && w.asked().revocation != asked.revocation {
				t.Errorf("%s: somebody was asked about a chain that nobody trusts", name)
			}
		})
	}
}

// The request that carries an assertion says who the client is, and has rules of its own.
func TestExplainRequest(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		e, err := assertion.NewExplainer(w.config, leeway)
		if err != nil {
			t.Fatal(err)
		}
		compact := newDraft().compact(t, w)
		trace := &rule.Trace{}
		trace.Record(rule.RequestMethod, nil)
		trace.Record(rule.RequestScope, nil)
		r := e.ExplainRequest(t.Context(), assertion.Request{Assertion: compact, ClientID: string(server), Trace: trace, AnyScope: true}, time.Now())
		got := map[*rule.Rule]assertion.Finding{}
		for _, f := range r.Findings {
			got[f.Rule] = f
		}
		if got[rule.RequestMethod].Outcome != assertion.Pass || got[rule.RequestSize].Outcome != assertion.Skipped ||
			got[rule.RequestScope].Needs != assertion.NeedsScopes || got[rule.ClaimIss].Outcome != assertion.Fail || r.Accepted {
			t.Errorf("%+v", r.Findings)
		}
		if r := e.ExplainRequest(t.Context(), assertion.Request{Assertion: compact, ClientID: "nobody"}, time.Now()); !r.Accepted {
			t.Errorf("a client_id that is none is compared with iss: %v", r.Rejection)
		}
	})
}
