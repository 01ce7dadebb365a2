package keyforms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"golang.org/x/crypto/scrypt"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/internal/testca"
)

const password = "pässwörd €"

var party = sync.OnceValue(func() *testca.Identity {
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		panic(err)
	}
	id, err := ca.Seal(testca.SealRequest{Organization: "Party"})
	if err != nil {
		panic(err)
	}
	return id
})

func partyKey() *rsa.PrivateKey {
	key, ok := party().Key.(*rsa.PrivateKey)
	if !ok {
		panic("the key of the party is not RSA")
	}
	return key
}

func pkcs8(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return der
}

func block(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

func chainPEM() []byte { return testca.EncodeCertificates(party().Chain...) }
func keyPEM() []byte   { return block("PRIVATE KEY", pkcs8(party().Key)) }

// holds fails the test unless there are the key of the party, or none, and the certificates, in
// any order.
func holds(tb testing.TB, c *Contents, key bool, certs ...*x509.Certificate) {
	tb.Helper()
	if len(c.Faults) > 0 {
		tb.Fatalf("faults %+v", c.Faults)
	}
	if (len(c.Keys) == 1) != key || key && !partyKey().Equal(c.Keys[0].Signer) || len(c.Keys) > 1 {
		tb.Errorf("keys %d, wanted %v", len(c.Keys), key)
	}
	if len(c.Certificates) != len(certs) || slices.ContainsFunc(certs, func(want *x509.Certificate) bool {
		return !slices.ContainsFunc(c.Certificates, want.Equal)
	}) {
		tb.Errorf("%d certificates, want the %d", len(c.Certificates), len(certs))
	}
	if !c.Unordered && len(certs) > 0 && !slices.EqualFunc(c.Certificates, certs, (*x509.Certificate).Equal) {
		tb.Error("the order is another one")
	}
}

func utf16With(order func(u uint16) [2]byte, text []byte) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune("\ufeff" + string(text))) {
		b := order(u)
		out = append(out, b[:]...)
	}
	return out
}

// TestTextThatSuffered: what copying, variables, JSON, YAML and Windows do to PEM.
func TestTextThatSuffered(t *testing.T) {
	t.Parallel()
	replace := func(old, with string) func([]byte) []byte {
		return func(text []byte) []byte { return bytes.ReplaceAll(text, []byte(old), []byte(with)) }
	}
	for name, suffer := range map[string]func([]byte) []byte{
		"nothing":          func(text []byte) []byte { return text },
		"CRLF":             replace("\n", "\r\n"),
		"CR":               replace("\n", "\r"),
		"no line breaks":   replace("\n", ""),
		"blanks":           replace("\n", " "),
		"escaped":          replace("\n", `\n`),
		"escaped CRLF":     replace("\n", `\r\n`),
		"escaped twice":    replace("\n", `\\n`),
		"escaped and kept": replace("\n", "\\n\n"),
		"escaped slashes":  replace("/", `\/`),
		"JSON of .NET":     func(text []byte) []byte { return replace("+", `\u002B`)(replace("\n", `\u000a`)(text)) },
		"indented":         replace("\n", "\n    "),
		"tabs":             replace("\n", "\n\t"),
		"glued":            replace("-----\n-----", "----------"),
		"quoted":           func(text []byte) []byte { return []byte(`"` + string(text) + `"`) },
		"blank lines":      replace("\n", "\n\n"),
		"mark":             func(text []byte) []byte { return append([]byte("\ufeff"), text...) },
		"UTF-16 LE": func(text []byte) []byte {
			return utf16With(func(u uint16) [2]byte { return [2]byte{byte(u), byte(u >> 8)} }, text)
		},
		"UTF-16 BE": func(text []byte) []byte {
			return utf16With(func(u uint16) [2]byte { return [2]byte{byte(u >> 8), byte(u)} }, text)
		},
		"UTF-16 LE without a mark": func(text []byte) []byte {
			return utf16With(func(u uint16) [2]byte { return [2]byte{byte(u), byte(u >> 8)} }, text)[2:]
		},
		"UTF-16 BE without a mark": func(text []byte) []byte {
			return utf16With(func(u uint16) [2]byte { return [2]byte{byte(u >> 8), byte(u)} }, text)[2:]
		},
		"base64 once more": func(text []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(text)) },
		"with talk around": func(text []byte) []byte {
			return slices.Concat([]byte("Bag Attributes\n  friendlyName: -- x --\n"), text, []byte("end"))
		},
		"with a comment in": replace("-----BEGIN CERTIFICATE-----\n", "# one\n-----BEGIN CERTIFICATE-----\n"),
		"headers":           replace("-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nX-Origin: here\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := suffer(append(keyPEM(), chainPEM()...))
			holds(t, Read(text, Source{}), true, party().Chain...)
			if !strings.HasPrefix(name, "UTF-16") && !IsText(string(text)) {
				t.Error("not known as text")
			}
		})
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	chain := party().Chain
	certs, err := pkcs12.Modern.EncodeTrustStore(chain, password)
	if err != nil {
		t.Fatal(err)
	}
	list := pkcs7(chain...)
	trusted := append(slices.Clone(chain[0].Raw), 0x30, 0x06, 0x0c, 0x04, 'n', 'a', 'm', 'e')
	for name, c := range map[string]struct {
		data  []byte
		key   bool
		certs []*x509.Certificate
	}{
		"PKCS#8":                      {pkcs8(party().Key), true, nil},
		"PKCS#1":                      {x509.MarshalPKCS1PrivateKey(partyKey()), true, nil},
		"PKCS#1 in PEM":               {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(partyKey())), true, nil},
		"PKCS#1 under another label":  {block("PRIVATE KEY", x509.MarshalPKCS1PrivateKey(partyKey())), true, nil},
		"the key twice":               {append(keyPEM(), keyPEM()...), true, nil},
		"base64 of PKCS#8":            {[]byte(base64.StdEncoding.EncodeToString(pkcs8(party().Key)) + "\n"), true, nil},
		"DER":                         {chain[0].Raw, false, chain[:1]},
		"DER, several":                {slices.Concat(chain[0].Raw, chain[1].Raw, chain[2].Raw), false, chain[:3]},
		"DER, key and certificate":    {slices.Concat(pkcs8(party().Key), chain[0].Raw), true, chain[:1]},
		"PKCS#7":                      {list, false, chain},
		"PKCS#7 in PEM":               {block("PKCS7", list), false, chain},
		"CMS in PEM":                  {block("CMS", list), false, chain},
		"PKCS#7 as Windows labels it": {block("CERTIFICATE", list), false, chain},
		"PKCS#7 in BER":               {ber(list), false, chain},
		"PKCS#7 in BER in PEM":        {block("PKCS7", ber(list)), false, chain},
		"PKCS#12 of certificates":     {certs, false, chain},
		"trusted":                     {block("TRUSTED CERTIFICATE", trusted), false, chain[:1]},
		"X509":                        {block("X509 CERTIFICATE", chain[0].Raw), false, chain[:1]},
		"a stray":                     {append(block("DH PARAMETERS", []byte{0x30, 0}), chainPEM()...), false, chain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holds(t, Read(c.data, Source{Password: password}), c.key, c.certs...)
		})
	}
}

// node is one element of DER with its parts.
func node(tag byte, parts ...[]byte) []byte {
	e := element{tag: tag, content: slices.Concat(parts...)}
	return e.append(nil)
}

// pkcs7 is SignedData of certificates alone.
func pkcs7(certs ...*x509.Certificate) []byte {
	var set []byte
	for _, c := range certs {
		set = append(set, c.Raw...)
	}
	data, _ := asn1.Marshal(oidData)
	signed, _ := asn1.Marshal(oidSignedData)
	return node(0x30, signed, node(0xa0, node(0x30, []byte{2, 1, 1}, node(0x31), node(0x30, data), node(0xa0, set), node(0x31))))
}

// ber writes DER anew with indefinite lengths, and strings in pieces, as NSS does.
func ber(der []byte) []byte {
	e, rest, err := parseElement(der, maxDepth)
	if err != nil || len(rest) > 0 {
		panic(fmt.Sprint(err, len(rest)))
	}
	return indefinitely(e)
}

func indefinitely(e element) []byte {
	if e.tag == 4 && len(e.content) > 1 || e.tag == 0x80 && len(e.content) > 0 {
		half := len(e.content) / 2
		out := []byte{e.tag | constructed, indefinite}
		for _, piece := range [][]byte{e.content[:half], e.content[half:]} {
			e := element{tag: 4, content: piece}
			out = append(out, e.append(nil)...)
		}
		return append(out, 0, 0)
	}
	if e.tag&constructed == 0 {
		return e.append(nil)
	}
	out := []byte{e.tag, indefinite}
	for _, part := range e.parts {
		out = append(out, indefinitely(part)...)
	}
	return append(out, 0, 0)
}

func TestPKCS12(t *testing.T) {
	t.Parallel()
	chain := party().Chain
	for name, encoder := range map[string]*pkcs12.Encoder{
		"Modern2023": pkcs12.Modern2023, "Modern2026": pkcs12.Modern2026, "LegacyDES": pkcs12.LegacyDES, "LegacyRC2": pkcs12.LegacyRC2,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, word := range []string{password, "", "plain"} {
				p12, err := encoder.Encode(partyKey(), chain[0], chain[1:], word)
				if err != nil {
					t.Fatal(err)
				}
				holds(t, Read(p12, Source{Password: word}), true, chain...)
				holds(t, Read(ber(p12), Source{Password: word}), true, chain...)
				holds(t, Read([]byte(base64.StdEncoding.EncodeToString(p12)), Source{Password: word}), true, chain...)
				for _, wrong := range []string{"", "other"} {
					if wrong == word {
						continue
					}
					want := "the password does not open the PKCS#12 file"
					if wrong == "" {
						want = "the PKCS#12 file has a password, and none is given"
					}
					wantFault(t, Read(p12, Source{Password: wrong, PasswordFrom: "the vault"}), Whole, want, "password in the vault.")
				}
			}
		})
	}
}

// TestPKCS12WithoutMAC: nothing tells that a password is right but what comes out.
func TestPKCS12WithoutMAC(t *testing.T) {
	t.Parallel()
	p12, err := pkcs12.LegacyDES.Encode(partyKey(), party().Chain[0], party().Chain[1:], "plain")
	if err != nil {
		t.Fatal(err)
	}
	e, _, _ := parseElement(p12, maxDepth)
	e.parts = e.parts[:2]
	bare := e.append(nil)
	holds(t, Read(bare, Source{Password: "plain"}), true, party().Chain...)
	for i := range 8 {
		wantFault(t, Read(bare, Source{Password: fmt.Sprint("wrong", i)}), Whole, "the password does not open the PKCS#12 file", "Give the right password")
	}
}

// Seven numbers of RFC 2268 section 5 and one of this project's own reading: what is written with a
// key of 40 bits is read in TestPKCS12.
func TestRC2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, plain, cipher string }{
		{"\x30\x00\x00\x00\x00\x00\x00\x00", "\x10\x00\x00\x00\x00\x00\x00\x01", "\x30\x64\x9e\xdf\x9b\xe7\xd2\xc2"},
		{"\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff", "\x27\x8b\x27\xe4\x2e\x2f\x0d\x49"},
		{"\x88\xbc\xa9\x0e\x90\x87\x5a\x7f\x0f\x79\xc3\x84\x62\x7b\xaf\xb2", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x22\x69\x55\x2a\xb0\xf8\x5c\xa6"},
	} {
		got := make([]byte, 8)
		newRC2([]byte(c.key)).Decrypt(got, []byte(c.cipher))
		if string(got) != c.plain {
			t.Errorf("%x, want %x", got, c.plain)
		}
	}
}

// wantFault fails the test unless there is one fault.
func wantFault(t *testing.T, c *Contents, part Part, message, hint string) {
	t.Helper()
	if len(c.Faults) != 1 {
		t.Fatalf("%d faults, want 1: %+v", len(c.Faults), c.Faults)
	}
	f := c.Faults[0]
	if f.Part != part || !strings.Contains(f.Message, message) || !strings.Contains(f.Hint, hint) || !strings.HasSuffix(f.Hint, ".") {
		t.Errorf("fault %+v\nwant part %d, message %q, hint %q", f, part, message, hint)
	}
	discreet(t, c)
}

// discreet fails the test when what is told holds words of encoding/asn1 or the password.
func discreet(tb testing.TB, c *Contents) {
	tb.Helper()
	for _, f := range c.Faults {
		text := f.Message + f.Hint
		for _, never := range []string{"asn1", "structure error", "tags don't match", "x509:", password} {
			if strings.Contains(text, never) {
				tb.Errorf("%q holds %q", text, never)
			}
		}
		if f.Message == "" || !strings.HasSuffix(f.Hint, ".") {
			tb.Errorf("fault %+v says nothing, or its hint is no sentence", f)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	one := string(testca.EncodeCertificates(party().Chain[0]))
	lines := strings.Split(one, "\n")
	modern, err := pkcs12.Modern.Encode(partyKey(), party().Chain[0], nil, password)
	if err != nil {
		t.Fatal(err)
	}
	request, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, party().Key)
	agree, _ := ecdh.X25519().GenerateKey(rand.Reader)
	old := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: %s,00000000000000000000000000000000\n\nMAAAAAAAAAAAAAAAAAAAAA==\n-----END RSA PRIVATE KEY-----\n"
	for name, c := range map[string]struct {
		data          []byte
		part          Part
		message, hint string
	}{
		"no END line":         {[]byte(one[:len(one)/2]), Whole, "PEM block 1 has no END line: -----END CERTIFICATE----- has to follow", "Copy the file again"},
		"another END line":    {[]byte(strings.Replace(one, "END CERT", "END X509 CERT", 1)), Whole, "PEM block 1 has no END line", "Copy the file again"},
		"two BEGIN lines":     {[]byte(lines[0] + "\n" + one), Whole, "PEM block 1 has no END line", "Copy the file again"},
		"a line missing":      {[]byte(strings.Replace(one, lines[3]+"\n", lines[3][:31]+"\n", 1)), Whole, "PEM block 1 (CERTIFICATE) is not whole", "Copy the file again"},
		"shortened":           {[]byte(lines[0] + "\nMIID...\n" + "-----END CERTIFICATE-----"), Whole, "is shortened", "original"},
		"percent-encoded":     {[]byte(strings.ReplaceAll(one, "\n", "%0A")), Whole, "percent-encoded", "%0A is a line break"},
		"quoted mail":         {[]byte(strings.ReplaceAll(one, "\nM", "\n> M")), Whole, "holds '>', which is not base64", "letters, digits"},
		"BEGIN line damaged":  {[]byte("-----BEGIN CERTIFICATE\nMIID\n"), Whole, "the BEGIN line of PEM block 1 is damaged", "Copy"},
		"dashes":              {[]byte(strings.ReplaceAll(one, "-----", "—–")), Whole, "the hyphens around BEGIN are not those of PEM", "five hyphens"},
		"cut off":             {party().Chain[0].Raw[:300], Whole, "cut off", "binary mode"},
		"rubbish behind":      {append(slices.Clone(party().Chain[0].Raw), "rubbish"...), Whole, "the last 7 bytes are no key and no certificate", "again"},
		"a Java keystore":     {[]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"), Whole, "Java keystore", "keytool -importkeystore -srckeystore 'it'\\''s' -destkeystore"},
		"SSH":                 {block("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")), PrivateKey, "a key for SSH", "seal"},
		"key agreement":       {block("PRIVATE KEY", pkcs8(agree)), PrivateKey, "cannot sign", "seal"},
		"damaged key":         {block("PRIVATE KEY", []byte{0x30, 0}), PrivateKey, "what stands between its BEGIN and END lines is no certificate, key or PKCS#12", "again"},
		"damaged inside":      {block("PRIVATE KEY", []byte("\x30\x0a\x02\x01\x00\x30\x03\x06\x01\x05\x04\x00")), PrivateKey, "the private key cannot be read", "again"},
		"damaged certificate": {block("CERTIFICATE", []byte{0x30, 0}), Certificate, "certificate 1 is no certificate", "again"},
		"request as a chain":  {block("CERTIFICATE", request), Certificate, "certificate 1 is a certificate signing request", "again"},
		"a message":           {block("PKCS7", []byte("\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03")), Certificate, "holds a message, and no list", "alone"},
		"damaged PKCS#7":      {block("PKCS7", []byte("\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02")), Certificate, "PKCS#7 file cannot be read", "again"},
		"trust that rejects":  {block("TRUSTED CERTIFICATE", append(slices.Clone(party().Chain[0].Raw), "\x30\x07\xa0\x05\x06\x03\x55\x1d\x25"...)), Certificate, "remarks that only OpenSSL heeds", "openssl x509 -in 'it'\\''s'"},
		"an old wrong word":   {fmt.Appendf(nil, old, "AES-128-CBC"), PrivateKey, "the password does not open the private key", "Give the right password with it."},
		"an old cipher":       {fmt.Appendf(nil, old, "CAMELLIA-128-CBC"), PrivateKey, "DEK-Info: CAMELLIA-128-CBC, which is not supported", "openssl pkey -in 'it'\\''s'"},
		"too many iterations": {iterated(t, modern, 2_000_000_000), Whole, "hashed over 10000000 times", "openssl pkcs12"},
		"no iterations":       {iterated(t, modern, 0), Whole, "it is damaged", "again"},
		"signed PKCS#12":      {replaced(t, modern, "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01", "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"), Whole, "a signature in place of a password", "openssl pkcs12"},
		"an unknown MAC":      {replaced(t, modern, "\x60\x86\x48\x01\x65\x03\x04\x02\x01", "\x60\x86\x48\x01\x65\x03\x04\x02\x0f"), Whole, "the MAC of the identifier 2.16.840.1.101.3.4.2.15", "openssl pkcs12"},
		"too large":           {make([]byte, MaxSize+1), Whole, "over 1024 KiB", "right file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantFault(t, Read(c.data, Source{Name: "it's", Password: "pässwörd €"}), c.part, c.message, c.hint)
		})
	}
}

// iterated states another number of iterations for the MAC.
func iterated(t *testing.T, p12 []byte, iterations uint32) []byte {
	t.Helper()
	e, _, err := parseElement(p12, maxDepth)
	if err != nil {
		t.Fatal(err)
	}
	mac := &e.parts[2]
	if len(mac.parts) == 2 {
		mac.parts = append(mac.parts, element{tag: 2})
	}
	mac.parts[2].content = binary.BigEndian.AppendUint32(nil, iterations)
	if iterations == 0 {
		mac.parts[2].content = []byte{0}
	}
	return e.append(nil)
}

// replaced changes the last of some bytes.
func replaced(t *testing.T, data []byte, old, with string) []byte {
	t.Helper()
	at := bytes.LastIndex(data, []byte(old))
	if old[8] == 1 && old[7] == 7 { // the first, of the whole file
		at = bytes.Index(data, []byte(old))
	}
	if at < 0 {
		t.Fatalf("%x is not there", old)
	}
	return slices.Concat(data[:at], []byte(with), data[at+len(old):])
}

func TestInstead(t *testing.T) {
	t.Parallel()
	public, _ := x509.MarshalPKIXPublicKey(party().Key.Public())
	request, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, party().Key)
	for want, data := range map[string][]byte{
		"nothing":                       []byte("\n"),
		"neither PEM nor PKCS#12":       []byte("hello\n"),
		"a public key":                  block("PUBLIC KEY", public),
		"a certificate signing request": request,
		"certificates only":             chainPEM(),
		"a private key only":            keyPEM(),
		"HTML or XML":                   []byte("<!DOCTYPE html>"),
		"a key for SSH":                 []byte("ssh-ed25519 AAAA"),
	} {
		if c := Read(data, Source{}); c.Instead() != want || len(c.Faults) > 0 {
			t.Errorf("%q, %v; want %q", c.Instead(), c.Faults, want)
		}
	}
}

// TestSeveralKeys: each comes with the name that its program gave it.
func TestSeveralKeys(t *testing.T) {
	t.Parallel()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var name []byte
	for _, u := range utf16.Encode([]rune("zégel")) {
		name = append(name, byte(u>>8), byte(u))
	}
	oid := func(id ...int) []byte {
		der, err := asn1.Marshal(asn1.ObjectIdentifier(id))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	bag, data := oid(1, 2, 840, 113549, 1, 12, 10, 1, 1), oid(oidData...)
	bags := node(0x30,
		node(0x30, bag, node(0xa0, pkcs8(party().Key)), node(0x31, node(0x30, oid(oidFriendlyName...), node(0x31, node(30, name))))),
		node(0x30, bag, node(0xa0, pkcs8(other))))
	safes := node(0x30, node(0x30, data, node(0xa0, node(4, bags))))
	p12 := node(0x30, []byte{2, 1, 3}, node(0x30, data, node(0xa0, node(4, safes))))
	for _, data := range [][]byte{p12, ber(p12)} {
		c := Read(data, Source{})
		if len(c.Faults) > 0 || len(c.Keys) != 2 || c.Keys[0].Name != "zégel" || c.Keys[1].Name != "" || !partyKey().Equal(c.Keys[0].Signer) || !other.Equal(c.Keys[1].Signer) {
			t.Errorf("keys %v, faults %v", c.Keys, c.Faults)
		}
	}
}

func TestIsText(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"": false, "party-key.pem": false, "/etc/waybill/key": false, "MIIEvQIBADANBgkqhkiG9w0B": false, "pkcs11:token=t;object=o": false,
		`{"keys":[{"k":"c2VjcmV0"}]}`: true, ` { "keys" : [] }`: true, `keys":[{"k":"c2VjcmV0"}]}`: true, "/srv/{name}/key.pem": false,
		string(keyPEM()): true, `-----BEGIN CERTIFICATE-----\nMIID`: true,
		base64.StdEncoding.EncodeToString(pkcs8(party().Key)): true,
		base64.StdEncoding.EncodeToString(keyPEM()):           true,
		base64.StdEncoding.EncodeToString([]byte("secret")):   false,
		// What is left of a key is shown no more than a whole one.
		string(keyPEM()[len("-----BEGIN PRIVATE KEY-----"):]):              true,
		"-----BEGIN%20PRIVATE%20KEY-----MIIE":                              true,
		"MIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcw":                           true,
		base64.StdEncoding.EncodeToString(pkcs8(party().Key))[1:400]:       true,
		"/etc/" + strings.Repeat("a-long-folder.d/", 20) + "party-key.pem": false,
	} {
		if IsText(value) != want {
			t.Errorf("%.60q is text: %v", value, !want)
		}
	}
}

// TestBER: nothing that anybody can write takes the reader deep or long.
func TestBER(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ber  []byte
		want error
	}{
		"empty":                      {nil, errCutOff},
		"deep":                       {bytes.Repeat([]byte{0x30, 0x80}, MaxSize/2), errBER},
		"no end":                     {[]byte{0x30, 0x80, 0x05, 0x00}, errCutOff},
		"primitive without a length": {[]byte{0x04, 0x80, 0x00, 0x00}, errBER},
		"a long tag":                 {[]byte{0x3f, 0x81, 0x01, 0x00}, errBER},
		"a long length":              {[]byte{0x30, 0x85, 0, 0, 0, 0, 1}, errBER},
		"longer than it is":          {[]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, errCutOff},
		"a part longer than it":      {[]byte{0x30, 0x02, 0x04, 0x05}, errBER},
		"a string of other things":   {[]byte{0x24, 0x02, 0x05, 0x00}, errBER},
	} {
		if _, _, err := toDER(c.ber); err != c.want { //nolint:errorlint // the very one
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	der, rest, err := toDER([]byte("\x30\x82\x00\x0a\x24\x80\x04\x01a\x04\x81\x01b\x00\x00behind"))
	if err == nil || der != nil || rest != nil {
		t.Errorf("an element that its parts overflow: %q, %q, %v", der, rest, err)
	}
	der, rest, err = toDER([]byte("\x30\x82\x00\x0b\x24\x80\x04\x01a\x04\x81\x01b\x00\x00behind"))
	if err != nil || string(der) != "\x30\x04\x04\x02ab" || string(rest) != "behind" {
		t.Errorf("%q, %q, %v", der, rest, err)
	}
}

// TestManyParts: what a file may hold many of does not cost with the square of their number.
func TestManyParts(t *testing.T) {
	const size, most = 128 << 10, 64 << 20
	for name, data := range map[string]string{
		"headers of PEM":     "-----BEGIN X-----\n" + strings.Repeat("a:\n", size/3) + "-----END X-----\n",
		"empty certificates": strings.Repeat("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", size/56),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		Read([]byte(data), Source{})
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s: %d MiB for %d KiB", name, used>>20, size>>10)
		}
	}
}

// TestMACByScrypt: the length of the key has to be stated, as nothing else tells it.
func TestMACByScrypt(t *testing.T) {
	t.Parallel()
	salt, data := []byte("salt"), []byte("data")
	for length, want := range map[int]error{0: errBER, 32: nil} {
		numbers := []byte{2, 1, 2, 2, 1, 1, 2, 1, 1}
		var key []byte
		if length > 0 {
			numbers = append(numbers, 2, 1, byte(length))
			var err error
			if key, err = scrypt.Key([]byte(password), salt, 2, 1, 1, length); err != nil {
				t.Fatal(err)
			}
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(data)
		parameters := node(0x30,
			node(0x30, marshalOID(t, 1, 3, 6, 1, 4, 1, 11591, 4, 11), node(0x30, node(4, salt), numbers)),
			node(0x30, marshalOID(t, 1, 2, 840, 113549, 2, 9)))
		l := &decrypter{password: password, work: maxWork}
		if err := l.isPBMAC1(macData{parameters: parameters, sum: mac.Sum(nil)}, data); !errors.Is(err, want) {
			t.Errorf("a key of %d bytes: %v, want %v", length, err, want)
		}
	}
}

func marshalOID(t *testing.T, numbers ...int) []byte {
	t.Helper()
	der, err := asn1.Marshal(asn1.ObjectIdentifier(numbers))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// FuzzToDER: DER stays as it is, and what comes of BER is DER, no longer than it was by more than its lengths.
func FuzzToDER(f *testing.F) {
	f.Add(pkcs7(party().Chain[0]))
	f.Add(ber(pkcs7(party().Chain[0])))
	f.Add([]byte("\x30\x80\x24\x80\x04\x01a\x04\x01b\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		der, rest, err := toDER(data)
		if err != nil {
			return
		}
		if len(der)+len(rest) > 3*len(data) {
			t.Errorf("%d bytes of %d", len(der), len(data))
		}
		again, none, err := toDER(der)
		if err != nil || len(none) > 0 || !bytes.Equal(again, der) {
			t.Errorf("%x is not DER: %v", der, err)
		}
	})
}

// FuzzRead: whatever it is fed, it says something of it, in words that can be shown.
func FuzzRead(f *testing.F) {
	quick, err := pkcs12.LegacyRC2.WithIterations(1).Encode(partyKey(), party().Chain[0], nil, password)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(quick)
	f.Add(ber(quick))
	f.Add(append(keyPEM(), chainPEM()...))
	f.Add(pkcs7(party().Chain[0]))
	f.Add(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(partyKey())))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----Proc-Type: 4,ENCRYPTED DEK-Info: AES-128-CBC,00000000000000000000000000000000 MAAA-----END RSA PRIVATE KEY-----"))
	f.Add([]byte("\xff\xfe-\x00-\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Read(data, Source{Name: "x", Password: password})
		discreet(t, c)
		for _, k := range c.Keys {
			if k.Signer == nil || k.Public() == crypto.PublicKey(nil) {
				t.Error("a key that is none")
			}
		}
		if len(c.Faults)+len(c.Keys)+len(c.Certificates) == 0 && c.Instead() == "" {
			t.Error("nothing is said of it")
		}
		_ = IsText(string(data))
	})
}
