package daemon_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

// A hesitant registry says when it is asked, and answers when it is told to.
type hesitant struct {
	*httptest.Server

	asked   chan struct{}
	ready   chan struct{}
	release func()
}

func newHesitant(t *testing.T) *hesitant {
	t.Helper()
	h := &hesitant{asked: make(chan struct{}, 1), ready: make(chan struct{})}
	h.release = sync.OnceFunc(func() { close(h.ready) })
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case h.asked <- struct{}{}:
		default:
		}
		select {
		case <-h.ready:
		case <-r.Context().Done():
		}
		http.Error(w, "of no use", http.StatusServiceUnavailable)
	}))
	t.Cleanup(h.Close)
	return h
}

// config gives a configuration with the registry.
func (h *hesitant) config(t *testing.T, dir string, environ ...string) *config.Config {
	t.Helper()
	text := strings.Replace(configuration, "file: parties.json", "registry: {id: did:ishare:EU.NL.NTRNL-00000000, url: "+h.URL+"}", 1)
	c, err := config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(text), environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A token request that waits for the registry is answered by what the registry says,
// whatever happens to the server meanwhile.
func TestRequestsUnderWayFinish(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(t *testing.T, s *server, reloaded *config.Config){
		"reload": func(t *testing.T, s *server, reloaded *config.Config) {
			if err := s.Reload(t.Context(), reloaded); err != nil {
				t.Fatal(err)
			}
			s.eventually(t, "the new configuration", func() bool {
				_, _, body := get(t, plain(t), s.url+"/.well-known/oauth-authorization-server")
				return strings.Contains(string(body), "invoices")
			})
		},
		"stop": func(t *testing.T, s *server, _ *config.Config) {
			go s.stop() // what it gives, the end of the test looks at
			s.eventually(t, "draining", func() bool {
				_, r := s.ready(t)
				return !r.Ready
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := newHesitant(t)
			defer registry.release()
			dir := newHome(t)
			s := start(t, daemon.Options{NoHistory: true}, registry.config(t, dir))
			answer := make(chan string, 1)
			go func() {
				r, err := plain(t).Do(players().consumer.Request(providerID).HTTP(s.url))
				if err != nil {
					answer <- err.Error()
					return
				}
				defer r.Body.Close()
				b, _ := io.ReadAll(r.Body)
				answer <- r.Status + " " + string(b)
			}()
			<-registry.asked
			happens(t, s, registry.config(t, dir, "WAYBILL_SCOPES={invoices: read invoices}"))
			select {
			case a := <-answer:
				t.Errorf("answered before the registry: %s", a)
			default:
				registry.release()
				if a := <-answer; !strings.HasPrefix(a, "503 ") || !strings.Contains(a, "unavailable.registry") {
					t.Errorf("answered with %s", a)
				}
			}
			if strings.Contains(s.log.String(), "closed") {
				t.Errorf("the log blames the server:\n%s", s.log)
			}
		})
	}
}

// A stream without end does not keep a server from stopping well.
func TestStopCutsStreamsOff(t *testing.T) {
	t.Parallel()
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(program.Close)
	s := startNewborn(t, "WAYBILL_ROUTES=[{path: /, upstream: '"+program.URL+"'}]", "WAYBILL_LISTEN_DRAIN=100ms")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token(t))
	stream, err := plain(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if err := s.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if told := s.log.records(t, "requests under way were cut off"); len(told) != 1 {
		t.Errorf("the log says %v", told)
	}
}

// A revocation that waits for the registry is not answered by a server that gives up the way to it.
func TestRevocationUnderWayFinishes(t *testing.T) {
	t.Parallel()
	registry := newHesitant(t)
	defer registry.release()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, registry.config(t, dir))
	answered := make(chan int, 1)
	go func() {
		status, _, _ := s.post(t, "/revoke", url.Values{"party_id": {"EU.EORI.NL000000001"}})
		answered <- status
	}()
	<-registry.asked
	if err := s.Reload(t.Context(), registry.config(t, dir)); err != nil {
		t.Fatal(err)
	}
	select {
	case status := <-answered:
		t.Errorf("answered before the registry: status %d", status)
	default:
		registry.release()
		if status := <-answered; status != http.StatusServiceUnavailable {
			t.Errorf("status %d", status)
		}
	}
	if strings.Contains(s.log.String(), "closed") {
		t.Errorf("the log blames the server:\n%s", s.log)
	}
}

// A server that exchanges its configuration or stops keeps no connection to an upstream.
func TestConnectionsToUpstreamsAreGivenUp(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	program := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	program.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	program.Start()
	t.Cleanup(program.Close)
	dir, routes := newHome(t), "WAYBILL_ROUTES=[{path: /, upstream: '"+program.URL+"'}]"
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, routes))
	visit := func() {
		if status, _, _ := get(t, plain(t), s.url+"/x", "Authorization", "Bearer "+s.token(t)); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		if open.Load() != 1 {
			t.Errorf("%d connections", open.Load())
		}
	}
	visit()
	if err := s.Reload(t.Context(), parse(t, dir, routes)); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "no connection after a reload", func() bool { return open.Load() == 0 })
	visit()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "no connection after a stop", func() bool { return open.Load() == 0 })
}
