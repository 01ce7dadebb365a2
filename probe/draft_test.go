package probe_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/probe"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

func newExplainer(t *testing.T) *assertion.Explainer {
	t.Helper()
	c := players()
	root := c.ca.Authority(testca.Root).Certificate()
	e, err := assertion.NewExplainer(assertion.Config{
		Audience: []ishare.PartyID{audience}, Trust: must(trust.New(trust.Anchors{trust.FingerprintOf(root): "root"})),
		Parties:    isharetest.NewList(&isharetest.Party{Record: isharetest.Record(consumerID, "Consumer", c.registered()...)}),
		Revocation: revocation.Off{},
	}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// failing are the rules that an assertion breaks.
func failing(t *testing.T, e *assertion.Explainer, compact string) []string {
	t.Helper()
	var ids []string
	for _, f := range e.Explain(t.Context(), compact, time.Now()).Findings {
		if f.Outcome == assertion.Fail {
			ids = append(ids, f.Rule.ID)
		}
	}
	return ids
}

// TestBreak: every rule about the assertion can be broken, and then that one fails and no other.
func TestBreak(t *testing.T) {
	var want []string
	for _, r := range rule.All() {
		if strings.HasPrefix(r.ID, "jwt.") || strings.HasPrefix(r.ID, "claim.") {
			want = append(want, r.ID)
		}
	}
	if diff := cmp.Diff(want, probe.Breakable()); diff != "" {
		t.Fatalf("rules that can be broken (-want +got):\n%s", diff)
	}
	e := newExplainer(t)
	for _, id := range probe.Breakable() {
		for _, alg := range []jws.Algorithm{"", jws.RS384, jws.RS512} {
			seal := sealOf(consumerID, players().consumer)
			seal.Algorithm = alg
			right := probe.NewAssertion(seal, audience)
			if got := failing(t, e, must(right.Compact())); got != nil {
				t.Errorf("%s: a right assertion breaks %s", alg, got)
			}
			wrong := probe.NewAssertion(seal, audience)
			how, err := wrong.Break(id)
			if err != nil || !strings.HasSuffix(how, ".") {
				t.Errorf("%s: %v, %q", id, err, how)
			}
			if diff := cmp.Diff([]string{id}, failing(t, e, must(wrong.Compact()))); diff != "" {
				t.Errorf("%s with %q: rules that fail (-want +got):\n%s", id, alg, diff)
			}
		}
	}
	for _, id := range []string{"", "jti.replayed", "claim", "claim.audience"} {
		if _, err := probe.NewAssertion(sealOf(consumerID, players().consumer), audience).Break(id); err == nil {
			t.Errorf("%q can be broken", id)
		}
	}
}

func TestSet(t *testing.T) {
	e := newExplainer(t)
	for assignment, want := range map[string]string{
		`aud=did:ishare:EU.NL.NTRNL-10000009`: "claim.aud",
		`aud=["did:ishare:EU.NL.NTRNL-1"]`:    "claim.aud",
		`jti=`:                                "claim.jti",
		`jti=7`:                               "claim.jti",
		`header.kid=1`:                        "jwt.header-parameter",
		`header.typ=`:                         "jwt.typ",
		`header.alg=HS256`:                    "jwt.alg",
		`note={"a":[1,2]}`:                    "",
		`note={"a":1,"a":2}`:                  "jwt.payload",
		`note=a=b`:                            "",
	} {
		a := probe.NewAssertion(sealOf(consumerID, players().consumer), audience)
		if err := a.Set(assignment); err != nil {
			t.Errorf("%s: %v", assignment, err)
		}
		if got := strings.Join(failing(t, e, must(a.Compact())), " "); got != want {
			t.Errorf("%s breaks %q, want %q", assignment, got, want)
		}
	}
	for _, assignment := range []string{"", "aud", "=x", "header.=x"} {
		if probe.NewAssertion(sealOf(consumerID, players().consumer), audience).Set(assignment) == nil {
			t.Errorf("%q is taken", assignment)
		}
	}
}

// FuzzSet: whatever is set, header and payload stay JSON.
func FuzzSet(f *testing.F) {
	for _, seed := range []string{"aud=x", "aud=", "header.kid=1", `note={"a":1}`, `note={"a":1,"a":2}`, "=", "a=\xff", `a="\ud800"`, "a= 1 ", "a=1e999", "\xff=1", `header.x5c=[]`} {
		f.Add(seed)
	}
	seal := sealOf(consumerID, players().consumer) // keys take a while to make, in which the engine would think that it hangs
	f.Fuzz(func(t *testing.T, assignment string) {
		a := probe.NewAssertion(seal, audience)
		if a.Set(assignment) != nil {
			return
		}
		compact, err := a.Compact()
		if err != nil {
			t.Fatal(err)
		}
		token, err := jws.Split(compact)
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]jsontext.Value
		if err := json.Unmarshal(token.Payload(), &claims, jsontext.AllowDuplicateNames(true)); err != nil {
			t.Errorf("%q: %v", assignment, err)
		}
	})
}
