package accesstoken

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// jwkFile writes any JWK as a key file.
func jwkFile(tb testing.TB, jwk jose.JSONWebKey) string {
	tb.Helper()
	data, err := jwk.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	file, err := json.Marshal(keyFile{Created: time.Now(), JWK: data})
	if err != nil {
		tb.Fatal(err)
	}
	return string(file)
}

func TestParseKeyFile(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	mixed := &ecdsa.PrivateKey{PublicKey: other.PublicKey, D: ec.D} //nolint:staticcheck // halves of two keys
	secret := make([]byte, sealingKeySize)
	oct := jose.JSONWebKey{Key: secret, KeyID: "kid", Use: "enc", Algorithm: "A256GCM"}
	sig := jose.JSONWebKey{Key: ec, KeyID: "kid", Use: "sig", Algorithm: "ES256"}
	with := func(jwk jose.JSONWebKey, change func(*jose.JSONWebKey)) string {
		change(&jwk)
		return jwkFile(t, jwk)
	}
	good := jwkFile(t, oct)
	for u, file := range map[use]string{sealing: good, signing: jwkFile(t, sig)} {
		k, err := parseKeyFile(u, 7, []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		if k.kid != "kid" || k.use != u || k.number != 7 {
			t.Errorf("%+v", k.keyRef)
		}
	}
	tests := []struct {
		name, file string
		use        use
	}{
		{"empty", "", sealing},
		{"null", "null", sealing},
		{"array", "[]", sealing},
		{"no created", strings.Replace(good, "created", "made", 1), sealing},
		{"created is no time", strings.Replace(good, `"created":"`, `"created":"x`, 1), sealing},
		{"a member twice", strings.Replace(good, "{", `{"kid":"kid",`, 1), sealing},
		{"something behind", good + good, sealing},
		{"sealing key for signing", good, signing},
		{"signing key for sealing", jwkFile(t, sig), sealing},
		{"signing key said to be for sealing", with(sig, func(k *jose.JSONWebKey) { k.Use = "enc" }), sealing},
		{"sealing key said to be for signing", with(oct, func(k *jose.JSONWebKey) { k.Use = "sig" }), signing},
		{"no use", with(oct, func(k *jose.JSONWebKey) { k.Use = "" }), sealing},
		{"no kid", with(oct, func(k *jose.JSONWebKey) { k.KeyID = "" }), sealing},
		{"kid with a line break", with(oct, func(k *jose.JSONWebKey) { k.KeyID = "a\nb" }), sealing},
		{"kid too long", with(oct, func(k *jose.JSONWebKey) { k.KeyID = strings.Repeat("k", 65) }), sealing},
		{"no alg", with(oct, func(k *jose.JSONWebKey) { k.Algorithm = "" }), sealing},
		{"another alg", with(oct, func(k *jose.JSONWebKey) { k.Algorithm = "HS256" }), sealing},
		{"128 bits", with(oct, func(k *jose.JSONWebKey) { k.Key = secret[:16] }), sealing},
		{"264 bits", with(oct, func(k *jose.JSONWebKey) { k.Key = make([]byte, 33) }), sealing},
		{"public key", with(sig, func(k *jose.JSONWebKey) { k.Key = &ec.PublicKey }), signing},
		{"P-384", with(sig, func(k *jose.JSONWebKey) { k.Key = p384 }), signing},
		{"RSA", with(sig, func(k *jose.JSONWebKey) { k.Key = rsaKey }), signing},
		{"halves of two keys", with(sig, func(k *jose.JSONWebKey) { k.Key = mixed }), signing},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if k, err := parseKeyFile(test.use, 1, []byte(test.file)); err == nil || k != nil {
				t.Errorf("parseKeyFile(%s) = %v, %v; want an error", test.file, k, err)
			}
		})
	}
}

// Whichever bit of a key file flips, the file is refused, or says the same key as before.
func TestDamagedKeyFiles(t *testing.T) {
	for _, u := range []use{sealing, signing} {
		data, err := newKeyFile(u, time.Now(), 0)
		if err != nil {
			t.Fatal(err)
		}
		want, err := parseKeyFile(u, 1, data)
		if err != nil {
			t.Fatal(err)
		}
		token, err := want.seal([]byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		for bit := range 8 * len(data) {
			flipped := bytes.Clone(data)
			flipped[bit/8] ^= 1 << (bit % 8)
			k, err := parseKeyFile(u, 1, flipped)
			if err != nil {
				continue
			}
			if payload, err := k.open(token); err != nil || string(payload) != "payload" || k.kid != want.kid || !k.created.Equal(want.created) {
				t.Errorf("bit %d makes another key: %v", bit, err)
			}
		}
		if _, err := parseKeyFile(u, 1, bytes.Replace(data, []byte(want.kid), []byte("other"), 1)); !errors.Is(err, errKeySum) {
			t.Errorf("under another name: %v", err)
		}
		laidOut := jsontext.Value(bytes.Clone(data))
		if err := laidOut.Compact(); err != nil {
			t.Fatal(err)
		}
		if _, err := parseKeyFile(u, 1, laidOut); err != nil {
			t.Errorf("laid out otherwise: %v", err)
		}
	}
}

// Whatever parses makes tokens and reads them back.
func FuzzParseKeyFile(f *testing.F) {
	for _, u := range []use{sealing, signing} {
		data, err := newKeyFile(u, time.Now(), 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(u), data)
		f.Add(string(u), data[:len(data)/2])
	}
	f.Add("enc", []byte(`{"created":"2026-01-01T00:00:00Z","kty":"oct","use":"enc","alg":"A256GCM","kid":"k","k":""}`))
	f.Add("sig", []byte(`{"created":"2026-01-01T00:00:00Z","kty":"EC","use":"sig","alg":"ES256","kid":"k","crv":"P-256","x":"","y":"","d":""}`))
	f.Add("sig", []byte(`{"created":"2026-01-01T00:00:00Z","kty":"OKP","crv":"Ed25519","kid":"k"}`))
	f.Fuzz(func(t *testing.T, u string, data []byte) {
		k, err := parseKeyFile(use(u), 1, data)
		if err != nil {
			return
		}
		token, err := k.seal([]byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		ref, err := inspect(token)
		if err != nil || ref != k.keyRef {
			t.Fatalf("inspect = %+v, %v", ref, err)
		}
		if payload, err := k.open(token); err != nil || string(payload) != "payload" {
			t.Fatalf("open = %q, %v", payload, err)
		}
	})
}
