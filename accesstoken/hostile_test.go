package accesstoken

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// flip flips one bit of one byte.
func flip(s string, at, bit int) string {
	b := []byte(s)
	b[at] ^= 1 << bit
	return string(b)
}

func TestEveryBitFlipRefused(t *testing.T) {
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			issuer := freshIssuer(t, format)
			token, _ := issue(t, issuer)
			for at := range len(token) {
				for bit := range 8 {
					refuse(t, issuer, flip(token, at, bit), ErrInvalid)
				}
			}
		})
	}
}

// The bits that stand in the text are not the text's own: one of them more or less makes another
// character, which can differ in several.
func TestEveryDecodedBitFlipRefused(t *testing.T) {
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			issuer := freshIssuer(t, format)
			token, _ := issue(t, issuer)
			parts := strings.Split(token, ".")
			for n, part := range parts {
				data, err := base64.RawURLEncoding.DecodeString(part)
				if err != nil {
					t.Fatal(err)
				}
				for at := range 8 * len(data) {
					flipped := flip(string(data), at/8, at%8)
					changed := slices.Clone(parts)
					changed[n] = base64.RawURLEncoding.EncodeToString([]byte(flipped))
					refuse(t, issuer, strings.Join(changed, "."), ErrInvalid)
				}
			}
		})
	}
}

func TestEveryByteDroppedOrDoubledRefused(t *testing.T) {
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			issuer := freshIssuer(t, format)
			token, _ := issue(t, issuer)
			for at := range len(token) {
				refuse(t, issuer, token[:at]+token[at+1:], ErrInvalid)
				refuse(t, issuer, token[:at]+token[at:at+1]+token[at:], ErrInvalid)
				refuse(t, issuer, token[:at], ErrInvalid)
			}
		})
	}
}

// Every other character in the last place of each part is refused: some of them
// decode to the same bytes.
func TestLastCharacterOfEachPart(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=\n"
	for _, format := range formats {
		issuer := freshIssuer(t, format)
		token, _ := issue(t, issuer)
		for at := range len(token) {
			if at+1 < len(token) && token[at+1] != '.' || token[at] == '.' {
				continue
			}
			for _, c := range []byte(alphabet) {
				if c != token[at] {
					refuse(t, issuer, token[:at]+string(c)+token[at+1:], ErrInvalid)
				}
			}
		}
	}
}

// What Go's base64 decoder and go-jose would let pass.
func TestRespelledRefused(t *testing.T) {
	issuer := freshIssuer(t, Opaque)
	sealed, _ := issue(t, issuer)
	signed, _ := issue(t, newIssuer(t, JWT, issuer.keys))
	parts := strings.Split(sealed, ".")
	ciphertext, _ := base64.RawURLEncoding.DecodeString(parts[3])
	tag, _ := base64.RawURLEncoding.DecodeString(parts[4])
	encode := base64.RawURLEncoding.EncodeToString
	with := func(at int, part string) string {
		changed := strings.Split(sealed, ".")
		changed[at] = part
		return strings.Join(changed, ".")
	}
	last := len(ciphertext) - 1
	tests := map[string]string{
		"empty":               "",
		"a dot":               ".",
		"dots":                "....",
		"line break inside":   sealed[:10] + "\n" + sealed[10:],
		"line break behind":   sealed + "\n",
		"carriage return":     signed + "\r",
		"blank before":        " " + sealed,
		"padded":              signed + "==",
		"a part more":         sealed + ".",
		"a part less":         strings.Join(parts[:4], "."),
		"an encrypted key":    with(1, "AAAA"),
		"no nonce":            with(2, ""),
		"no tag":              with(4, ""),
		"tag behind text":     with(3, parts[3]+parts[4]),
		"border moved right":  strings.Join([]string{parts[0], "", parts[2], encode(append(ciphertext[:last+1:last+1], tag[0])), encode(tag[1:])}, "."),
		"border moved left":   strings.Join([]string{parts[0], "", parts[2], encode(ciphertext[:last]), encode(append([]byte{ciphertext[last]}, tag...))}, "."),
		"JSON serialisation":  `{"protected":"` + parts[0] + `","iv":"` + parts[2] + `","ciphertext":"` + parts[3] + `","tag":"` + parts[4] + `"}`,
		"header of the other": strings.Split(signed, ".")[0] + sealed[strings.IndexByte(sealed, '.'):],
		"too long, yet ours":  newMint(t, issuer).ours(newMint(t, issuer).payload(map[string]any{"acr": strings.Repeat("a", MaxLength)})),
		"too long":            sealed + strings.Repeat("A", MaxLength),
		"not UTF-8":           "\xff" + sealed,
		"NUL":                 sealed + "\x00",
		"Bearer":              "Bearer " + sealed,
	}
	for name, token := range tests {
		t.Run(name, func(t *testing.T) { refuseUnseen(t, issuer, token) })
	}
}

// refuseUnseen checks that the token is refused without a look at any key.
func refuseUnseen(t *testing.T, i *Issuer, token string) {
	t.Helper()
	if ref, err := inspect(token); !errors.Is(err, ErrInvalid) {
		t.Errorf("inspect = %+v, %v; want ErrInvalid", ref, err)
	}
	refuse(t, i, token, ErrInvalid)
}

// A mint makes tokens with the very keys of an issuer, right and wrong ones.
type mint struct {
	t      testing.TB
	secret []byte
	ec     *ecdsa.PrivateKey
	kid    map[use]string
	claims map[string]any
}

func newMint(tb testing.TB, i *Issuer) *mint {
	tb.Helper()
	m := &mint{t: tb, kid: map[use]string{}}
	for _, u := range []use{sealing, signing} {
		k := i.keys.set.Load().ages[u][0]
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(k.file); err != nil {
			tb.Fatal(err)
		}
		m.kid[u] = k.kid
		switch secret := jwk.Key.(type) {
		case []byte:
			m.secret = secret
		case *ecdsa.PrivateKey:
			m.ec = secret
		}
	}
	token, _ := issue(tb, newIssuer(tb, JWT, i.keys))
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &m.claims)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// payload gives the good claims with some replaced, or left out where nil.
func (m *mint) payload(change map[string]any) string {
	claims := maps.Clone(m.claims)
	for name, value := range change {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	data, err := json.Marshal(claims)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

func (m *mint) expires() float64 {
	at, ok := m.claims["exp"].(float64)
	if !ok {
		m.t.Fatalf("exp is %v", m.claims["exp"])
	}
	return at
}

func (m *mint) seal(enc jose.ContentEncryption, to jose.Recipient, opts *jose.EncrypterOptions) string {
	return m.sealPayload(enc, to, opts, m.payload(nil))
}

func (m *mint) sealPayload(enc jose.ContentEncryption, to jose.Recipient, opts *jose.EncrypterOptions, payload string) string {
	m.t.Helper()
	encrypter, err := jose.NewEncrypter(enc, to, opts)
	if err != nil {
		m.t.Fatal(err)
	}
	object, err := encrypter.Encrypt([]byte(payload))
	if err != nil {
		m.t.Fatal(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

func (m *mint) direct(key []byte, kid string) jose.Recipient {
	return jose.Recipient{Algorithm: jose.DIRECT, Key: key, KeyID: kid}
}

// ours seals a payload exactly as the issuer does.
func (m *mint) ours(payload string) string {
	return m.sealPayload(jose.A256GCM, m.direct(m.secret, m.kid[sealing]), nil, payload)
}

func (m *mint) sign(alg jose.SignatureAlgorithm, key any, kid string, header map[jose.HeaderKey]any) string {
	m.t.Helper()
	opts := &jose.SignerOptions{}
	for name, value := range header {
		opts.WithHeader(name, value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, opts)
	if err != nil {
		m.t.Fatal(err)
	}
	object, err := signer.Sign([]byte(m.payload(nil)))
	if err != nil {
		m.t.Fatal(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

// raw joins a header and a payload with a part behind them, as they stand.
func (m *mint) raw(header, behind string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(m.payload(nil))) + "." + behind
}

func TestForgedRefused(t *testing.T) {
	issuer := freshIssuer(t, Opaque)
	m := newMint(t, issuer)
	typ := map[jose.HeaderKey]any{"typ": "at+jwt"}

	// The mint is good: what it makes by the rules is accepted.
	for name, token := range map[string]string{
		"sealed": m.ours(m.payload(nil)),
		"signed": m.sign(jose.ES256, m.ec, m.kid[signing], typ),
	} {
		if _, err := issuer.Check(t.Context(), token); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}

	foreign := make([]byte, sealingKeySize)
	foreignEC, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	public, _ := x509.MarshalPKIXPublicKey(&m.ec.PublicKey)
	point, _ := m.ec.PublicKey.Bytes()
	kid, jwtKid := m.kid[sealing], m.kid[signing]
	header := func(name string, value any) *jose.EncrypterOptions {
		return (&jose.EncrypterOptions{}).WithHeader(jose.HeaderKey(name), value)
	}
	dir := m.direct(m.secret, kid)
	with := func(name string, value any) map[jose.HeaderKey]any {
		return map[jose.HeaderKey]any{"typ": "at+jwt", jose.HeaderKey(name): value}
	}
	signed := m.sign(jose.ES256, m.ec, jwtKid, typ)
	sealed := m.ours(m.payload(nil))

	headers := map[string]string{
		"A128GCM with half the key":  m.seal(jose.A128GCM, m.direct(m.secret[:16], kid), nil),
		"A192GCM":                    m.seal(jose.A192GCM, m.direct(m.secret[:24], kid), nil),
		"A128CBC-HS256 with our key": m.seal(jose.A128CBC_HS256, dir, nil),
		"A256GCMKW with our key":     m.seal(jose.A256GCM, jose.Recipient{Algorithm: jose.A256GCMKW, Key: m.secret, KeyID: kid}, nil),
		"A256KW with our key":        m.seal(jose.A256GCM, jose.Recipient{Algorithm: jose.A256KW, Key: m.secret, KeyID: kid}, nil),
		"PBES2 with our key":         m.seal(jose.A256GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: m.secret, KeyID: kid, PBES2Count: 1000}, nil),
		"ECDH-ES by name only": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ECDH-ES","enc":"A256GCM","kid":"`+kid+`"}`)) +
			sealed[strings.IndexByte(sealed, '.'):],
		"RSA-OAEP":                  m.seal(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: &rsaKey.PublicKey, KeyID: kid}, nil),
		"ECDH-ES to our public key": m.seal(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: &m.ec.PublicKey, KeyID: jwtKid}, nil),
		"compressed":                m.seal(jose.A256GCM, dir, &jose.EncrypterOptions{Compression: jose.DEFLATE}),
		"crit in JWE":               m.seal(jose.A256GCM, dir, header("crit", []string{"exp"})),
		"empty crit in JWE":         m.seal(jose.A256GCM, dir, header("crit", []string{})),
		"cty in JWE":                m.seal(jose.A256GCM, dir, header("cty", "JWT")),
		"jku in JWE":                m.seal(jose.A256GCM, dir, header("jku", "https://example.com/")),
		"JWE without kid":           m.seal(jose.A256GCM, m.direct(m.secret, ""), nil),
		"JWT without kid":           m.sign(jose.ES256, m.ec, "", typ),

		"alg none":                      m.raw(`{"alg":"none","kid":"`+jwtKid+`","typ":"at+jwt"}`, ""),
		"alg none, signature kept":      m.raw(`{"alg":"none","kid":"`+jwtKid+`","typ":"at+jwt"}`, signed[strings.LastIndexByte(signed, '.')+1:]),
		"signature stripped":            signed[:strings.LastIndexByte(signed, '.')+1],
		"alg twice":                     m.raw(`{"alg":"ES256","alg":"ES256","kid":"`+jwtKid+`","typ":"at+jwt"}`, strings.Repeat("A", signatureLength)),
		"HS256 with the DER public key": m.sign(jose.HS256, public, jwtKid, typ),
		"HS256 with the public point":   m.sign(jose.HS256, point, jwtKid, typ),
		"HS256 with the sealing key":    m.sign(jose.HS256, m.secret, kid, typ),
		"HS512":                         m.sign(jose.HS512, public, jwtKid, typ),
		"ES384":                         m.sign(jose.ES384, p384, jwtKid, typ),
		"RS256":                         m.sign(jose.RS256, rsaKey, jwtKid, typ),
		"PS256":                         m.sign(jose.PS256, rsaKey, jwtKid, typ),
		"no typ":                        m.sign(jose.ES256, m.ec, jwtKid, nil),
		"typ JWT":                       m.sign(jose.ES256, m.ec, jwtKid, map[jose.HeaderKey]any{"typ": "JWT"}),
		"typ null":                      m.sign(jose.ES256, m.ec, jwtKid, map[jose.HeaderKey]any{"typ": nil}),
		"crit in JWS":                   m.sign(jose.ES256, m.ec, jwtKid, with("crit", []string{"b64"})),
		"b64 true":                      m.sign(jose.ES256, m.ec, jwtKid, with("b64", true)),
		"jwk of a stranger":             m.sign(jose.ES256, foreignEC, jwtKid, with("jwk", jose.JSONWebKey{Key: &foreignEC.PublicKey})),
	}
	keys := map[string]string{
		"foreign key":            m.seal(jose.A256GCM, m.direct(foreign, kid), nil),
		"foreign kid":            m.seal(jose.A256GCM, m.direct(m.secret, "another"), nil),
		"kid of the signing key": m.seal(jose.A256GCM, m.direct(m.secret, jwtKid), nil),
		"signature of zeros":     signed[:strings.LastIndexByte(signed, '.')+1] + strings.Repeat("A", signatureLength),
		"foreign EC key":         m.sign(jose.ES256, foreignEC, jwtKid, typ),
		"foreign EC key and kid": m.sign(jose.ES256, foreignEC, "another", typ),
		"kid of the sealing key": m.sign(jose.ES256, m.ec, kid, typ),
	}
	for name, token := range headers {
		t.Run(name, func(t *testing.T) { refuseUnseen(t, issuer, token) })
	}
	for name, token := range keys {
		t.Run(name, func(t *testing.T) {
			if _, err := inspect(token); err != nil {
				t.Errorf("inspect: %v; the case does not get as far as it should", err)
			}
			refuse(t, issuer, token, ErrInvalid)
		})
	}
}

// Even what is sealed with our own key is read strictly.
func TestClaimsRefused(t *testing.T) {
	issuer := freshIssuer(t, Opaque)
	m := newMint(t, issuer)
	good := m.payload(nil)
	tests := map[string]string{
		"not JSON":               "hello",
		"nothing":                "",
		"null":                   "null",
		"an array":               "[" + good + "]",
		"something behind":       good + "{}",
		"a member twice":         strings.Replace(good, "{", `{"scope":"iSHARE",`, 1),
		"not UTF-8":              strings.Replace(good, "iSHARE", "iSHARE\xff", 1),
		"another issuer":         m.payload(map[string]any{"iss": string(consumer)}),
		"another audience":       m.payload(map[string]any{"aud": string(consumer)}),
		"audience and issuer":    m.payload(map[string]any{"aud": string(consumer), "iss": string(consumer)}),
		"audience in an array":   m.payload(map[string]any{"aud": []string{string(provider)}}),
		"name in another case":   m.payload(map[string]any{"ISS": string(provider), "iss": nil}),
		"no subject":             m.payload(map[string]any{"sub": nil}),
		"no client":              m.payload(map[string]any{"client_id": nil}),
		"empty scope":            m.payload(map[string]any{"scope": ""}),
		"scope as a list":        m.payload(map[string]any{"scope": []string{"iSHARE"}}),
		"no id":                  m.payload(map[string]any{"jti": nil}),
		"no thumbprint":          m.payload(map[string]any{"x5t#S256": nil}),
		"thumbprint too short":   m.payload(map[string]any{"x5t#S256": "AAAA"}),
		"no expiry":              m.payload(map[string]any{"exp": nil}),
		"expiry as text":         m.payload(map[string]any{"exp": fmt.Sprint(m.claims["exp"])}),
		"expiry with fraction":   m.payload(map[string]any{"exp": m.expires() + 0.5}),
		"lives too long":         m.payload(map[string]any{"exp": m.expires() + 86400}),
		"no issue time":          m.payload(map[string]any{"iat": nil}),
		"issued when it ends":    m.payload(map[string]any{"iat": m.claims["exp"]}),
		"times out of all range": m.payload(map[string]any{"iat": int64(-1 << 63), "exp": int64(1<<63 - 1)}),
	}
	for name, payload := range tests {
		t.Run(name, func(t *testing.T) {
			refuse(t, issuer, m.ours(payload), ErrInvalid)
			var set claimSet
			if json.Unmarshal([]byte(payload), &set) == nil { // the same claims as we write them
				refuse(t, issuer, m.ours(string(inOwnLayout(t, set))), ErrInvalid)
			}
		})
	}
	var set claimSet
	if err := json.Unmarshal([]byte(good), &set); err != nil {
		t.Fatal(err)
	}
	accept(t, issuer, m.ours(string(inOwnLayout(t, set))))
	// A newer server's token may say more.
	if _, err := issuer.Check(t.Context(), m.ours(m.payload(map[string]any{"acr": "high"}))); err != nil {
		t.Errorf("with a claim that is not known: %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	issuer := freshIssuer(f, Opaque)
	m := newMint(f, issuer)
	sealed, _ := issue(f, issuer)
	signed, _ := issue(f, newIssuer(f, JWT, issuer.keys))
	known := map[string]bool{sealed: true, signed: true}
	for token := range known {
		f.Add(token)
		f.Add(flip(token, len(token)/2, 0))
		f.Add(token + "\n")
		f.Add(token[:strings.LastIndexByte(token, '.')+1])
	}
	f.Add("")
	f.Add("....")
	f.Add(m.raw(`{"alg":"none"}`, ""))
	f.Add(m.raw(`{"alg":"ES256","kid":"x","typ":"at+jwt"}`, strings.Repeat("A", signatureLength)))
	f.Add(m.seal(jose.A128GCM, m.direct(m.secret[:16], m.kid[sealing]), nil))
	f.Add(m.seal(jose.A256GCM, m.direct(m.secret, m.kid[sealing]), &jose.EncrypterOptions{Compression: jose.DEFLATE}))
	f.Fuzz(func(t *testing.T, token string) {
		c, err := issuer.Check(t.Context(), token)
		if err == nil && !known[token] {
			t.Fatalf("accepted %q: %+v", token, c)
		}
		if err != nil && c != nil {
			t.Fatalf("claims with error %v", err)
		}
	})
}
