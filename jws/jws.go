// Package jws reads and writes JSON Web Signatures in the one form that iSHARE
// uses: compact serialisation, RSASSA-PKCS1-v1_5, the signer's certificates in
// the header (RFC 7515, RFC 7518 section 3.3).
//
// Reading is strict, because every leniency is a second spelling of a signed
// object: base64url without padding, white space or spare bits; JSON without
// duplicate names, in valid UTF-8, with nothing behind the value. Reading and
// verifying are separate steps. Nothing in a [Token] is true until
// [Token.Verify] returns nil for a key that the caller trusts for other reasons
// than that the token names it.
//
// The cost of reading is linear in the length of the input; callers bound the
// length.
package jws

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256" // RS256
	_ "crypto/sha512" // RS384, RS512
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// An Algorithm is a signature algorithm by its name in the alg header parameter.
type Algorithm string

// The algorithms that iSHARE 3.0 allows. There are no others.
const (
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
)

// ParseAlgorithm returns the algorithm of that name, compared with regard to case.
func ParseAlgorithm(name string) (Algorithm, error) {
	switch a := Algorithm(name); a {
	case RS256, RS384, RS512:
		return a, nil
	}
	return "", fmt.Errorf("jws: algorithm %.20q is not RS256, RS384 or RS512", name)
}

// hash is zero for an algorithm that did not come from [ParseAlgorithm].
func (a Algorithm) hash() crypto.Hash {
	switch a {
	case RS256:
		return crypto.SHA256
	case RS384:
		return crypto.SHA384
	case RS512:
		return crypto.SHA512
	}
	return 0
}

// Errors of the steps of reading. They are wrapped with what is wrong.
var (
	ErrCompact   = errors.New("jws: not a compact serialisation")
	ErrHeader    = errors.New("jws: header is not a strict JSON object")
	ErrX5C       = errors.New("jws: x5c is not an array of certificates")
	ErrSignature = errors.New("jws: signature does not verify")
)

// A Token is a compact serialisation taken into its parts. It proves nothing.
type Token struct {
	signed    string // header.payload, as it was signed
	header    string // still encoded: see [Token.RawHeader]
	payload   []byte
	signature []byte
}

// Split takes a compact serialisation apart and decodes payload and signature.
// The header stays encoded until [Token.Header] is asked for, so that a caller who has
// judged the same header before need not decode it again.
//
// The error wraps [ErrCompact].
func Split(compact string) (*Token, error) {
	header, rest, ok := strings.Cut(compact, ".")
	if !ok {
		return nil, fmt.Errorf("%w: one part instead of three", ErrCompact)
	}
	payload, signature, ok := strings.Cut(rest, ".")
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: two parts instead of three", ErrCompact)
	case strings.Contains(signature, "."):
		return nil, fmt.Errorf("%w: more than three parts", ErrCompact)
	case header == "" || payload == "" || signature == "":
		return nil, fmt.Errorf("%w: a part is empty", ErrCompact)
	}
	t := &Token{signed: compact[:len(header)+1+len(payload)], header: header}
	var err error
	if t.payload, err = decodeSegment(payload); err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrCompact, err)
	}
	if t.signature, err = decodeSegment(signature); err != nil {
		return nil, fmt.Errorf("%w: signature: %w", ErrCompact, err)
	}
	return t, nil
}

// strictURL refuses spare bits that are not zero in the last character, which
// would make several spellings of one signature.
var strictURL = base64.RawURLEncoding.Strict()

// decodeSegment decodes unpadded base64url. The decoder of the standard library
// skips line breaks, so they are refused first.
func decodeSegment(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line break in base64url")
	}
	b, err := strictURL.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("not canonical base64url: %w", err)
	}
	return b, nil
}

// RawHeader is the header as it was sent, in base64url: the same text is the
// same header.
func (t *Token) RawHeader() string { return t.header }

// Payload is the decoded payload: bytes of any kind, and nobody's word until the
// signature holds. It must not be changed.
func (t *Token) Payload() []byte { return t.payload }

// Verify returns nil when the token was signed with the private half of key by
// the algorithm. The caller has checked the key's size.
//
// The error wraps [ErrSignature].
func (t *Token) Verify(alg Algorithm, key *rsa.PublicKey) error {
	hash := alg.hash()
	if hash == 0 || key == nil {
		return fmt.Errorf("%w: no algorithm or no key", ErrSignature)
	}
	h := hash.New()
	h.Write([]byte(t.signed))
	if err := rsa.VerifyPKCS1v15(key, hash, h.Sum(nil), t.signature); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}
