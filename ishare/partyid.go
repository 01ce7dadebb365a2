package ishare

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/language"
)

// MaxPartyIDLength is the longest party identifier that is accepted, in bytes. The framework names no limit; the
// longest identifiers in use are did:web ones, far below this.
const MaxPartyIDLength = 255

// eoriPrefix starts the identifiers of the 2.x framework, which have no colon: EU.EORI.NL000000001.
const eoriPrefix = "EU.EORI."

// A PartyID identifies a party in the framework: did:ishare:EU.NL.NTRNL-10000000, EU.EORI.NL000000001, or any other
// <method>:<value>. Identifiers are compared byte for byte.
type PartyID string

var errPartyID = errors.New("not a party identifier")

// ParsePartyID accepts an identifier of the form <method>:<value>, or the EU.EORI.… form of the 2.x framework, of at
// most [MaxPartyIDLength] bytes. The alphabet is that of decentralised identifiers (letters, digits and . - _ : % + ~
// @), so that an identifier can stand in a header, a log line or a path without quoting. A URL is not a party
// identifier.
func ParsePartyID(s string) (PartyID, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("%w: empty", errPartyID)
	case len(s) > MaxPartyIDLength:
		return "", fmt.Errorf("%w: longer than %d bytes", errPartyID, MaxPartyIDLength)
	}
	for i := range len(s) {
		if !isPartyIDByte(s[i]) {
			flaw := StrayCharacter(s, func(r rune) bool { return r < utf8.RuneSelf && isPartyIDByte(byte(r)) })
			return "", fmt.Errorf("%w: it %s", errPartyID, flaw)
		}
	}
	if value, ok := strings.CutPrefix(s, eoriPrefix); ok && value != "" {
		return PartyID(s), nil
	}
	method, value, ok := strings.Cut(s, ":")
	if !ok || method == "" || value == "" || !isAlnum(method[0]) {
		return "", fmt.Errorf("%w: want <method>:<value> or %s<number>", errPartyID, eoriPrefix)
	}
	return PartyID(s), nil
}

func isPartyIDByte(c byte) bool {
	return isAlnum(c) || c == '.' || c == '-' || c == ':' || c == '_' || c == '%' || c == '+' || c == '~' || c == '@'
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// Object identifiers of the subject attributes that carry an identity
// (ETSI EN 319 412-1 section 5.1.4; the 2.x framework used serialNumber).
var (
	oidOrganizationIdentifier = asn1.ObjectIdentifier{2, 5, 4, 97}
	oidSerialNumber           = asn1.ObjectIdentifier{2, 5, 4, 5}
)

// CertificateIDs derives the party identifiers that a seal's subject states:
// did:ishare:<continent>.<country>.<organizationIdentifier> for an organizationIdentifier such as NTRNL-10000000, and
// EU.EORI.… when serialNumber holds one. The framework calls subject names unreliable, so these explain a certificate
// to a person and never decide whose it is: [Party.Certified] does.
func CertificateIDs(cert *x509.Certificate) []PartyID {
	var ids []PartyID
	for _, attribute := range cert.Subject.Names {
		value, ok := attribute.Value.(string)
		if !ok {
			continue
		}
		switch {
		case attribute.Type.Equal(oidOrganizationIdentifier):
			if id, err := DeriveID(value); err == nil {
				ids = append(ids, id)
			}
		case attribute.Type.Equal(oidSerialNumber) && strings.HasPrefix(value, eoriPrefix):
			if id, err := ParsePartyID(value); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// DeriveID makes the iSHARE identifier of an organizationIdentifier in the form of ETSI EN 319 412-1 section 5.1.4:
// three letters for the register, two for the country, a hyphen and the reference. NTRNL-10000000 becomes
// did:ishare:EU.NL.NTRNL-10000000.
func DeriveID(organizationIdentifier string) (PartyID, error) {
	scheme, reference, ok := strings.Cut(organizationIdentifier, "-")
	if !ok || len(scheme) != 5 || reference == "" {
		return "", fmt.Errorf("%w: organizationIdentifier %q is not like NTRNL-10000000", errPartyID, organizationIdentifier)
	}
	country := scheme[3:]
	continent, err := continentOf(country)
	if err != nil {
		return "", err
	}
	return ParsePartyID("did:ishare:" + continent + "." + country + "." + organizationIdentifier)
}

// continentOf maps a country to the two letters of its continent by way of the UN M49 groups that CLDR knows.
func continentOf(country string) (string, error) {
	switch country { // where ETSI EN 319 412-1 departs from ISO 3166
	case "EL":
		country = "GR"
	case "UK":
		country = "GB"
	}
	region, err := language.ParseRegion(country)
	if err != nil || !region.IsCountry() {
		return "", fmt.Errorf("%w: %q is not a country", errPartyID, country)
	}
	groups := []struct{ m49, continent string }{
		{"150", "EU"}, {"002", "AF"}, {"142", "AS"}, {"009", "OC"}, {"005", "SA"}, {"003", "NA"},
	}
	for _, g := range groups {
		if language.MustParseRegion(g.m49).Contains(region) {
			return g.continent, nil
		}
	}
	return "", fmt.Errorf("%w: no continent is known for %q", errPartyID, country)
}

// CharacterName names a character in a sentence, also one that cannot be seen.
func CharacterName(r rune) string {
	switch r {
	case '\n':
		return "a line feed"
	case '\r':
		return "a carriage return"
	case '\t':
		return "a tab"
	case ' ':
		return "a blank"
	}
	if r > ' ' && r <= '~' {
		return "the character " + string(r)
	}
	return fmt.Sprintf("the character %U", r)
}

// StrayCharacter says in a sentence about a value where it holds a character that may not stand in it:
// "ends with a line feed". It is empty when there is none.
func StrayCharacter(value string, allowed func(rune) bool) string {
	at := -1
	for i, r := range value {
		if !allowed(r) {
			at = i
			break
		}
	}
	if at < 0 {
		return ""
	}
	stray := func(r rune) bool { return !allowed(r) }
	if strings.TrimFunc(value[at:], stray) == "" { // the last is the one to take off first
		r, _ := utf8.DecodeLastRuneInString(value)
		return "ends with " + CharacterName(r)
	}
	r, _ := utf8.DecodeRuneInString(value[at:])
	if at == 0 {
		return "begins with " + CharacterName(r)
	}
	return fmt.Sprintf("holds %s at place %d of %d", CharacterName(r), at+1, len(value))
}
