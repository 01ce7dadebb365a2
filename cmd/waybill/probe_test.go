package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/internal/testca"
)

// TestFormsOfTestCA: the key and the certificates of a CA are read in the forms in which people have them.
func TestFormsOfTestCA(t *testing.T) {
	t.Parallel()
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		t.Fatal(err)
	}
	issuing := ca.Authority(testca.Issuing)
	key, ok := issuing.Key.(*rsa.PrivateKey)
	if !ok {
		t.Fatalf("the key is %T", issuing.Key)
	}
	elliptic256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := ca.Authority(testca.Sub).Issue(&x509.Certificate{Subject: issuing.Certificate().Subject, NotBefore: issuing.Certificate().NotBefore, NotAfter: issuing.Certificate().NotAfter, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, elliptic256)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(elliptic256)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := pkcs12.Modern.Encode(key, issuing.Certificate(), issuing.Chain[1:], password)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	chain := testca.EncodeCertificates(issuing.Chain...)
	for name, test := range map[string]struct{ key, certificates []byte }{
		"PKCS #1":  {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), chain},
		"DER":      {x509.MarshalPKCS1PrivateKey(key), issuing.Certificate().Raw},
		"SEC 1":    {block("EC PRIVATE KEY", sec1), testca.EncodeCertificates(sub.Chain...)},
		"PKCS #12": {sealed, nil},
		"one file": {slices.Concat(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), chain), nil},
	} {
		dir, certificateFile := t.TempDir(), ""
		keyFile := filepath.Join(dir, "key")
		if err := os.WriteFile(keyFile, test.key, 0o600); err != nil {
			t.Fatal(err)
		}
		if test.certificates != nil {
			certificateFile = filepath.Join(dir, "certificates")
			if err := os.WriteFile(certificateFile, test.certificates, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		signer, certificates, err := readCA(keyFile, certificateFile, password)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		public, ok := signer.Public().(interface{ Equal(x crypto.PublicKey) bool })
		if !ok || !slices.ContainsFunc(certificates, func(c *x509.Certificate) bool { return public.Equal(c.PublicKey) }) {
			t.Errorf("%s: no certificate is for the key", name)
		}
	}
	if _, _, err := readCA(filepath.Join(t.TempDir(), "nowhere"), "", ""); err == nil {
		t.Error("a key was read from nowhere")
	}
}
