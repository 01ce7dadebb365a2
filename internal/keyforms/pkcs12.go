package keyforms

import (
	"encoding/asn1"
	"errors"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of PKCS#7 (RFC 2315 section 14) and PKCS#12 (RFC 7292 appendix D).
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidX509          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidFriendlyName  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
)

// Kinds of bags.
const (
	keyBag          = "1.2.840.113549.1.12.10.1.1"
	shroudedKeyBag  = "1.2.840.113549.1.12.10.1.2"
	certBag         = "1.2.840.113549.1.12.10.1.3"
	safeContentsBag = "1.2.840.113549.1.12.10.1.6"
)

// maxNesting bounds bags within bags, of which one level is usual.
const maxNesting = 4

// explicit0 is the tag [0] of what is wrapped once more.
const explicit0 = cryptobyteasn1.Tag(0xa0)

// macData is what a file with a password says about its integrity (RFC 7292 section 4).
type macData struct {
	algorithm  string
	parameters cryptobyte.String
	sum, salt  []byte
	iterations int
}

// readPKCS12 reads every key and certificate of a PKCS#12 file (RFC 7292), in as many safes
// as there are.
func (c *Contents) readPKCS12(der []byte) error {
	input := cryptobyte.String(der)
	var pfx, safe, wrapped cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&pfx, cryptobyteasn1.SEQUENCE) || !pfx.SkipASN1(cryptobyteasn1.INTEGER) ||
		!pfx.ReadASN1(&safe, cryptobyteasn1.SEQUENCE) || !safe.ReadASN1ObjectIdentifier(&oid) {
		return errBER
	}
	if oid.Equal(oidSignedData) {
		return unsupported("a signature in place of a password")
	}
	if !oid.Equal(oidData) || !safe.ReadASN1(&wrapped, explicit0) {
		return errBER
	}
	data, ok := octets(&wrapped, cryptobyteasn1.OCTET_STRING)
	if !ok {
		return errBER
	}
	if !pfx.Empty() {
		mac, err := readMAC(&pfx)
		if err != nil {
			return err
		}
		if err := c.decrypter.isMAC(mac, data); err != nil {
			return err
		}
	}
	return c.readSafes(data)
}

func readMAC(pfx *cryptobyte.String) (macData, error) {
	m := macData{iterations: 1}
	var content, digest, sum, salt cryptobyte.String
	ok := pfx.ReadASN1(&content, cryptobyteasn1.SEQUENCE) && content.ReadASN1(&digest, cryptobyteasn1.SEQUENCE)
	if ok {
		m.algorithm, m.parameters, ok = readAlgorithm(&digest)
	}
	if !ok || !digest.ReadASN1(&sum, cryptobyteasn1.OCTET_STRING) || !content.ReadASN1(&salt, cryptobyteasn1.OCTET_STRING) ||
		!content.Empty() && !content.ReadASN1Integer(&m.iterations) {
		return m, errBER
	}
	m.sum, m.salt = sum, salt
	return m, nil
}

// readSafes takes AuthenticatedSafe. Each level below may be BER again, within a string.
func (c *Contents) readSafes(data []byte) error {
	safes, err := sequence(data)
	if err != nil {
		return err
	}
	for !safes.Empty() {
		var info, content cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !safes.ReadASN1(&info, cryptobyteasn1.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&oid) || !info.ReadASN1(&content, explicit0) {
			return errBER
		}
		var plain []byte
		ok := true
		switch {
		case oid.Equal(oidData):
			plain, ok = octets(&content, cryptobyteasn1.OCTET_STRING)
		case oid.Equal(oidEncryptedData):
			plain, err = c.decryptSafe(content)
		default:
			return unsupported("the certificate of a receiver in place of a password")
		}
		if !ok {
			return errBER
		}
		if err != nil {
			return err
		}
		bags, err := sequence(plain)
		if err != nil {
			return err
		}
		if err := c.readBags(bags, maxNesting); err != nil {
			return err
		}
	}
	return nil
}

// sequence reads one SEQUENCE of BER, with nothing behind it.
func sequence(data []byte) (cryptobyte.String, error) {
	der, rest, err := toDER(data)
	if err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var content cryptobyte.String
	if !input.ReadASN1(&content, cryptobyteasn1.SEQUENCE) || len(rest) > 0 {
		return nil, errBER
	}
	return content, nil
}

// decryptSafe is EncryptedData (RFC 5652 section 8). Where no MAC has told that the password is
// right, what comes out has to be bags.
func (c *Contents) decryptSafe(content cryptobyte.String) ([]byte, error) {
	var data, info cryptobyte.String
	if !content.ReadASN1(&data, cryptobyteasn1.SEQUENCE) || !data.SkipASN1(cryptobyteasn1.INTEGER) ||
		!data.ReadASN1(&info, cryptobyteasn1.SEQUENCE) || !info.SkipASN1(cryptobyteasn1.OBJECT_IDENTIFIER) {
		return nil, errBER
	}
	id, parameters, ok := readAlgorithm(&info)
	if !ok {
		return nil, errBER
	}
	encrypted, ok := octets(&info, cryptobyteasn1.Tag(0).ContextSpecific())
	if !ok {
		return nil, errBER
	}
	plain, err := c.decrypter.decrypt(id, parameters, encrypted)
	if err != nil {
		return nil, err
	}
	if _, err := sequence(plain); err != nil {
		return nil, ErrPassword
	}
	return plain, nil
}

func (c *Contents) readBags(bags cryptobyte.String, depth int) error {
	if depth == 0 {
		return errBER
	}
	for !bags.Empty() {
		var bag, value, attributes cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !bags.ReadASN1(&bag, cryptobyteasn1.SEQUENCE) || !bag.ReadASN1ObjectIdentifier(&oid) || !bag.ReadASN1(&value, explicit0) ||
			!bag.ReadOptionalASN1(&attributes, new(bool), cryptobyteasn1.SET) {
			return errBER
		}
		before := len(c.Keys)
		switch oid.String() {
		case keyBag:
			key, err := parsePKCS8(value)
			c.addKey(key, err)
		case shroudedKeyBag:
			key, err := c.decrypter.openPKCS8(value)
			if _, isUnsupported := errors.AsType[unsupported](err); isUnsupported || errors.Is(err, ErrPassword) {
				return err
			}
			c.addKey(key, err)
		case certBag:
			if err := c.addCertBag(value); err != nil {
				return err
			}
		case safeContentsBag:
			var inner cryptobyte.String
			if !value.ReadASN1(&inner, cryptobyteasn1.SEQUENCE) {
				return errBER
			}
			if err := c.readBags(inner, depth-1); err != nil {
				return err
			}
		}
		if len(c.Keys) == before+1 && oid.String() != safeContentsBag {
			c.Keys[before].Name = friendlyName(attributes)
		}
	}
	return nil
}

// addCertBag takes CertBag (RFC 7292 section 4.2.3). The other kind, of SDSI, is not in use.
func (c *Contents) addCertBag(value cryptobyte.String) error {
	var content, wrapped cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !value.ReadASN1(&content, cryptobyteasn1.SEQUENCE) || !content.ReadASN1ObjectIdentifier(&oid) || !content.ReadASN1(&wrapped, explicit0) {
		return errBER
	}
	if !oid.Equal(oidX509) {
		return nil
	}
	der, ok := octets(&wrapped, cryptobyteasn1.OCTET_STRING)
	if !ok {
		return errBER
	}
	c.addCertificate(der)
	return nil
}

// friendlyName is the name that a program gave to a bag (RFC 2985 section 5.5.1); empty when it has none.
func friendlyName(attributes cryptobyte.String) string {
	for !attributes.Empty() {
		var attribute, values, text cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !attributes.ReadASN1(&attribute, cryptobyteasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) {
			return ""
		}
		if !oid.Equal(oidFriendlyName) {
			continue
		}
		if !attribute.ReadASN1(&values, cryptobyteasn1.SET) || !values.ReadASN1(&text, cryptobyteasn1.Tag(30)) {
			return ""
		}
		var units []uint16
		for i := 0; i+1 < len(text); i += 2 {
			units = append(units, uint16(text[i])<<8|uint16(text[i+1]))
		}
		return string(utf16.Decode(units))
	}
	return ""
}
