// Package certparse reads X.509 certificates with crypto/x509, and says in plain words
// why one is not read: because it was issued so, or because the bytes are another thing.
package certparse

import (
	"crypto/x509"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Reissue is what mends a certificate that was issued against the rules.
const Reissue = "Ask the CA that issued it for another certificate, without that; copying or converting this one does not help."

// An Error says why bytes are not read as a certificate. It quotes what stands in them, cut short and fit to be shown.
type Error struct {
	// Reason continues a sentence that begins with the certificate: "is cut off".
	Reason string
	// Issued is true of a whole certificate that the CA issued against the rules: only [Reissue] mends it.
	Issued bool

	cause error
}

// Error is the reason as a sentence.
func (e *Error) Error() string { return "the certificate " + e.Reason }

// Unwrap gives what crypto/x509 said.
func (e *Error) Unwrap() error { return e.cause }

// Parse reads one certificate in DER and nothing behind it. The error is an [*Error].
func Parse(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		return cert, nil
	}
	if kind := Describe(der); kind != certificate {
		return nil, &Error{Reason: "is " + kind, cause: err}
	}
	if !fits(der, maxDepth) {
		return nil, &Error{Reason: "is damaged: its parts do not fit into each other", cause: err}
	}
	return nil, &Error{Reason: "was issued with " + irregularity(der, err), Issued: true, cause: err}
}

// irregularity finds what crypto/x509 minds, or else repeats its words.
func irregularity(der []byte, err error) string {
	words := strings.TrimPrefix(err.Error(), "x509: ")
	switch {
	case strings.Contains(words, "String"), strings.Contains(words, "string"):
		if found := badString(cryptobyte.String(der), maxDepth); found != "" {
			return found
		}
		return "a name whose characters do not fit their type, which X.680 forbids"
	case words == "negative serial number":
		return "a negative serial number, which RFC 5280 section 4.1.2.2 forbids"
	case strings.HasPrefix(words, "inner and outer signature algorithm"):
		return "two different signature algorithms inside and outside, which RFC 5280 section 4.1.1.2 forbids"
	case strings.HasPrefix(words, "certificate contains duplicate extension"):
		return "an extension that stands in it twice, which RFC 5280 section 4.2 forbids"
	case words == "RSA key missing NULL parameters":
		return "an RSA key without NULL parameters, which RFC 3279 section 2.3.1 forbids"
	case strings.Contains(words, "asn1"):
		return "a field whose encoding is not DER (X.690)"
	}
	return fmt.Sprintf("a field that breaks the rules of RFC 5280 (%.80s)", words)
}

const (
	maxDepth    = 16   // far above the nesting of a certificate
	constructed = 0x20 // the bit of a tag that says that the element holds others
)

// fits reports whether every element that holds others is filled by them.
func fits(der cryptobyte.String, depth int) bool {
	for !der.Empty() {
		var content cryptobyte.String
		var tag asn1.Tag
		if !der.ReadAnyASN1(&content, &tag) || tag&constructed != 0 && (depth == 0 || !fits(content, depth-1)) {
			return false
		}
	}
	return true
}

// badString finds the first string with a character that its type has not. Extensions
// are octet strings here, and not looked into.
func badString(der cryptobyte.String, depth int) string {
	for !der.Empty() {
		var content cryptobyte.String
		var tag asn1.Tag
		if !der.ReadAnyASN1(&content, &tag) {
			return ""
		}
		found := ""
		if tag&constructed == 0 {
			found = forbidden(tag, content)
		} else if depth > 0 {
			found = badString(content, depth-1)
		}
		if found != "" {
			return found
		}
	}
	return ""
}

// alphabets are the string types that not every character fits (X.680 section 41).
var alphabets = map[asn1.Tag]struct {
	name  string
	holds func(rune) bool
}{
	asn1.UTF8String:      {"UTF8String", func(rune) bool { return true }},
	asn1.PrintableString: {"PrintableString", isPrintable},
	asn1.IA5String:       {"IA5String", func(r rune) bool { return r < 0x80 }},
	asn1.Tag(18):         {"NumericString", func(r rune) bool { return r == ' ' || '0' <= r && r <= '9' }},
}

func forbidden(tag asn1.Tag, content []byte) string {
	kind, ok := alphabets[tag]
	if !ok {
		return ""
	}
	text := string(content)
	if tag != asn1.UTF8String { // each byte is the character of its number
		runes := make([]rune, len(content))
		for i, b := range content {
			runes[i] = rune(b)
		}
		text = string(runes)
	}
	for _, r := range text {
		if r == utf8.RuneError && tag == asn1.UTF8String {
			return "bytes that are not UTF-8 in a UTF8String, which X.680 forbids"
		}
		if !kind.holds(r) {
			return fmt.Sprintf("the character %q in a %s (%.60q), which X.680 forbids", r, kind.name, text)
		}
	}
	return ""
}

// isPrintable is what crypto/x509 takes: the alphabet of X.680 section 41.4, and * and &.
func isPrintable(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" '()+,-./:=?*&", r)
}
