package isharetest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
)

// signatureAttempts break the rule jwt.signature.
func (s *Attempts) signatureAttempts() []Attempt {
	return s.breaking(rule.JWTSignature, append(s.wrongSigners(), s.wrongSignatures()...)...)
}

func signWith(key crypto.Signer) func(*Request) {
	return func(r *Request) { r.Assertion.Key = key }
}

func (s *Attempts) wrongSigners() []variant {
	return []variant{
		{name: "another key", about: "Somebody else's key signed.", official: "signature by a key other than x5c", edit: signWith(s.stranger.Key)},
		{name: "key of x5c[1]", about: "The key of the second certificate in x5c signed.", edit: signWith(s.ca.ca.Authority(testca.Issuing).Key)},
		{name: "key of the root", about: "The key of the last certificate in x5c signed.", edit: signWith(s.ca.ca.Authority(testca.Root).Key)},
	}
}

// signed changes a right signature.
func signed(change func([]byte) []byte) func(*Request) {
	return func(r *Request) {
		r.Assertion.Sign = func(signed string) []byte { return change(r.Assertion.signWithKey(signed)) }
	}
}

func (s *Attempts) wrongSignatures() []variant {
	return []variant{
		{name: "one bit", about: "The last bit of the signature is flipped.", edit: signed(func(b []byte) []byte {
			b[len(b)-1] ^= 1
			return b
		})},
		{name: "shorter", about: "The signature lacks its last byte.", edit: signed(func(b []byte) []byte { return b[:len(b)-1] })},
		{name: "longer", about: "A zero byte stands before the signature.", edit: signed(func(b []byte) []byte { return slices.Insert(b, 0, 0) })},
		{name: "zero", about: "The signature is nothing but zeros.", edit: signed(func(b []byte) []byte { return make([]byte, len(b)) })},
		{name: "one byte", about: "The signature is one byte.", edit: signed(func([]byte) []byte { return []byte{1} })},
		{name: "SHA-512 for RS256", about: "alg is RS256; the signature is right for RS512.", edit: func(r *Request) {
			r.Assertion.Sign = func(signed string) []byte {
				digest, hash := digestFor("RS512", signed)
				return must(s.Consumer.Key.Sign(rand.Reader, digest, hash))
			}
		}},
		{name: "PSS for RS256", about: "alg is RS256; the signature is right for PS256.", edit: signPSS(s.Consumer.Key)},
		{name: "payload changed", about: "The payload was changed after it was signed.", edit: func(r *Request) {
			right := r.Assertion.Payload
			r.Assertion.Payload = append(slices.Clone(right), Member{"note", "signed"})
			r.Assertion.Rewrite = func(compact string) string {
				parts := strings.Split(compact, ".")
				return parts[0] + "." + encode(right.String()) + "." + parts[2]
			}
		}},
		{name: "header changed", about: "The header was changed after it was signed.", edit: func(r *Request) {
			right := r.Assertion.Header.String()
			r.Assertion.Header.Set("typ", "jwt")
			r.Assertion.Rewrite = func(compact string) string { return encode(right) + compact[strings.IndexByte(compact, '.'):] }
		}},
	}
}

func signPSS(key *rsa.PrivateKey) func(*Request) {
	return func(r *Request) {
		r.Assertion.Sign = func(signed string) []byte {
			digest, hash := digestFor("PS256", signed)
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
			return must(rsa.SignPSS(rand.Reader, key, hash, digest, options))
		}
	}
}
