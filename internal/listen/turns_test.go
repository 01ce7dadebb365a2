package listen

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const several = 500

// turns has a goroutine that is always ready to run beside do, on one processor, and tells how often it ran.
func turns(do func()) (n int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var over atomic.Bool
	go func() {
		do()
		over.Store(true)
	}()
	for ; !over.Load(); n++ {
		runtime.Gosched()
	}
	return n
}

// Who sends requests without waiting for answers has the processor for one of them at a time.
func TestPipelinedRequestsTakeTurns(t *testing.T) {
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := New(inner, Config{Name: "listen.public", Limit: 10, Idle: time.Minute, Handshake: time.Minute, Log: slog.New(slog.DiscardHandler)})
	begin, done := make(chan struct{}), make(chan struct{})
	answered := 0 // on one connection
	server := &http.Server{
		ReadHeaderTimeout: time.Minute, ConnState: l.ConnState, ConnContext: l.ConnContext,
		Handler: Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			answered++
			switch answered {
			case 1:
				<-begin
			case several:
				close(done)
			}
		})),
	}
	go server.Serve(l)
	defer server.Close()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", several)); err != nil {
		t.Fatal(err)
	}
	if n := turns(func() { close(begin); <-done }); n < several/2 {
		t.Errorf("while %d requests are answered, another goroutine runs %d times", several, n)
	}
}

// A source has a byte at once whenever it is asked for one.
type source struct{ net.Conn }

func (source) Read([]byte) (int, error) { return 1, nil }

// Frames of HTTP/2 need not come to a handler.
func TestReadsOfHTTP2TakeTurns(t *testing.T) {
	c := &conn{Conn: source{}, listener: New(nil, Config{})}
	c.http2.Store(true)
	n := turns(func() {
		for range several {
			_, _ = c.Read(make([]byte, 1))
		}
	})
	if n < several/2 {
		t.Errorf("while there are %d reads, another goroutine runs %d times", several, n)
	}
}

// A request that the client has taken back may be over for the server: nothing would end what it keeps then.
func TestMarkOfARequestThatIsTakenBack(t *testing.T) {
	c := &conn{listener: New(nil, Config{})}
	ctx, takeBack := context.WithCancel(context.WithValue(t.Context(), connKey{}, c))
	takeBack()
	MarkAuthenticated(ctx)
	if c.protected || c.authenticated {
		t.Errorf("protected %t, authenticated %t", c.protected, c.authenticated)
	}
}
