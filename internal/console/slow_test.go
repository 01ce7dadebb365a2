package console

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/sandbox"
)

// A single is a listener on which one connection comes.
type single struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *single) Close() error {
	close(s.closed)
	return nil
}

func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

// A page that reads nothing is cut off, and its place becomes free.
func TestSlowReaderIsCutOff(t *testing.T) {
	s, err := sandbox.Open(t.Context(), sandbox.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ended); err != nil { // which gives everything back
			t.Error(err)
		}
	}()
	c, err := newConsole(Config{Sandbox: s})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c.streams = make(chan struct{}, maxStreams) // of this bubble
		client, conn := net.Pipe()                  // in which nothing is written before it is read
		l := &single{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		l.conns <- conn
		server := &http.Server{Handler: http.HandlerFunc(c.serveEvents), ReadTimeout: time.Second, WriteTimeout: time.Second}
		go func() { _ = server.Serve(l) }()
		if _, err := io.WriteString(client, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(c.streams) != 1 {
			t.Fatalf("%d streams", len(c.streams))
		}
		time.Sleep(eventPatience + time.Second)
		synctest.Wait()
		if len(c.streams) != 0 {
			t.Error("the stream goes on")
		}
		client.Close()
		server.Close()
	})
}
