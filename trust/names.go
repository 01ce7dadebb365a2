package trust

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// SameName compares two names in DER as RFC 5280 section 7.1 wants it: attributes that differ in case, in blanks or in
// their type of string are equal, and the attributes of one RDN have no order. A name that cannot be read, or is very
// long, equals only itself.
//
// A CA that is renewed by other software keeps its name in this sense only. Whether it signed is for its key to show.
func SameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	one, ok := parseName(a)
	if !ok {
		return false
	}
	other, ok := parseName(b)
	return ok && slices.Equal(one, other)
}

// A name is a distinguished name in a form in which equal names are equal: each RDN is one string.
type name []string

// within reports whether the name is in the subtree of another one, which its first RDNs
// repeat (RFC 5280 section 4.2.1.10). With orMaybe, an RDN that cannot be compared is equal to any other.
func (n name) within(base name, orMaybe bool) bool {
	return len(n) >= len(base) && slices.EqualFunc(n[:len(base)], base, func(a, b string) bool {
		return a == b || orMaybe && (a[0] == incomparable || b[0] == incomparable)
	})
}

// incomparable begins an RDN with a value that was left as it stands.
const incomparable = 0

// maxNameSize bounds what is read for a stranger, in bytes. Real names have a few hundred.
const maxNameSize = 4 << 10

// parseName reads a Name in DER.
func parseName(der []byte) (name, bool) {
	var rdns cryptobyte.String
	all := cryptobyte.String(der)
	if len(der) > maxNameSize || !all.ReadASN1(&rdns, cbasn1.SEQUENCE) || !all.Empty() {
		return nil, false
	}
	n := name{}
	for !rdns.Empty() {
		var rdn cryptobyte.String
		if !rdns.ReadASN1(&rdn, cbasn1.SET) || rdn.Empty() {
			return nil, false
		}
		canonical, ok := canonicalRDN(rdn)
		if !ok {
			return nil, false
		}
		n = append(n, canonical)
	}
	return n, true
}

func canonicalRDN(rdn cryptobyte.String) (string, bool) {
	var attributes []string
	whole := true
	for !rdn.Empty() {
		var attribute, kind, value cryptobyte.String
		var tag cbasn1.Tag
		if !rdn.ReadASN1(&attribute, cbasn1.SEQUENCE) ||
			!attribute.ReadASN1Element(&kind, cbasn1.OBJECT_IDENTIFIER) ||
			!attribute.ReadAnyASN1(&value, &tag) || !attribute.Empty() {
			return "", false
		}
		// Each part says where it ends, so that no two lists of attributes look alike.
		canonical, ok := canonicalValue(value, tag)
		whole = whole && ok
		canonical = string(kind) + canonical
		attributes = append(attributes, string(binary.AppendUvarint(nil, uint64(len(canonical))))+canonical)
	}
	slices.Sort(attributes)
	canonical := strings.Join(attributes, "") // begins with a length, which is never 0
	if !whole {
		canonical = string(rune(incomparable)) + canonical
	}
	return canonical, true
}

// canonicalValue is an attribute's value as caseIgnoreMatch sees it (RFC 4518 section 2). Where a value holds a
// character that is not for printing or not seen, it is left as it stands, with its type, although RFC 4518 has some of
// them removed: whoever reads the name does not see that there is one. It reports whether the value can be compared.
func canonicalValue(value []byte, tag cbasn1.Tag) (canonical string, ok bool) {
	text, ok := decodeString(value, tag)
	if ok {
		text, ok = foldText(text)
	}
	if !ok {
		return string([]byte{byte(tag)}) + string(value), false
	}
	return "\xff" + text, true // no value has this tag
}

// Types of strings that cryptobyte has no names for.
const (
	tagNumericString   cbasn1.Tag = 18
	tagVisibleString   cbasn1.Tag = 26
	tagUniversalString cbasn1.Tag = 28
	tagBMPString       cbasn1.Tag = 30
)

// decodeString reads a value of one of the types of strings. Of TeletexString, which
// software fills with different alphabets, only ASCII is read.
func decodeString(value []byte, tag cbasn1.Tag) (string, bool) {
	switch tag {
	case cbasn1.UTF8String:
		return string(value), utf8.Valid(value)
	case cbasn1.PrintableString, cbasn1.IA5String, cbasn1.T61String, tagNumericString, tagVisibleString:
		return string(value), isASCII(string(value))
	case tagBMPString:
		if len(value)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(value)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(value[2*i:])
		}
		return string(utf16.Decode(units)), true // half a pair becomes U+FFFD, which foldText refuses
	case tagUniversalString:
		if len(value)%4 != 0 {
			return "", false
		}
		var text strings.Builder
		for ; len(value) > 0; value = value[4:] {
			r := binary.BigEndian.Uint32(value)
			if r > unicode.MaxRune {
				return "", false
			}
			text.WriteRune(rune(r))
		}
		return text.String(), true
	default:
		return "", false
	}
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// foldText removes what caseIgnoreMatch does not look at. It fails where there is a
// character that is not for printing or not seen.
func foldText(s string) (string, bool) {
	if isASCII(s) {
		s = strings.ToLower(s)
	} else {
		// A Caser keeps a state, so each use has its own.
		s = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
	}
	s = strings.Join(strings.Fields(s), " ")
	const mongolianHyphen, objectReplacement = 0x1806, 0xfffc // which RFC 4518 section 2.2 maps to nothing by name
	return s, !strings.ContainsFunc(s, func(r rune) bool {
		// What else it maps to nothing is among these, although Unicode calls some of it graphic.
		return r == utf8.RuneError || !unicode.IsGraphic(r) || r == mongolianHyphen || r == objectReplacement ||
			unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
	})
}
