package listen_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/logtest"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
)

// A network is a listener within a test, whose clock is the test's.
type network struct {
	incoming chan any // of net.Conn or error
	once     sync.Once
	closed   chan struct{}
}

func newNetwork() *network {
	return &network{incoming: make(chan any, 1), closed: make(chan struct{})}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case x := <-n.incoming:
		if err, ok := x.(error); ok {
			return nil, err
		}
		return x.(net.Conn), nil //nolint:forcetypeassert // there is nothing else
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// A world is a server in a bubble of [synctest].
type world struct {
	t        *testing.T
	network  *network
	listener *listen.Listener
	server   *http.Server
	log      logtest.Buffer
	release  chan struct{} // lets one request to /slow finish
	tls      *tls.Config   // of clients; nil: plain
	served   chan error
}

// newWorld starts a server. Its protocol is that of TLS, or empty.
func newWorld(t *testing.T, limit int, protocol string) *world {
	t.Helper()
	w := &world{t: t, network: newNetwork(), release: make(chan struct{}), served: make(chan error, 1)}
	config := listen.Config{Name: "listen.public", Limit: limit, Idle: idleTimeout, Handshake: headerTimeout, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	if protocol != "" {
		certificate := selfSigned(t)
		config.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{protocol}}
		pool := x509.NewCertPool()
		pool.AddCert(certificate.Leaf)
		w.tls = &tls.Config{RootCAs: pool, ServerName: "server.example", NextProtos: []string{protocol}}
	}
	w.listener = listen.New(w.network, config)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { <-w.release })
	mux.HandleFunc("/body", func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-w.release
		}
	})
	mux.HandleFunc("/large", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(make([]byte, 1<<20)) })
	mux.HandleFunc("/known/", func(rw http.ResponseWriter, r *http.Request) {
		listen.MarkAuthenticated(r.Context())
		http.StripPrefix("/known", mux).ServeHTTP(rw, r)
	})
	mux.HandleFunc("/tls", func(rw http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.ServerName == "" {
			rw.WriteHeader(http.StatusTeapot)
		}
	})
	w.server = &http.Server{
		Handler: listen.Handler(mux), ConnState: w.listener.ConnState, ConnContext: w.listener.ConnContext, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: 3 * headerTimeout, IdleTimeout: idleTimeout,
	}
	go func() { w.served <- w.server.Serve(w.listener) }()
	return w
}

// end closes the server, and looks whether anything is left.
func (w *world) end() {
	w.t.Helper()
	if err := w.server.Close(); err != nil {
		w.t.Error(err)
	}
	if err := <-w.served; !errors.Is(err, http.ErrServerClosed) {
		w.t.Errorf("Serve: %v", err)
	}
	synctest.Wait()
	if n := w.listener.Open(); n != 0 {
		w.t.Errorf("%d connections are left", n)
	}
}

// A peer is the client's end of a connection.
type peer struct {
	net.Conn // plain or TLS

	t   *testing.T
	raw *eager
}

// An eager end reads before it is asked to, so that the server never waits for it.
type eager struct {
	net.Conn

	read   chan []byte
	rest   []byte
	closed atomic.Bool // by the server
}

func (e *eager) pump() {
	defer close(e.read)
	for {
		b := make([]byte, 4096)
		n, err := e.Conn.Read(b)
		if err != nil {
			e.closed.Store(true)
			return
		}
		e.read <- b[:n]
	}
}

func (e *eager) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = <-e.read
	}
	if len(e.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// dial connects, and shakes hands if there is TLS.
func (w *world) dial() *peer {
	w.t.Helper()
	p := w.dialRaw()
	if w.tls != nil {
		secure := tls.Client(p.Conn, w.tls)
		if err := secure.Handshake(); err != nil {
			w.t.Fatal(err)
		}
		p.Conn = secure
	}
	time.Sleep(time.Second / 10) // at the limit, the client before has as long
	synctest.Wait()
	return p
}

func (w *world) dialRaw() *peer {
	w.t.Helper()
	raw := &eager{Conn: w.connect(), read: make(chan []byte, 100)}
	go raw.pump()
	synctest.Wait()
	return &peer{raw, w.t, raw}
}

// connect is for who does not read what it is not asked to.
func (w *world) connect() net.Conn {
	ours, theirs := net.Pipe()
	w.network.incoming <- theirs
	synctest.Wait()
	return ours
}

// says writes a text.
func (p *peer) says(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatalf("writing %q: %v", text, err)
	}
}

// gets asks for a path, and wants it.
func (p *peer) gets(path string) {
	p.t.Helper()
	p.says("GET " + path + " HTTP/1.1\r\nHost: server.example\r\n\r\n")
	p.hears("200")
}

func (p *peer) hears(status string) {
	p.t.Helper()
	b := make([]byte, 4096)
	n, err := p.Read(b)
	if !strings.HasPrefix(string(b[:n]), "HTTP/1.1 "+status) {
		p.t.Errorf("got %q, %v; want status %s", b[:n], err, status)
	}
	synctest.Wait()
}

// isOpen tells whether the server has not closed the connection.
func (p *peer) isOpen() bool {
	synctest.Wait()
	return !p.raw.closed.Load()
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"server.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
