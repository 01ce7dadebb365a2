package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
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
	"syscall"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
)

// writeTLS puts a key and a certificate for TLS into a folder, as new.key and new.pem.
func writeTLS(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := testca.SelfSign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "Some Server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Save(filepath.Join(dir, "new.key"), filepath.Join(dir, "new.pem")); err != nil {
		t.Fatal(err)
	}
	return id.Certificate()
}

// A connection is one of TLS to a server, which stays open.
type connection struct {
	*tls.Conn

	answers *bufio.Reader
}

// connect opens one, which must show the certificate.
func connect(t *testing.T, s *server, want *x509.Certificate) *connection {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(want)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "http://"), &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatalf("%v; the log:\n%s", err, s.log)
	}
	t.Cleanup(func() { conn.Close() })
	return &connection{conn, bufio.NewReader(conn)}
}

// works makes a request on the connection.
func (c *connection) works(t *testing.T, when string) {
	t.Helper()
	if _, err := io.WriteString(c, "GET /openapi.json HTTP/1.1\r\nHost: provider.example\r\n\r\n"); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	answer, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != http.StatusOK || answer.Close {
		t.Errorf("%s: %v, status %d, to be closed: %t", when, err, answer.StatusCode, answer.Close)
	}
}

// shows reports whether a new connection shows the certificate.
func (s *server) shows(want *x509.Certificate) bool {
	pool := x509.NewCertPool()
	pool.AddCert(want)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "http://"), &tls.Config{RootCAs: pool})
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// The certificate of TLS is exchanged without a connection that ends: at SIGHUP, and by the files alone. With the certificate
// alone, before its key, the old one stays.
func TestTLSRenewal(t *testing.T) {
	t.Parallel()
	dir, _ := newProvider(t)
	take := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Rename(filepath.Join(dir, "new."+name), filepath.Join(dir, "tls."+name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := writeTLS(t, dir)
	take("key", "pem")
	s := serve(t, dir, "WAYBILL_LISTEN_TLS_CERTIFICATE=tls.pem", "WAYBILL_LISTEN_TLS_KEY=tls.key")
	oldest := connect(t, s, first)
	oldest.works(t, "at first")

	second := writeTLS(t, dir)
	take("key", "pem")
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the second certificate is in use", func() bool { return s.shows(second) })
	newer := connect(t, s, second)
	oldest.works(t, "after SIGHUP")

	third := writeTLS(t, dir)
	take("pem")
	const failed = "changed files cannot be used"
	s.await(t, "it is told that the key is missing", func() bool { return s.log.line(failed) != nil })
	oldest.works(t, "with half of the third")
	newer.works(t, "with half of the third")
	if !s.shows(second) {
		t.Error("the second certificate does not stay in use")
	}
	take("key")
	s.await(t, "the third certificate is in use", func() bool { return s.shows(third) })
	oldest.works(t, "after both files")
	newer.works(t, "after both files")
	if s.shows(second) {
		t.Error("the second certificate is still in use")
	}
	if n := strings.Count(s.log.String(), failed); n != 1 {
		t.Errorf("it was told %d times:\n%s", n, s.log)
	}
	s.await(t, "it is told what has changed", func() bool {
		line := string(s.log.line("reloaded"))
		return strings.Contains(line, "listen.tls.key ("+filepath.Join(dir, "tls.key")+")") && strings.Contains(line, "listen.tls.certificate (")
	})
}
