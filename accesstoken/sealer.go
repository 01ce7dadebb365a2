package accesstoken

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
)

// Lengths of the parts that have one: a nonce of 96 bits, which are 12 bytes, and a tag of 128
// (RFC 7518 section 5.3), a signature of two 256-bit numbers (section 3.4).
const (
	nonceSize       = 12
	nonceLength     = 16
	tagLength       = 22
	signatureLength = 86
)

// keyRef names the key that a token says it was made with.
type keyRef struct {
	use use
	kid string
}

// What the header of a token is, with the key's id in the middle. The members stand in the order of
// their names with nothing between them, as go-jose writes them, which signs the JWTs.
const (
	sealedHeaderStart = `{"alg":"dir","enc":"A256GCM","kid":"`
	sealedHeaderEnd   = `"}`

	// typ keeps other JWTs that a party signs, such as client assertions, from passing as
	// access tokens (RFC 9068 section 2.1).
	typAccessToken    = "at+jwt"
	signedHeaderStart = `{"alg":"ES256","kid":"`
	signedHeaderEnd   = `","typ":"` + typAccessToken + `"}`
)

// inspect checks everything about a token that needs no key, and says which key it names.
// Only a token that passes may be given to go-jose, which is more lenient.
func inspect(token string) (keyRef, error) {
	if len(token) > MaxLength {
		return keyRef{}, invalid("it is too long")
	}
	parts := strings.SplitN(token, ".", 6)
	for _, part := range parts {
		if !canonical(part) {
			return keyRef{}, invalid("it is not canonical base64url")
		}
	}
	switch len(parts) {
	case 5:
		kid, ok := readHeader(parts[0], sealedHeaderStart, sealedHeaderEnd)
		if !ok {
			return keyRef{}, invalid("its header is not that of a sealed token")
		}
		// go-jose does not look at the encrypted key of alg "dir", and joins
		// ciphertext and tag before it looks at either: both would be ways to
		// respell a token (RFC 7516 section 5.2, steps 10 and 16).
		if parts[1] != "" || len(parts[2]) != nonceLength || len(parts[4]) != tagLength {
			return keyRef{}, invalid("a part has the wrong length")
		}
		return keyRef{use: sealing, kid: kid}, nil
	case 3:
		kid, ok := readHeader(parts[0], signedHeaderStart, signedHeaderEnd)
		if !ok {
			return keyRef{}, invalid("its header is not that of a signed token")
		}
		if len(parts[2]) != signatureLength {
			return keyRef{}, invalid("a part has the wrong length")
		}
		return keyRef{use: signing, kid: kid}, nil
	}
	return keyRef{}, invalid("it is neither three parts nor five")
}

// readHeader takes the key's id out of a header, and reports whether that is all there is
// besides the start and the end.
func readHeader(part, start, end string) (kid string, ok bool) {
	data, err := strictBase64.DecodeString(part)
	kid, startsRight := strings.CutPrefix(string(data), start)
	kid, endsRight := strings.CutSuffix(kid, end)
	return kid, err == nil && startsRight && endsRight && isKeyID(kid)
}

// strictBase64 wants the unused bits of the last character to be zero
// (RFC 4648 section 3.5). It still skips line breaks: see canonical.
var strictBase64 = base64.RawURLEncoding.Strict()

// canonical reports whether part is the one base64url text of what it decodes
// to. The empty text is.
func canonical(part string) bool {
	for i := range len(part) {
		if !isBase64URL(part[i]) {
			return false
		}
	}
	_, err := strictBase64.DecodeString(part[len(part)&^3:])
	return err == nil
}

func isBase64URL(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// A sealer makes tokens out of payloads and gets the payloads back. Both its
// methods are safe for concurrent use. open is only for tokens that inspect let
// pass, or whose header is that of the key.
type sealer interface {
	seal(payload []byte) (string, error)
	open(token string) ([]byte, error)
}

// An opaqueSealer makes opaque tokens: JWE with direct encryption, whose header is the same for all of them.
// go-jose reads or writes the JSON of the header each time, which costs more than all the rest; here nothing
// is left that could be read wrongly. The tests hold the two side by side.
type opaqueSealer struct {
	header string      // the first part of every token
	aad    []byte      // the same, as what is authenticated besides the payload (RFC 7516 section 5.1, step 14)
	aead   cipher.AEAD // with a random nonce of 96 bits before what it seals
}

func newOpaqueSealer(kid string, secret []byte) (*opaqueSealer, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	header := base64.RawURLEncoding.EncodeToString([]byte(sealedHeaderStart + kid + sealedHeaderEnd))
	return &opaqueSealer{header: header, aad: []byte(header), aead: aead}, nil
}

// seal writes header, no encrypted key, nonce, ciphertext and tag (RFC 7516 section 7.1). Its error is nil.
func (s *opaqueSealer) seal(payload []byte) (string, error) {
	encoding := base64.RawURLEncoding
	size := len(s.header) + len("..") + nonceLength + len(".") + encoding.EncodedLen(len(payload)) + len(".") + tagLength
	// What is sealed stands behind the place of its text.
	buffer := make([]byte, size, size+len(payload)+s.aead.Overhead())
	sealed := s.aead.Seal(buffer[size:], nil, payload, s.aad) //nolint:gosec // it draws the nonce itself
	nonce, ciphertext, tag := sealed[:nonceSize], sealed[nonceSize:nonceSize+len(payload)], sealed[nonceSize+len(payload):]
	token := buffer[:0]
	token = append(token, s.header...)
	token = encoding.AppendEncode(append(token, ".."...), nonce)
	token = encoding.AppendEncode(append(token, '.'), ciphertext)
	token = encoding.AppendEncode(append(token, '.'), tag)
	return string(token), nil
}

var errNotSealed = errors.New("not a token that was sealed with this key")

// open undoes seal (RFC 7516 section 5.2), and takes nothing but what seal makes: our header
// byte for byte, no encrypted key, and a nonce, a ciphertext and a tag in their one spelling.
// It needs no inspection before.
func (s *opaqueSealer) open(token string) ([]byte, error) {
	header, rest, _ := strings.Cut(token, "..")
	nonce, rest, _ := strings.Cut(rest, ".")
	ciphertext, tag, _ := strings.Cut(rest, ".")
	if header != s.header || len(nonce) != nonceLength || len(tag) != tagLength {
		return nil, errNotSealed
	}
	data := make([]byte, 0, strictBase64.DecodedLen(len(nonce)+len(ciphertext)+len(tag)))
	for _, part := range [...]string{nonce, ciphertext, tag} {
		before := len(data)
		var err error
		data, err = strictBase64.AppendDecode(data, []byte(part))
		// Line breaks are skipped, so that what was decoded is too short.
		if err != nil || strictBase64.EncodedLen(len(data)-before) != len(part) {
			return nil, errNotSealed
		}
	}
	return s.aead.Open(data[:0], nil, data, s.aad)
}

// sealerOf returns the key whose very header a sealed token has, so that the header need not be read; nil if
// there is none.
func (s *keySet) sealerOf(token string) *key {
	header, _, _ := strings.Cut(token, ".")
	for _, k := range slices.Backward(s.ages[sealing]) {
		if sealer, ok := k.sealer.(*opaqueSealer); ok && sealer.header == header {
			return k
		}
	}
	return nil
}

// A jwtSealer makes JWTs: JWS with ES256. Its go-jose Signer keeps nothing between
// calls, so one serves all goroutines.
type jwtSealer struct {
	public *ecdsa.PublicKey
	signer jose.Signer
}

func newJWTSealer(kid string, secret *ecdsa.PrivateKey) (*jwtSealer, error) {
	jwk := jose.JSONWebKey{Key: secret, KeyID: kid}
	options := new(jose.SignerOptions).WithType(typAccessToken)
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jwk}, options)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return &jwtSealer{public: &secret.PublicKey, signer: s}, nil
}

func (s *jwtSealer) seal(payload []byte) (string, error) {
	object, err := s.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return object.CompactSerialize()
}

func (s *jwtSealer) open(token string) ([]byte, error) {
	object, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	return object.Verify(s.public)
}
