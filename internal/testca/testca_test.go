package testca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
)

func newCA(t *testing.T, c testca.Config) *testca.CA {
	t.Helper()
	if c.NewKey == nil {
		c.NewKey = testca.PooledKey
	}
	ca, err := testca.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func seal(t *testing.T, ca *testca.CA, r testca.SealRequest) *testca.Identity {
	t.Helper()
	if r.Organization == "" {
		r.Organization, r.Identifier = "Some Consumer", "NTRNL-10000001"
	}
	id, err := ca.Seal(r)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// verify asks crypto/x509 whether the chain of the identity reaches the root.
func verify(id *testca.Identity, root *x509.Certificate) error {
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	options.Roots.AddCert(root)
	for _, cert := range id.Chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := id.Certificate().Verify(options)
	return err
}

func TestSealHasTheShapeOfARealOne(t *testing.T) {
	ca := newCA(t, testca.Config{})
	id := seal(t, ca, testca.SealRequest{})
	if err := verify(id, ca.Authority(testca.Root).Certificate()); err != nil {
		t.Errorf("the chain does not verify: %v", err)
	}
	if len(id.Chain) != 4 {
		t.Errorf("the chain has %d certificates, want 4", len(id.Chain))
	}
	cert := id.Certificate()
	if cert.KeyUsage != x509.KeyUsageContentCommitment {
		t.Errorf("key usage %b, want nonRepudiation only", cert.KeyUsage)
	}
	if !cert.BasicConstraintsValid || cert.IsCA {
		t.Error("basic constraints do not say CA:FALSE")
	}
	var critical []string
	for _, ext := range cert.Extensions {
		if ext.Critical {
			critical = append(critical, ext.Id.String())
		}
	}
	slices.Sort(critical)
	if diff := cmp.Diff([]string{"2.5.29.15", "2.5.29.19"}, critical); diff != "" {
		t.Errorf("critical extensions (-want +got):\n%s", diff)
	}
	if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}) ||
		len(cert.UnknownExtKeyUsage) != 1 || cert.UnknownExtKeyUsage[0].String() != "1.3.6.1.4.1.311.10.3.12" {
		t.Errorf("extended key usage %v %v", cert.ExtKeyUsage, cert.UnknownExtKeyUsage)
	}
	var subject []string
	for _, name := range cert.Subject.Names {
		subject = append(subject, fmt.Sprintf("%v=%v", name.Type, name.Value))
	}
	if diff := cmp.Diff([]string{"2.5.4.6=NL", "2.5.4.10=Some Consumer", "2.5.4.3=Some Consumer", "2.5.4.97=NTRNL-10000001"}, subject); diff != "" {
		t.Errorf("subject (-want +got):\n%s", diff)
	}
	if got := ishare.CertificateIDs(cert); !slices.Equal(got, []ishare.PartyID{"did:ishare:EU.NL.NTRNL-10000001"}) {
		t.Errorf("the seal states the identifiers %v", got)
	}
	if cert.OCSPServer != nil || cert.CRLDistributionPoints != nil {
		t.Error("the seal names status services that do not exist")
	}
}

func TestSealOfTheOldFrameworkCarriesTheIdentifierInSerialNumber(t *testing.T) {
	id := seal(t, newCA(t, testca.Config{}), testca.SealRequest{Organization: "Old", SerialNumber: "EU.EORI.NL000000001"})
	if got := ishare.CertificateIDs(id.Certificate()); !slices.Equal(got, []ishare.PartyID{"EU.EORI.NL000000001"}) {
		t.Errorf("the seal states the identifiers %v", got)
	}
}

func TestStatusServicesAreNamedBelowTheRoot(t *testing.T) {
	ca := newCA(t, testca.Config{OCSPURL: "http://127.0.0.1:1/ocsp", CRLURL: "http://127.0.0.1:1/crl"})
	chain := seal(t, ca, testca.SealRequest{}).Chain
	for i, crl := range []string{"issuing", "sub", "root"} {
		if got := chain[i].OCSPServer; !slices.Equal(got, []string{"http://127.0.0.1:1/ocsp"}) {
			t.Errorf("certificate %d names the responders %v", i, got)
		}
		if got := chain[i].CRLDistributionPoints; !slices.Equal(got, []string{"http://127.0.0.1:1/crl/" + crl + ".crl"}) {
			t.Errorf("certificate %d names the lists %v", i, got)
		}
	}
	if root := chain[3]; root.OCSPServer != nil || root.CRLDistributionPoints != nil {
		t.Error("the root names status services")
	}
}

func TestKeySizes(t *testing.T) {
	ca := newCA(t, testca.Config{KeyBits: 1536})
	id := seal(t, ca, testca.SealRequest{})
	for i, want := range []int{2048, 1536, 1536, 1536} {
		key, ok := id.Chain[i].PublicKey.(*rsa.PublicKey)
		if !ok || key.N.BitLen() != want {
			t.Errorf("certificate %d has a key of %d bits, want %d", i, key.N.BitLen(), want)
		}
	}
	fresh, err := testca.New(testca.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := fresh.Authority(testca.Root).Key.(*rsa.PrivateKey); !ok || key.N.BitLen() != testca.DefaultKeyBits {
		t.Error("a CA of the zero Config has no RSA key of the default size")
	}
}

func TestForgery(t *testing.T) {
	ca := newCA(t, testca.Config{})
	root := ca.Authority(testca.Root).Certificate()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	honest := seal(t, ca, testca.SealRequest{})
	for name, r := range map[string]testca.SealRequest{
		"expired":         {Template: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
		"by a leaf":       {Issuer: honest},
		"a CA without...": {Template: func(c *x509.Certificate) { c.BasicConstraintsValid = false }, Issuer: honest},
	} {
		if err := verify(seal(t, ca, r), root); err == nil {
			t.Errorf("%s: crypto/x509 takes it for right", name)
		}
	}
	for name, r := range map[string]testca.SealRequest{
		"ECDSA":   {Key: ec},
		"by root": {Issuer: ca.Authority(testca.Root)},
		"SHA-512": {Template: func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA512WithRSA }},
	} {
		if err := verify(seal(t, ca, r), root); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	sha1 := seal(t, ca, testca.SealRequest{Template: func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }})
	if got := sha1.Certificate().SignatureAlgorithm; got != x509.SHA1WithRSA {
		t.Errorf("signed with %s, want SHA-1", got)
	}
}

func TestTemplateIsNotChangedByIssuing(t *testing.T) {
	ca := newCA(t, testca.Config{})
	template := ca.Template(testca.Issuing)
	first, err := ca.Authority(testca.Sub).Issue(template, ca.Authority(testca.Issuing).Key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ca.Authority(testca.Sub).Issue(template, ca.Authority(testca.Issuing).Key)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber != nil || first.Certificate().Equal(second.Certificate()) {
		t.Error("the template remembers the first certificate")
	}
}

func TestPooledKeysAreDifferent(t *testing.T) {
	seen := map[string]bool{}
	for i := range 40 {
		key, err := testca.PooledKey(1024)
		if err != nil {
			t.Fatal(err)
		}
		if n := key.N.String(); seen[n] {
			t.Errorf("key %d was given before", i)
		} else {
			seen[n] = true
		}
		if key.N.BitLen() != 1024 {
			t.Errorf("key %d has %d bits, want 1024", i, key.N.BitLen())
		}
		checkSignature(t, key)
	}
}

func TestOddKeysSignRight(t *testing.T) {
	for _, test := range []struct{ bits, exponent int }{
		{1024, 65537}, {2047, 65537}, {2048, 3}, {2049, 17}, {4096, 65537}, {8192, 65537}, {8193, 65537}, {16384, 65537},
	} {
		key, err := testca.NewOddKey(test.bits, test.exponent)
		if err != nil {
			t.Fatal(err)
		}
		public, ok := key.Public().(*rsa.PublicKey)
		if !ok || public.N.BitLen() != test.bits || public.E != test.exponent {
			t.Errorf("a key of %d bits and exponent %d, want %d and %d", public.N.BitLen(), public.E, test.bits, test.exponent)
		}
		checkSignature(t, key)
	}
	for _, test := range []struct{ bits, exponent int }{{128, 3}, {2048, 4}, {2048, -1}} {
		if _, err := testca.NewOddKey(test.bits, test.exponent); err == nil {
			t.Errorf("a key of %d bits and exponent %d was made", test.bits, test.exponent)
		}
	}
}

func TestOddKeyOfExponentOneSignsWithThePaddingItself(t *testing.T) {
	key, err := testca.NewOddKey(2048, 1)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if signature[1] != 1 || new(big.Int).SetBytes(signature[224:]).Cmp(new(big.Int).SetBytes(digest[:])) != 0 {
		t.Errorf("signature %x", signature)
	}
	if _, err := key.Sign(nil, digest[:20], crypto.SHA1); err == nil {
		t.Error("it signs SHA-1")
	}
}

func checkSignature(t *testing.T, key crypto.Signer) {
	t.Helper()
	digest := sha256.Sum256([]byte("message"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	public, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatalf("public key is %T", key.Public())
	}
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); err != nil {
		t.Errorf("%d bits, exponent %d: %v", public.N.BitLen(), public.E, err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sandbox", "ca")
	saved := newCA(t, testca.Config{})
	if err := saved.Save(dir); err != nil {
		t.Fatal(err)
	}
	loaded, err := testca.Load(dir, testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range testca.Levels() {
		if !slices.EqualFunc(saved.Authority(level).Chain, loaded.Authority(level).Chain, (*x509.Certificate).Equal) {
			t.Errorf("the %s CA is another one after loading", level)
		}
	}
	if err := verify(seal(t, loaded, testca.SealRequest{}), saved.Authority(testca.Root).Certificate()); err != nil {
		t.Errorf("a seal of the loaded CA: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind beside the CA: %v, %v", entries, err)
	}
	if err := newCA(t, testca.Config{}).Save(dir); err == nil {
		t.Error("a CA was overwritten")
	}
}

func TestPrivateKeysAreReadableByTheirOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such permissions")
	}
	dir := t.TempDir()
	ca := newCA(t, testca.Config{})
	if err := ca.Save(filepath.Join(dir, "ca")); err != nil {
		t.Fatal(err)
	}
	if err := seal(t, ca, testca.SealRequest{}).Save(filepath.Join(dir, "ca", "seal-key.pem"), filepath.Join(dir, "ca", "seal.pem")); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(dir, "ca", "*-key.pem"))
	if err != nil || len(keys) != 4 {
		t.Fatalf("keys: %v, %v", keys, err)
	}
	for _, name := range keys {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestLoadRefusesWhatDoesNotBelongTogether(t *testing.T) {
	save := func(t *testing.T) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "ca")
		if err := newCA(t, testca.Config{}).Save(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	replace := func(t *testing.T, from, to string, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"key of another CA": func(t *testing.T, dir string) { replace(t, save(t), dir, "sub-key.pem") },
		"another sub CA":    func(t *testing.T, dir string) { replace(t, save(t), dir, "sub-key.pem", "sub.pem") },
		"no PEM":            func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "root-key.pem"), []byte("key"), 0o600) },
		"no certificate":    func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "root.pem"), nil, 0o600) },
	} {
		dir := save(t)
		spoil(t, dir)
		if _, err := testca.Load(dir, testca.Config{}); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if _, err := testca.Load(filepath.Join(t.TempDir(), "ca"), testca.Config{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no CA at all: %v", err)
	}
}

func TestIdentitySaveReplaces(t *testing.T) {
	dir := t.TempDir()
	key, chain := filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")
	ca := newCA(t, testca.Config{})
	for range 2 {
		id := seal(t, ca, testca.SealRequest{})
		if err := id.Save(key, chain); err != nil {
			t.Fatal(err)
		}
		loaded, err := testca.LoadIdentity(key, chain)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(id.Chain, loaded.Chain, (*x509.Certificate).Equal) {
			t.Error("another chain was loaded")
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
