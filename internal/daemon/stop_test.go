package daemon_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/isharetest"
)

// In its lame-duck time a server says that it is not ready, takes requests, and has clients
// leave. A cut ends it.
func TestLameDuck(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{"plain": nil, "HTTP/2": append([]string{"WAYBILL_LISTEN_HTTP2=true"}, withTLS...)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newHome(t)
			pool := writeCertificate(t, dir)
			s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, append(environ, "WAYBILL_LISTEN_SHUTDOWN_DELAY=5m")...))
			ended := make(chan error, 1)
			t.Cleanup(func() { s.Cut() }) // whatever fails
			stop := s.stop
			s.stop = func() error { return nil } // what Run returns is looked at here
			go func() { ended <- stop() }()
			s.eventually(t, "not ready", func() bool {
				status, r := s.ready(t)
				return status == http.StatusServiceUnavailable && !r.Ready
			})
			for range 2 {
				answer, err := secure(t, pool).Do(players().consumer.Request(providerID).HTTP(s.url))
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				if answer.StatusCode != http.StatusOK || answer.ProtoMajor == 1 && !answer.Close {
					t.Errorf("%s: closes: %t", answer.Status, answer.Close)
				}
			}
			s.Cut()
			if err := <-ended; !errors.Is(err, daemon.ErrCut) {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// HTTP/2 is spoken where the configuration says so, and nowhere else.
func TestHTTP2IsOff(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	pool := writeCertificate(t, dir)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, withTLS...))
	answer, err := secure(t, pool).Do(players().consumer.Request(providerID).HTTP(s.url))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.Proto != "HTTP/1.1" || answer.StatusCode != http.StatusOK {
		t.Errorf("%s, status %d", answer.Proto, answer.StatusCode)
	}
	if _, err := tls.Dial("tcp", s.PublicAddr().String(), &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}}); err == nil {
		t.Error("HTTP/2 alone is agreed to")
	}
}

// A framer speaks HTTP/2 frame by frame.
type framer struct {
	*http2.Framer

	next uint32
}

func newFramer(t *testing.T, s *server, config *tls.Config) *framer {
	t.Helper()
	conn := dial(t, s.PublicAddr())
	secure := tls.Client(conn, config)
	if _, err := io.WriteString(secure, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := &framer{http2.NewFramer(secure, secure), 1}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// begin sends the header of a request.
func (f *framer) begin(method, path string, ends bool) (uint32, error) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: method},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "provider.example"},
		{Name: ":path", Value: path},
		{Name: "content-type", Value: isharetest.MediaType},
	} {
		if err := encoder.WriteField(field); err != nil {
			return 0, err
		}
	}
	id := f.next
	f.next += 2
	return id, f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: ends})
}

// reset begins a token request and takes it back.
func (f *framer) reset() error {
	id, err := f.begin(http.MethodPost, "/connect/token", false)
	if err != nil {
		return err
	}
	return f.WriteRSTStream(id, http2.ErrCodeCancel)
}

// await reads until a stream has ended.
func (f *framer) await(id uint32) error {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return err
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok {
			return fmt.Errorf("%v", away)
		}
		if frame.Header().StreamID == id && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			return nil
		}
	}
}

// A client that begins requests to take them back loses its connection, and the log stays small.
// One that also waits for answers keeps it.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	config := &tls.Config{RootCAs: writeCertificate(t, dir), NextProtos: []string{"h2"}, ServerName: "127.0.0.1"}
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, slices.Concat(withTLS, []string{"WAYBILL_LISTEN_HTTP2=true"})...))

	t.Run("many resets", func(t *testing.T) {
		f := newFramer(t, s, config)
		gone := make(chan error, 1)
		go func() { gone <- f.await(0x7fffffff) }() // a stream that does not come
		const most = 100_000
		resets := 0
		for resets < most && f.reset() == nil {
			resets++
		}
		if err := <-gone; resets == most {
			t.Errorf("all resets were taken: %v", err)
		}
		if lines := strings.Count(s.log.String(), `"msg":"token request"`); lines > 500 {
			t.Errorf("%d lines in the log", lines)
		}
	})
	t.Run("as many answers", func(t *testing.T) {
		f := newFramer(t, s, config)
		for range 200 {
			if err := f.reset(); err != nil {
				t.Fatal(err)
			}
			id, err := f.begin(http.MethodGet, "/openapi.json", true)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.WriteWindowUpdate(0, 1<<20); err != nil {
				t.Fatal(err)
			}
			if err := f.await(id); err != nil {
				t.Fatal(err)
			}
		}
	})
	answer, err := secure(t, config.RootCAs).Do(players().consumer.Request(providerID).HTTP(s.url))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("status %d", answer.StatusCode)
	}
}
