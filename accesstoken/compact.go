package accesstoken

import (
	"encoding/base64"
	"strings"
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

// inspect judges everything about a token that needs no key, and says which key
// to look for. Only a token that passes may be given to go-jose, which is more
// lenient.
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
		return inspectSealed(parts)
	case 3:
		return inspectSigned(parts)
	}
	return keyRef{}, invalid("it is neither three parts nor five")
}

func inspectSealed(parts []string) (keyRef, error) {
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
}

func inspectSigned(parts []string) (keyRef, error) {
	kid, ok := readHeader(parts[0], signedHeaderStart, signedHeaderEnd)
	if !ok {
		return keyRef{}, invalid("its header is not that of a signed token")
	}
	if len(parts[2]) != signatureLength {
		return keyRef{}, invalid("a part has the wrong length")
	}
	return keyRef{use: signing, kid: kid}, nil
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
