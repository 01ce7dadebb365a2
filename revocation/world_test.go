package revocation

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

const answerLife = time.Hour

// A pki is a test CA with its status service, and whatever stands before that.
type pki struct {
	t       testing.TB
	ca      *testca.CA
	service *testca.StatusService
	anchors trust.Anchors
	list    string // address of the issuing CA's

	mu    sync.Mutex
	front func(http.Handler) http.Handler // stands before the service, or nil
	calls map[string]int                  // to the service's front, by method
	keys  int                             // that key has given

	log records
}

// testKeys are shared by all tests, because they take longest to make: those of the CAs, that of all seals, and some of
// others.
var testKeys = sync.OnceValues(func() (keys [7]*rsa.PrivateKey, err error) {
	for i := range keys {
		var problem error
		keys[i], problem = testca.PooledKey(testca.DefaultKeyBits)
		err = errors.Join(err, problem)
	}
	return keys, err
})

const (
	sealKey   = 3 // after those of the CAs
	otherKeys = 4 // from here on
)

// All CAs of one configuration are the same in bubbles, where they are made at the same time.
var (
	testCAs    sync.Map // from a testCA to its *testca.CA
	testChains sync.Map // from a *testca.CA to a []*trust.Chain below its issuing CA
)

type testCA struct {
	ocsp, crl string
	made      time.Time
}

// newCA makes a CA, or returns one that was made like it.
func newCA(tb testing.TB, config testca.Config) *testca.CA {
	tb.Helper()
	name := testCA{config.OCSPURL, config.CRLURL, time.Now()}
	if ca, ok := testCAs.Load(name); ok {
		return ca.(*testca.CA) //nolint:forcetypeassert // there is nothing else
	}
	keys, err := testKeys()
	next := 0
	config.NewKey = func(int) (*rsa.PrivateKey, error) {
		next++
		return keys[next-1], err
	}
	ca, err := testca.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	testCAs.Store(name, ca)
	return ca
}

// newPKI makes a CA whose certificates name addresses below base. configure has
// the last word on that, and may be nil.
func newPKI(tb testing.TB, base string, configure func(*testca.Config)) *pki {
	tb.Helper()
	p := &pki{t: tb, list: base + "/issuing.crl", calls: map[string]int{}}
	config := testca.Config{OCSPURL: base + "/ocsp", CRLURL: base}
	if configure != nil {
		configure(&config)
	}
	p.ca = newCA(tb, config)
	p.service = testca.NewStatusService(p.ca, answerLife)
	p.anchors = trust.Anchors{trust.FingerprintOf(p.ca.Authority(testca.Root).Certificate()): "test root"}
	return p
}

// servedPKI is one that answers on a socket of this machine.
func servedPKI(t *testing.T, configure func(*testca.Config)) *pki {
	t.Helper()
	var p atomic.Pointer[pki]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Load().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	made := newPKI(t, server.URL, configure)
	p.Store(made)
	return made
}

func (p *pki) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls[r.Method]++
	var handler http.Handler = p.service
	if p.front != nil {
		handler = p.front(handler)
	}
	p.mu.Unlock()
	handler.ServeHTTP(w, r)
}

// behind puts something before the service. POST is OCSP, GET is lists.
func (p *pki) behind(front func(http.Handler) http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.front = front
}

// without has the service answer 500 to one method.
func (p *pki) without(method string) {
	p.behind(func(service http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == method {
				http.Error(w, "out of order", http.StatusInternalServerError)
				return
			}
			service.ServeHTTP(w, r)
		})
	})
}

func (p *pki) asked(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[method]
}

// seal issues a seal. change has the last word on its certificate, and may be nil.
func (p *pki) seal(change func(*x509.Certificate)) *testca.Identity {
	p.t.Helper()
	keys, err := testKeys()
	if err != nil {
		p.t.Fatal(err)
	}
	id, err := p.ca.Seal(testca.SealRequest{Organization: "Consumer", Identifier: "NTRNL-10000001", Key: keys[sealKey], Template: change})
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

// chain is the trusted chain of a new seal.
func (p *pki) chain() *trust.Chain { return p.chainOf(p.seal(nil)) }

// chains are those of different seals, for tests with many clients.
func (p *pki) chains(n int) []*trust.Chain {
	p.t.Helper()
	p.pinned()
	known, _ := testChains.Load(p.ca)
	chains, _ := known.([]*trust.Chain)
	for len(chains) < n {
		chains = append(chains, p.chain())
	}
	testChains.Store(p.ca, chains)
	return chains[:n]
}

func (p *pki) chainOf(id *testca.Identity) *trust.Chain {
	p.t.Helper()
	validator, err := trust.New(p.anchors)
	if err != nil {
		p.t.Fatal(err)
	}
	chain, err := validator.Validate(id.Chain, time.Now(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return chain
}

// pinned trusts the issuing CA itself, so that only the leaf is asked about.
func (p *pki) pinned() *pki {
	p.anchors = trust.Anchors{trust.FingerprintOf(p.issuer()): "test issuer"}
	return p
}

func (p *pki) issuer() *x509.Certificate { return p.ca.Authority(testca.Issuing).Certificate() }

// revocation is closed with the test.
func (p *pki) revocation(mode Mode) *Checker {
	p.t.Helper()
	r, err := New(Config{Mode: mode, AllowPrivate: true, Log: slog.New(&p.log)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(r.Close)
	return r
}

// RoundTrip makes the PKI a network of its own, for tests in which time passes as
// they say.
func (p *pki) RoundTrip(request *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	p.ServeHTTP(recorder, request)
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	return recorder.Result(), nil
}

// inMemory is a Checker that can reach nothing but the PKI.
func (p *pki) inMemory(mode Mode) *Checker {
	p.t.Helper()
	r := p.revocation(mode)
	r.fetcher.Client.Transport = p
	return r
}

// signed makes a certificate from a template, by a CA of the PKI.
func (p *pki) signed(by testca.Level, template *x509.Certificate) *testca.Identity {
	p.t.Helper()
	id, err := p.ca.Authority(by).Issue(template, p.key())
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

// key is one that no CA has, and another one than the last time.
func (p *pki) key() *rsa.PrivateKey {
	p.t.Helper()
	keys, err := testKeys()
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys++
	others := keys[otherKeys:]
	return others[p.keys%len(others)]
}

// records is a log that tests can read.
type records struct {
	mu       sync.Mutex
	messages []string
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }

func (r *records) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, record.Level.String()+" "+record.Message)
	return nil
}

func (r *records) count(message string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, m := range r.messages {
		if strings.Contains(m, message) {
			n++
		}
	}
	return n
}

func mustPass(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("Check = %v, want no error", err)
	}
}

// mustBeRevoked expects a rejection whose sentence holds the text.
func mustBeRevoked(tb testing.TB, err error, text string) {
	tb.Helper()
	rejection, ok := errors.AsType[*rule.Rejection](err)
	if !ok || rejection.Rule != rule.CertificateRevoked {
		tb.Fatalf("Check = %v, want a rejection by certificate.revoked", err)
	}
	if !strings.Contains(rejection.Sentence, text) {
		tb.Errorf("the sentence is %q, want %q in it", rejection.Sentence, text)
	}
}

// mustBeUnavailable expects an outage whose cause holds the text.
func mustBeUnavailable(tb testing.TB, err error, text string) {
	tb.Helper()
	outage, ok := errors.AsType[*rule.Outage](err)
	if !ok || outage.Rule != rule.UnavailableRevocation {
		tb.Fatalf("Check = %v, want an outage of unavailable.revocation", err)
	}
	if outage.RetryAfter < time.Second || outage.RetryAfter > time.Minute {
		tb.Errorf("RetryAfter is %s", outage.RetryAfter)
	}
	if !strings.Contains(outage.Cause.Error(), text) {
		tb.Errorf("the cause is %q, want %q in it", outage.Cause, text)
	}
}
