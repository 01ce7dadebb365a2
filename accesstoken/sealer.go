package accesstoken

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
)

// A sealer makes opaque tokens: JWE with direct encryption. go-jose's Encrypter
// keeps nothing between calls under alg "dir", so one serves all goroutines.
type sealer struct {
	encrypter jose.Encrypter
	header    string // the first part of every token that the encrypter makes
	aead      cipher.AEAD
}

func newSealer(kid string, secret []byte) (*sealer, error) {
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
	return &sealer{encrypter: encrypter, header: header, aead: aead}, nil
}

func (s *sealer) seal(payload []byte) (string, error) {
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
func (s *sealer) open(token string) ([]byte, error) {
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
