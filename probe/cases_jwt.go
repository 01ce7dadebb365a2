package probe

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// compactCases break the rule jwt.compact. Most spell the same bytes otherwise: where that passes, one signature
// makes several assertions.
func compactCases() []Case {
	whole := func(change func(compact string) string) func(*draft) {
		return func(d *draft) { d.Assertion.Rewrite = change }
	}
	pad := func(p string) string { return p + strings.Repeat("=", (4-len(p)%4)%4) }
	const spelling = "RFC 7515 section 2: base64url without padding, line breaks or other characters"
	return refused(rule.JWTCompact, []Case{
		{Name: "no-signature", Sends: "The signature is cut off, with its point.", change: whole(func(compact string) string { return compact[:strings.LastIndexByte(compact, '.')] })},
		{Name: "empty-signature", Official: "signature missing", Sends: "The signature is empty.", change: whole(func(compact string) string { return compact[:strings.LastIndexByte(compact, '.')+1] })},
		{Name: "padded-signature", Weight: Should, Sends: "The signature is padded.", Spec: spelling, change: func(d *draft) {
			part(2, func(p string) string {
				if padded := pad(p); padded != p {
					return padded
				}
				return p + "===="
			})(d)
		}},
		{Name: "padded-payload", Weight: Should, Sends: "The payload is padded, and signed so.", Spec: spelling, change: func(d *draft) {
			d.lengthen(1)
			signedPart(1, pad)(d)
		}},
		{Name: "last-character", Weight: Should, Sends: "The last character of the payload has a bit set that encodes nothing, and is signed so.", Spec: "RFC 4648 section 3.5: a decoder may reject such bits", change: func(d *draft) {
			d.lengthen(1)
			signedPart(1, func(p string) string {
				last := strings.IndexByte(alphabet, p[len(p)-1])
				return p[:len(p)-1] + string(alphabet[last^1])
			})(d)
		}},
		{Name: "line-break-behind", Weight: Should, Sends: "A line break stands behind the assertion, as when it was read from a file.", Spec: spelling, change: whole(func(compact string) string { return compact + "\n" })},
		{Name: "blank-before", Weight: Should, Sends: "A blank stands before the assertion.", Spec: spelling, change: whole(func(compact string) string { return " " + compact })},
		{Name: "line-break-inside", Weight: Should, Sends: "A line break stands inside of the signature.", Spec: spelling, change: part(2, func(p string) string { return p[:len(p)/2] + "\n" + p[len(p)/2:] })},
		{Name: "standard-base64", Weight: Should, Sends: "The signature is in standard base64, padded.", Spec: spelling, change: part(2, func(p string) string {
			return pad(strings.NewReplacer("-", "+", "_", "/").Replace(p))
		})},
		{Name: "four-parts", Weight: Should, Sends: "An empty fourth part follows.", change: whole(func(compact string) string { return compact + "." })},
		{Name: "JSON-serialisation", Weight: Should, Sends: "The assertion is in the flattened JSON serialisation.", Spec: "RFC 7519 section 3: a JWT is in the compact serialisation; RFC 7515 section 7.2.2", change: whole(func(compact string) string {
			parts := strings.Split(compact, ".")
			return isharetest.Object{{Name: "protected", Value: parts[0]}, {Name: "payload", Value: parts[1]}, {Name: "signature", Value: parts[2]}}.String()
		})},
	})
}

// lengthen adds white space to the payload until its last character in base64url has bits that encode nothing.
func (d *draft) lengthen(remainder int) {
	text := d.Assertion.Payload.String()
	for len(text)%3 != remainder {
		text += " "
	}
	d.Assertion.PayloadText = text
}

// headerText writes the header otherwise.
func headerText(change func(text string) string) func(*draft) {
	return func(d *draft) { d.Assertion.HeaderText = change(d.Assertion.Header.String()) }
}

func payloadText(change func(text string) string) func(*draft) {
	return func(d *draft) { d.Assertion.PayloadText = change(d.Assertion.Payload.String()) }
}

// headerCases break the rules about the header as an object, alg and typ.
func headerCases() []Case {
	const names = "RFC 7515 section 4: header parameter names must be unique, and a parser rejects duplicates or takes the last"
	return slices.Concat(refused(rule.JWTHeader, []Case{
		{Name: "array", Sends: "The header is an array that holds the right object.", change: headerText(func(text string) string { return "[" + text + "]" })},
		{Name: "two-objects", Sends: "A second, empty object follows the header.", change: headerText(func(text string) string { return text + "{}" })},
		{Name: "alg-twice", Weight: Should, Sends: "alg occurs twice, first as none.", Spec: names, change: func(d *draft) { first(&d.Assertion.Header, "alg", "none") }},
		{Name: "x5c-twice", Weight: Should, Sends: "x5c occurs twice, first as an empty array.", Spec: names, change: func(d *draft) { first(&d.Assertion.Header, "x5c", []string{}) }},
	}), refused(rule.JWTAlg, []Case{
		{Name: "missing", Official: "alg missing", Sends: "alg is missing.", change: withoutHeader("alg")},
		{Name: "PS256", Official: "alg not RS", Sends: "alg is PS256, and the signature is right for it.", change: signPSS},
		{Name: "RS1", Official: "alg below RS256", Sends: "alg is RS1: RSA with SHA-1.", change: header("alg", "RS1")},
		{Name: "none", Sends: "alg is none, and the signature is empty.", change: func(d *draft) {
			d.Assertion.Header.Set("alg", "none")
			d.Assertion.Sign = func(string) []byte { return nil }
		}},
		{Name: "none-signed", Sends: "alg is none; the signature is right for RS256.", change: header("alg", "none")},
		{Name: "HS256", Sends: "alg is HS256, and the secret is the seal's public key in PEM, which everybody knows.", change: signHMAC},
		{Name: "ES256", Sends: "alg is ES256; the signature is right for RS256.", change: header("alg", "ES256")},
		{Name: "lower-case", Sends: "alg is rs256.", Spec: "RFC 7515 section 4.1.1: compared with regard to case", change: header("alg", "rs256")},
	}), refused(rule.JWTTyp, []Case{
		{Name: "missing", Official: "typ missing", Sends: "typ is missing.", change: withoutHeader("typ")},
		{Name: "JWS", Official: "typ not JWT", Sends: "typ is JWS.", change: header("typ", "JWS")},
		{Name: "at+jwt", Sends: "typ is that of access tokens.", change: header("typ", "at+jwt")},
	}))
}

func signPSS(d *draft) {
	d.Assertion.Header.Set("alg", "PS256")
	d.Assertion.Sign = func(signed string) []byte {
		digest := sha256.Sum256([]byte(signed))
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		signature, _ := d.signer.Sign(rand.Reader, digest[:], options) // which remembers its error
		return signature
	}
}

func signHMAC(d *draft) {
	public, err := x509.MarshalPKIXPublicKey(d.seal.Key.Public())
	if !d.unless(err) {
		return
	}
	d.Assertion.Header.Set("alg", "HS256")
	d.Assertion.Sign = func(signed string) []byte {
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
		mac.Write([]byte(signed))
		return mac.Sum(nil)
	}
}

// headerParameterCases add to the header what does not belong there.
func headerParameterCases() []Case {
	const only = "iSHARE 3.0, JWT header: no other header parameters; "
	jwk := func(key *rsa.PublicKey) isharetest.Object { // RFC 7517
		return isharetest.Object{{Name: "kty", Value: "RSA"}, {Name: "n", Value: encode(key.N.Bytes())}, {Name: "e", Value: "AQAB"}}
	}
	return refused(rule.JWTHeaderParameter, []Case{
		{Name: "crit", Sends: "crit names an extension that must be understood.", Spec: only + "RFC 7515 section 4.1.11: who does not understand it must reject the JWS", change: func(d *draft) {
			d.Assertion.Header.Set("crit", []string{"http://example.org/unknown"})
			d.Assertion.Header.Set("http://example.org/unknown", true)
		}},
		{Name: "jwk", Sends: "jwk holds another key, which signed: a server that prefers it lets anybody pass as anybody.", Spec: only + "the key is that of x5c", change: func(d *draft) {
			stranger, err := d.forge.stranger()
			if d.unless(err) {
				d.Assertion.Header.Set("jwk", jwk(&stranger.PublicKey))
				d.Assertion.Key = stranger
			}
		}},
		{Name: "own-jwk", Weight: Should, Sends: "jwk holds the seal's own key.", Spec: only + "RFC 7515 section 4.1.3", change: func(d *draft) {
			if key, ok := d.seal.Key.Public().(*rsa.PublicKey); ok {
				d.Assertion.Header.Set("jwk", jwk(key))
			}
		}},
		{Name: "jku", Weight: Should, Sends: "jku says where to fetch a key, at a host that does not exist.", Spec: only + "RFC 7515 section 4.1.2; a server that leaves it alone is not deceived", change: header("jku", "https://keys.invalid/jwks.json")},
		{Name: "x5u", Weight: Should, Sends: "x5u says where to fetch a certificate, at a host that does not exist.", Spec: only + "RFC 7515 section 4.1.5; a server that leaves it alone is not deceived", change: header("x5u", "https://keys.invalid/chain.pem")},
		{Name: "b64", Weight: Should, Sends: "b64 says that the payload is not encoded, and crit does not say that this must be understood.", Spec: only + "RFC 7797 section 6: crit must name it", change: header("b64", false)},
		{Name: "kid", Weight: Should, Sends: "kid names the key, as many libraries do.", Spec: only + "RFC067 of the change board would let it pass", change: header("kid", "1")},
		{Name: "unknown", Weight: Should, Sends: "A parameter has a name that nobody knows.", Spec: only + "RFC067 of the change board would let it pass", change: header("probe", "1")},
	})
}

// x5cCases break the rule jwt.x5c.
func x5cCases() []Case {
	entry := func(i int, change func(der []byte) string) func(*draft) {
		return func(d *draft) {
			i := min(i, len(d.seal.Certificates)-1)
			entries := isharetest.X5C(d.seal.Certificates...)
			entries[i] = change(d.seal.Certificates[i].Raw)
			d.Assertion.Header.Set("x5c", entries)
		}
	}
	text := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	const encoding = "RFC 7515 section 4.1.6: base64 of DER, not base64url"
	return refused(rule.JWTX5C, []Case{
		{Name: "missing", Official: "x5c missing", Sends: "x5c is missing.", change: withoutHeader("x5c")},
		{Name: "no-certificate", Official: "x5c not X.509", Sends: "The first entry of x5c is base64 of something else.", change: entry(0, func([]byte) string { return base64.StdEncoding.EncodeToString([]byte("certificate")) })},
		{Name: "empty", Sends: "x5c is an empty array.", change: header("x5c", []string{})},
		{Name: "string", Sends: "x5c is the leaf, and no array.", Spec: "RFC 7515 section 4.1.6: an array of strings", Weight: Should, change: func(d *draft) {
			d.Assertion.Header.Set("x5c", isharetest.X5C(d.seal.Certificates...)[0])
		}},
		{Name: "PEM", Weight: Should, Sends: "The first entry of x5c is a PEM text.", Spec: encoding, change: entry(0, text)},
		{Name: "base64-of-PEM", Weight: Should, Sends: "The last entry of x5c is base64 of a PEM text, as in published examples.", Spec: encoding, change: entry(9, func(der []byte) string {
			return base64.StdEncoding.EncodeToString([]byte(text(der)))
		})},
		{Name: "base64url", Weight: Should, Sends: "The first entry of x5c is in base64url.", Spec: encoding, change: entry(0, encode)},
		{Name: "trailing-byte", Weight: Should, Sends: "A byte follows the certificate in the first entry of x5c.", Spec: encoding, change: entry(0, func(der []byte) string {
			return base64.StdEncoding.EncodeToString(append(slices.Clone(der), 0))
		})},
	})
}

// payloadCases break the rule jwt.payload.
func payloadCases() []Case {
	const names = "RFC 7519 section 4: claim names must be unique, and a parser rejects duplicates or takes the last"
	return refused(rule.JWTPayload, []Case{
		{Name: "array", Sends: "The payload is an array that holds the right object.", change: payloadText(func(text string) string { return "[" + text + "]" })},
		{Name: "two-objects", Sends: "A second, empty object follows the payload.", change: payloadText(func(text string) string { return text + "{}" })},
		{Name: "aud-twice", Weight: Should, Sends: "aud occurs twice, first as another party.", Spec: names, change: func(d *draft) {
			first(&d.Assertion.Payload, "aud", otherParty(d.seal.ClientID))
		}},
		{Name: "sub-twice", Weight: Should, Sends: "sub occurs twice, first as another party.", Spec: names, change: func(d *draft) {
			first(&d.Assertion.Payload, "sub", otherParty(d.seal.ClientID))
		}},
		{Name: "not-UTF-8", Weight: Should, Sends: "A claim that means nothing holds bytes that are not UTF-8.", change: claim("note", isharetest.Raw("\"\xff\""))},
	})
}

// signatureCases break the rule jwt.signature.
func signatureCases() []Case {
	signed := func(change func(right []byte) []byte) func(*draft) {
		return func(d *draft) {
			key, alg := d.Assertion.Key, d.algorithm()
			d.Assertion.Sign = func(signed string) []byte { return change(signWith(key, alg, signed)) }
		}
	}
	return refused(rule.JWTSignature, []Case{
		{Name: "another-key", Official: "signature by a key other than x5c", Sends: "Another key signed, which belongs to no certificate of x5c.", change: func(d *draft) {
			if stranger, err := d.forge.stranger(); d.unless(err) {
				d.Assertion.Key = stranger
			}
		}},
		{Name: "one-bit", Sends: "The last bit of the signature is flipped.", change: signed(func(b []byte) []byte {
			b[len(b)-1] ^= 1
			return b
		})},
		{Name: "of-another-assertion", Sends: "The signature is that of another right assertion.", change: func(d *draft) {
			other := d.Assertion.Payload.String()
			d.Assertion.PayloadText = strings.Replace(other, `"jti":"`, `"jti":"0`, 1)
			key, alg := d.Assertion.Key, d.algorithm()
			d.Assertion.Sign = func(string) []byte {
				return signWith(key, alg, encode([]byte(d.Assertion.Header.String()))+"."+encode([]byte(other)))
			}
		}},
		{Name: "zero", Sends: "The signature is nothing but zeros.", change: signed(func(b []byte) []byte { return make([]byte, len(b)) })},
		{Name: "SHA-512-for-RS256", Sends: "alg is RS256; the signature is right for RS512.", change: func(d *draft) {
			d.Assertion.Header.Set("alg", "RS256")
			key := d.Assertion.Key
			d.Assertion.Sign = func(signed string) []byte { return signWith(key, "RS512", signed) }
		}},
	})
}
