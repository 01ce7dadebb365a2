package daemon_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/revocation"
)

// The configured proxy is asked for what certificates name, and no other; and the log tells
// an operator what is to be done about a status that nobody will ever give.
func TestRevocationThroughAProxy(t *testing.T) {
	var asked atomic.Pointer[string]
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address := r.URL.String()
		asked.Store(&address)
		http.NotFound(w, r)
	}))
	defer proxy.Close()
	for _, test := range []struct {
		name    string
		ocsp    string
		environ []string
		asked   string // by the proxy; empty: nothing
		mend    string // in the log; empty: none
	}{
		{"configured", "http://status.example/ocsp", []string{"WAYBILL_TRUST_REVOCATION_PROXY=" + proxy.URL}, "http://status.example/ocsp", ""},
		{"none", "http://status.invalid/ocsp", nil, "", ""},
		{"private address", "http://127.0.0.1:1/ocsp", []string{"WAYBILL_TRUST_REVOCATION_PROXY=" + proxy.URL}, "", "set trust.revocation_allow_private"},
		{"private address and no proxy", "http://127.0.0.1:1/ocsp", nil, "", "set trust.revocation_allow_private"},
		{"names neither", "", nil, "", "Its CA has to issue another certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked.Store(new(string))
			consumer := players().consumer.Resealed(func(c *x509.Certificate) {
				c.OCSPServer, c.CRLDistributionPoints = nil, nil
				if test.ocsp != "" {
					c.OCSPServer = []string{test.ocsp}
				}
			})
			dir := newHome(t)
			writeParties(t, dir, players().provider, consumer)
			write(t, filepath.Join(dir, "issuing.pem"), testca.EncodeCertificates(consumer.Certificates[1]))
			s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, append(test.environ,
				"WAYBILL_TRUST_REVOCATION=require", "WAYBILL_TRUST_ANCHORS=issuing.pem")...))
			if a := s.send(t, consumer.Request(providerID)); a.Status != http.StatusServiceUnavailable {
				t.Errorf("status %d, %+v", a.Status, a)
			}
			if got := *asked.Load(); got != test.asked {
				t.Errorf("the proxy was asked for %q, want %q", got, test.asked)
			}
			records := s.log.records(t, "the revocation status of a certificate cannot be found out")
			if len(records) != 1 {
				t.Fatalf("the log says %s", s.log)
			}
			if mend, _ := records[0]["mend"].(string); (mend == "") != (test.mend == "") || !strings.Contains(mend, test.mend) {
				t.Errorf("mend %q, want %q", mend, test.mend)
			}
		})
	}
}

// A restart while nobody tells whether certificates are revoked turns no known client away; and
// whoever only looks leaves nothing behind.
func TestRestartWithoutStatusServices(t *testing.T) {
	t.Parallel()
	var status atomic.Pointer[http.Handler]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*status.Load()).ServeHTTP(w, r) }))
	defer server.Close()
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey, OCSPURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	answering, failing := http.Handler(testca.NewStatusService(ca, time.Hour)), http.NotFoundHandler()
	party := func(template *isharetest.Party) *isharetest.Party {
		seal, err := ca.Seal(testca.SealRequest{Organization: "Some Consumer", Identifier: "NTRNL-10000001"})
		if err != nil {
			t.Fatal(err)
		}
		key, ok := seal.Key.(*rsa.PrivateKey)
		if !ok {
			t.Fatalf("the key is a %T", seal.Key)
		}
		return template.With(func(p *isharetest.Party) {
			p.Key, p.Certificates = key, seal.Chain
			for i := range p.Record.Claims {
				if c := &p.Record.Claims[i]; c.Type == ishare.ClaimX509Certificate {
					c.X5C, c.X5T = base64.StdEncoding.EncodeToString(seal.Certificate().Raw), ishare.Thumbprint(seal.Certificate().Raw)
				}
			}
		})
	}
	known, stranger := party(players().consumer), party(players().ca.Party("did:ishare:EU.NL.NTRNL-10000004", "Another"))
	dir := newHome(t)
	writeParties(t, dir, players().provider, known, stranger)
	write(t, filepath.Join(dir, "issuing.pem"), testca.EncodeCertificates(ca.Authority(testca.Issuing).Certificate()))
	cfg := func() *config.Config {
		return parse(t, dir, "WAYBILL_TRUST_REVOCATION=require", "WAYBILL_TRUST_REVOCATION_ALLOW_PRIVATE=true", "WAYBILL_TRUST_ANCHORS=issuing.pem")
	}
	folder := filepath.Join(string(cfg().Data), "kept", "revocation")

	status.Store(&answering)
	if _, err := daemon.Explain(t.Context(), cfg(), discard, assertion.Request{Assertion: known.Assertion(providerID)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("explaining left %s behind: %v", folder, err)
	}
	for n := range 3 {
		s := start(t, daemon.Options{NoHistory: n == 0}, cfg())
		if a := s.send(t, known.Request(providerID)); a.Status != http.StatusOK {
			t.Errorf("start %d: %d %s", n, a.Status, a.Description)
		}
		status.Store(&failing)
		if a := s.send(t, stranger.Request(providerID)); a.Status != http.StatusServiceUnavailable {
			t.Errorf("start %d: a stranger gets %d %s", n, a.Status, a.Description)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}
}

// What the server could never find out of our own chain is told before a client meets it.
func TestCheckTellsWhatCanNeverBeAnswered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*x509.Certificate)
		want   string
		mend   error
	}{
		{"private address", func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1:1/"} }, "the address is not on a public network", revocation.ErrNotPublic},
		{"names neither", func(c *x509.Certificate) { c.OCSPServer, c.CRLDistributionPoints = nil, nil }, "names neither an OCSP responder nor a revocation list", revocation.ErrNoSource},
		{"LDAP only", func(c *x509.Certificate) {
			c.OCSPServer, c.CRLDistributionPoints = nil, []string{"ldap:///cn=ca"}
		}, "it names only addresses that are not http", revocation.ErrNoSource},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			provider := players().provider.Resealed(test.change)
			dir := newHome(t)
			writeParties(t, dir, provider, players().consumer)
			seal := testca.Identity{Key: provider.Key, Chain: provider.Certificates}
			if err := seal.Save(filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "issuing.pem"), testca.EncodeCertificates(provider.Certificates[1]))
			c := check(parse(t, dir, "WAYBILL_LISTEN_URL=https://provider.example",
				"WAYBILL_TRUST_REVOCATION=require", "WAYBILL_TRUST_ANCHORS=issuing.pem"))
			if len(c.Warnings) != 1 || !strings.Contains(told(c.Warnings), test.want) {
				t.Fatalf("warnings: %s", told(c.Warnings))
			}
			if mend := c.Warnings[0].Hint; mend != daemon.RevocationHint(test.mend) {
				t.Errorf("the mend is %q", mend)
			}
		})
	}
}
