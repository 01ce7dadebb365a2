package proxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
)

func parseURL(tb testing.TB, text string) *url.URL {
	tb.Helper()
	u, err := url.Parse(text)
	guardtest.NoError(tb, err)
	return u
}

// newProxy makes a proxy whose upstreams are all this handler, unless there is a transport.
func newProxy(tb testing.TB, upstream http.Handler, c proxy.Config) *proxy.Proxy {
	tb.Helper()
	if c.Transport == nil {
		c.Transport = guardtest.HandlerTransport{Handler: upstream}
	}
	p, err := proxy.New(c)
	guardtest.NoError(tb, err)
	return p
}

func routeTo(tb testing.TB, path, upstream string, scope ...string) proxy.Route {
	tb.Helper()
	return proxy.Route{Path: path, Upstream: parseURL(tb, upstream), Scope: scope}
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
	guardtest.NoError(tb, err)
	return string(b)
}
