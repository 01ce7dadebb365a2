package isharetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
)

// jwtAttempts break the rule jwt.compact. Some spell the same bytes otherwise: each would be a second assertion with
// the same signature.
func (s *Attempts) jwtAttempts() []Attempt {
	part := func(i int, change func(string) string) func(string) string {
		return func(compact string) string {
			parts := strings.Split(compact, ".")
			parts[i] = change(parts[i])
			return strings.Join(parts, ".")
		}
	}
	before := func(text string) func(string) string {
		return func(compact string) string { return text + compact }
	}
	behind := func(text string) func(string) string {
		return func(compact string) string { return compact + text }
	}
	inside := func(text string) func(string) string {
		return func(part string) string { return part[:len(part)/2] + text + part[len(part)/2:] }
	}
	return s.breaking(rule.JWTCompact, []variant{
		{name: "padded header", about: "The header is padded.", jwt: part(0, func(p string) string { return p + "=" })},
		{name: "padded payload", about: "The payload is padded.", jwt: part(1, func(p string) string { return p + "==" })},
		{name: "padded signature", about: "The signature is padded.", jwt: behind("==")},
		{name: "blank before", about: "A blank stands before the assertion.", jwt: before(" ")},
		{name: "blank behind", about: "A blank stands behind the assertion.", jwt: behind(" ")},
		{name: "line break behind", about: "A line break stands behind the assertion, as when it was read from a file.", jwt: behind("\n")},
		{name: "line break in the header", about: "A line break stands inside of the header, which Go's decoder skips.", jwt: part(0, inside("\n"))},
		{name: "line break in the payload", about: "A line break stands inside of the payload, which Go's decoder skips.", jwt: part(1, inside("\r\n"))},
		{name: "line break in the signature", about: "A line break stands inside of the signature, which Go's decoder skips.", jwt: part(2, inside("\n"))},
		{name: "blank inside", about: "A blank stands inside of the payload, as where a plus sign was not encoded.", jwt: part(1, inside(" "))},
		{name: "NUL inside", about: "A NUL stands inside of the signature.", jwt: part(2, inside("\x00"))},
		{name: "last character", about: "The last character of the signature has bits set that encode nothing.", jwt: part(2, func(p string) string {
			last := strings.IndexByte(base64URL, p[len(p)-1]) // of which a signature of 256 bytes leaves four bits unused
			return p[:len(p)-1] + string(base64URL[last^1])
		})},
		{name: "other alphabet", about: "The signature is in standard base64.", jwt: part(2, func(p string) string {
			if standard := strings.NewReplacer("-", "+", "_", "/").Replace(p); standard != p {
				return standard
			}
			return "+" + p[1:] // no such character happened to be in it
		})},
		{name: "quotes", about: "The assertion stands in quotes, as a JSON string.", jwt: func(compact string) string { return `"` + compact + `"` }},
		{name: "scheme", about: "The word Bearer stands before the assertion.", jwt: before("Bearer ")},
		{name: "no signature", about: "The signature is cut off, with its point.", jwt: func(compact string) string { return compact[:strings.LastIndexByte(compact, '.')] }},
		{name: "empty signature", about: "The signature is empty.", official: "signature missing", jwt: func(compact string) string { return compact[:strings.LastIndexByte(compact, '.')+1] }},
		{name: "empty payload", about: "The payload is empty, as of a detached signature.", jwt: func(compact string) string {
			parts := strings.Split(compact, ".")
			return parts[0] + ".." + parts[2]
		}},
		{name: "empty header", about: "The header is empty.", jwt: func(compact string) string { return compact[strings.IndexByte(compact, '.'):] }},
		{name: "one part", about: "The points are left out.", jwt: func(compact string) string { return strings.ReplaceAll(compact, ".", "") }},
		{name: "four parts", about: "An empty fourth part follows.", jwt: func(compact string) string { return compact + "." }},
		{name: "five parts", about: "There are five parts, as of an encrypted JWT.", jwt: func(compact string) string { return compact + ".AAAA.AAAA" }},
		{name: "not base64url", about: "The assertion is the text of its header and payload.", edit: func(r *Request) {
			r.Assertion.Rewrite = func(string) string {
				return r.Assertion.Header.String() + "." + r.Assertion.Payload.String() + ".signature"
			}
		}},
		{name: "JSON serialisation", about: "The assertion is in the flattened JSON serialisation.", jwt: func(compact string) string {
			parts := strings.Split(compact, ".")
			return Object{{"protected", parts[0]}, {"payload", parts[1]}, {"signature", parts[2]}}.String()
		}},
	})
}

// headerAttempts break the rules about the header, but for x5c.
func (s *Attempts) headerAttempts() []Attempt {
	headerText := func(change func(text string) string) func(*Request) {
		return func(r *Request) { r.Assertion.HeaderText = change(r.Assertion.Header.String()) }
	}
	first := func(name string, value any) func(*Request) {
		return func(r *Request) { r.Assertion.Header = slices.Insert(r.Assertion.Header, 0, Member{name, value}) }
	}
	leaf := s.Consumer.Certificates[0]
	sum := sha256.Sum256(leaf.Raw)
	thumbprint := base64.RawURLEncoding.EncodeToString(sum[:])
	signHMAC := func(secret []byte) func(*Request) {
		return func(r *Request) {
			r.Assertion.Sign = func(signed string) []byte {
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(signed))
				return mac.Sum(nil)
			}
		}
	}
	publicKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(s.Consumer.Key.Public()))})
	jwk := func(p *Party) Object { // RFC 7517
		return Object{{"kty", "RSA"}, {"n", encode(string(p.Key.N.Bytes()))}, {"e", "AQAB"}}
	}
	return slices.Concat(
		s.breaking(rule.JWTHeader, []variant{
			{name: "no JSON", about: "The header is a word.", edit: headerText(func(string) string { return "header" })},
			{name: "array", about: "The header is an array.", edit: headerText(func(text string) string { return "[" + text + "]" })},
			{name: "string", about: "The header is a JSON string.", edit: headerText(func(text string) string { return jsonOf(text) })},
			{name: "null", about: "The header is null.", edit: headerText(func(string) string { return "null" })},
			{name: "cut short", about: "The header lacks its last brace.", edit: headerText(func(text string) string { return strings.TrimSuffix(text, "}") })},
			{name: "two objects", about: "A second object follows.", edit: headerText(func(text string) string { return text + "{}" })},
			{name: "byte order mark", about: "A byte order mark stands before the object.", edit: headerText(func(text string) string { return "\ufeff" + text })},
			{name: "trailing comma", about: "A comma follows the last member.", edit: headerText(func(text string) string { return strings.TrimSuffix(text, "}") + ",}" })},
			{name: "comment", about: "The object holds a comment.", edit: headerText(func(text string) string { return "{/* */" + text[1:] })},
			{name: "single quotes", about: "Names and strings stand in single quotes.", edit: headerText(func(text string) string { return strings.ReplaceAll(text, `"`, "'") })},
			{name: "not UTF-8", about: "A string holds bytes that are not UTF-8.", header: Object{{"typ", Raw("\"JWT\xff\"")}}},
			{name: "alg twice", about: "alg occurs twice, first as none.", edit: first("alg", "none")},
			{name: "typ twice", about: "typ occurs twice, with the same value.", edit: first("typ", "JWT")},
			{name: "x5c twice", about: "x5c occurs twice, first with another party's certificates.", edit: first("x5c", X5C(s.Other.Certificates...))},
			{name: "alg twice, escaped", about: "alg occurs twice, once with its name escaped.", edit: headerText(func(text string) string { return `{"\u0061lg":"none",` + text[1:] })},
		}),
		s.breaking(rule.JWTAlg, []variant{
			{name: "missing", about: "alg is missing.", official: "alg missing", noHeader: "alg"},
			{name: "none", about: "alg is none; the signature is right for RS256.", header: Object{{"alg", "none"}}},
			{name: "None", about: "alg is None, to slip through a comparison with none.", header: Object{{"alg", "None"}}},
			{name: "HS256 with the public key", about: "alg is HS256, and the secret is the leaf's public key in PEM, which everybody knows.", header: Object{{"alg", "HS256"}}, edit: signHMAC(publicKey)},
			{name: "HS256 with the certificate", about: "alg is HS256, and the secret is the leaf's certificate.", header: Object{{"alg", "HS256"}}, edit: signHMAC(leaf.Raw)},
			{name: "PS256", about: "alg is PS256, rightly signed with the leaf's key.", official: "alg not RS", header: Object{{"alg", "PS256"}}, edit: signPSS(s.Consumer.Key)},
			{name: "ES256", about: "alg is ES256, signed with a key on the curve P-256.", header: Object{{"alg", "ES256"}}, edit: func(r *Request) {
				r.Assertion.Sign = func(signed string) []byte {
					key, digest := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), sha256.Sum256([]byte(signed))
					x, y, err := ecdsa.Sign(rand.Reader, key, digest[:])
					must(x, err)
					return append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)
				}
			}},
			{name: "RS1", about: "alg is RS1: RSA with SHA-1.", official: "alg below RS256", header: Object{{"alg", "RS1"}}},
			{name: "lower case", about: "alg is rs256.", header: Object{{"alg", "rs256"}}},
			{name: "blank", about: "alg has a blank behind it.", header: Object{{"alg", "RS256 "}}},
			{name: "empty", about: "alg is empty.", header: Object{{"alg", ""}}},
			{name: "null", about: "alg is null.", header: Object{{"alg", nil}}},
			{name: "array", about: "alg is an array.", header: Object{{"alg", []string{"RS256"}}}},
			{name: "number", about: "alg is a number.", header: Object{{"alg", 256}}},
		}),
		s.breaking(rule.JWTTyp, []variant{
			{name: "missing", about: "typ is missing.", official: "typ missing", noHeader: "typ"},
			{name: "JWS", about: "typ is JWS.", official: "typ not JWT", header: Object{{"typ", "JWS"}}},
			{name: "at+jwt", about: "typ is that of access tokens.", header: Object{{"typ", "at+jwt"}}},
			{name: "client-authentication+jwt", about: "typ is the one that newer drafts of other frameworks ask for.", header: Object{{"typ", "client-authentication+jwt"}}},
			{name: "empty", about: "typ is empty.", header: Object{{"typ", ""}}},
			{name: "null", about: "typ is null.", header: Object{{"typ", nil}}},
			{name: "array", about: "typ is an array.", header: Object{{"typ", []string{"JWT"}}}},
			{name: "application/jwt", about: "typ is written with application/.", header: Object{{"typ", "application/jwt"}}},
		}),
		s.breaking(rule.JWTHeaderParameter, []variant{
			{name: "kid", about: "kid names the key, as many libraries do.", header: Object{{"kid", "1"}}},
			{name: "x5t#S256", about: "x5t#S256 holds the leaf's thumbprint, as .NET clients do.", header: Object{{"x5t#S256", thumbprint}}},
			{name: "cty", about: "cty is JSON.", header: Object{{"cty", "JSON"}}},
			{name: "crit", about: "crit names an extension that must be understood.", header: Object{{"crit", []string{"exp"}}, {"exp", 0}}},
			{name: "empty crit", about: "crit is empty.", header: Object{{"crit", []string{}}}},
			{name: "b64", about: "b64 says that the payload is not encoded.", header: Object{{"b64", false}}},
			{name: "own jwk", about: "jwk holds the leaf's key.", edit: func(r *Request) { r.Assertion.Header.Set("jwk", jwk(s.Consumer)) }},
			{name: "jwk of the attacker", about: "jwk holds the key that signed, which is not the leaf's: a server that prefers it lets anybody pass as anybody.", edit: func(r *Request) {
				r.Assertion.Header.Set("jwk", jwk(s.stranger))
				r.Assertion.Key = s.stranger.Key
			}},
			{name: "jku", about: "jku says where to fetch the key.", header: Object{{"jku", "https://attacker.example.org/keys"}}},
			{name: "x5u", about: "x5u says where to fetch the certificates.", header: Object{{"x5u", "https://attacker.example.org/chain.pem"}}},
			{name: "zip", about: "zip says that the payload is compressed.", header: Object{{"zip", "DEF"}}},
			{name: "alg in capitals", about: "There is also an ALG, which some parsers take for alg.", header: Object{{"ALG", "none"}}},
			{name: "without a name", about: "A parameter's name is empty.", header: Object{{"", ""}}},
		}),
	)
}

// x5cAndPayloadAttempts break the rules about x5c as a parameter, and about the payload as an object.
func (s *Attempts) x5cAndPayloadAttempts() []Attempt {
	chain := s.Consumer.Certificates
	leaf := chain[0]
	entries := X5C(chain...)
	entry := func(i int, value any) func(*Request) {
		return func(r *Request) {
			changed := make([]any, len(entries))
			for j := range entries {
				changed[j] = entries[j]
			}
			changed[i] = value
			r.Assertion.Header.Set("x5c", changed)
		}
	}
	text := string(testca.EncodeCertificates(leaf))
	payloadText := func(change func(text string) string) func(*Request) {
		return func(r *Request) { r.Assertion.PayloadText = change(r.Assertion.Payload.String()) }
	}
	first := func(name string, value any) func(*Request) {
		return func(r *Request) {
			r.Assertion.Payload = slices.Insert(r.Assertion.Payload, 0, Member{name, value})
		}
	}
	return slices.Concat(
		s.breaking(rule.JWTX5C, []variant{
			{name: "missing", about: "x5c is missing.", official: "x5c missing", noHeader: "x5c"},
			{name: "null", about: "x5c is null.", header: Object{{"x5c", nil}}},
			{name: "string", about: "x5c is the leaf, not an array.", header: Object{{"x5c", X5C(chain[0])[0]}}},
			{name: "object", about: "x5c is an object.", header: Object{{"x5c", Object{{"0", X5C(chain[0])[0]}}}}},
			{name: "empty", about: "x5c is an empty array.", header: Object{{"x5c", []string{}}}},
			{name: "eleven entries", about: "x5c holds the chain and the root again and again, eleven entries.", header: Object{{"x5c", X5C(append(slices.Clone(chain), slices.Repeat([]*x509.Certificate{s.ca.Root()}, 11-len(chain))...)...)}}},
			{name: "hundred entries", about: "x5c holds a hundred small entries.", header: Object{{"x5c", slices.Repeat([]string{"MAA="}, 100)}}},
			{name: "numbers", about: "x5c is an array of numbers.", header: Object{{"x5c", []int{1, 2, 3}}}},
			{name: "nested", about: "x5c is an array in an array.", header: Object{{"x5c", [][]string{X5C(chain...)}}}},
			{name: "PEM", about: "The first entry is a PEM text.", edit: entry(0, text)},
			{name: "base64 of PEM", about: "The second entry is base64 of a PEM text, as in published examples.", edit: entry(1, base64.StdEncoding.EncodeToString([]byte(text)))},
			{name: "base64url", about: "The first entry is in base64url.", edit: entry(0, base64.URLEncoding.EncodeToString(leaf.Raw))},
			{name: "line breaks", about: "The first entry is broken into lines.", edit: entry(0, entries[0][:64]+"\n"+entries[0][64:])},
			{name: "no certificate", about: "The first entry is base64 of something else.", official: "x5c not X.509", edit: entry(0, base64.StdEncoding.EncodeToString([]byte("certificate")))},
			{name: "public key", about: "The first entry is a public key.", edit: entry(0, base64.StdEncoding.EncodeToString(leaf.RawSubjectPublicKeyInfo))},
			{name: "cut short", about: "The first entry lacks its last bytes.", edit: entry(0, base64.StdEncoding.EncodeToString(leaf.Raw[:len(leaf.Raw)-3]))},
			{name: "trailing byte", about: "A byte follows the certificate in the first entry.", edit: entry(0, base64.StdEncoding.EncodeToString(append(slices.Clone(leaf.Raw), 0)))},
			{name: "no base64", about: "The last entry is not base64.", edit: entry(3, "root")},
			{name: "empty entry", about: "The last entry is empty.", edit: entry(3, "")},
			{name: "null entry", about: "The last entry is null.", edit: entry(3, nil)},
		}),
		s.breaking(rule.JWTPayload, []variant{
			{name: "no JSON", about: "The payload is a word.", edit: payloadText(func(string) string { return "payload" })},
			{name: "array", about: "The payload is an array.", edit: payloadText(func(text string) string { return "[" + text + "]" })},
			{name: "string", about: "The payload is a JSON string.", edit: payloadText(func(text string) string { return jsonOf(text) })},
			{name: "null", about: "The payload is null.", edit: payloadText(func(string) string { return "null" })},
			{name: "cut short", about: "The payload lacks its last brace.", edit: payloadText(func(text string) string { return strings.TrimSuffix(text, "}") })},
			{name: "two objects", about: "A second object follows.", edit: payloadText(func(text string) string { return text + `{"aud":"somebody"}` })},
			{name: "nested too deep", about: "A claim nests ten thousand arrays that are not closed.", claims: Object{{"deep", Raw(strings.Repeat("[", 10_000))}}},
			{name: "not UTF-8", about: "A string holds bytes that are not UTF-8.", claims: Object{{"note", Raw("\"\xff\"")}}},
			{name: "sub twice", about: "sub occurs twice, first as another party.", edit: first("sub", s.Other.ID())},
			{name: "aud twice", about: "aud occurs twice, first as another party.", edit: first("aud", s.Other.ID())},
			{name: "exp twice", about: "exp occurs twice, with the same value.", edit: func(r *Request) { r.Assertion.Payload.Add("exp", r.Assertion.Payload.Get("exp")) }},
			{name: "unknown claim twice", about: "A claim that means nothing to the server occurs twice.", edit: func(r *Request) {
				first("note", 1)(r)
				r.Assertion.Payload.Add("note", 2)
			}},
			{name: "iss twice, escaped", about: "iss occurs twice, once with its name escaped.", edit: payloadText(func(text string) string { return `{"\u0069ss":"somebody",` + text[1:] })},
		}),
	)
}

const base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// signatureAttempts break the rule jwt.signature.
func (s *Attempts) signatureAttempts() []Attempt {
	signWith := func(key crypto.Signer) func(*Request) { return func(r *Request) { r.Assertion.Key = key } }
	signed := func(change func(right []byte) []byte) func(*Request) {
		return func(r *Request) {
			r.Assertion.Sign = func(signed string) []byte { return change(r.Assertion.signWithKey(signed)) }
		}
	}
	return s.breaking(rule.JWTSignature, []variant{
		{name: "another key", about: "Somebody else's key signed.", official: "signature by a key other than x5c", edit: signWith(s.stranger.Key)},
		{name: "key of x5c[1]", about: "The key of the second certificate in x5c signed.", edit: signWith(s.ca.ca.Authority(testca.Issuing).Key)},
		{name: "key of the root", about: "The key of the last certificate in x5c signed.", edit: signWith(s.ca.ca.Authority(testca.Root).Key)},
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
	})
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
