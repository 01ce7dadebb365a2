package provider_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// grants answers what a trusted list grants.
type grants struct {
	anchors trust.Anchors
	err     error
}

func (g *grants) TrustedList(context.Context) (trust.Anchors, error) { return g.anchors, g.err }

// A client under a CA that only the trusted list can grant gets 503 as long as the list is
// not in force, and never the rejection that a server without the list would give. When the list is
// known, it decides.
func TestListedClientMeetsNoGuess(t *testing.T) {
	t.Parallel()
	own, other := isharetest.NewCA(), isharetest.NewCA()
	ours := own.Party("did:ishare:EU.NL.NTRNL-10000001", "Ours")
	listed := other.Party("did:ishare:EU.NL.NTRNL-10000002", "Listed")
	clients, err := trust.New(own.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	source := &grants{err: errors.New("connection refused")}
	list, err := registry.NewTrustedList(registry.TrustedListConfig{Source: source, Own: own.Anchors(), Clients: clients, Refresh: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := listedEndpoint(t, clients, list, isharetest.NewList(ours, listed))

	for _, step := range []struct {
		name           string
		grants         *grants // nil: the list was not asked for yet
		ours, stranger int
		told           string // to the stranger
	}{
		{"before the first answer", nil, http.StatusOK, http.StatusServiceUnavailable, "unavailable.registry: "},
		{"out of reach", &grants{err: rule.ClaimExp.Reject()}, http.StatusOK, http.StatusServiceUnavailable, "unavailable.registry: "},
		{"granted", &grants{anchors: other.Anchors()}, http.StatusOK, http.StatusOK, ""},
		{"withdrawn", &grants{anchors: trust.Anchors{}}, http.StatusOK, http.StatusBadRequest, "chain.untrusted: "},
	} {
		if step.grants != nil {
			*source = *step.grants
			_ = list.Update(t.Context()) // whose outcome the endpoint shows
		}
		if w := ask(endpoint, ours); w.Code != step.ours {
			t.Errorf("%s: under our own anchor: %d %s", step.name, w.Code, w.Body)
		}
		w := ask(endpoint, listed)
		if w.Code != step.stranger || !strings.Contains(w.Body.String(), `"error_description":"`+step.told) && step.told != "" {
			t.Errorf("%s: under the list: %d %s", step.name, w.Code, w.Body)
		}
		if waits := w.Header().Get("Retry-After") != ""; waits != (w.Code == http.StatusServiceUnavailable) {
			t.Errorf("%s: Retry-After %q with %d", step.name, w.Header().Get("Retry-After"), w.Code)
		}
	}
}

// The list may grant a CA below our own anchor, above which nothing is judged. So what is
// wrong there is a guess too while the list is not in force; what is wrong in the seal itself
// is none. A path length is judged to the top of the chain, and so is no guess, but nobody can tell.
func TestListedClientBelowOurAnchorMeetsNoGuess(t *testing.T) {
	t.Parallel()
	ca := provider.Must(testca.New(testca.Config{NewKey: testca.PooledKey}))(t)
	root := ca.Authority(testca.Root)
	own := trust.Anchors{trust.FingerprintOf(root.Certificate()): "root"}
	// below issues the CA at a level in another way than the real one.
	below := func(issuer *testca.Identity, level testca.Level, change func(*x509.Certificate)) *testca.Identity {
		template := ca.Template(level)
		change(template)
		return provider.Must(issuer.Issue(template, ca.Authority(level).Key))(t)
	}
	asIs := func(*x509.Certificate) {}
	weak := below(root, testca.Sub, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })
	limited := below(root, testca.Sub, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedEmailAddresses = true, []string{"permitted.example.org"}
	})
	shallow := below(root, testca.Sub, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	named := func(c *x509.Certificate) { c.EmailAddresses = []string{"seal@elsewhere.example.org"} }

	for _, c := range []struct {
		name    string
		sub     *testca.Identity
		seal    func(*x509.Certificate)
		granted testca.Level
		unknown int // before the list is known
		listed  int // when it grants the CA at the level
		none    string
	}{
		{"signed with SHA-1", weak, asIs, testca.Sub, http.StatusServiceUnavailable, http.StatusOK, "chain.order: "},
		{"name constraints", limited, named, testca.Issuing, http.StatusServiceUnavailable, http.StatusOK, "chain.issuer: "},
		{"path length", shallow, asIs, testca.Issuing, http.StatusServiceUnavailable, http.StatusBadRequest, "chain.issuer: "},
		{"expired seal", weak, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, testca.Sub, http.StatusBadRequest, http.StatusBadRequest, "certificate.validity: "},
	} {
		issuing := below(c.sub, testca.Issuing, asIs)
		id := provider.Must(ca.Seal(testca.SealRequest{
			Organization: "Listed", Identifier: "NTRNL-10000002", Issuer: issuing, Template: c.seal,
		}))(t)
		key, _ := id.Key.(*rsa.PrivateKey)
		client := &isharetest.Party{
			Record: isharetest.Record("did:ishare:EU.NL.NTRNL-10000002", "Listed", id.Certificate()), Key: key, Certificates: id.Chain,
		}
		granted := map[testca.Level]*testca.Identity{testca.Sub: c.sub, testca.Issuing: issuing}[c.granted]
		source := &grants{}
		clients := provider.Must(trust.New(own))(t)
		list := provider.Must(registry.NewTrustedList(registry.TrustedListConfig{Source: source, Own: own, Clients: clients, Refresh: time.Hour}))(t)
		endpoint := listedEndpoint(t, clients, list, isharetest.NewList(client))

		if w := ask(endpoint, client); w.Code != c.unknown {
			t.Errorf("%s: before the list is known: %d %s, want %d", c.name, w.Code, w.Body, c.unknown)
		}
		source.anchors = trust.Anchors{trust.FingerprintOf(granted.Certificate()): "granted"}
		_ = list.Update(t.Context()) // whose outcome the endpoint shows
		if w := ask(endpoint, client); w.Code != c.listed {
			t.Errorf("%s: granted: %d %s, want %d", c.name, w.Code, w.Body, c.listed)
		}
		source.anchors = trust.Anchors{}
		_ = list.Update(t.Context())
		if w := ask(endpoint, client); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.none) {
			t.Errorf("%s: not granted: %d %s, want %s", c.name, w.Code, w.Body, c.none)
		}
	}
}

func listedEndpoint(t *testing.T, clients *trust.Validator, list *registry.TrustedList, parties assertion.PartySource) http.Handler {
	t.Helper()
	store, err := replay.Open(replay.Config{Leeway: 10 * time.Second, NoHistory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	verifier, err := assertion.NewVerifier(assertion.Config{
		Audience: []ishare.PartyID{isharetest.ProviderID}, Trust: clients, Parties: parties,
		Revocation: revocation.Off{}, Replay: store,
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	keys, err := accesstoken.OpenKeys(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := accesstoken.New(accesstoken.Config{Party: isharetest.ProviderID, Lifetime: time.Hour, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := tokenendpoint.New(tokenendpoint.Config{Verifier: provider.ListedVerifier(verifier, list), Issuer: issuer, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

func ask(endpoint http.Handler, p *isharetest.Party) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	endpoint.ServeHTTP(w, p.Request(isharetest.ProviderID).HTTP("http://provider.example"))
	return w
}
