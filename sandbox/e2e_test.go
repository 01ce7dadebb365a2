package sandbox_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/sandbox"
)

// patience is for what must become true. It is no measure of how soon it does.
const patience = time.Minute

// An outcome is what a token request came to.
type outcome struct {
	status int
	rule   string // empty: a token
	retry  int    // seconds in Retry-After
	err    error
}

// maker makes the assertions of a participant.
func maker(t *testing.T, p sandbox.Participant, chainFile string) *assertion.Maker {
	t.Helper()
	key, chain := seal(t, p.KeyFile, chainFile)
	return &assertion.Maker{ClientID: p.ID, Key: key, Certificates: chain}
}

// ticket makes a token request to the provider.
func (s *space) ticket(t *testing.T, by *assertion.Maker) url.Values {
	t.Helper()
	compact, err := by.Make(s.Provider.ID)
	if err != nil {
		t.Fatal(err)
	}
	return url.Values{
		"grant_type": {"client_credentials"}, "scope": {ishare.ScopeISHARE}, "client_id": {string(by.ClientID)},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {compact},
	}
}

// present sends a token request once, which our client would repeat.
func (s *space) present(ctx context.Context, c *http.Client, ticket url.Values) outcome {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/connect/token", strings.NewReader(ticket.Encode()))
	if err != nil {
		return outcome{err: err}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := c.Do(request)
	if err != nil {
		return outcome{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return outcome{err: err}
	}
	var answer struct {
		Token       string `json:"access_token"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return outcome{err: err}
	}
	o := outcome{status: response.StatusCode}
	o.rule, _, _ = strings.Cut(answer.Description, ":")
	if (answer.Token == "") == (o.rule == "") {
		o.rule = "neither token nor rule"
	}
	o.retry, _ = strconv.Atoi(response.Header.Get("Retry-After"))
	return o
}

// try asks for a token once.
func (s *space) try(t *testing.T, p sandbox.Participant) outcome {
	t.Helper()
	return s.tryWith(t, p, p.ChainFile)
}

func (s *space) tryWith(t *testing.T, p sandbox.Participant, chainFile string) outcome {
	t.Helper()
	o := s.present(t.Context(), plain(), s.ticket(t, maker(t, p, chainFile)))
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o
}

// wants holds an outcome against a rule; the empty rule is a token.
func (o outcome) wants(t *testing.T, what, rule string) {
	t.Helper()
	status := http.StatusOK
	switch {
	case strings.HasPrefix(rule, "unavailable."):
		status = http.StatusServiceUnavailable
	case rule != "":
		status = http.StatusBadRequest
	}
	if o.rule != rule || o.status != status || (o.retry > 0) != (status == http.StatusServiceUnavailable) {
		t.Errorf("%s: %+v, want %d %q", what, o, status, rule)
	}
}

// becomes asks until the outcome is by the rule, and returns how long that took.
func (s *space) becomes(t *testing.T, p sandbox.Participant, rule string) time.Duration {
	t.Helper()
	began := time.Now()
	pace := time.NewTicker(20 * time.Millisecond) // leaves other tests their share of the processor
	defer pace.Stop()
	for ; ; <-pace.C {
		o := s.try(t, p)
		switch took := time.Since(began); {
		case o.rule == rule:
			return took
		case took > patience:
			t.Fatalf("%s: still %+v after %s, want %q", p.Folder, o, patience, rule)
		}
	}
}

// TestEveryStanding is the whole walk: consumer, provider, registry, OCSP.
func TestEveryStanding(t *testing.T) {
	t.Parallel()
	for _, framework := range []sandbox.Framework{sandbox.Framework3, sandbox.Framework2} {
		t.Run(string(framework), func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *sandbox.Config) { c.Framework = framework })
			// The list comes soon after the start; until then nobody is called untrusted.
			s.becomes(t, s.somebody(t, "untrusted-consumer"), rule.ChainUntrusted.ID)
			for folder, reason := range map[string]string{
				"consumer":           "",
				"former-consumer":    rule.PartyNotActive.ID,
				"pending-consumer":   rule.PartyNotActive.ID,
				"suspended-consumer": rule.PartyNotActive.ID,
				"unknown-consumer":   rule.PartyUnknown.ID,
				"revoked-consumer":   rule.CertificateRevoked.ID,
				"replaced-consumer":  rule.PartyCertificate.ID,
				"untrusted-consumer": rule.ChainUntrusted.ID,
			} {
				s.try(t, s.somebody(t, folder)).wants(t, folder, reason)
			}
			replaced := s.somebody(t, "replaced-consumer")
			s.tryWith(t, replaced, replaced.RenewedFile).wants(t, "with the newer certificate", "")
			alias := s.Consumer
			alias.ID = alias.AlsoKnownAs[0]
			s.try(t, alias).wants(t, "by its alias", "")
		})
	}
}

// TestNothingIsLeft of a sandbox that was stopped.
func TestNothingIsLeft(t *testing.T) { // alone, as it counts the goroutines of the process
	before := runtime.NumGoroutine()
	s := start(t)
	s.becomes(t, s.Consumer, "")
	s.set(t, "registry", "slow")
	s.stop()
	began := time.Now()
	for runtime.NumGoroutine() > before {
		if time.Since(began) > patience {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, want %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// TestTokenOpensTheService behind the token endpoint.
func TestTokenOpensTheService(t *testing.T) {
	t.Parallel()
	s := share(t, sandbox.Framework3)
	tokens := s.client(t, s.Consumer, s.State().Provider)
	status, body := get(t, tokens.HTTPClient(), s.URL+"/me", nil)
	if status != http.StatusOK || !strings.Contains(string(body), string(s.Consumer.ID)) {
		t.Errorf("%d %s", status, body)
	}
}

// TestRegistryMisbehaves in every way that it can towards a provider that knows
// nobody yet: nobody gets in, and nobody is refused for it.
func TestRegistryMisbehaves(t *testing.T) {
	t.Parallel()
	for _, fault := range registryFaults(t) {
		if fault == "normal" {
			continue
		}
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *sandbox.Config) { c.Freshness = time.Hour })
			s.set(t, "registry", fault)
			folders := []string{"consumer", "former-consumer", "unknown-consumer"}
			if fault == "slow" {
				folders = folders[:1] // each takes as long as the provider is patient
			}
			for _, folder := range folders {
				s.try(t, s.somebody(t, folder)).wants(t, folder, rule.UnavailableRegistry.ID)
			}
			s.set(t, "registry", "normal")
			t.Logf("well again after %s", s.becomes(t, s.Consumer, ""))
		})
	}
}

// TestRegistrySealIsRevoked and its word counts for nothing.
func TestRegistrySealIsRevoked(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.set(t, "registry.certificate", "held")
	s.try(t, s.Consumer).wants(t, "with the registry's seal on hold", rule.UnavailableRegistry.ID)
	s.set(t, "registry.certificate", "registered")
	t.Logf("well again after %s", s.becomes(t, s.Consumer, ""))
}

// registryFaults are the positions of the registry's switch.
func registryFaults(t *testing.T) []string {
	t.Helper()
	s, err := sandbox.Open(t.Context(), sandbox.ConfigForTest(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return s.State().Switches[0].Choices
}

// TestStatusServicesMisbehave with certificates that nobody has asked about yet,
// while the status of everything above them is known.
func TestStatusServicesMisbehave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ocsp, crl, rule string }{
		{"off", "normal", ""},
		{"error", "normal", ""},
		{"slow", "normal", ""},
		{"malformed", "normal", ""},
		{"off", "off", rule.UnavailableRevocation.ID},
		{"error", "error", rule.UnavailableRevocation.ID},
		{"slow", "slow", rule.UnavailableRevocation.ID},
		{"malformed", "malformed", rule.UnavailableRevocation.ID},
	} {
		t.Run("OCSP "+c.ocsp+" CRL "+c.crl, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *sandbox.Config) { c.Freshness = time.Hour })
			s.set(t, "pending-consumer.standing", "active")
			s.becomes(t, s.Consumer, "")
			s.set(t, "ocsp", c.ocsp)
			s.set(t, "crl", c.crl)
			p := s.somebody(t, "pending-consumer")
			s.try(t, p).wants(t, "certificate nobody asked about", c.rule)
			s.try(t, s.Consumer).wants(t, "certificate whose status is known", "")
			if c.ocsp == "slow" {
				return // questions under way are waited for
			}
			s.set(t, "ocsp", "normal")
			t.Logf("well again after %s", s.becomes(t, p, ""))
		})
	}
}

// TestChangesAreNoticed while everything runs, and tells how soon.
func TestChangesAreNoticed(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *sandbox.Config) { c.Freshness = time.Second })
	untrusted := s.somebody(t, "untrusted-consumer")
	s.becomes(t, s.Consumer, "")
	for _, c := range []struct {
		name, value string
		who         sandbox.Participant
		rule        string
	}{
		{"consumer.standing", "suspended", s.Consumer, rule.PartyNotActive.ID},
		{"consumer.standing", "active", s.Consumer, ""},
		{"consumer.certificate", "replaced", s.Consumer, rule.PartyCertificate.ID},
		{"consumer.certificate", "registered", s.Consumer, ""},
		{"consumer.certificate", "held", s.Consumer, rule.CertificateRevoked.ID},
		{"consumer.certificate", "registered", s.Consumer, ""},
		{"other-ca", "granted", untrusted, ""},
		{"other-ca", "withdrawn", untrusted, rule.ChainUntrusted.ID},
		{"provider.standing", "suspended", s.somebody(t, "pending-consumer"), rule.PartyNotActive.ID}, // its token is good
		{"provider.standing", "active", s.Consumer, ""},
	} {
		s.set(t, c.name, c.value)
		t.Logf("%s %s: after %s", c.name, c.value, s.becomes(t, c.who, c.rule).Round(time.Millisecond))
	}
}

func TestRevocationIsNoticed(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *sandbox.Config) { c.Freshness = time.Second })
	s.becomes(t, s.Consumer, "")
	s.set(t, "consumer.certificate", "revoked")
	t.Logf("after %s", s.becomes(t, s.Consumer, rule.CertificateRevoked.ID).Round(time.Millisecond))
}

// TestRegistryGoesAway while parties are known, and comes back.
func TestRegistryGoesAway(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *sandbox.Config) { c.Freshness = time.Second })
	s.becomes(t, s.Consumer, "")
	s.set(t, "registry", "off")
	s.try(t, s.Consumer).wants(t, "known party", "")
	s.try(t, s.somebody(t, "unknown-consumer")).wants(t, "party never seen", rule.UnavailableRegistry.ID)
	s.try(t, s.Consumer).wants(t, "known party, later", "")
	t.Logf("the record is not used any more after %s", s.becomes(t, s.Consumer, rule.UnavailableRegistry.ID).Round(time.Millisecond))
	s.set(t, "registry", "normal")
	t.Logf("well again after %s", s.becomes(t, s.Consumer, "").Round(time.Millisecond))
}

// TestManyFirstRequests of one client at the same time ask each question once.
func TestManyFirstRequests(t *testing.T) {
	t.Parallel()
	const many = 200 // signed and answered before the first of them is over, on a busy machine too
	s := start(t, func(c *sandbox.Config) { c.Freshness = time.Hour })
	newcomer := s.somebody(t, "pending-consumer")
	s.set(t, "pending-consumer.standing", "active")
	s.becomes(t, s.Consumer, "") // the chain above is known, and the provider has its token
	tickets := make([]url.Values, many)
	by := maker(t, newcomer, newcomer.ChainFile)
	for i := range tickets {
		tickets[i] = s.ticket(t, by)
	}
	before := s.State().Asked
	var group sync.WaitGroup
	outcomes := make([]outcome, many)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: many}}
	defer client.CloseIdleConnections()
	for i := range tickets {
		group.Go(func() {
			outcomes[i] = s.present(t.Context(), client, tickets[i])
			for outcomes[i].rule == rule.UnavailableOverload.ID { // so slow is this machine; nothing was remembered
				<-time.After(100 * time.Millisecond)
				outcomes[i] = s.present(t.Context(), client, tickets[i])
			}
		})
	}
	group.Wait()
	after := s.State().Asked
	for i, o := range outcomes {
		if o.status != http.StatusOK {
			t.Fatalf("request %d: %+v", i, o)
		}
	}
	if parties, ocsp, crl := after.Parties-before.Parties, after.OCSP-before.OCSP, after.CRL-before.CRL; parties != 1 || ocsp != 1 || crl != 0 {
		t.Errorf("%d requests ask the registry %d times, OCSP %d times, lists %d times; want 1, 1, 0", many, parties, ocsp, crl)
	}
}
