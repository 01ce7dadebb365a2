package state

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/internal/regular"
)

// rights are all that a user of Redis needs, as the documentation has them.
const rights = "~{waybill:* resetchannels -@all +hello +auth +ping +client|setname +select +eval +evalsha +info +time +wait " +
	"+get +set +incr +zadd +zrem +zcard +zscore +zrangebyscore"

// TLS, a user with no more rights than needed, and a password that does not stand in the URL.
func TestRedisSecured(t *testing.T) {
	certificate, key := selfSigned(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	server := redistest.Start(t, "--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
	vouch(t, server)
	server.Do(append([]string{"ACL", "SETUSER", "server", "on", ">pass word"}, strings.Fields(rights)...)...)

	c := config(t, fmt.Sprintf("rediss://server@127.0.0.1:%s?ca=%s", port, certificate))
	if c.URL, err = c.URL.WithPassword("pass word"); err != nil {
		t.Fatal(err)
	}
	s := start(t, c)
	p := pair("A")
	mustUse(t, s, p)
	if again, err := s.Use(t.Context(), p); again || err != nil {
		t.Errorf("%v, %v", again, err)
	}
	usable(t, s)
	if err := s.Revocations().Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: "A"}); err != nil {
		t.Error(err)
	}
	if err := Check(t.Context(), c); err != nil {
		t.Error(err)
	}

	plain, secure := server.Addr(), "127.0.0.1:"+port
	server.Do("ACL", "SETUSER", "default", "off")
	for url, want := range map[string]string{
		"rediss://" + secure: "certificate",
		"rediss://server:wrong@" + secure + "?ca=" + certificate: "WAYBILL_STATE_PASSWORD, or the password in the URL, is not that of the user in the URL (redis://USER@host; without one it is default): WRONGPASS",
		"redis://" + plain:                                          "it wants a password: set WAYBILL_STATE_PASSWORD, and name its user in the URL (redis://USER@host) unless it is default: NOAUTH",
		"redis://" + secure:                                         "begin the URL with rediss in place of redis",
		"redis-cluster://" + secure:                                 "begin the URL with rediss in place of redis",
		"redis-sentinel://" + secure + "/primary":                   "begin the URL with rediss in place of redis",
		"rediss://" + plain + "?ca=" + certificate:                  "begin the URL with redis in place of rediss",
		"rediss-cluster://" + plain + "?ca=" + certificate:          "begin the URL with redis in place of rediss",
		"rediss-sentinel://" + plain + "/primary?ca=" + certificate: "begin the URL with redis in place of rediss",
	} {
		err := Check(t.Context(), config(t, url))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), ":wrong") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	// A server that knows no AUTH quotes the password.
	without := redistest.Start(t, "--rename-command", "AUTH", "OTHER", "--rename-command", "HELLO", "GREET")
	for _, url := range []string{"redis://:hunter2secret@", "redis-cluster://:hunter2secret@", "redis://:" + strings.Repeat("hunter2secret", 20) + "@"} {
		err := Check(t.Context(), config(t, url+without.Addr()))
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "it has no such command") {
			t.Errorf("a server without AUTH: %v", err)
		}
	}
	for _, ca := range []string{filepath.Join(t.TempDir(), "absent.pem"), key} {
		if err := Check(t.Context(), config(t, "rediss://h?ca="+ca)); err == nil || !strings.Contains(err.Error(), ca) {
			t.Errorf("roots in %s: %v", ca, err)
		}
	}
	large := filepath.Join(t.TempDir(), "large.pem")
	if err := os.WriteFile(large, make([]byte, maxRoots+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), config(t, "rediss://h?ca="+large)); err == nil || !strings.Contains(err.Error(), "it has more than") {
		t.Errorf("too many roots: %v", err)
	}
	if err := Check(t.Context(), config(t, "rediss://h?ca="+os.DevNull)); !errors.Is(err, regular.ErrOther) {
		t.Errorf("roots in a device: %v", err)
	}
}

// selfSigned makes the files of a certificate for this machine and its key.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}
