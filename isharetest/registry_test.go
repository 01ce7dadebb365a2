package isharetest_test

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// remoteOf is our own client of a registry, as a party.
func remoteOf(t *testing.T, g *isharetest.Registry, as *isharetest.Party) *registry.Remote {
	t.Helper()
	validator, err := trust.New(shared().ca.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.NewRemote(registry.RemoteConfig{
		ID: g.ID, URL: g.URL, Party: []ishare.PartyID{as.ID()}, Key: as.Key, Certificates: as.Certificates,
		Trust: validator, Revocation: revocation.Off{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// What a registry says of parties comes out of our own client as it was meant, in both versions, and whatever is
// changed while it runs.
func TestRegistryFollowsChanges(t *testing.T) {
	t.Parallel()
	us, consumer := shared().attempts.Other, shared().attempts.Consumer
	for version, pending := range map[registry.Version]string{
		registry.Version3: "compliance is inactive", registry.Version2: "compliance is pending",
	} {
		g, err := isharetest.StartRegistry(isharetest.RegistryConfig{
			CA: shared().ca, Parties: []*isharetest.Party{us}, Version: version,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Close() })
		r := remoteOf(t, g, us)
		for _, step := range []struct {
			change func()
			want   string
		}{
			{func() {}, registry.ErrUnknown.Error()},
			{func() { g.Parties.Put(consumer) }, ""},
			{func() { g.Parties.Put(consumer.With(isharetest.Pending)) }, pending},
			{func() { g.Parties.Put(consumer.With(isharetest.Revoked)) }, "compliance is revoked"},
			{func() { g.Parties.Put(consumer.With(isharetest.Ended)) }, "compliance ended on"},
			{func() { g.Parties.Replace(us, consumer) }, ""},
			{func() { g.Parties.Remove(consumer.ID()) }, registry.ErrUnknown.Error()},
		} {
			step.change()
			got := ""
			switch party, err := r.Party(t.Context(), consumer.ID()); {
			case err != nil:
				got = err.Error()
			case party.Compliant(time.Now()) != nil:
				got = party.Compliant(time.Now()).Error()
			}
			if (got == "") != (step.want == "") || !strings.HasPrefix(got, step.want) {
				t.Errorf("%s: %q, want %q", version, got, step.want)
			}
		}
		if n := g.Counters(); n.Parties == 0 || n.Tokens != 1 || n.Capabilities != 0 {
			t.Errorf("%s: asked %+v", version, n)
		}
	}
}

// Every fault is one to our own client, and the trusted list has one of its own.
func TestRegistryFaults(t *testing.T) {
	t.Parallel()
	us, consumer := shared().attempts.Other, shared().attempts.Consumer
	g := isharetest.NewRegistry(shared().ca, us, consumer)
	defer g.Close()
	for _, fault := range isharetest.RegistryFaults() {
		if fault == isharetest.FaultSlow || fault == isharetest.FaultHanging {
			continue // take as long as the client waits; see TestSlow
		}
		r := remoteOf(t, g, us) // whose circuit is closed, whatever was before
		if _, err := r.TrustedList(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.Fail(fault)
		_, err := r.Party(t.Context(), consumer.ID())
		if right := fault == isharetest.NoFault || fault == isharetest.FaultOldTrustedList; (err == nil) != right {
			t.Errorf("%s: party: %v", fault, err)
		}
		_, err = r.TrustedList(t.Context())
		if right := fault == isharetest.NoFault || fault == isharetest.FaultOtherParty; (err == nil) != right {
			t.Errorf("%s: trusted list: %v", fault, err)
		}
		g.Fail(isharetest.NoFault)
	}
	dead := errors.New("the line is dead")
	g.Parties.Fail(dead)
	if _, err := remoteOf(t, g, us).Party(t.Context(), consumer.ID()); err == nil || errors.Is(err, ishare.ErrUnknownParty) {
		t.Errorf("with its parties out of reach: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a fault that does not exist")
		}
	}()
	g.Fail("sleepy")
}

// The trusted list says what it is told, and the registry goes by it itself.
func TestRegistryTrustedList(t *testing.T) {
	t.Parallel()
	other := isharetest.NewCA()
	us, listed := shared().attempts.Other, other.Party(consumerID, "Listed")
	g := isharetest.NewRegistry(shared().ca, us, listed)
	defer g.Close()
	r := remoteOf(t, g, us)
	own := isharetest.TrustedCA{Certificate: shared().ca.Root()}
	for _, withdrawn := range []bool{true, false} {
		g.SetTrustedList(own, isharetest.TrustedCA{Certificate: other.Root(), Withdrawn: withdrawn})
		anchors, err := r.TrustedList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, granted := anchors[trust.FingerprintOf(other.Root())]; granted == withdrawn {
			t.Errorf("withdrawn %t: the list grants %v", withdrawn, anchors)
		}
		var want *rule.Rule
		if withdrawn {
			want = rule.ChainUntrusted
		}
		if err := send(t, listed.Request(g.ID), g.URL).Meets(want); err != nil {
			t.Errorf("withdrawn %t: %v", withdrawn, err)
		}
	}
}

// A registry with a folder knows the tokens and the assertions of before.
func TestRegistryRestarts(t *testing.T) {
	t.Parallel()
	c := isharetest.RegistryConfig{
		CA: shared().ca, Self: shared().attempts.Other, Parties: []*isharetest.Party{shared().attempts.Consumer},
		Dir: t.TempDir(), NoHistory: true, URL: "http://registry.example",
	}
	request := shared().attempts.Consumer.Request(c.Self.ID())
	for _, want := range []int{http.StatusOK, http.StatusBadRequest} {
		g, err := isharetest.StartRegistry(c)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, request.HTTP(c.URL))
		if w.Code != want {
			t.Errorf("%d %s, want %d", w.Code, w.Body, want)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		c.NoHistory = false
	}
}

func TestStartRegistrySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]isharetest.RegistryConfig{
		"no CA":      {},
		"version":    {CA: shared().ca, Version: "4"},
		"no anchors": {CA: shared().ca, TrustedList: []isharetest.TrustedCA{}},
	} {
		if g, err := isharetest.StartRegistry(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", want, g, err)
		}
	}
	if _, err := isharetest.StartStatusServices(isharetest.StatusConfig{Life: -1}); err == nil {
		t.Error("answers that have ended before they are given")
	}
}

// status is the rule by which a party's seal is refused, or "".
func status(t *testing.T, s *isharetest.StatusServices, p *isharetest.Party) string {
	t.Helper()
	validator, err := trust.New(s.CA.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := validator.Validate(p.Certificates, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	checker, err := revocation.New(revocation.Config{AllowPrivate: true}) // which remembers nothing yet
	if err != nil {
		t.Fatal(err)
	}
	defer checker.Close()
	err = checker.Check(t.Context(), chain)
	rejection, outage := rule.Classify(err)
	switch {
	case rejection != nil:
		return rejection.Rule.ID
	case outage != nil:
		return outage.Rule.ID
	case err != nil:
		return err.Error()
	}
	return ""
}

// What the services are told is what our own checker finds, by OCSP and by the lists.
func TestStatusServices(t *testing.T) {
	t.Parallel()
	s := isharetest.NewStatusServices()
	defer s.Close()
	consumer := s.CA.Party(consumerID, "Some Consumer")
	leaf := consumer.Certificates[0]
	for _, step := range []struct {
		change    func(*x509.Certificate)
		ocsp, crl isharetest.Fault
		want      string
	}{
		{s.Reinstate, isharetest.NoFault, isharetest.NoFault, ""},
		{s.Hold, isharetest.NoFault, isharetest.FaultOff, rule.CertificateRevoked.ID},
		{s.Hold, isharetest.FaultOff, isharetest.NoFault, rule.CertificateRevoked.ID},
		{s.Reinstate, isharetest.FaultError, isharetest.NoFault, ""},
		{s.Revoke, isharetest.FaultMalformed, isharetest.NoFault, rule.CertificateRevoked.ID},
		{s.Revoke, isharetest.FaultError, isharetest.FaultMalformed, rule.UnavailableRevocation.ID},
		{s.Revoke, isharetest.NoFault, isharetest.NoFault, rule.CertificateRevoked.ID},
	} {
		step.change(leaf)
		s.FailOCSP(step.ocsp)
		s.FailCRL(step.crl)
		if got := status(t, s, consumer); got != step.want {
			t.Errorf("OCSP %s, CRL %s: %q, want %q", step.ocsp, step.crl, got, step.want)
		}
	}
	if n := s.Counters(); n.OCSP == 0 || n.CRL == 0 {
		t.Errorf("asked %+v", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("status services sign nothing about another party")
		}
	}()
	s.FailCRL(isharetest.FaultOtherParty)
}

// TestSlow that a slow server answers after its time, and gives up with its caller.
func TestSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answered := false
		handler := isharetest.WithFault(isharetest.FaultSlow, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered = true }))
		began := time.Now()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if took := time.Since(began); took != isharetest.Slowness || !answered {
			t.Errorf("answered %t after %s", answered, took)
		}
	})
}

// A server that hangs is let go by Close, and by a caller who has waited enough.
func TestHanging(t *testing.T) {
	t.Parallel()
	g := isharetest.NewRegistry(shared().ca)
	g.Fail(isharetest.FaultHanging)
	asked := make(chan error)
	go func() {
		response, err := (&http.Client{}).Get(g.URL + "/capabilities")
		if err == nil {
			err = response.Body.Close()
		}
		asked <- err
	}()
	for g.Counters().Capabilities == 0 {
		select {
		case err := <-asked:
			t.Fatalf("answered: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if err := g.Close(); err != nil { // waits for the requests under way
		t.Error(err)
	}
	<-asked
}
