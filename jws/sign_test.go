package jws_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/jws"
)

// A module is a signer whose key cannot be seen, as in a hardware module.
type module struct {
	key  crypto.Signer
	fail error
	seen []crypto.SignerOpts
}

func (m *module) Public() crypto.PublicKey { return m.key.Public() }

func (m *module) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	m.seen = append(m.seen, opts)
	if m.fail != nil {
		return nil, m.fail
	}
	return m.key.Sign(random, digest, opts)
}

func TestSignByEachAlgorithm(t *testing.T) {
	me := consumer()
	for alg, hash := range map[jws.Algorithm]crypto.Hash{
		jws.RS256: crypto.SHA256, jws.RS384: crypto.SHA384, jws.RS512: crypto.SHA512,
	} {
		hardware := &module{key: me.Key}
		compact, err := jws.Sign(alg, hardware, me.Chain, []byte(`{"iss":"a"}`))
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if len(hardware.seen) != 1 || hardware.seen[0] != crypto.SignerOpts(hash) {
			t.Errorf("%s: the signer was asked for %v", alg, hardware.seen)
		}
		for _, other := range []jws.Algorithm{jws.RS256, jws.RS384, jws.RS512} {
			if err := verify(t, compact, other, public(t, me)); (err == nil) != (other == alg) {
				t.Errorf("signed by %s, verified by %s: %v", alg, other, err)
			}
		}
		if payload, err := accept(compact, public(t, me)); err != nil || string(payload) != `{"iss":"a"}` {
			t.Errorf("%s: payload %q, %v", alg, payload, err)
		}
	}
}

func TestSignedHeaderIsExactlyThreeMembers(t *testing.T) {
	me := consumer()
	header, _, _ := strings.Cut(sign(t, jws.RS384, me, "{}"), ".")
	var got map[string]any
	if err := json.Unmarshal(raw(t, header), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"alg": "RS384", "typ": "JWT", "x5c": []any{}}
	for _, cert := range me.Chain {
		entries, _ := want["x5c"].([]any)
		want["x5c"] = append(entries, base64.StdEncoding.EncodeToString(cert.Raw))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestSignRefuses(t *testing.T) {
	me := consumer()
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		alg   jws.Algorithm
		key   crypto.Signer
		chain []*x509.Certificate
	}{
		{"no algorithm", "", me.Key, me.Chain},
		{"alg none", "none", me.Key, me.Chain},
		{"PSS", "PS256", me.Key, me.Chain},
		{"no key", jws.RS256, nil, me.Chain},
		{"no certificate", jws.RS256, me.Key, nil},
		{"key that is not RSA", jws.RS256, curve, me.Chain},
		{"key of another certificate", jws.RS256, stranger().Key, me.Chain},
		{"leaf not first", jws.RS256, me.Key, me.Chain[1:]},
	} {
		if compact, err := jws.Sign(test.alg, test.key, test.chain, []byte("{}")); err == nil || compact != "" {
			t.Errorf("%s: %q, %v", test.name, compact, err)
		}
	}
}

func TestSignTellsWhyTheSignerFailed(t *testing.T) {
	gone := errors.New("module was removed")
	if _, err := jws.Sign(jws.RS256, &module{key: consumer().Key, fail: gone}, consumer().Chain, nil); !errors.Is(err, gone) {
		t.Errorf("%v, want the signer's error", err)
	}
}

func TestSignTakesAnyPayload(t *testing.T) {
	for _, payload := range []string{"\x00", "not JSON \xff", strings.Repeat("x", 100_000)} {
		if got, err := accept(sign(t, jws.RS512, consumer(), payload), public(t, consumer())); err != nil || string(got) != payload {
			t.Errorf("%.20q: %.20q, %v", payload, got, err)
		}
	}
}
