package bench_test

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/bench"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/registry"
)

// An endpoint is a server that writes down which assertions it gets.
type endpoint struct {
	*bench.Target

	mu         sync.Mutex
	assertions map[string]bool
	requests   int
}

func newEndpoint(t *testing.T, name string) *endpoint {
	t.Helper()
	return endpointOf(t, name, (*httptest.Server).Start)
}

func endpointOf(t *testing.T, name string, start func(*httptest.Server)) *endpoint {
	t.Helper()
	e := &endpoint{assertions: make(map[string]bool)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Method != http.MethodPost || r.URL.Path != ishare.TokenPath || r.FormValue("grant_type") != "client_credentials" {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.requests++
		e.assertions[r.PostForm.Get("client_assertion")] = true
		_, _ = w.Write([]byte("{}"))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(server)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + ishare.TokenPath)
	if err != nil {
		t.Fatal(err)
	}
	party := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000001", "Client")
	e.Target = &bench.Target{
		Name: name, URL: u, Addresses: []netip.AddrPort{netip.MustParseAddrPort(u.Host)},
		Audience: "did:ishare:EU.NL.NTRNL-10000000", Scope: ishare.Scope{ishare.ScopeISHARE},
		Client: func(int) (*assertion.Maker, error) { return party.Maker(), nil },
	}
	return e
}

// got is how many requests came, with how many different assertions.
func (e *endpoint) got() (requests, assertions int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests, len(e.assertions)
}

// Every request is a new one, servers take turns, and what warms them up is not counted.
func TestRun(t *testing.T) {
	t.Parallel()
	a, b := newEndpoint(t, "a"), newEndpoint(t, "b")
	var mu sync.Mutex
	var windows []string
	signed := make(map[int]int)
	sign := a.Client
	a.Known, a.Client = sign, func(i int) (*assertion.Maker, error) {
		mu.Lock()
		defer mu.Unlock()
		signed[i]++
		return sign(i)
	}
	results, err := bench.Run(t.Context(), bench.Config{
		Targets: []*bench.Target{a.Target, b.Target}, Connections: 2, Requests: 50, Rounds: 3,
		Progress: func(doing string, done, _ int) {
			mu.Lock()
			defer mu.Unlock()
			if name, ok := strings.CutPrefix(doing, "measuring "); ok && done == 0 {
				windows = append(windows, name)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range []*endpoint{a, b} {
		var counts []int64
		for _, r := range results[i].Windows {
			counts = append(counts, r.Latency.Count())
			if !good(r) || r.CPU != 0 {
				t.Errorf("%s: %+v, CPU %v", e.Name, r.Statuses, r.CPU)
			}
		}
		if diff := cmp.Diff([]int64{17, 17, 16}, counts); diff != "" {
			t.Errorf("%s: windows (-want +got):\n%s", e.Name, diff)
		}
		if requests, assertions := e.got(); requests != 2*20+50 || assertions != requests {
			t.Errorf("%s has got %d requests with %d assertions", e.Name, requests, assertions)
		}
	}
	for i := range 50 {
		if signed[i] != 1 || len(signed) != 50 {
			t.Errorf("request %d of %d was signed %d times", i, len(signed), signed[i])
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "a", "b", "b", "a", "a", "b"}, windows); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestRunForATime(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, "e")
	for _, rate := range []float64{0, 100} {
		before, _ := e.got()
		results, err := bench.Run(t.Context(), bench.Config{
			Targets: []*bench.Target{e.Target}, Connections: 2, Rate: rate, Duration: 200 * time.Millisecond, Rounds: 2,
			Progress: func(string, int, int) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		var elapsed time.Duration
		var count int64
		for _, r := range results[0].Windows {
			elapsed += r.Elapsed
			count += r.Latency.Count()
		}
		after, _ := e.got()
		// On a busy machine a window takes some of the time of the next.
		if elapsed < 200*time.Millisecond || rate > 0 && count > 30 || int64(after-before) != count+40 {
			t.Errorf("rate %v: %d requests of %d in %v, in %d windows", rate, count, after-before, elapsed, len(results[0].Windows))
		}
	}
}

// A server with a certificate that nobody vouches for gets nothing.
func TestRunSecured(t *testing.T) {
	t.Parallel()
	roots := x509.NewCertPool()
	e := endpointOf(t, "e", func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
		roots.AddCert(s.Certificate())
	})
	run := func() ([]*bench.Measurement, error) {
		return bench.Run(t.Context(), bench.Config{
			Targets: []*bench.Target{e.Target}, Connections: 1, Requests: 3, Rounds: 1, Progress: func(string, int, int) {},
		})
	}
	var unknown x509.UnknownAuthorityError
	if _, err := run(); !errors.As(err, &unknown) {
		t.Errorf("unknown authority: %v", err)
	}
	e.TLS = &tls.Config{RootCAs: roots}
	if measured, err := run(); err != nil || !good(measured[0].Windows[0]) {
		t.Errorf("known authority: %v", err)
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	gone := errors.New("the key is gone")
	e := newEndpoint(t, "e")
	run := func() error {
		_, err := bench.Run(t.Context(), bench.Config{
			Targets: []*bench.Target{e.Target}, Connections: 1, Requests: 1, Rounds: 1, Progress: func(string, int, int) {},
		})
		return err
	}
	e.Known = func(int) (*assertion.Maker, error) { return nil, gone }
	if err := run(); !errors.Is(err, gone) {
		t.Errorf("no signature: %v", err)
	}
	e.Known = nil
	e.Addresses = nil
	if err := run(); err == nil {
		t.Error("no address: no error")
	}
}

// certificates are those of the requests, as an assertion carries them.
func certificates(t *testing.T, client func(int) (*assertion.Maker, error), n int) [][]*x509.Certificate {
	t.Helper()
	var chains [][]*x509.Certificate
	for i := range n {
		maker, err := client(i)
		if err != nil {
			t.Fatal(err)
		}
		for j, c := range maker.Certificates[:3] {
			if err := c.CheckSignatureFrom(maker.Certificates[j+1]); err != nil {
				t.Errorf("certificate %d of request %d: %v", j, i, err)
			}
		}
		if key, ok := maker.Certificates[1].PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 4096 {
			t.Errorf("the issuing CA of request %d has no key of 4096 bits", i)
		}
		chains = append(chains, maker.Certificates)
	}
	return chains
}

func TestPopulation(t *testing.T) {
	t.Parallel()
	for chains, wantDistinct := range map[bench.Chains][4]int{ // by their place in the chain
		bench.Warm:     {3, 1, 1, 1},
		bench.ColdLeaf: {6, 1, 1, 1},
		bench.Cold:     {6, 6, 6, 1},
	} {
		clients := 6
		if chains == bench.Warm {
			clients = 3
		}
		p, err := bench.NewPopulation(t.Context(), clients, chains, func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		var distinct [4]int
		seen := make(map[string]bool)
		for _, chain := range certificates(t, p.Client, 6) {
			for j, c := range chain {
				if !seen[string(c.Raw)] {
					distinct[j]++
				}
				seen[string(c.Raw)] = true
			}
		}
		if distinct != wantDistinct {
			t.Errorf("%s: %v distinct certificates, want %v", chains, distinct, wantDistinct)
		}
		known := certificates(t, p.Known, 1)[0]
		for j, c := range known {
			if wantSeen := chains == bench.Warm || wantDistinct[j] == 1; seen[string(c.Raw)] != wantSeen {
				t.Errorf("%s: certificate %d of the known client was used: %v", chains, j, !wantSeen)
			}
		}
	}
}

// The file of as many clients as there can be is one that a server reads.
func TestPartyRecordsFit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := bench.NewPopulation(t.Context(), 4, bench.Warm, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(dir); err != nil {
		t.Fatal(err)
	}
	file, err := registry.OpenFile(dir+"/parties.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	record, err := file.Party(t.Context(), "did:ishare:EU.NL.NTRNL-10000004")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(record)
	if err != nil || len(text)*(bench.MaxClients+1) > registry.MaxFileSize {
		t.Errorf("a record takes %d bytes: %v", len(text), err)
	}
}

// The floor takes what its key has signed, and nothing else.
func TestFloor(t *testing.T) {
	t.Parallel()
	key, err := testca.PooledKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	party := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000001", "Client")
	good, err := x509.MarshalPKIXPublicKey(party.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  []byte
		want int
	}{{good, http.StatusOK}, {der, http.StatusBadRequest}} {
		log := make(lines, 1)
		go func() {
			if err := bench.ServeFloor(t.Context(), base64.StdEncoding.EncodeToString(c.key), log); err != nil {
				t.Error(err)
			}
		}()
		var event struct{ Public string }
		if err := json.Unmarshal([]byte(<-log), &event, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
		answer, err := http.PostForm("http://"+event.Public+ishare.TokenPath, url.Values{"client_assertion": {party.Assertion("did:ishare:EU.NL.NTRNL-10000000")}})
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != c.want {
			t.Errorf("status %d, want %d", answer.StatusCode, c.want)
		}
	}
	if err := bench.ServeFloor(t.Context(), "no key", make(lines, 1)); err == nil {
		t.Error("a floor without a key serves")
	}
}

// lines are what is written, one by one.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
