package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/logtest"
)

// A pipeFixture is an upstream and a proxy before it on a network in memory. The proxy's server has the
// deadlines of one that means to answer short requests.
type pipeFixture struct {
	*guardtest.Issuer
	front  *pipeNet
	client *http.Client
	log    *logtest.Buffer // the proxy's and its server's
}

func newPipeFixture(t *testing.T, http2 bool, upstream http.HandlerFunc) *pipeFixture {
	t.Helper()
	return newPipeFixtureTo(t, http2, transportTo(t, serve(t, &http.Server{Handler: upstream})))
}

func newPipeFixtureTo(t *testing.T, http2 bool, transport http.RoundTripper) *pipeFixture {
	t.Helper()
	h := &pipeFixture{Issuer: guardtest.NewIssuer(t)}
	var log *slog.Logger
	log, h.log = guardtest.NewLog()
	reverse, err := proxy.New(proxy.Config{
		Checker: h, Log: log, Transport: transport, Routes: []proxy.Route{routeTo(t, "/", "http://upstream")},
	})
	guardtest.NoError(t, err)
	server := &http.Server{Handler: reverse, ReadTimeout: 15 * time.Second, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelError)
	server.Protocols = protocols(http2)
	h.front = serve(t, server)
	toProxy := transportTo(t, h.front)
	toProxy.Protocols = protocols(http2)
	h.client = &http.Client{Transport: toProxy}
	return h
}

func protocols(http2 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	return p
}

func (h *pipeFixture) do(t *testing.T, method string, body io.Reader) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://proxy/", body)
	guardtest.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+h.Token(t, "iSHARE"))
	answer, err := h.client.Do(r)
	guardtest.NoError(t, err)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", answer.StatusCode, readAll(t, answer.Body))
	}
	return answer
}

func overBoth(t *testing.T, test func(t *testing.T, http2 bool)) {
	t.Helper()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2 %v", http2), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, http2) })
		})
	}
}

// An answer may last longer than the server's deadlines, and be silent for longer than any
// of them; what the upstream writes arrives when it is written.
func TestLongAnswers(t *testing.T) {
	overBoth(t, func(t *testing.T, http2 bool) {
		h := newPipeFixture(t, http2, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 5 {
				fmt.Fprintf(w, "event %d\n", i)
				http.NewResponseController(w).Flush()
				time.Sleep(5 * time.Minute)
			}
		})
		start := time.Now()
		answer := h.do(t, http.MethodGet, nil)
		defer answer.Body.Close()
		lines := bufio.NewScanner(answer.Body)
		for i := range 5 {
			if !lines.Scan() || lines.Text() != fmt.Sprintf("event %d", i) {
				t.Fatalf("%q, %v", lines.Text(), lines.Err())
			}
			if late := time.Since(start) - time.Duration(i)*5*time.Minute; late != 0 {
				t.Errorf("event %d arrives %v late", i, late)
			}
		}
		if lines.Scan() || lines.Err() != nil {
			t.Errorf("%q, %v", lines.Text(), lines.Err())
		}
	})
}

// A request body may also take its time.
func TestLongRequests(t *testing.T) {
	overBoth(t, func(t *testing.T, http2 bool) {
		h := newPipeFixture(t, http2, func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", b, err)
		})
		body, writer := io.Pipe()
		go func() {
			for range 5 {
				io.WriteString(writer, "part ")
				time.Sleep(2 * time.Minute)
			}
			writer.Close()
		}()
		answer := h.do(t, http.MethodPost, body)
		defer answer.Body.Close()
		if got := readAll(t, answer.Body); got != strings.Repeat("part ", 5)+" <nil>" {
			t.Errorf("%q", got)
		}
	})
}

func TestLongWebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeFixture(t, false, echo)
		conn, err := h.front.dial(t.Context(), "", "")
		guardtest.NoError(t, err)
		defer conn.Close()
		w := openWebSocket(t, conn, h.Token(t, "iSHARE"))
		for range 5 {
			time.Sleep(10 * time.Minute)
			w.wantEcho(t, "\x81\x05hello")
		}
	})
}

// A client that takes nothing is cut off, so that it does not hold the upstream for ever.
func TestClientThatTakesNothing(t *testing.T) {
	overBoth(t, func(t *testing.T, http2 bool) {
		var held time.Duration
		ended := make(chan struct{})
		h := newPipeFixture(t, http2, func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			http.NewResponseController(w).Flush()
			time.Sleep(time.Second) // the proxy has passed the header on, and is at rest
			start := time.Now()
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					break
				}
			}
			held = time.Since(start)
		})
		answer := h.do(t, http.MethodGet, nil)
		defer answer.Body.Close()
		<-ended
		if held != time.Minute {
			t.Errorf("the upstream was held for %v", held)
		}
	})
}

// What a client must take to be sent more.
func TestSlowReaders(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		rate int // in bytes a second
		want int // in bytes, at least
		err  error
	}{
		{1000, size, nil},
		{600, size, nil},
		{300, 0, io.ErrUnexpectedEOF},
	} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newPipeFixture(t, false, func(w http.ResponseWriter, _ *http.Request) {
					http.NewResponseController(w).Flush()
					time.Sleep(time.Second) // the proxy has passed the header on, and is at rest
					w.Write(make([]byte, size))
				})
				answer := h.do(t, http.MethodGet, nil)
				defer answer.Body.Close()
				n, err := io.Copy(io.Discard, slowly{answer.Body, c.rate})
				if int(n) < c.want || !errors.Is(err, c.err) {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		})
	}
}

// slowly reads so many bytes a second.
type slowly struct {
	io.Reader
	rate int
}

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Reader.Read(p[:min(len(p), s.rate)])
}

// A flood is an upstream that switches to a WebSocket, sends as long as it is let, and tells for how
// long that was.
type flood chan time.Duration

func (f flood) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
	start := time.Now()
	for err == nil {
		_, err = conn.Write(make([]byte, 64<<10))
	}
	f <- time.Since(start)
}

// So is the client of a WebSocket, be it after the handshake or already in it; and it is not the
// upstream's fault.
func TestWebSocketClientThatTakesNothing(t *testing.T) {
	for name, begin := range map[string]func(*testing.T, net.Conn, string){
		"after the handshake": func(t *testing.T, conn net.Conn, token string) { openWebSocket(t, conn, token) },
		"in the handshake":    askForWebSocket,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				held := make(flood, 1)
				h := newPipeFixture(t, false, held.ServeHTTP)
				conn, err := h.front.dial(t.Context(), "", "")
				guardtest.NoError(t, err)
				defer conn.Close()
				begin(t, conn, h.Token(t, "iSHARE"))
				select {
				case got := <-held:
					if got != time.Minute {
						t.Errorf("the upstream was held for %v", got)
					}
				case <-time.After(time.Hour):
					t.Error("the upstream is held still")
				}
				synctest.Wait()
				if text := h.log.String(); strings.Contains(text, "out of reach") || strings.Contains(text, "hijacked") {
					t.Errorf("log: %s", text)
				}
			})
		})
	}
}

// An upstream that is slow to take a body does not count against the client, who would send it.
func TestUpstreamThatTakesItsTime(t *testing.T) {
	const size = 16 << 20
	overBoth(t, func(t *testing.T, http2 bool) {
		h := newPipeFixture(t, http2, func(w http.ResponseWriter, r *http.Request) {
			part := make([]byte, size/4)
			n := 0
			var err error
			for range 4 {
				time.Sleep(11 * time.Minute)
				var read int
				read, err = io.ReadFull(r.Body, part)
				n += read
			}
			fmt.Fprint(w, n, err)
		})
		answer := h.do(t, http.MethodPost, bytes.NewReader(make([]byte, size)))
		defer answer.Body.Close()
		if got := readAll(t, answer.Body); got != fmt.Sprint(size, nil) {
			t.Error(got)
		}
	})
}

// An upstream has its time to begin, and then no limit.
func TestSlowUpstream(t *testing.T) {
	for _, c := range []struct {
		takes  time.Duration
		status int
	}{{59 * time.Second, 200}, {61 * time.Second, 504}} {
		synctest.Test(t, func(t *testing.T) {
			h := guardtest.NewIssuer(t)
			behind := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-time.After(c.takes):
				case <-r.Context().Done():
				}
				io.WriteString(w, "answered")
			})})
			transport := transportTo(t, behind)
			transport.ResponseHeaderTimeout = proxy.DefaultAnswerTimeout
			reverse := newProxy(t, nil, proxy.Config{Checker: h, Transport: transport, Routes: []proxy.Route{routeTo(t, "/", "http://upstream")}})
			if w := guardtest.Get(reverse, "/", h.Token(t, "iSHARE")); w.Code != c.status {
				t.Errorf("%v: %d %s", c.takes, w.Code, w.Body)
			}
		})
	}
}

// After a proxied request, the server's deadlines hold again for the next on the connection.
func TestDeadlinesHoldForTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPipeFixture(t, false, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "answered") })
		conn, err := h.front.dial(t.Context(), "", "")
		guardtest.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+h.Token(t, "iSHARE")+"\r\n\r\n")
		guardtest.NoError(t, err)
		reader := bufio.NewReader(conn)
		answer, err := http.ReadResponse(reader, nil)
		guardtest.NoError(t, err)
		readAll(t, answer.Body)
		answer.Body.Close()
		start := time.Now()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n") // and no end
		guardtest.NoError(t, err)
		io.Copy(io.Discard, reader)
		if held := time.Since(start); held > 15*time.Second {
			t.Errorf("the connection was held for %v", held)
		}
	})
}

// A client that begins a body and sends no more does not hold connections for ever: neither when
// the upstream waits for the rest nor when it is gone.
func TestClientThatSendsNoMore(t *testing.T) {
	for _, c := range []struct {
		name      string
		transport func(t *testing.T) http.RoundTripper
		held      time.Duration
		status    string
	}{
		{"upstream waits", func(t *testing.T) http.RoundTripper {
			t.Helper()
			return transportTo(t, serve(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
			})}))
		}, 11 * time.Minute, "400"},
		{"upstream gone", func(*testing.T) http.RoundTripper { return failing{errors.New("gone")} }, time.Minute, "502"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newPipeFixtureTo(t, false, c.transport(t))
				conn, err := h.front.dial(t.Context(), "", "")
				guardtest.NoError(t, err)
				defer conn.Close()
				start := time.Now()
				_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nAuthorization: Bearer "+h.Token(t, "iSHARE")+"\r\n\r\nbeginning")
				guardtest.NoError(t, err)
				got, _ := io.ReadAll(conn)
				if !strings.HasPrefix(string(got), "HTTP/1.1 "+c.status) {
					t.Errorf("%q", got)
				}
				if held := time.Since(start); held > c.held {
					t.Errorf("the connection was held for %v", held)
				}
			})
		})
	}
}

// Over HTTP/1.1 there is a deadline also before and between the reads of the upstream: the server
// itself reads what is left of a body before it answers.
func TestDeadlineBetweenReads(t *testing.T) {
	h := guardtest.NewIssuer(t)
	for major, want := range map[int]bool{1: true, 2: false} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		reverse := newProxy(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			before := !w.deadline.IsZero()
			io.ReadFull(r.Body, make([]byte, 1))
			if between := !w.deadline.IsZero(); before != want || between != want {
				t.Errorf("HTTP/%d: deadline before the first read: %v, after it: %v", major, before, between)
			}
			io.Copy(io.Discard, r.Body)
			if !w.deadline.IsZero() {
				t.Errorf("HTTP/%d: a deadline after the end", major)
			}
		}), proxy.Config{Checker: h, Routes: []proxy.Route{routeTo(t, "/", "http://upstream")}})
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
		r.ProtoMajor = major
		r.Header.Set("Authorization", "Bearer "+h.Token(t, "iSHARE"))
		reverse.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("HTTP/%d: %d", major, w.Code)
		}
	}
}

// timed remembers the deadline for reading.
type timed struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (w *timed) SetReadDeadline(deadline time.Time) error {
	w.deadline = deadline
	return nil
}
