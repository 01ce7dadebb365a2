package guard_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/ishare"
)

const (
	provider = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")
	consumer = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000001")
	alias    = ishare.PartyID("EU.EORI.NL000000001")
)

var certificate = strings.Repeat("ab", 32)

var quiet = slog.New(slog.DiscardHandler)

// A house has tokens of its own, and forgets revocations when it ends.
type house struct {
	*accesstoken.Issuer
	revocations *accesstoken.MemoryTokenRevocations
}

func newHouse(tb testing.TB) *house {
	tb.Helper()
	keys, err := accesstoken.OpenKeys(tb.TempDir(), quiet)
	check(tb, err)
	revocations, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{})
	check(tb, err)
	issuer, err := accesstoken.New(accesstoken.Config{Party: provider, Lifetime: time.Hour, Keys: keys, Revoked: revocations})
	check(tb, err)
	return &house{issuer, revocations}
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// token issues one to the consumer.
func (h *house) token(tb testing.TB, scope ...string) string {
	tb.Helper()
	token, _, err := h.Issue(tb.Context(), accesstoken.Claims{Party: consumer, Client: alias, Scope: scope, Thumbprint: certificate})
	check(tb, err)
	return token
}

// handlerTransport answers requests by a handler, without a network.
type handlerTransport struct{ http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	served := r.Clone(r.Context())
	served.RequestURI = r.URL.RequestURI()
	if served.Body == nil {
		served.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, served)
	answer := w.Result()
	answer.Request = r
	return answer, nil
}

func parseURL(tb testing.TB, text string) *url.URL {
	tb.Helper()
	u, err := url.Parse(text)
	check(tb, err)
	return u
}

// newProxy makes a proxy whose upstreams are all this handler, unless there is a transport.
func newProxy(tb testing.TB, upstream http.Handler, c proxy.Config) *proxy.Proxy {
	tb.Helper()
	if c.Transport == nil {
		c.Transport = handlerTransport{upstream}
	}
	if c.Log == nil {
		c.Log = quiet
	}
	p, err := proxy.New(c)
	check(tb, err)
	return p
}

func routeTo(tb testing.TB, path, upstream string, scope ...string) proxy.Route {
	tb.Helper()
	return proxy.Route{Path: path, Upstream: parseURL(tb, upstream), Scope: scope}
}

// get asks a handler, with the token if it is not empty.
func get(h http.Handler, target, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A pipeNet is a network in memory, on which time can be that of a testing/synctest bubble.
type pipeNet struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeNet() *pipeNet {
	return &pipeNet{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeNet) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipeNet) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipeNet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve runs a server on a network in memory until the test ends.
func serve(t *testing.T, s *http.Server) *pipeNet {
	t.Helper()
	p := newPipeNet()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Serve(p)
	}()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return p
}

// transportTo reaches a server on a network in memory.
func transportTo(t *testing.T, p *pipeNet) *http.Transport {
	t.Helper()
	transport := &http.Transport{DialContext: p.dial}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func readAll(tb testing.TB, r io.Reader) string {
	tb.Helper()
	b, err := io.ReadAll(r)
	check(tb, err)
	return string(b)
}

func newLog() (*slog.Logger, *logtest.Buffer) {
	t := &logtest.Buffer{}
	return slog.New(slog.NewJSONHandler(t, &slog.HandlerOptions{Level: slog.LevelDebug})), t
}
