package probe_test

import (
	"cmp"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/probe"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

const (
	audience   ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000000"
	consumerID ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000001"
	inactiveID ishare.PartyID = "did:ishare:EU.NL.NTRNL-10000002"
)

// A cast is who takes part: a CA that says what is revoked, the seals that it issued, and what it issued wrongly.
type cast struct {
	ca                                    *testca.CA
	provider, consumer, revoked, inactive *testca.Identity
	seals                                 *probe.TestSeals
}

// players are made once: keys take time, and nothing changes them.
var players = sync.OnceValue(func() *cast {
	var c cast
	var service http.Handler
	status := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { service.ServeHTTP(w, r) }))
	c.ca = must(testca.New(testca.Config{NewKey: testca.PooledKey, OCSPURL: status.URL, CRLURL: status.URL}))
	said := testca.NewStatusService(c.ca, time.Hour)
	service = said
	seal := func(number string) *testca.Identity {
		return must(c.ca.Seal(testca.SealRequest{Organization: "Party " + number, Identifier: "NTRNL-" + number}))
	}
	c.provider, c.consumer, c.revoked, c.inactive = seal("10000000"), seal("10000001"), seal("10000001"), seal("10000002")
	said.Revoke(c.revoked.Certificate(), ocsp.KeyCompromise)
	issuing := c.ca.Authority(testca.Issuing)
	c.seals = must(probe.CheapTestSeals(issuing.Key, issuing.Chain[:1], c.consumer.Chain))
	return &c
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// registered are the certificates of the consumer.
func (c *cast) registered() []*x509.Certificate {
	return append([]*x509.Certificate{c.consumer.Certificate(), c.revoked.Certificate()}, c.seals.Certificates()...)
}

func sealOf(id ishare.PartyID, identity *testca.Identity) probe.Seal {
	return probe.Seal{ClientID: id, Key: identity.Key, Certificates: identity.Chain}
}

// everything is the configuration with which no case is skipped for want of something.
func (c *cast) everything(server, secured string) probe.Config {
	revoked, inactive := sealOf(consumerID, c.revoked), sealOf(inactiveID, c.inactive)
	return probe.Cheaply(probe.Config{
		Server: server, Audience: audience, Seal: sealOf(consumerID, c.consumer), Pause: -1,
		TestSeals: c.seals, Revoked: &revoked, Inactive: &inactive, SecuredURL: secured,
	})
}

// ours starts this program's own server, and returns its base URL.
func (c *cast) ours(t *testing.T) string {
	t.Helper()
	root := c.ca.Authority(testca.Root).Certificate()
	server := httptest.NewUnstartedServer(nil)
	base := must(url.Parse("http://" + server.Listener.Addr().String()))
	p, err := provider.New(provider.Config{
		Party: audience, Key: c.provider.Key, Certificates: c.provider.Chain, URL: base,
		Anchors: trust.Anchors{trust.FingerprintOf(root): "root"},
		Parties: isharetest.NewList(
			&isharetest.Party{Record: isharetest.Record(consumerID, "Consumer", c.registered()...)},
			(&isharetest.Party{Record: isharetest.Record(inactiveID, "Inactive", c.inactive.Certificate())}).With(isharetest.Suspended),
		),
		Revocation: provider.Revocation{Mode: revocation.Require, AllowPrivate: true},
		Data:       t.TempDir(), NoHistory: true,
		Secured: map[string]http.Handler{"GET /me": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
	})
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error)
	go func() { stopped <- p.Run(t.Context()) }() // which ends before what follows
	server.Config.Handler = p.Public()
	server.Start()
	t.Cleanup(func() {
		server.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return server.URL
}

func run(t *testing.T, c probe.Config) *probe.Report {
	t.Helper()
	report, err := probe.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestOurServer: it passes every case, and refuses by the rule that the case is about.
func TestOurServer(t *testing.T) {
	base := players().ours(t)
	report := run(t, players().everything(base, base+"/me"))
	skipped := []string{"secured/without-signature", waits} // the token is opaque, and lives for an hour
	earlier := map[string]string{                           // rules that come first
		"certificate.key/ECDSA": "jwt.alg",
		"jwt.alg/none":          "jwt.compact",
	}
	for _, r := range report.Results {
		switch {
		case r.Verdict == probe.Skipped && slices.Contains(skipped, r.Name):
		case r.Verdict != probe.Pass:
			t.Errorf("%s: %s, %s: %s%s\nsent %s", r.Name, r.Verdict, r.Outcome, r.Came, r.Reason, r.Sent)
		case r.Outcome == probe.Refused && strings.HasPrefix(r.Came, "4") && len(r.Rules) > 0 && !strings.Contains(r.Came, cmp.Or(earlier[r.Name], r.Rules[0])+":"):
			t.Errorf("%s: refused for another reason: %s", r.Name, r.Came)
		}
	}
	if !report.Good() || len(report.Results) != len(probe.Cases()) {
		t.Errorf("%d of %d cases: %s", len(report.Results), len(probe.Cases()), report.Summary())
	}
	t.Log(report.Summary())
}
