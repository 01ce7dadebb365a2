// Package keyforms reads private keys and certificates in the forms in which people have
// them: PEM, also with damaged line breaks or escaped characters, PKCS#12, PKCS#7,
// PKCS#8, PKCS#1 and SEC 1, in DER and in BER, encrypted or not. What it cannot read
// it names, with what to do about it. Nothing that it says holds key material or a
// password.
package keyforms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/waybill-token/waybill/internal/certparse"
)

// MaxSize is how many bytes are read: far above ten certificates and a key.
const MaxSize = 1 << 20

// A Source is what has to be known besides the bytes.
type Source struct {
	Name         string // by which commands call the file
	Password     string // of PKCS#12 and of encrypted keys
	PasswordFrom string // where people put the password; empty: nothing is known of it
}

// Contents are what the bytes turned out to hold. That they hold something unusable matters
// only to callers that look for it: a chain may stand beside a key that cannot be read.
type Contents struct {
	Keys         []Key
	Certificates []*x509.Certificate
	Unordered    bool     // some certificates came as a set, not as a list
	Others       []string // what else there is, such as "a public key"
	Faults       []Fault

	source    Source
	decrypter decrypter
	seen      int // certificates, those that cannot be read included
}

// A Key is a private key that signs.
type Key struct {
	crypto.Signer

	Name string // the friendlyName of PKCS#12, or empty
}

// A Part is what a fault keeps from being used.
type Part int

// The parts.
const (
	Whole Part = iota
	PrivateKey
	Certificate
)

// A Fault is something that cannot be read.
type Fault struct {
	Part    Part
	Message string // what is wrong; it continues "FILE: "
	Hint    string // what to do about it, a sentence
	Cause   error  // what a library said, or nil: not fit to be shown
}

// Read reads at most [MaxSize] bytes, whatever they hold.
func Read(data []byte, source Source) *Contents {
	c := &Contents{source: source, decrypter: decrypter{password: source.Password, work: maxWork}}
	if len(data) > MaxSize {
		c.fault(Whole, nil, "Check that this is the right file.", "it has over %d KiB, more than a key and its certificates", MaxSize>>10)
		return c
	}
	data = ToUTF8(data)
	if der, ok := fromBase64(data); ok {
		data = der
	}
	switch {
	case bytes.Contains(data, pemBegin):
		c.readPEM(string(data))
	case isDER(data):
		c.readDER(data)
	default:
		c.addUnrecognized(data)
	}
	return c
}

// FaultsOf gives the faults that keep a part from being used.
func (c *Contents) FaultsOf(part Part) []Fault {
	var faults []Fault
	for _, f := range c.Faults {
		if f.Part == part {
			faults = append(faults, f)
		}
	}
	return faults
}

// Instead names what there is, for callers that look for something else.
func (c *Contents) Instead() string {
	switch {
	case len(c.Others) > 0 && len(c.Keys)+len(c.Certificates) == 0:
		return c.Others[0]
	case len(c.Keys) > 0:
		return "a private key only"
	case len(c.Certificates) > 0:
		return "certificates only"
	case len(c.FaultsOf(PrivateKey)) > 0:
		return "a private key that cannot be read"
	case len(c.FaultsOf(Certificate)) > 0:
		return "certificates that cannot be read"
	}
	return "neither PEM nor PKCS#12"
}

func (c *Contents) fault(part Part, cause error, hint, format string, args ...any) {
	c.Faults = append(c.Faults, Fault{part, fmt.Sprintf(format, args...), hint, cause})
}

// Command puts the name of the file where FILE stands, safe to be pasted into a shell.
func (c *Contents) Command(format string) string {
	name := "FILE"
	if c.source.Name != "" {
		name = "'" + strings.ReplaceAll(c.source.Name, "'", `'\''`) + "'"
	}
	return strings.ReplaceAll(format, "FILE", name)
}

func isDER(data []byte) bool { return len(data) > 0 && data[0] == byte(cryptobyteasn1.SEQUENCE) }

// addUnrecognized names a file that is no key and no certificate.
func (c *Contents) addUnrecognized(data []byte) {
	kind := certparse.Describe(data)
	switch {
	case strings.Contains(kind, "JKS"):
		c.fault(Whole, nil, c.Command("Convert it: keytool -importkeystore -srckeystore FILE -destkeystore party.p12 -deststoretype PKCS12."), "it is %s", kind)
	case bytes.Contains(data, []byte("-----END ")) && !bytes.Contains(data, []byte("BEGIN")):
		c.fault(Whole, nil, "Copy the file again, each block from its BEGIN line to its END line.", "the BEGIN line of PEM block 1 is missing")
	case bytes.Contains(data, []byte("BEGIN CERTIFICATE")), bytes.Contains(data, []byte("PRIVATE KEY")):
		c.fault(Whole, nil, "Write five hyphens on both sides of every BEGIN and END line, as in -----BEGIN CERTIFICATE-----.",
			"the hyphens around BEGIN are not those of PEM")
	case kind == "empty":
		c.Others = append(c.Others, "nothing")
	case strings.HasPrefix(kind, "a "), strings.HasPrefix(kind, "HTML"):
		c.Others = append(c.Others, kind)
	}
}

// readDER reads one element after the other, as `cat` puts them together.
func (c *Contents) readDER(data []byte) {
	for len(bytes.TrimLeft(data, " \t\r\n")) > 0 {
		length, ended, head, err := header(data)
		var form, rest []byte
		switch {
		case err == nil && ended:
			form, rest = data[:head+length], data[head+length:]
		case err == nil:
			form, rest, err = toDER(data)
		}
		switch {
		case errors.Is(err, errCutOff) && isDER(data):
			c.fault(Whole, err, "Copy the file again, in binary mode.", "it is cut off: its end is missing")
			return
		case err != nil || !isDER(data):
			c.fault(Whole, err, "Copy the file again, in binary mode, or export it again.", "it is damaged: the last %d bytes are no key and no certificate", len(data))
			return
		}
		c.add(form, "")
		data = rest
	}
}

// add takes one form, by what it is and not by what its label calls it.
func (c *Contents) add(form []byte, label string) {
	if der, rest, err := toDER(form); err == nil && len(rest) == 0 {
		form = der // itself, if it was DER
	}
	switch kind := certparse.Describe(form); kind {
	case "a private key (PKCS#8)":
		key, err := parsePKCS8(form)
		c.addKey(key, err)
	case "a private key (PKCS#1)":
		key, err := x509.ParsePKCS1PrivateKey(form)
		c.addKey(key, err)
	case "a private key (SEC 1)":
		key, err := x509.ParseECPrivateKey(form)
		c.addKey(key, err)
	case "an encrypted private key (PKCS#8)":
		key, err := c.decrypter.openPKCS8(form)
		if _, isOther := errors.AsType[otherKeyError](err); err != nil && !isOther {
			c.faultOfEncrypted(PrivateKey, "the private key", err)
			return
		}
		c.addKey(key, err)
	case "PKCS#12":
		if err := c.readPKCS12(form); err != nil {
			c.faultOfEncrypted(Whole, "the PKCS#12 file", err)
		}
		c.Unordered = true // the programs that write it each have an order of their own
	case "PKCS#7":
		c.addPKCS7(form)
	case "a certificate":
		c.addCertificate(form)
	default:
		c.addOther(form, kind, label)
	}
}

// addOther keeps what is of no use, and finds fault with it when its label says that it should be.
func (c *Contents) addOther(form []byte, kind, label string) {
	switch {
	case label == "TRUSTED CERTIFICATE":
		c.addTrusted(form)
	case strings.HasSuffix(label, "PRIVATE KEY"):
		c.fault(PrivateKey, nil, "Copy the file again, or export the key again.", "the private key cannot be read: what stands between its BEGIN and END lines is %s", kind)
	case strings.HasSuffix(label, "CERTIFICATE"):
		c.addCertificate(form)
	case strings.HasPrefix(kind, "a "):
		c.Others = append(c.Others, kind)
	case label == "":
		c.fault(Whole, nil, "Give a private key or certificates, in PEM, PKCS#12 or DER.", "it is %s", kind)
	}
}

// addKey takes what crypto/x509 made of a key. The text of its errors is for programmers, and is
// not shown.
func (c *Contents) addKey(key any, err error) {
	signer, ok := key.(crypto.Signer)
	isSame := func(k Key) bool { // files that were put together hold a key twice
		public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		return ok && public.Equal(k.Public())
	}
	kind, isOther := errors.AsType[otherKeyError](err)
	switch {
	case isOther:
		c.fault(PrivateKey, err, "Give the private key of the seal, which is one for RSA.", "the private key is one for %s, which is not supported", kind)
	case err != nil:
		c.fault(PrivateKey, err, "Copy the file again, or export the key again.", "the private key cannot be read: it is damaged, or of a kind that is not supported")
	case !ok: // a key for key agreement, X25519
		c.fault(PrivateKey, nil, "Give the private key of the seal.", "the private key cannot sign")
	case !slices.ContainsFunc(c.Keys, isSame):
		c.Keys = append(c.Keys, Key{Signer: signer})
	}
}

// openPKCS8 is EncryptedPrivateKeyInfo of RFC 5958 section 3. The result is checked before
// it is used, as nothing else shows that a password was wrong.
func (d *decrypter) openPKCS8(der []byte) (any, error) {
	input := cryptobyte.String(der)
	var content, data cryptobyte.String
	if !input.ReadASN1(&content, cryptobyteasn1.SEQUENCE) {
		return nil, errBER
	}
	id, parameters, ok := readAlgorithm(&content)
	if !ok || !content.ReadASN1(&data, cryptobyteasn1.OCTET_STRING) {
		return nil, errBER
	}
	plain, err := d.decrypt(id, parameters, data)
	if err != nil {
		return nil, err
	}
	if certparse.Describe(plain) != "a private key (PKCS#8)" {
		return nil, ErrPassword
	}
	return parsePKCS8(plain)
}

// otherKeys are the algorithms of keys that people have, and that crypto/x509 does not read.
var otherKeys = map[string]string{
	"1.2.840.113549.1.1.10": "RSASSA-PSS",
	"1.2.840.10040.4.1":     "DSA",
	"1.3.101.113":           "Ed448",
	"1.3.101.111":           "X448",
}

// An otherKeyError names the one that a key is for.
type otherKeyError string

func (k otherKeyError) Error() string { return string(k) }

// parsePKCS8 names the algorithm of a key that cannot be read (RFC 5958 section 2).
func parsePKCS8(der []byte) (any, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	input := cryptobyte.String(der)
	var content cryptobyte.String
	if err != nil && input.ReadASN1(&content, cryptobyteasn1.SEQUENCE) && content.SkipASN1(cryptobyteasn1.INTEGER) {
		id, _, ok := readAlgorithm(&content)
		if name := otherKeys[id]; ok && name != "" {
			return nil, otherKeyError(name)
		}
	}
	return key, err
}

// faultOfEncrypted tells why something encrypted was not opened.
func (c *Contents) faultOfEncrypted(part Part, what string, err error) {
	where := "Give the right password with it."
	if c.source.PasswordFrom != "" {
		where = "Set the right password in " + c.source.PasswordFrom + "."
	}
	why, unread := errors.AsType[unsupported](err)
	switch {
	case errors.Is(err, ErrPassword) && c.source.Password == "":
		c.fault(part, err, strings.Replace(where, "the right password", "its password", 1), "%s has a password, and none is given", what)
	case errors.Is(err, ErrPassword):
		c.fault(part, err, where, "the password does not open %s", what)
	case unread && part == PrivateKey:
		c.fault(part, err, c.Command("Take the encryption off and make it anew: openssl pkey -in FILE -out party-key.pem."), "%s uses %s, which is not supported", what, why)
	case unread:
		c.fault(part, err, c.Command("Write it anew with a usual one: openssl pkcs12 -legacy -in FILE -nodes -out all.pem, then openssl pkcs12 -export -in all.pem -out party.p12."),
			"%s uses %s, which is not supported", what, why)
	default:
		c.fault(part, err, "Copy the file again, or export it again.", "%s cannot be read: it is damaged", what)
	}
}

// addTrusted takes a certificate with OpenSSL's own trust settings behind it, unless these reject
// uses of it.
func (c *Contents) addTrusted(form []byte) {
	input := cryptobyte.String(form)
	var first, remarks cryptobyte.String
	ok := input.ReadASN1Element(&first, cryptobyteasn1.SEQUENCE) && input.ReadASN1(&remarks, cryptobyteasn1.SEQUENCE) && input.Empty()
	for ok && !remarks.Empty() {
		var tag cryptobyteasn1.Tag
		ok = remarks.ReadAnyASN1(new(cryptobyte.String), &tag) && tag != explicit0 // which lists the rejected uses
	}
	if !ok {
		c.fault(Certificate, nil, c.Command("Convert it: openssl x509 -in FILE -out certificate.pem."),
			"a certificate in OpenSSL's own form (TRUSTED CERTIFICATE) carries remarks that only OpenSSL heeds")
		return
	}
	c.addCertificate(first)
}

func (c *Contents) addCertificate(der []byte) {
	c.seen++
	cert, err := certparse.Parse(der)
	if err != nil {
		why, _ := errors.AsType[*certparse.Error](err)
		hint := "Copy the certificate again."
		if why.Issued {
			hint = certparse.Reissue
		}
		c.fault(Certificate, err, hint, "certificate %d %s", c.seen, why.Reason)
		return
	}
	c.Certificates = append(c.Certificates, cert)
}

// addPKCS7 takes the certificates of SignedData (RFC 5652 section 5.1), which are a set.
func (c *Contents) addPKCS7(der []byte) {
	input := cryptobyte.String(der)
	var content, explicit, signed, certificates, one cryptobyte.String
	var oid asn1.ObjectIdentifier
	c.Unordered = true
	if !input.ReadASN1(&content, cryptobyteasn1.SEQUENCE) || !content.ReadASN1ObjectIdentifier(&oid) {
		c.fault(Certificate, nil, "Export the certificates again.", "the PKCS#7 file cannot be read: it is damaged")
		return
	}
	if !oid.Equal(oidSignedData) {
		c.fault(Certificate, nil, "Export the certificates alone, in PEM or PKCS#7.", "the PKCS#7 file holds a message, and no list of certificates")
		return
	}
	if !content.ReadASN1(&explicit, explicit0) || !explicit.ReadASN1(&signed, cryptobyteasn1.SEQUENCE) ||
		!signed.SkipASN1(cryptobyteasn1.INTEGER) || !signed.SkipASN1(cryptobyteasn1.SET) || !signed.SkipASN1(cryptobyteasn1.SEQUENCE) ||
		!signed.ReadOptionalASN1(&certificates, new(bool), explicit0) {
		c.fault(Certificate, nil, "Export the certificates again.", "the PKCS#7 file cannot be read: it is damaged")
		return
	}
	for !certificates.Empty() {
		var tag cryptobyteasn1.Tag
		if !certificates.ReadAnyASN1Element(&one, &tag) {
			c.fault(Certificate, nil, "Export the certificates again.", "the PKCS#7 file cannot be read: it is damaged")
			return
		}
		if tag == cryptobyteasn1.SEQUENCE { // the others are attribute certificates
			c.addCertificate(one)
		}
	}
}
