package hostile

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/sandbox"
)

// freshness is for how long the servers of the data space may be believed: longer than any outage here, so that no
// known client is refused because an answer about it has ended.
const freshness = 10 * time.Minute

// A world is what processes must know of the data space.
type world struct {
	Dir      string // of the sandbox
	Audience ishare.PartyID
	Consumer seal
	Registry sandbox.Address
	Seals    map[string]seal
}

// A seal is a participant with its files.
type seal struct {
	ID    ishare.PartyID
	Key   string
	Chain string
}

// party reads the files.
func (s seal) party() *isharetest.Party {
	id := must(testca.LoadIdentity(s.Key, s.Chain))
	return partyOf(s.ID, id)
}

// A space is the data space of the tests: a sandbox whose switches they turn. Its own provider has nothing to do.
type space struct {
	world

	*sandbox.Sandbox
}

// newSpace opens a data space until the test ends.
func newSpace(t *testing.T) *space {
	t.Helper()
	if cores := others(); cores != "" { // and not where the server is
		exec.Command("taskset", "-a", "-cp", cores, strconv.Itoa(os.Getpid())).Run()
	}
	s, err := sandbox.Open(t.Context(), sandbox.Config{
		Dir: filepath.Join(t.TempDir(), "sandbox"), Listen: "127.0.0.1:0", CAKeyBits: 2048, Freshness: freshness,
		Log: slog.New(slog.DiscardHandler), Progress: func(string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w := world{Dir: filepath.Dir(filepath.Dir(s.Provider.KeyFile)), Audience: s.Provider.ID, Registry: s.State().Registry, Seals: map[string]seal{}}
	for _, p := range s.Everybody {
		w.Seals[p.Folder] = seal{ID: p.ID, Key: p.KeyFile, Chain: p.ChainFile}
	}
	w.Consumer = w.Seals[s.Consumer.Folder]
	return &space{world: w, Sandbox: s}
}

// turn turns a switch.
func (s *space) turn(t *testing.T, name, value string) {
	t.Helper()
	if err := s.Set(name, value); err != nil {
		t.Fatal(err)
	}
}

// Ways in which a front can fail.
const (
	normal  = "normal"
	refused = "refused" // nobody listens
	hanging = "hanging" // no answer, for as long as the caller waits
	garbage = "garbage" // an answer that is none
	failing = "status 500"
)

// A front stands before the registry, counts what comes, and fails as it is told.
type front struct {
	address string
	proxy   http.Handler
	asked   atomic.Int64 // requests
	now     atomic.Int64 // requests under way
	most    atomic.Int64 // requests under way at once
	open    atomic.Int64 // connections

	mu       sync.Mutex
	mode     string
	listener net.Listener
	release  chan struct{} // closed when the front no longer hangs
}

// newFront stands before a registry until the test ends.
func newFront(t *testing.T, registry string) *front {
	t.Helper()
	f := &front{address: "127.0.0.1:0", mode: normal, release: make(chan struct{})}
	target := must(url.Parse(registry))
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	f.proxy = proxy
	f.listen(t)
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.listener.Close()
	})
	return f
}

func (f *front) url() string { return "http://" + f.address }

func (f *front) listen(t *testing.T) {
	t.Helper()
	f.listener = must(net.Listen("tcp", f.address))
	f.address = f.listener.Addr().String()
	server := &http.Server{Handler: f, ConnState: func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			f.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			f.open.Add(-1)
		default:
		}
	}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	listener := f.listener
	go func() {
		server.Serve(listener)
		server.Close() // a process that is gone has no connections either
	}()
}

// turn has the front fail, or answer again.
func (f *front) turn(t *testing.T, mode string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case mode == refused:
		f.listener.Close()
	case f.mode == refused:
		f.listen(t)
	case f.mode == hanging:
		close(f.release)
		f.release = make(chan struct{})
	}
	f.mode = mode
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	now := f.now.Add(1)
	defer f.now.Add(-1)
	f.mu.Lock()
	f.most.Store(max(f.most.Load(), now))
	mode, release := f.mode, f.release
	f.mu.Unlock()
	switch mode {
	case hanging:
		io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20)) // whose end is noticed then
		select {
		case <-release:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case garbage:
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token": 1, "party_token": [`)
	case failing:
		http.Error(w, "told to fail", http.StatusInternalServerError)
	default:
		f.proxy.ServeHTTP(w, r)
	}
}

// freePort is an address that nobody had a moment ago.
func freePort() string {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

// configuration is that of a server which asks a registry. Its leeway is short because tests wait for it.
func configuration(w world, c serverConfig, public, inner string) string {
	return fmt.Sprintf(`
party: {id: %q, key: %q, certificates: %q}
listen: {public: %q, internal: %q%s}
participants:
  registry: {id: %q, url: %q}
  cache: %s
  max_stale: 1h
trust: {anchors: [%q], trusted_list: true, refresh: 2s, revocation: require, revocation_allow_private: true}
data: data
policy: {leeway: 1s}
`, w.Audience, w.Seals["provider"].Key, w.Seals["provider"].Chain, public, inner, c.listen,
		w.Registry.ID, c.registry, cmp.Or(c.cache, 5*time.Minute), filepath.Join(w.Dir, "ca", "root.pem"))
}

// partyOf is a party that asks with an identity.
func partyOf(id ishare.PartyID, identity *testca.Identity) *isharetest.Party {
	p := &isharetest.Party{Record: &ishare.Party{ID: id}, Certificates: identity.Chain}
	p.Key, _ = identity.Key.(rsaKey)
	return p
}
