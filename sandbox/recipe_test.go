package sandbox_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
)

// The manual of FIWARE's satellite makes a root whose extensions are
// basicConstraints and key identifiers only, and below it an issuing CA with a path
// length of 0. Everybody of a data space of 2.x has a seal of such an authority here, the
// registry included, and it answers for revocation too.
func TestAuthorityOfFIWAREsManual(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startIn(t, dir, framework2).stop()
	reissue(t, filepath.Join(dir, "ca"), func(level testca.Level, c *x509.Certificate) {
		c.KeyUsage = 0
		if level == testca.Issuing {
			c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
			c.MaxPathLen, c.MaxPathLenZero = 0, true
			c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, nil
		}
	})
	everybodyElseAfresh(t, dir)

	s := startIn(t, dir, framework2)
	root := testcaAt(t, dir).Authority(testca.Root).Certificate()
	if root.KeyUsage != 0 || !root.IsCA {
		t.Fatalf("the root has the key usage %v", root.KeyUsage)
	}
	s.becomes(t, s.Consumer, "")
	for folder, reason := range map[string]string{
		"former-consumer":  rule.PartyNotActive.ID,
		"unknown-consumer": rule.PartyUnknown.ID,
		"revoked-consumer": rule.CertificateRevoked.ID,
	} {
		s.try(t, s.somebody(t, folder)).wants(t, folder, reason)
	}
	if _, err := s.client(t, s.Consumer, s.State().Registry).Token(t.Context()); err != nil {
		t.Errorf("a token of the registry: %v", err)
	}
}

func testcaAt(t *testing.T, dir string) *testca.CA {
	t.Helper()
	ca, err := testca.Load(filepath.Join(dir, "ca"), testca.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// reissue changes the certificates of an authority, and leaves it its keys.
func reissue(t *testing.T, dir string, change func(testca.Level, *x509.Certificate)) {
	t.Helper()
	ca := testcaAt(t, filepath.Dir(dir))
	var above *testca.Identity
	for _, level := range testca.Levels() {
		old := ca.Authority(level)
		template := *old.Certificate()
		template.SerialNumber, template.SignatureAlgorithm = nil, x509.UnknownSignatureAlgorithm
		change(level, &template)
		issue := testca.SelfSign
		if above != nil {
			issue = func(c *x509.Certificate, key crypto.Signer) (*testca.Identity, error) { return above.Issue(c, key) }
		}
		made, err := issue(&template, old.Key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate().Raw})
		if err := os.WriteFile(filepath.Join(dir, level.String()+".pem"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		above = made
	}
}

// everybodyElseAfresh removes the folders of all but the authority.
func everybodyElseAfresh(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() || entry.Name() == "ca" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
}
