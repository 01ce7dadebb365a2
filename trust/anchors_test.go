package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/trust"
)

func TestParseFingerprint(t *testing.T) {
	f := trust.FingerprintOf(honest().Certificate())
	plain := f.String()
	if len(plain) != 64 || plain != strings.ToLower(plain) {
		t.Errorf("fingerprint %q", plain)
	}
	for _, s := range []string{plain, strings.ToUpper(plain), colons(plain), strings.ToUpper(colons(plain))} {
		if got, err := trust.ParseFingerprint(s); err != nil || got != f {
			t.Errorf("ParseFingerprint(%q) is %s, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", ":", plain[:62], plain[:63], plain + "0", plain + plain, "g" + plain[1:], " " + plain, plain + "\n", "0x" + plain,
		"sha256:" + plain, strings.ReplaceAll(colons(plain), ":", " "), strings.ReplaceAll(colons(plain), ":", "-"),
	} {
		if _, err := trust.ParseFingerprint(s); err == nil {
			t.Errorf("ParseFingerprint(%q) is accepted", s)
		}
	}
}

// colons puts a colon between the bytes, as openssl prints them.
func colons(hex string) string {
	pairs := []string{}
	for pair := range slices.Chunk([]byte(hex), 2) {
		pairs = append(pairs, string(pair))
	}
	return strings.Join(pairs, ":")
}

func FuzzParseFingerprint(f *testing.F) {
	plain := trust.FingerprintOf(honest().Certificate()).String()
	for _, s := range []string{"", ":", plain, strings.ToUpper(plain), colons(plain), plain[1:], plain + ":", "é" + plain} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := trust.ParseFingerprint(s)
		if err != nil {
			return
		}
		if want := strings.ToLower(strings.ReplaceAll(s, ":", "")); got.String() != want {
			t.Errorf("ParseFingerprint(%q) is %s", s, got)
		}
		if again, err := trust.ParseFingerprint(got.String()); err != nil || again != got {
			t.Errorf("ParseFingerprint(%q) is %s, %v", got, again, err)
		}
	})
}

// pemOf is a text of PEM certificates.
func pemOf(ids ...*testca.Identity) []byte {
	var text []byte
	for _, id := range ids {
		text = append(text, testca.EncodeCertificates(id.Certificate())...)
	}
	return text
}

func TestParseAnchors(t *testing.T) {
	root, sub, issuing := ca().Authority(testca.Root), ca().Authority(testca.Sub), ca().Authority(testca.Issuing)
	all := anchorsOf(root.Chain[0], sub.Chain[0], issuing.Chain[0])
	for name, test := range map[string]struct {
		text []byte
		want trust.Anchors
	}{
		"one":               {pemOf(root), level(testca.Root)},
		"three":             {pemOf(root, sub, issuing), all},
		"one of them twice": {pemOf(root, sub, issuing, root), all},
		"with talk around":  {slices.Concat([]byte("# the root\n"), pemOf(root), []byte("\nthe others:\n"), pemOf(sub, issuing), []byte("end")), all},
		"DER":               {root.Certificate().Raw, level(testca.Root)},
		"DER, three":        {slices.Concat(root.Certificate().Raw, sub.Certificate().Raw, issuing.Certificate().Raw), all},
		"base64 of DER":     {[]byte(base64.StdEncoding.EncodeToString(root.Certificate().Raw)), level(testca.Root)},
		"on one line":       {bytes.ReplaceAll(pemOf(root, sub, issuing), []byte("\n"), nil), all},
		"escaped":           {bytes.ReplaceAll(pemOf(root, sub, issuing), []byte("\n"), []byte(`\n`)), all},
		"trusted":           {pemBlock("TRUSTED CERTIFICATE", string(root.Certificate().Raw)), level(testca.Root)},
		"CRLF":              {bytes.ReplaceAll(pemOf(root, sub, issuing), []byte("\n"), []byte("\r\n")), all},
	} {
		got, err := trust.ParseAnchors(test.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(honest().Key)
	if err != nil {
		t.Fatal(err)
	}
	key := pemBlock("PRIVATE KEY", string(der))
	brokenLine := bytes.Replace(pemOf(sub), []byte("\nM"), []byte("\n!"), 1)
	for name, test := range map[string]struct {
		text []byte
		says string
	}{
		"empty":                      {nil, "it holds nothing"},
		"DER that is cut off":        {root.Certificate().Raw[:200], "cut off"},
		"a seal":                     {pemOf(honest()), "is not a CA"},
		"a seal behind a CA":         {pemOf(root, honest()), "is not a CA"},
		"a seal in DER":              {honest().Certificate().Raw, "is not a CA"},
		"a key":                      {key, "holds a private key"},
		"a key behind a CA":          {slices.Concat(pemOf(root), key), "holds a private key"},
		"a damaged key":              {pemBlock("PRIVATE KEY", "x"), "private key cannot be read"},
		"no certificate inside":      {pemBlock("CERTIFICATE", "x"), "certificate 1 is no DER"},
		"a request":                  {pemBlock("CERTIFICATE REQUEST", "x"), "no certificate found"},
		"only a broken block":        {brokenLine, `holds '!', which is not base64`},
		"a broken block behind a CA": {slices.Concat(pemOf(root), brokenLine), "PEM block 2"},
		"a broken block before a CA": {slices.Concat(brokenLine, pemOf(root)), "PEM block 1"},
		"cut off":                    {slices.Concat(pemOf(root), pemOf(sub)[:200]), "PEM block 2 has no END line"},
		"too much":                   {slices.Concat(pemOf(root), make([]byte, 1<<20)), "over 1024 KiB"},
	} {
		if got, err := trust.ParseAnchors(test.text); err == nil || got != nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %d anchors, %v, want %q", name, len(got), err, test.says)
		} else if hint, ok := errors.AsType[interface {
			error
			Hint() string
		}](err); !ok || !strings.HasSuffix(hint.Hint(), ".") {
			t.Errorf("%s: %v has no hint", name, err)
		}
	}
}

func pemBlock(kind, content string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(content)})
}

func FuzzParseAnchors(f *testing.F) {
	f.Add(pemOf(ca().Authority(testca.Root)))
	f.Add(pemOf(ca().Authority(testca.Sub), honest()))
	f.Add(pemBlock("CERTIFICATE", "x"))
	f.Add(pemBlock("PRIVATE KEY", ""))
	f.Add(ca().Authority(testca.Root).Certificate().Raw)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := trust.ParseAnchors(text)
		if (err == nil) != (len(got) > 0) {
			t.Errorf("%d anchors, %v", len(got), err)
		}
		for fingerprint, name := range got {
			if fingerprint == (trust.Fingerprint{}) {
				t.Errorf("anchor %q has no fingerprint", name)
			}
		}
	})
}

func TestLoadAnchors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	root, issuing := ca().Authority(testca.Root), ca().Authority(testca.Issuing)
	fingerprint := trust.FingerprintOf(ca().Authority(testca.Sub).Certificate())
	got, err := trust.LoadAnchors([]string{write("both.pem", pemOf(root, issuing)), colons(fingerprint.String())})
	if err != nil {
		t.Fatal(err)
	}
	want := anchorsOf(root.Certificate(), issuing.Certificate())
	want[fingerprint] = "fingerprint " + fingerprint.String()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}

	if got, err := trust.LoadAnchors([]string{string(pemOf(root))}); err != nil || !cmp.Equal(got, anchorsOf(root.Certificate())) {
		t.Errorf("text in the place of a name: %v, %v", got, err)
	}

	store, err := pkcs12.Modern.EncodeTrustStore(root.Chain, "geheim")
	if err != nil {
		t.Fatal(err)
	}
	locked := write("store.p12", store)
	_, err = trust.LoadAnchors([]string{locked})
	hinted, ok := errors.AsType[interface {
		error
		Hint() string
	}](err)
	if want := "Take the certificates out of it: openssl pkcs12 -in '" + locked + "' -nokeys -out anchors.pem."; !ok || hinted.Hint() != want {
		t.Errorf("%v, want the hint %q", err, want)
	}

	missing, seal, empty := filepath.Join(dir, "missing.pem"), write("seal.pem", pemOf(honest())), write("empty.pem", nil)
	secret := string(pemBlock("PRIVATE KEY", "not to be shown"))
	_, err = trust.LoadAnchors([]string{missing, seal, write("root.pem", pemOf(root)), empty, fingerprint.String()[1:], secret})
	if err == nil {
		t.Fatal("broken anchors were loaded")
	}
	for _, says := range []string{
		"trust anchor " + missing + ": the file cannot be read: no such file", "trust anchor (a text): the private key cannot be read", "trust anchor " + seal, "is not a CA", "trust anchor " + empty, "it holds nothing", fingerprint.String()[1:],
	} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not tell %q", err, says)
		}
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), strings.Split(secret, "\n")[1]) {
		t.Errorf("%v shows a private key", err)
	}
	if strings.Contains(err.Error(), "root.pem") {
		t.Errorf("%v complains of an anchor that is right", err)
	}
}
