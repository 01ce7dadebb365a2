package daemon_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// nowhere is an address at which nobody answers.
const nowhere = "https://127.0.0.1:1"

// withRegistry is the configuration of a server that asks a registry.
func withRegistry(t *testing.T, dir, url, trust string) *config.Config {
	t.Helper()
	text := strings.NewReplacer(
		"{file: parties.json}", `{registry: {id: "did:ishare:EU.NL.NTRNL-10000003", url: "`+url+`"}}`,
		"revocation: off", trust,
	).Replace(configuration)
	c, err := config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// At its start and after a reload, a server that cannot ask its registry tells nobody that a
// chain is not trusted, and nobody that a party is unknown.
func TestNoRegistryIsNoRefusal(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	stranger := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000004", "Stranger")
	cfg := func() *config.Config { return withRegistry(t, dir, nowhere, "revocation: off, trusted_list: true") }
	s := start(t, daemon.Options{NoHistory: true}, cfg())
	refused := func(when string) {
		t.Helper()
		for name, p := range map[string]*isharetest.Party{"consumer": players().consumer, "stranger": stranger} {
			a := s.send(t, p.Request(providerID))
			if a.Status != http.StatusServiceUnavailable || !strings.HasPrefix(a.Description, "unavailable.registry: ") || a.Header.Get("Retry-After") == "" {
				t.Errorf("%s, %s: %d %s", when, name, a.Status, a.Description)
			}
		}
	}
	refused("at the start")
	if err := s.Reload(t.Context(), cfg()); err != nil {
		t.Fatal(err)
	}
	refused("after a reload")
}

// What the registry says of ourselves is one problem, at the key that it is about and with the
// mend of its rule; and no problem is mended by checking less.
func TestCheckTellsOurOwnStanding(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, description, key, mend string }{
		{"suspended", "party.not-active: compliance is suspended", "party.id", rule.PartyNotActive.Hint},
		{"unknown", "party.unknown: who is that", "party.id", "Ask your registrar to add your party"},
		{"another certificate", "party.certificate: not this one", "party.certificates", rule.PartyCertificate.Hint},
		{"revoked", "certificate.revoked: x5c[0] is revoked", "party.certificates", rule.CertificateRevoked.Hint},
		{"in its own words", "Unknown client", "participants.registry", "Ask your registrar"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			asked := atomic.Int32{}
			registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"`+test.description+`"}`)
			}))
			defer registry.Close()
			c := check(withRegistry(t, newHome(t), registry.URL, "revocation: off, trusted_list: true"))
			if len(c.Problems) != 1 || asked.Load() == 0 {
				t.Fatalf("asked %d times, problems:\n%s", asked.Load(), told(c.Problems))
			}
			p := c.Problems[0]
			if p.Key != test.key || !strings.Contains(p.Message, "the registry refuses us: ") || !strings.Contains(p.Message, test.description) || !strings.HasPrefix(p.Hint, test.mend) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// An assertion that only the trusted list could let in cannot be decided without it.
func TestExplainMakesNoGuess(t *testing.T) {
	t.Parallel()
	stranger := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000004", "Stranger")
	cfg := withRegistry(t, newHome(t), nowhere, "revocation: off, trusted_list: true")
	e, err := daemon.Explain(t.Context(), cfg, discard, assertion.Request{Assertion: stranger.Assertion(providerID)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, outage := rule.Classify(e.Outage)
	if e.Accepted || e.Rejection != nil || outage == nil || outage.Rule != rule.UnavailableRegistry {
		t.Errorf("accepted %t, rejection %v, outage %v", e.Accepted, e.Rejection, e.Outage)
	}
}

// Our own seal is asked about as those of clients are.
func TestCheckFindsOurOwnRevokedSeal(t *testing.T) {
	t.Parallel()
	status := isharetest.NewStatusServices()
	defer status.Close()
	us := status.CA.Party(providerID, "Some Provider")
	seal := testca.Identity{Key: us.Key, Chain: us.Certificates}
	dir := newHome(t)
	if err := seal.Save(filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "root.pem"), status.CA.RootPEM())
	look := func(environ ...string) *daemon.Preflight {
		return check(parse(t, dir, append(environ, "WAYBILL_LISTEN_URL=https://provider.example", "WAYBILL_TRUST_REVOCATION=require")...))
	}
	const private = "WAYBILL_TRUST_REVOCATION_ALLOW_PRIVATE=true"
	if c := look(private); len(c.Problems)+len(c.Warnings) > 0 {
		t.Errorf("in force: problems %s, warnings %s", told(c.Problems), told(c.Warnings))
	}
	status.Revoke(us.Certificates[0])
	c := look(private)
	if len(c.Problems) != 1 || c.Problems[0].Key != "party.certificates" || !strings.Contains(c.Problems[0].Message, "x5c[0] is revoked") || c.Problems[0].Hint == "" {
		t.Errorf("revoked: %s", told(c.Problems))
	}
	if c := look(); len(c.Problems) > 0 || len(c.Warnings) == 0 || c.Warnings[0].Key != "trust.revocation" {
		t.Errorf("out of reach: problems %s, warnings %s", told(c.Problems), told(c.Warnings))
	}
}
