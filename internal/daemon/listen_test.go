package daemon_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testca"
)

// longEnough is a time limit for what must happen at all, however busy the machine.
const longEnough = time.Minute

// writeCertificate puts a new TLS certificate into the folder, and returns it for a
// client to trust.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := testca.SelfSign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "Some Server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"provider.example"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Save(filepath.Join(dir, "tls-key.pem"), filepath.Join(dir, "tls.pem")); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(id.Certificate())
	return pool
}

var withTLS = []string{"WAYBILL_LISTEN_TLS_CERTIFICATE=tls.pem", "WAYBILL_LISTEN_TLS_KEY=tls-key.pem"}

// secure makes a client that trusts the pool and offers HTTP/2.
func secure(t *testing.T, pool *x509.CertPool) *http.Client {
	t.Helper()
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	pool := writeCertificate(t, dir)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, append([]string{"WAYBILL_LISTEN_HTTP2=true"}, withTLS...)...))

	t.Run("HTTP/2 carries a token request", func(t *testing.T) {
		answer, err := secure(t, pool).Do(players().consumer.Request(providerID).HTTP(s.url))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.Proto != "HTTP/2.0" || answer.StatusCode != http.StatusOK {
			t.Errorf("%s, status %d", answer.Proto, answer.StatusCode)
		}
	})
	t.Run("the metadata say https", func(t *testing.T) {
		if _, _, body := get(t, secure(t, pool), s.url+"/.well-known/oauth-authorization-server"); !strings.Contains(string(body), `"issuer":"https://`) {
			t.Errorf("%s", body)
		}
	})
	t.Run("the internal listener is plain", func(t *testing.T) {
		if status, _, _ := get(t, plain(t), s.internal+"/livez"); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	})
	tooOld := "protocol version" // says the server
	if fips140.Enabled() {
		tooOld = "no supported versions" // says the client itself
	}
	for _, test := range []struct {
		version uint16
		want    string // part of the error; empty: it connects
	}{
		{tls.VersionTLS10, tooOld},
		{tls.VersionTLS11, tooOld},
		{tls.VersionTLS12, ""},
		{tls.VersionTLS13, ""},
	} {
		t.Run(tls.VersionName(test.version), func(t *testing.T) {
			conn, err := tls.Dial("tcp", s.PublicAddr().String(), &tls.Config{RootCAs: pool, MinVersion: test.version, MaxVersion: test.version})
			if err == nil {
				conn.Close()
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A renewed certificate is served after a reload, on new connections.
func TestReloadTakesANewCertificate(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	writeCertificate(t, dir)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, withTLS...))
	renewed := writeCertificate(t, dir)
	if err := s.Reload(t.Context(), parse(t, dir, withTLS...)); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the new certificate", func() bool {
		answer, err := secure(t, renewed).Get(s.url + "/openapi.json")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return true
	})
}

// eventually asks again and again until it is so.
func (s *server) eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(longEnough); !so(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s; the log:\n%s", what, s.log)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	server := s.Server(http.NotFoundHandler())
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": server.ReadHeaderTimeout, "ReadTimeout": server.ReadTimeout,
		"WriteTimeout": server.WriteTimeout, "IdleTimeout": server.IdleTimeout,
	} {
		if d <= 0 || d > 5*time.Minute {
			t.Errorf("%s is %v", name, d)
		}
	}
	if server.MaxHeaderBytes <= 0 || server.MaxHeaderBytes > 64<<10 {
		t.Errorf("MaxHeaderBytes is %d", server.MaxHeaderBytes)
	}
}

// dial connects to a listener, with a limit on everything.
func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(longEnough)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Whoever begins a request and does not go on is cut off, on both listeners.
func TestSilentClientIsCutOff(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	for name, addr := range map[string]net.Addr{"public": s.PublicAddr(), "internal": s.InternalAddr()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, addr)
			if _, err := io.WriteString(conn, "POST /connect/token HTTP/1.1\r\nHost: provider.example\r\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection stays")
			}
		})
	}
}

// A megabyte of header is refused without being read to its end.
func TestHugeHeader(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	for name, addr := range map[string]net.Addr{"public": s.PublicAddr(), "internal": s.InternalAddr()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, addr)
			go func() {
				line := "X-Much: " + strings.Repeat("x", 1000) + "\r\n"
				_, _ = io.WriteString(conn, "POST /connect/token HTTP/1.1\r\nHost: provider.example\r\n"+strings.Repeat(line, 1<<10)+"\r\n")
			}()
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("status %d", answer.StatusCode)
			}
		})
	}
}
