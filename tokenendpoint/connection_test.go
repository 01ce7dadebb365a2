package tokenendpoint_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/tokenendpoint"
)

// A client that has got a token keeps its connection when those who come and go take all there are.
func TestAClientWithATokenKeepsItsConnection(t *testing.T) {
	e := newEndpoint(t)
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	l := listen.New(inner, listen.Config{Name: "listen.public", Limit: 2, Idle: time.Minute, Handshake: time.Minute, Log: slog.New(slog.DiscardHandler)})
	server := &http.Server{Handler: listen.Handler(e), ReadHeaderTimeout: time.Minute, ConnState: l.ConnState, ConnContext: l.ConnContext}
	go server.Serve(l)
	defer server.Close()
	dial := func() net.Conn {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", inner.Addr().String())
		check(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ask := func(c net.Conn, body string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://provider.example"+tokenendpoint.Path, strings.NewReader(body))
		check(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		check(t, r.Write(c))
		answer, err := http.ReadResponse(bufio.NewReader(c), r)
		check(t, err)
		_, err = io.Copy(io.Discard, answer.Body)
		check(t, err)
		check(t, answer.Body.Close())
		return answer.StatusCode
	}
	known := dial()
	if status := ask(known, e.form(e.client.Assertion(provider)).Encode()); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	stranger := dial()
	if status := ask(stranger, "junk"); status != http.StatusBadRequest {
		t.Fatalf("status %d", status)
	}
	dial() // which takes the place of the one that is waited for longest
	if n, err := stranger.Read(make([]byte, 1)); err == nil {
		t.Errorf("the stranger reads %d bytes", n)
	}
	if status := ask(known, e.form(e.client.Assertion(provider)).Encode()); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
}
