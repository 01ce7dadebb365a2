package console

import (
	"bytes"
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

// Whatever data holds, it is data: a carriage return would begin a field.
func TestEventIsData(t *testing.T) {
	var b bytes.Buffer
	event(&b, "decision", "7", []byte("one\revent: space\ntwo\r\n\n"))
	if got, want := b.String(), "event: decision\nid: 7\ndata: one event: space\ndata: two \ndata: \n\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A page that reads stays for as long as it likes. One that reads nothing is cut off, and its place becomes free.
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
		reading := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, client)
			reading <- err
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(c.streams) != 1 {
			t.Fatalf("%d streams", len(c.streams))
		}
		if err := client.SetReadDeadline(time.Now()); err != nil { // and reads no more
			t.Fatal(err)
		}
		<-reading
		time.Sleep(eventIdle + eventPatience + time.Second)
		synctest.Wait()
		if len(c.streams) != 0 {
			t.Error("the stream goes on")
		}
		client.Close()
		server.Close()
	})
}
