package jws_test

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/jws"
)

// ca and consumer are shared, because keys are dear.
var (
	ca = sync.OnceValue(func() *testca.CA {
		made, err := testca.New(testca.Config{NewKey: testca.PooledKey})
		if err != nil {
			panic(err)
		}
		return made
	})
	consumer = sync.OnceValue(func() *testca.Identity { return newSeal("Consumer") })
	stranger = sync.OnceValue(func() *testca.Identity { return newSeal("Stranger") })
)

func newSeal(name string) *testca.Identity {
	seal, err := ca().Seal(testca.SealRequest{Organization: name, Identifier: "NTRNL-10000001"})
	if err != nil {
		panic(err)
	}
	return seal
}

func sign(tb testing.TB, alg jws.Algorithm, id *testca.Identity, payload string) string {
	tb.Helper()
	compact, err := jws.Sign(alg, id.Key, id.Chain, []byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	return compact
}

func public(tb testing.TB, id *testca.Identity) *rsa.PublicKey {
	tb.Helper()
	key, ok := id.Key.Public().(*rsa.PublicKey)
	if !ok {
		tb.Fatalf("key is %T", id.Key.Public())
	}
	return key
}

func encode[T string | []byte](part T) string {
	return base64.RawURLEncoding.EncodeToString([]byte(part))
}

func join(parts ...string) string { return strings.Join(parts, ".") }

// forge signs any header and payload, right or wrong, with a digest and a key of
// the forger's choice.
func forge(tb testing.TB, header, payload string, key crypto.Signer, opts crypto.SignerOpts) string {
	tb.Helper()
	signed := encode(header) + "." + encode(payload)
	h := opts.HashFunc().New()
	h.Write([]byte(signed))
	signature, err := key.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		tb.Fatal(err)
	}
	return signed + "." + encode(signature)
}

// accept reads a token as a receiver does who knows the key: the steps of this
// package in their order, and nothing in the header besides what iSHARE allows.
func accept(compact string, key *rsa.PublicKey) ([]byte, error) {
	token, err := jws.Split(compact)
	if err != nil {
		return nil, err
	}
	header, err := token.Header()
	if err != nil {
		return nil, err
	}
	name, _ := header.Text("alg")
	alg, err := jws.ParseAlgorithm(name)
	if err != nil {
		return nil, err
	}
	if typ, _ := header.Text("typ"); typ != "JWT" {
		return nil, fmt.Errorf("typ is %q", typ)
	}
	if others := header.Others("alg", "typ", "x5c"); len(others) > 0 {
		return nil, fmt.Errorf("header holds %q", others)
	}
	if _, err := header.Certificates(nil); err != nil {
		return nil, err
	}
	if err := token.Verify(alg, jws.NewKey(key)); err != nil {
		return nil, err
	}
	return token.Payload(), nil
}

func TestSplit(t *testing.T) {
	header, payload, signature := encode(`{"alg":"RS256"}`), encode(`{"iss":"a"}`), encode("signature")
	for name, compact := range map[string]string{
		"plain":                       join(header, payload, signature),
		"payload that is no JSON":     join(header, encode("\x00\xff"), signature),
		"header that is not base64":   join("!", payload, signature), // Header tells
		"characters - and _":          join(header, "-_-_", signature),
		"last character without bits": join(header, "AA", "AAA"),
	} {
		if _, err := jws.Split(compact); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, compact := range map[string]string{
		"empty":                           "",
		"one part":                        header,
		"two parts":                       join(header, payload),
		"four parts":                      join(header, payload, signature, ""),
		"five parts, a JWE":               join(header, payload, signature, signature, signature),
		"dots only":                       "..",
		"empty header":                    join("", payload, signature),
		"empty payload, detached":         join(header, "", signature),
		"empty signature, stripped":       join(header, payload, ""),
		"padding":                         join(header, encode("a")+"==", signature),
		"padding of the signature":        join(header, payload, encode("a")+"=="),
		"blank behind":                    join(header, payload, signature) + " ",
		"blank inside":                    join(header, payload[:4]+" "+payload[4:], signature),
		"line feed behind":                join(header, payload, signature) + "\n",
		"line feed in the payload":        join(header, payload[:4]+"\n"+payload[4:], signature),
		"carriage return in the payload":  join(header, payload[:4]+"\r"+payload[4:], signature),
		"line break in the signature":     join(header, payload, signature[:4]+"\r\n"+signature[4:]),
		"line feeds alone as a part":      join(header, payload, "\n\n"),
		"standard alphabet":               join(header, "+/+/", signature),
		"spare bits in the payload":       join(header, "AB", signature),
		"spare bits in the signature":     join(header, payload, "AAB"),
		"one character too many":          join(header, "AAAAA", signature),
		"tilde, an SD-JWT":                join(header, payload, signature) + "~",
		"not UTF-8":                       join(header, payload, "\xff\xff"),
		"a character that looks like A":   join(header, payload, "АА"),
		"NUL":                             join(header, payload, "AA\x00"),
		"JSON serialisation":              `{"payload":"AA","signature":"AA","protected":"AA"}`,
		"percent-encoded dot":             header + "%2e" + payload + "%2e" + signature,
		"full stop of another script":     header + "。" + payload + "。" + signature,
		"empty parts and something after": "...",
	} {
		if _, err := jws.Split(compact); !errors.Is(err, jws.ErrCompact) {
			t.Errorf("%s: %v, want ErrCompact", name, err)
		}
	}
}

func TestTokenGivesWhatWasSent(t *testing.T) {
	header, payload := encode(`{"alg":"RS256"}`), "any \x00 bytes \xff"
	token, err := jws.Split(join(header, encode(payload), "AA"))
	if err != nil {
		t.Fatal(err)
	}
	if got := token.RawHeader(); got != header {
		t.Errorf("raw header %q, want %q", got, header)
	}
	if got := string(token.Payload()); got != payload {
		t.Errorf("payload %q, want %q", got, payload)
	}
}

func readHeader(t *testing.T, rawHeader string) (*jws.Header, error) {
	t.Helper()
	token, err := jws.Split(join(rawHeader, "AA", "AA"))
	if err != nil {
		t.Fatal(err)
	}
	return token.Header()
}

func TestHeaderIsStrict(t *testing.T) {
	for name, raw := range map[string]string{
		"padding":         encode("{}") + "=",
		"line feed":       "e3\n0",
		"spare bits":      "e31",
		"not base64url":   "e30!",
		"wrong length":    "e30AA",
		"one line break":  "\n",
		"blank before":    " e30",
		"byte order mark": "\ufeffe30",
		"bearer prefix":   "Bearer e30",
	} {
		if _, err := readHeader(t, raw); !errors.Is(err, jws.ErrCompact) {
			t.Errorf("%s: %v, want ErrCompact", name, err)
		}
	}
	for name, header := range map[string]string{
		"empty object":      `{}`,
		"blanks around":     " {\"alg\" : \"RS256\"}\r\n",
		"unknown member":    `{"alg":"RS256","x":{"y":[1,2,{"z":null}]}}`,
		"names that differ": `{"alg":"RS256","Alg":"none","ALG":"none"}`,
		"escaped name":      `{"\u0061lg":"RS256"}`,
		"nested 32 times":   `{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`,
		"brackets in text":  `{"a":"` + strings.Repeat(`[{\"\\`, 100) + `"}`,
		"huge number":       `{"a":1e999999}`,
		"wide, not deep":    `{"a":[{}` + strings.Repeat(`,{},[]`, 100) + `]}`,
	} {
		if _, err := readHeader(t, encode(header)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, header := range map[string]string{
		"null":                  `null`,
		"array":                 `[]`,
		"string":                `"alg"`,
		"number":                `1`,
		"blanks only":           "  ",
		"not JSON":              `alg: RS256`,
		"unfinished":            `{"alg":"RS256"`,
		"comma at the end":      `{"alg":"RS256",}`,
		"comment":               `{"alg":"RS256"/**/}`,
		"single quotes":         `{'alg':'RS256'}`,
		"two values":            `{"alg":"RS256"}{"alg":"none"}`,
		"NUL behind":            "{\"alg\":\"RS256\"}\x00",
		"byte order mark":       "\ufeff{\"alg\":\"RS256\"}",
		"form feed":             "{\f\"alg\":\"RS256\"}",
		"duplicate":             `{"alg":"RS256","alg":"none"}`,
		"duplicate, escaped":    `{"alg":"RS256","\u0061lg":"none"}`,
		"duplicate, nested":     `{"alg":"RS256","x":{"a":1,"a":1}}`,
		"duplicate, in array":   `{"x5c":[{"a":1,"a":1}]}`,
		"invalid UTF-8":         "{\"alg\":\"RS256\xff\"}",
		"invalid UTF-8 in name": "{\"alg\xc0\":1}",
		"half a surrogate":      `{"alg":"\ud800"}`,
		"surrogates reversed":   `{"alg":"\udc00\ud800"}`,
		"bare control byte":     "{\"alg\":\"RS\n256\"}",
		"leading zero":          `{"a":01}`,
		"NaN":                   `{"a":NaN}`,
		"hexadecimal":           `{"a":0x10}`,
		"upper-case true":       `{"a":True}`,
		"UTF-16":                "\xff\xfe{\x00}\x00",
		"nested 33 times":       `{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`,
		"objects in objects":    strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33),
		"after an escaped end":  `{"a":"\\","b":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`,
	} {
		if _, err := readHeader(t, encode(header)); !errors.Is(err, jws.ErrHeader) {
			t.Errorf("%s: %v, want ErrHeader", name, err)
		}
	}
}

func TestHeaderParameters(t *testing.T) {
	h, err := readHeader(t, encode(`{"typ":"J\u0057T","ALG":"none","n":null,"a":["alg"],"i":1,"e":"","f":false,"x5c":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"typ": true, "n": true, "ALG": true, "alg": false, "Typ": false, "": false} {
		if got := h.Has(name); got != want {
			t.Errorf("Has(%q) is %t", name, got)
		}
	}
	for name, want := range map[string]string{"typ": "JWT", "ALG": "none", "e": ""} {
		if got, ok := h.Text(name); !ok || got != want {
			t.Errorf("Text(%q) is %q, %t", name, got, ok)
		}
	}
	for _, name := range []string{"alg", "n", "a", "i", "f", "x5c", "missing"} {
		if got, ok := h.Text(name); ok || got != "" {
			t.Errorf("Text(%q) is %q, %t, and it is no string", name, got, ok)
		}
	}
	if diff := cmp.Diff([]string{"ALG", "a", "e", "f", "i", "n"}, h.Others("alg", "typ", "x5c")); diff != "" {
		t.Errorf("others (-want +got):\n%s", diff)
	}
	if got := h.Others("ALG", "a", "e", "f", "i", "n", "typ", "x5c"); len(got) != 0 {
		t.Errorf("others: %q", got)
	}
}

// Header values of lists and objects keep their text apart from the bytes of the
// token, so that keeping a header does not keep the request alive, nor change with it.
func TestCertificatesAreThoseOfTheHeader(t *testing.T) {
	chain := consumer().Chain
	token, err := jws.Split(sign(t, jws.RS256, consumer(), "{}"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := token.Header()
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Certificates(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(chain) {
		t.Fatalf("%d certificates, want %d", len(got), len(chain))
	}
	for i := range got {
		if !got[i].Equal(chain[i]) {
			t.Errorf("certificate %d is another one", i)
		}
	}
}

func x5c(entries ...string) string { return `{"x5c":[` + strings.Join(entries, ",") + `]}` }

func quote(s string) string { return `"` + s + `"` }

func repeat(entry string, n int) []string {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = entry
	}
	return entries
}

func TestCertificatesThatAreRefused(t *testing.T) {
	der := consumer().Certificate().Raw
	good := quote(base64.StdEncoding.EncodeToString(der))
	pemText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	inLines := strings.Join(strings.Split(string(pemText), "\n")[1:3], `\n`)
	for _, test := range []struct{ name, header, says string }{
		{"missing", `{}`, "missing"},
		{"another case", `{"X5C":[` + good + `]}`, "missing"},
		{"null", `{"x5c":null}`, "not an array"},
		{"one string", `{"x5c":` + good + `}`, "not an array"},
		{"an object", `{"x5c":{"0":` + good + `}}`, "not an array"},
		{"a number", `{"x5c":5}`, "not an array"},
		{"empty", `{"x5c":[]}`, "x5c is empty"},
		{"eleven", x5c(repeat(good, 11)...), "more than 10"},
		{"a hundred", x5c(repeat(good, 100)...), "more than 10"},
		{"eleven that are nothing", x5c(repeat("0", 11)...), "more than 10"},
		{"number in it", x5c(good, "1"), "x5c[1] is not a string"},
		{"null in it", x5c("null"), "x5c[0] is not a string"},
		{"array in it", x5c("[" + good + "]"), "x5c[0] is not a string"},
		{"empty string", x5c(good, `""`), "x5c[1] is an empty string"},
		{"PEM", x5c(quote(strings.ReplaceAll(string(pemText), "\n", `\n`))), "BEGIN and END"},
		{"base64 of PEM", x5c(good, quote(base64.StdEncoding.EncodeToString(pemText))), "x5c[1] is base64 of a PEM text"},
		{"body of PEM in lines", x5c(quote(inLines)), "line breaks"},
		{"line feed behind", x5c(good[:len(good)-1] + `\n"`), "line breaks"},
		{"escaped carriage return", x5c(`"\u000d` + good[1:]), "line breaks"},
		{"blank", x5c(`" ` + good[1:]), "not standard base64"},
		{"base64url", x5c(quote("-_-_")), "not standard base64"},
		{"without padding", x5c(quote("AA")), "not standard base64"},
		{"spare bits", x5c(quote("AB==")), "not standard base64"},
		{"hex", x5c(quote(fmt.Sprintf("%x", der[:len(der)&^1]))), "x5c[0] is no DER"},
		{"hex of an odd number of bytes", x5c(quote(fmt.Sprintf("%x", der[:len(der)&^1-1]))), "not standard base64"},
		{"URL", x5c(quote("https://example.com/certificate")), "not standard base64"},
		{"byte behind", x5c(quote(base64.StdEncoding.EncodeToString(append(bytes.Clone(der), 0)))), "x5c[0] is followed by 1 bytes"},
		{"byte missing", x5c(quote(base64.StdEncoding.EncodeToString(der[:len(der)-1]))), "x5c[0] is cut off"},
		{"two in one", x5c(quote(base64.StdEncoding.EncodeToString(append(bytes.Clone(der), der...)))), "that do not belong to it"},
		{"key in place of certificate", x5c(quote(base64.StdEncoding.EncodeToString(consumer().Certificate().RawSubjectPublicKeyInfo))), "x5c[0] is a public key"},
		{"PKCS#7 in place of certificate", x5c(quote("MAsGCSqGSIb3DQEHAg==")), "x5c[0] is PKCS#7"},
		{"a forbidden character", x5c(good, quote(base64.StdEncoding.EncodeToString(underscored(t, der)))), "x5c[1] was issued with the character '_' in a PrintableString"},
	} {
		h, err := readHeader(t, encode(test.header))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if _, err := h.Certificates(nil); !errors.Is(err, jws.ErrX5C) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want ErrX5C with %q", test.name, err, test.says)
		}
	}
}

// underscored has a character in its first PrintableString of four letters and more that
// X.680 does not allow there, as some CAs issue it.
func underscored(t *testing.T, der []byte) []byte {
	t.Helper()
	for i := range der[:len(der)-6] {
		if der[i] == 0x13 && der[i+1] > 3 && der[i+1] < 100 && bytes.IndexFunc(der[i+2:i+6], func(r rune) bool { return r < 'A' || r > 'z' }) < 0 {
			bad := bytes.Clone(der)
			bad[i+3] = '_'
			return bad
		}
	}
	t.Fatal("no PrintableString to spoil")
	return nil
}

// The mend of a certificate that was issued wrongly is another one, and that of a container
// is to take it apart.
func TestHintsOfCertificates(t *testing.T) {
	der := consumer().Certificate().Raw
	for name, test := range map[string]struct {
		der  []byte
		hint string
	}{
		"issued wrongly": {underscored(t, der), "Ask the CA that issued it for another certificate"},
		"PKCS#7":         {[]byte("\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"), "openssl pkcs7 -print_certs"},
		"cut":            {der[:100], "one whole certificate in DER"},
	} {
		h, err := readHeader(t, encode(x5c(quote(base64.StdEncoding.EncodeToString(test.der)))))
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Certificates(nil)
		if flaw, ok := errors.AsType[*jws.FlawError](err); !ok || !strings.Contains(flaw.Hint, test.hint) {
			t.Errorf("%s: %v, hint %q", name, err, flaw.Hint)
		}
	}
}

func TestTenCertificatesAreAccepted(t *testing.T) {
	h, err := readHeader(t, encode(x5c(repeat(quote(base64.StdEncoding.EncodeToString(consumer().Certificate().Raw)), jws.MaxCertificates)...)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Certificates(nil); err != nil || len(got) != jws.MaxCertificates {
		t.Errorf("%d certificates, %v", len(got), err)
	}
}

func TestParseAlgorithm(t *testing.T) {
	for _, want := range []jws.Algorithm{jws.RS256, jws.RS384, jws.RS512} {
		if got, err := jws.ParseAlgorithm(string(want)); err != nil || got != want {
			t.Errorf("ParseAlgorithm(%q) is %q, %v", want, got, err)
		}
	}
	for _, name := range []string{
		"", "none", "None", "nOnE", "rs256", "Rs256", "RS256 ", " RS256", "RS256\x00", "RS1", "RS224", "RS-256",
		"PS256", "PS384", "PS512", "ES256", "ES384", "HS256", "EdDSA", "RSA-OAEP", "ŘS256",
	} {
		if got, err := jws.ParseAlgorithm(name); err == nil || got != "" {
			t.Errorf("ParseAlgorithm(%q) is %q, %v", name, got, err)
		}
	}
}

// The ideas of Wycheproof's JWS vectors, and of the advisories behind them.
func TestForgeriesAreRefused(t *testing.T) {
	me, other := consumer(), stranger()
	const payload = `{"iss":"consumer"}`
	good := sign(t, jws.RS256, me, payload)
	header, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	plain := string(decoded)
	with := func(alg string) string { return strings.Replace(plain, "RS256", alg, 1) }
	swapped := func(from, to string) string { return encode(strings.Replace(plain, from, to, 1)) }
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

	if got, err := accept(good, public(t, me)); err != nil || string(got) != payload {
		t.Fatalf("the token itself: %q, %v", got, err)
	}
	for name, forgery := range map[string]string{
		"alg none, stripped":                  join(encode(with("none")), body, ""),
		"alg none, with a signature":          join(encode(with("none")), body, signature),
		"alg NONE":                            join(encode(with("NONE")), body, signature),
		"alg missing":                         join(encode(`{"typ":"JWT"}`), body, signature),
		"alg null":                            join(encode(strings.Replace(plain, `"RS256"`, "null", 1)), body, signature),
		"alg an array":                        join(encode(strings.Replace(plain, `"RS256"`, `["RS256"]`, 1)), body, signature),
		"signature stripped":                  join(header, body, ""),
		"signature and dot stripped":          join(header, body),
		"other key, own certificates":         sign(t, jws.RS256, other, payload),
		"other key, the victim's header":      forge(t, plain, payload, other.Key, crypto.SHA256),
		"issuer's key, the victim's header":   forge(t, plain, payload, ca().Authority(testca.Issuing).Key, crypto.SHA256),
		"embedded jwk":                        forge(t, withJWK(plain, public(t, other)), payload, other.Key, crypto.SHA256),
		"PSS under RS256":                     forge(t, plain, payload, me.Key, pss),
		"PSS under PS256":                     forge(t, with("PS256"), payload, me.Key, pss),
		"SHA-512 under RS256":                 forge(t, plain, payload, me.Key, crypto.SHA512),
		"SHA-256 under RS512":                 forge(t, with("RS512"), payload, me.Key, crypto.SHA256),
		"SHA-1 under RS1":                     forge(t, with("RS1"), payload, me.Key, crypto.SHA1),
		"RS256 called RS384":                  join(swapped("RS256", "RS384"), body, signature),
		"HMAC with the public key":            mac(me, with("HS256"), payload),
		"HMAC with the public key, as RS256":  mac(me, plain, payload),
		"another payload":                     join(header, encode(`{"iss":"somebody"}`), signature),
		"header in another spelling":          join(encode(strings.Replace(plain, `{`, `{ `, 1)), body, signature),
		"header with a parameter more":        join(encode(strings.Replace(plain, `{`, `{"kid":"1",`, 1)), body, signature),
		"header and payload exchanged":        join(body, header, signature),
		"dot moved":                           join(header+body[:4], body[4:], signature),
		"signature cut by a byte":             join(header, body, encode(raw(t, signature)[:255])),
		"signature longer by a byte":          join(header, body, encode(append(raw(t, signature), 0))),
		"signature with a leading zero":       join(header, body, encode(append([]byte{0}, raw(t, signature)...))),
		"signature plus the modulus":          join(header, body, encode(plusModulus(raw(t, signature), public(t, me)))),
		"signature zero":                      join(header, body, encode(make([]byte, 256))),
		"signature one":                       join(header, body, encode(append(make([]byte, 255), 1))),
		"signature of the modulus":            join(header, body, encode(public(t, me).N.Bytes())),
		"signature of 512 bytes":              join(header, body, encode(make([]byte, 512))),
		"signature of one byte":               join(header, body, encode("\x01")),
		"signature of 100 KB":                 join(header, body, encode(make([]byte, 100_000))),
		"signature of another payload":        replaceSignature(good, sign(t, jws.RS256, me, `{"iss":"a"}`)),
		"signature of the payload alone":      join(header, body, encode(signOver(t, me, payload))),
		"signature of decoded parts":          join(header, body, encode(signOver(t, me, plain+"."+payload))),
		"signature without the dot":           join(header, body, encode(signOver(t, me, header+body))),
		"raw digest as the signature":         join(header, body, encode(digest(header+"."+body))),
		"signature in hexadecimal":            join(header, body, encode(fmt.Sprintf("%x", raw(t, signature)))),
		"signature in base64 twice":           join(header, body, encode(signature)),
		"payload of padding under no digest":  join(header, body, encode(bytes.Repeat([]byte{0xff}, 256))),
		"public key in place of certificates": join(encode(`{"alg":"RS256","typ":"JWT","x5c":["`+base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(public(t, me)))+`"]}`), body, signature),
	} {
		if got, err := accept(forgery, public(t, me)); err == nil {
			t.Errorf("%s: accepted with payload %q", name, got)
		}
	}
}

func raw(tb testing.TB, part string) []byte {
	tb.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func withJWK(header string, key *rsa.PublicKey) string {
	return strings.Replace(header, "{", `{"jwk":{"kty":"RSA","e":"AQAB","n":"`+encode(key.N.Bytes())+`"},`, 1)
}

func mac(victim *testca.Identity, header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	h := hmac.New(sha256.New, victim.Certificate().RawSubjectPublicKeyInfo)
	h.Write([]byte(signed))
	return signed + "." + encode(h.Sum(nil))
}

// plusModulus is congruent to the signature, and a careless verifier takes it.
func plusModulus(signature []byte, key *rsa.PublicKey) []byte {
	return new(big.Int).Add(new(big.Int).SetBytes(signature), key.N).Bytes()
}

func replaceSignature(compact, from string) string {
	return compact[:strings.LastIndexByte(compact, '.')] + from[strings.LastIndexByte(from, '.'):]
}

func digest(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

func signOver(t *testing.T, id *testca.Identity, message string) []byte {
	t.Helper()
	signature, err := id.Key.Sign(rand.Reader, digest(message), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// A signature is as long as the modulus. One in 256 begins with a zero byte, which some
// libraries drop and others put back: two spellings of one signature.
func TestSignatureThatBeginsWithZero(t *testing.T) {
	key, err := testca.PooledKey(1024)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		compact := forge(t, "{}", fmt.Sprint(i), key, crypto.SHA256)
		dot := strings.LastIndexByte(compact, '.')
		signature := raw(t, compact[dot+1:])
		if signature[0] != 0 {
			continue
		}
		if err := verify(t, compact, jws.RS256, &key.PublicKey); err != nil {
			t.Errorf("as it was made: %v", err)
		}
		if err := verify(t, compact[:dot+1]+encode(signature[1:]), jws.RS256, &key.PublicKey); !errors.Is(err, jws.ErrSignature) {
			t.Errorf("without the zero: %v, want ErrSignature", err)
		}
		return
	}
	t.Error("no signature begins with zero")
}

func verify(t *testing.T, compact string, alg jws.Algorithm, key *rsa.PublicKey) error {
	t.Helper()
	token, err := jws.Split(compact)
	if err != nil {
		t.Fatal(err)
	}
	return token.Verify(alg, jws.NewKey(key))
}

func TestVerifyNeedsAlgorithmAndKey(t *testing.T) {
	compact := sign(t, jws.RS256, consumer(), "{}")
	for _, alg := range []jws.Algorithm{"", "none", "HS256", "PS256", "rs256"} {
		if err := verify(t, compact, alg, public(t, consumer())); !errors.Is(err, jws.ErrSignature) {
			t.Errorf("algorithm %q: %v, want ErrSignature", alg, err)
		}
	}
	if err := verify(t, compact, jws.RS256, nil); !errors.Is(err, jws.ErrSignature) {
		t.Errorf("no key: %v, want ErrSignature", err)
	}
	if err := verify(t, compact, jws.RS256, &rsa.PublicKey{}); !errors.Is(err, jws.ErrSignature) {
		t.Errorf("empty key: %v, want ErrSignature", err)
	}
}
