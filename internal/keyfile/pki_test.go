package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// now is when the test's certificates are in the middle of their life.
var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// sealKey is the one RSA key of most tests: making one takes a while.
var sealKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newECDSA() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// An authority issues certificates in tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// pki is a chain of three CAs, shaped like the real one, and a seal.
type pki struct {
	root, sub, issuing authority
	seal               *x509.Certificate
}

var testPKI = sync.OnceValue(func() pki {
	root := authority{}.ca("Test Root")
	sub := root.ca("Test Sub CA")
	issuing := sub.ca("Test Issuing CA")
	return pki{root: root, sub: sub, issuing: issuing, seal: issuing.issue(seal("Test Party"), sealKey().Public())}
})

// chain is the seal's, leaf first.
func (p pki) chain() []*x509.Certificate {
	return []*x509.Certificate{p.seal, p.issuing.cert, p.sub.cert, p.root.cert}
}

func (a authority) ca(name string) authority {
	t := template(name)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	key := newECDSA()
	if a.cert == nil {
		a = authority{cert: t, key: key}
	}
	return authority{cert: a.issue(t, key.Public()), key: key}
}

func (a authority) issue(t *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, public, a.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name, Country: []string{"NL"}},
		NotBefore:    now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
	}
}

// seal is shaped like a real iSHARE test seal: nonRepudiation only.
func seal(name string) *x509.Certificate {
	t := template(name)
	t.KeyUsage, t.BasicConstraintsValid = x509.KeyUsageContentCommitment, true
	return t
}

func certPEM(certs ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certs {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return out.Bytes()
}

func keyPEM(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return block("PRIVATE KEY", der)
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// place writes a file that only its owner can read, into a folder to which everybody comes.
func place(t *testing.T, name string, data ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, passed := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(passed, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, bytes.Join(data, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
