package accesstoken

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
)

// Lengths of the parts that have one: a nonce of 96 bits and a tag of 128
// (RFC 7518 section 5.3), a signature of two 256-bit numbers (section 3.4).
const (
	nonceLength     = 16
	tagLength       = 22
	signatureLength = 86
)

// keyRef names the key that a token says it was made with.
type keyRef struct {
	use use
	kid string
}

// What the header of a token is, with the key's id in the middle. go-jose writes the members
// in the order of their names, and nothing between them.
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
// pass.
type sealer interface {
	seal(payload []byte) (string, error)
	open(token string) ([]byte, error)
}

// An opaqueSealer makes opaque tokens: JWE with direct encryption. go-jose's Encrypter
// keeps nothing between calls under alg "dir", so one serves all goroutines.
type opaqueSealer struct {
	encrypter jose.Encrypter
	header    string // the first part of every token that the encrypter makes
	aead      cipher.AEAD
}

func newOpaqueSealer(kid string, secret []byte) (*opaqueSealer, error) {
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: secret, KeyID: kid}, nil)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	header := base64.RawURLEncoding.EncodeToString([]byte(sealedHeaderStart + kid + sealedHeaderEnd))
	return &opaqueSealer{encrypter: encrypter, header: header, aead: aead}, nil
}

func (s *opaqueSealer) seal(payload []byte) (string, error) {
	object, err := s.encrypter.Encrypt(payload)
	if err != nil {
		return "", fmt.Errorf("sealing: %w", err)
	}
	return object.CompactSerialize()
}

var errNotSealed = errors.New("not a token that was sealed with this key")

// open undoes seal (RFC 7516 section 5.2), and takes nothing but what seal makes: our header
// byte for byte, no encrypted key, and a nonce, a ciphertext and a tag in their one spelling.
//
// go-jose opens all of these tokens as well, and others. It reads the JSON of the header each
// time, which costs more than all the rest of a check; here nothing is left to read that
// could be read wrongly. The tests hold the two side by side.
func (s *opaqueSealer) open(token string) ([]byte, error) {
	header, rest, _ := strings.Cut(token, "..")
	nonce, rest, _ := strings.Cut(rest, ".")
	ciphertext, tag, _ := strings.Cut(rest, ".")
	if header != s.header || len(nonce) != nonceLength || len(tag) != tagLength {
		return nil, errNotSealed
	}
	data := make([]byte, 0, len(token))
	for _, part := range [...]string{nonce, ciphertext, tag} {
		before := len(data)
		var err error
		data, err = strictBase64.AppendDecode(data, []byte(part))
		// Line breaks are skipped, so that what was decoded is too short.
		if err != nil || strictBase64.EncodedLen(len(data)-before) != len(part) {
			return nil, errNotSealed
		}
	}
	iv, sealed := data[:s.aead.NonceSize()], data[s.aead.NonceSize():]
	return s.aead.Open(sealed[:0], iv, sealed, []byte(header))
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
