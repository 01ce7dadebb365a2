package isharetest_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const (
	server = "did:ishare:EU.NL.NTRNL-10000000"
	alias  = "EU.EORI.NL000000000"
)

// needNetwork are the rules that no attempt can break without a network.
func needNetwork() []*rule.Rule { return []*rule.Rule{rule.CertificateRevoked} }

// A fixture is shared by the tests, because attempts take a second to make. Nothing
// changes it.
type fixture struct {
	ca       *isharetest.CA
	attempts *isharetest.Attempts
}

var shared = sync.OnceValue(func() fixture {
	ca := isharetest.NewCA()
	return fixture{ca, isharetest.NewAttempts(ca, server, alias)}
})

func newVerifier(t *testing.T, ca *isharetest.CA, parties ...*isharetest.Party) *assertion.Verifier {
	t.Helper()
	validator, err := trust.New(ca.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	store, err := replay.Open(replay.Config{Leeway: 10 * time.Second, NoHistory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	v, err := assertion.NewVerifier(assertion.Config{
		Audience: []ishare.PartyID{server, alias}, Trust: validator, Parties: isharetest.NewList(parties...),
		Revocation: revocation.Off{}, Replay: store,
		Roles: []string{isharetest.RoleServiceConsumer},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEveryRuleHasAttempts(t *testing.T) {
	attempts := shared().attempts
	for _, reason := range rule.All() {
		if n := len(attempts.Breaking(reason)); (n == 0) != slices.Contains(needNetwork(), reason) {
			t.Errorf("%d attempts break %s", n, reason.ID)
		}
	}
	if len(attempts.Breaking(nil)) == 0 {
		t.Error("no attempt is right")
	}
	for _, reason := range rule.All() {
		aboutRequest := strings.HasPrefix(reason.ID, "request.") || reason == rule.JTIReplayed || slices.Contains(needNetwork(), reason)
		alone := slices.ContainsFunc(attempts.Breaking(reason), func(a isharetest.Attempt) bool { return a.Alone })
		if alone == aboutRequest {
			t.Errorf("an assertion alone breaks %s: %t", reason.ID, alone)
		}
	}
}

func TestAttemptsAreNamedAndExplained(t *testing.T) {
	attempts := shared().attempts
	seen := map[string]bool{}
	for _, a := range attempts.All() {
		if seen[a.String()] {
			t.Errorf("%s is there twice", a)
		}
		seen[a.String()] = true
		if a.Name == "" || !strings.HasSuffix(a.About, ".") {
			t.Errorf("%s says %q of itself", a, a.About)
		}
	}
}

func TestAllIsInTheOrderOfTheCatalogue(t *testing.T) {
	attempts := shared().attempts
	var rules []*rule.Rule
	count := 0
	for _, a := range attempts.All() {
		count++
		if len(rules) == 0 || rules[len(rules)-1] != a.Rule {
			rules = append(rules, a.Rule)
		}
	}
	want := slices.DeleteFunc(rule.All(), func(r *rule.Rule) bool { return slices.Contains(needNetwork(), r) })
	if !slices.Equal(rules, append([]*rule.Rule{nil}, want...)) {
		t.Error("the rules stand in another order, or twice")
	}
	total := len(attempts.Breaking(nil))
	for _, reason := range rule.All() {
		total += len(attempts.Breaking(reason))
	}
	if count != total {
		t.Errorf("All has %d attempts, Breaking %d", count, total)
	}
}

// TestOfficialCases holds the names against the list of the conformance test's
// cases for the token endpoint.
func TestOfficialCases(t *testing.T) {
	want := []string{
		"valid request", "additional parameters", "wrong method", "body of another media type",
		"grant_type missing", "scope missing", "client_id missing", "client_assertion_type missing", "client_assertion missing",
		"client_assertion_type wrong", "grant_type wrong", "scope wrong",
		"client_id other than the assertion's", "unknown client", "client not active",
		"alg missing", "alg not RS", "alg below RS256",
		"aud missing", "aud not the server", "exp missing", "exp not iat+30", "iat missing", "iat in the future",
		"iss missing", "iss not client_id", "jti missing", "signature missing", "signature by a key other than x5c",
		"sub missing", "sub not iss", "typ missing", "typ not JWT", "x5c missing", "x5c not X.509",
		"certificate expired", "certificate under 2048 bits", "certificate not RSA", "certificate untrusted", "certificate of another party",
	}
	got := map[string]int{}
	for _, a := range shared().attempts.All() {
		if a.Official != "" {
			got[a.Official]++
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("official cases (-want +got):\n%s", diff)
	}
	for name, n := range got {
		if n != 1 {
			t.Errorf("%d attempts are called %q", n, name)
		}
	}
}

// aboutHTTP tells attempts that only a token endpoint can judge.
func aboutHTTP(a isharetest.Attempt) bool {
	return a.Rule != nil && strings.HasPrefix(a.Rule.ID, "request.")
}

func TestVerifyJudgesAttemptsByTheirRule(t *testing.T) {
	ca, attempts := shared().ca, shared().attempts
	v := newVerifier(t, ca, attempts.Parties()...)
	for _, a := range attempts.All() {
		if aboutHTTP(a) {
			continue
		}
		for i, r := range a.Requests() {
			client, _, err := v.Verify(t.Context(), r.ClientID(), r.Assertion.Compact())
			if got := ruleOf(err); got != r.Expect {
				t.Errorf("%s, request %d: %v", a, i+1, err)
			}
			if r.Expect == nil && err == nil && client.ID() != r.ClientID() {
				t.Errorf("%s, request %d: the client is %s", a, i+1, client.ID())
			}
		}
	}
}

// ruleOf returns the rule of a rejection, nil for no error, and a rule of its own
// for any other error.
func ruleOf(err error) *rule.Rule {
	switch rejection := (*rule.Rejection)(nil); {
	case err == nil:
		return nil
	case errors.As(err, &rejection):
		return rejection.Rule
	default:
		return rule.Internal
	}
}

// inevitable are the rules that a mistake breaks besides its own, because they are
// about the same thing.
func inevitable(a isharetest.Attempt) []*rule.Rule {
	switch a.Rule {
	case rule.ClaimIss:
		return []*rule.Rule{rule.ClaimSub, rule.PartyUnknown}
	case rule.ClaimIat, rule.ClaimExp:
		return []*rule.Rule{rule.ClaimLifetime, rule.ClaimExp}
	case rule.ChainOrder:
		return []*rule.Rule{rule.ChainIssuer, rule.ChainUntrusted}
	}
	switch a.Name {
	case "jwk of the attacker": // whose key has signed
		return []*rule.Rule{rule.JWTSignature}
	case "root first":
		return []*rule.Rule{rule.ChainOrder, rule.ChainIssuer, rule.JWTSignature, rule.ChainUntrusted}
	}
	return nil
}

func TestExplainFindsNothingElseWrong(t *testing.T) {
	ca, attempts := shared().ca, shared().attempts
	v := newVerifier(t, ca, attempts.Parties()...)
	for _, a := range attempts.All() {
		if !a.Alone {
			continue
		}
		report := v.Explain(t.Context(), a.Assertion(), time.Now())
		if report.Outage != nil || report.Accepted != (a.Rule == nil) {
			t.Errorf("%s: accepted %t, outage %v", a, report.Accepted, report.Outage)
		}
		if report.Rejection != nil && report.Rejection.Rule != a.Rule || report.Rejection == nil && a.Rule != nil {
			t.Errorf("%s: %v", a, report.Rejection)
		}
		for _, f := range report.Findings {
			if f.Outcome == assertion.Fail && f.Rule != a.Rule && !slices.Contains(inevitable(a), f.Rule) {
				t.Errorf("%s breaks %s as well: %v", a, f.Rule.ID, f.Rejection)
			}
		}
	}
}

func TestAttemptsAreNewEachTime(t *testing.T) {
	attempts := shared().attempts
	for _, a := range attempts.All() {
		first, second := a.Requests(), a.Requests()
		if len(first) != len(second) || len(first) == 0 {
			t.Errorf("%s: %d requests, and %d", a, len(first), len(second))
			continue
		}
		jti := first[0].Assertion.Payload.Get("jti")
		if s, ok := jti.(string); ok && len(s) >= 36 && jti == second[0].Assertion.Payload.Get("jti") {
			t.Errorf("%s: the same jti again", a)
		}
	}
}
