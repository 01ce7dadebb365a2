// Package jws reads and writes JSON Web Signatures in the one form that iSHARE uses: compact serialisation,
// RSASSA-PKCS1-v1_5, the signer's certificates in the header (RFC 7515, RFC 7518 section 3.3).
//
// Reading is strict, because every leniency is a second spelling of a signed object: base64url without padding, white
// space or spare bits; JSON without duplicate names, in valid UTF-8, with nothing behind the value. Reading and
// verifying are separate steps. Nothing in a [Token] is true until [Token.Verify] returns nil for a key that the caller
// trusts for other reasons than that the token names it.
//
// The cost of reading is linear in the length of the input; callers bound the length.
package jws

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // RS384, RS512
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/waybill-token/waybill/internal/rsaverify"
	"github.com/waybill-token/waybill/ishare"
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

// Errors of the steps of reading. They are wrapped with what is wrong: see [FlawError].
var (
	ErrCompact   = errors.New("jws: not a compact serialisation")
	ErrHeader    = errors.New("jws: header is not a strict JSON object")
	ErrX5C       = errors.New("jws: x5c is not an array of certificates")
	ErrSignature = errors.New("jws: signature does not verify")
)

// A FlawError is what is wrong with something that was read, in words that may be shown to
// whoever sent it: they quote nothing secret of it, and little at all.
type FlawError struct {
	Sentence string
	Hint     string // how to mend it; empty when the sentence says it
	kind     error
}

// Error is the kind of error and the sentence.
func (f *FlawError) Error() string { return f.kind.Error() + ": " + f.Sentence }

// Unwrap is [ErrCompact], [ErrHeader], [ErrX5C] or [ErrSignature].
func (f *FlawError) Unwrap() error { return f.kind }

// A Key is a public RSA key that is ready to verify with: the part of the work that depends on the key alone is done.
type Key = rsaverify.Key

// NewKey prepares a key. The caller has checked its size.
func NewKey(public *rsa.PublicKey) *Key { return rsaverify.New(public) }

// A Token is a compact serialisation taken into its parts. It proves nothing, and is for one goroutine at a time.
type Token struct {
	signed    string // header.payload, as it was signed
	header    string // still encoded: see [Token.RawHeader]
	encoded   struct{ payload, signature string }
	payload   []byte
	signature []byte

	hashed       bool // the two digests are there
	headerDigest [sha256.Size]byte
	signedDigest [sha256.Size]byte
}

// Split takes a compact serialisation apart and decodes payload and signature. The header stays encoded until
// [Token.Header] is asked for, so that a caller who has judged the same header before need not decode it again.
//
// The error is a [*FlawError] that wraps [ErrCompact].
func Split(compact string) (*Token, error) {
	t, err := Cut(compact)
	if err == nil {
		err = t.Decode()
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Cut is the first half of [Split]: it finds the three parts and decodes none, so that it costs next to nothing
// whatever a stranger sends. [Token.Decode] is the second. A token that was only cut has neither payload nor signature.
//
// The error is a [*FlawError] that wraps [ErrCompact].
func Cut(compact string) (*Token, error) {
	header, rest, _ := strings.Cut(compact, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		parts := strings.Count(compact, ".") + 1
		f := &FlawError{fmt.Sprintf("it has %d parts between dots instead of three", parts), hintSigned, ErrCompact}
		switch parts {
		case 1:
			f.Sentence = "it has no dots, and so is one part instead of three"
		case 5:
			f.Hint = "Send a signed JWT (JWS), which has three parts, and not an encrypted one (JWE), which has five."
		}
		return nil, f
	}
	for _, part := range [...]struct{ name, text string }{{"header", header}, {"payload", payload}, {"signature", signature}} {
		if part.text == "" {
			return nil, &FlawError{"the " + part.name + " is empty", hintSigned, ErrCompact}
		}
	}
	t := &Token{signed: compact[:len(header)+1+len(payload)], header: header}
	t.encoded.payload, t.encoded.signature = payload, signature
	return t, nil
}

// Decode decodes payload and signature.
//
// The error is a [*FlawError] that wraps [ErrCompact].
func (t *Token) Decode() error {
	var flaw *FlawError
	if t.payload, flaw = decodePart("payload", t.encoded.payload); flaw != nil {
		return flaw
	}
	if t.signature, flaw = decodePart("signature", t.encoded.signature); flaw != nil {
		return flaw
	}
	return nil
}

const hintSigned = "Send a signed JWT: header.payload.signature."

// strictURL refuses spare bits that are not zero in the last character, which
// would make several spellings of one signature.
var strictURL = base64.RawURLEncoding.Strict()

// decodePart decodes unpadded base64url. The decoder of the standard library
// skips line breaks, so they are refused first.
func decodePart(name, s string) ([]byte, *FlawError) {
	if strings.Contains(s, "\n") || strings.Contains(s, "\r") {
		return nil, partFlaw(name, s)
	}
	b, err := strictURL.DecodeString(s)
	if err != nil {
		return nil, partFlaw(name, s)
	}
	return b, nil
}

// partFlaw finds why a part is no unpadded base64url in its one spelling.
func partFlaw(name, s string) *FlawError {
	f := &FlawError{kind: ErrCompact}
	notURL := func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	at := strings.IndexFunc(s, notURL)
	if at < 0 {
		f.Sentence = "the " + name + " does not end where base64url can end: it was cut, or its last character was changed"
		f.Hint = "Send the assertion whole, as the library returns it."
		return f
	}
	r, _ := utf8.DecodeRuneInString(s[at:])
	where := fmt.Sprintf(" at place %d of %d", at+1, len(s))
	if strings.TrimFunc(s[at:], notURL) == "" {
		where = " at its end"
	}
	f.Sentence = fmt.Sprintf("the %s holds %s%s", name, ishare.CharacterName(r), where)
	switch r {
	case '\r', '\n', ' ', '\t':
		f.Hint = "Take the line breaks and blanks out. A text that was read from a file ends with a line feed; and a + becomes a blank in a form, unless it is percent-encoded: base64url has none."
	case '=':
		f.Hint = "Encode the parts in base64url without padding (RFC 7515 section 2)."
	case '+', '/':
		f.Hint = "Encode the parts in base64url, which has - and _ in place of + and / (RFC 7515 section 2)."
	default:
		f.Hint = "Send the assertion as the library returns it: header.payload.signature, with nothing before or behind it."
	}
	return f
}

// RawHeader is the header as it was sent, in base64url: the same text is the same header.
func (t *Token) RawHeader() string { return t.header }

// Payload is the decoded payload: bytes of any kind, and nobody's word until the
// signature holds. It must not be changed.
func (t *Token) Payload() []byte { return t.payload }

// HeaderDigest is the SHA-256 of [Token.RawHeader]. RS256 hashes the header too, as the beginning of what is signed:
// the two digests come of one pass.
func (t *Token) HeaderDigest() [sha256.Size]byte {
	if !t.hashed {
		h := sha256.New()
		h.Write(bytesOf(t.header))
		h.Sum(t.headerDigest[:0])
		h.Write(bytesOf(t.signed[len(t.header):]))
		h.Sum(t.signedDigest[:0])
		t.hashed = true
	}
	return t.headerDigest
}

// digest is that of what was signed.
func (t *Token) digest(hash crypto.Hash) []byte {
	if hash == crypto.SHA256 {
		t.HeaderDigest()
		return t.signedDigest[:]
	}
	h := hash.New()
	h.Write(bytesOf(t.signed))
	return h.Sum(nil)
}

// bytesOf gives the bytes of a text without copying it, for a hash, which only reads them: an assertion has ten
// thousand.
func bytesOf(text string) []byte {
	return unsafe.Slice(unsafe.StringData(text), len(text)) //nolint:gosec // read-only, and not kept
}

// Verify returns nil when the token was signed with the private half of key by
// the algorithm. The caller has checked the key's size.
//
// The error is a [*FlawError] that wraps [ErrSignature].
func (t *Token) Verify(alg Algorithm, key *Key) error {
	hash := alg.hash()
	if hash == 0 || key == nil {
		return &FlawError{Sentence: "no algorithm or no key", kind: ErrSignature}
	}
	err := key.Verify(hash, t.digest(hash), t.signature)
	switch {
	case err == nil:
		return nil
	case key.Size() > 0 && len(t.signature) != key.Size():
		return &FlawError{
			fmt.Sprintf("the signature has %d bytes, and one with the key of the first certificate of x5c has %d", len(t.signature), key.Size()),
			"Sign with the private key of the first certificate of x5c: another key made this signature, or another kind of key.", ErrSignature,
		}
	}
	return &FlawError{Sentence: "the " + string(alg) + " signature does not verify with the key of the first certificate of x5c", kind: ErrSignature}
}
