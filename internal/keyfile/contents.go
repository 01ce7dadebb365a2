package keyfile

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"software.sslmate.com/src/go-pkcs12"
)

// contents is what a file turned out to hold. That a file holds something unusable
// matters only when this is what was looked for in it: a chain may stand beside
// an encrypted key.
type contents struct {
	path        string
	mode        fs.FileMode
	keys        []crypto.Signer
	certs       []*x509.Certificate
	unordered   bool      // certs came as a set, not as a list
	others      []string  // PEM types of other things
	trouble     []Problem // with the file as a whole
	keyTrouble  []Problem // keys that cannot be used
	certTrouble []Problem // certificates that cannot be used
	warnings    []Problem // that do not keep it from being used
	closer      io.Closer // nil: there is nothing to close
}

// close is for contents that are not used after all.
func (c *contents) close() {
	if c.closer != nil {
		_ = c.closer.Close() // nothing has been done that could be lost
	}
}

func (c *contents) holdsKey() bool { return len(c.keys)+len(c.keyTrouble) > 0 }

func (c *contents) parse(data []byte, password string) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch {
	case bytes.Contains(data, []byte("-----BEGIN ")):
		c.parsePEM(data)
	case c.parseDER(data):
	case bytes.HasPrefix(data, []byte{0x30}): // a SEQUENCE, as all of PKCS#12 is
		c.parsePKCS12(data, password)
	}
}

// parsePEM reads every block. A damaged block is not passed over, as pem.Decode
// does: the chain would be short of a certificate.
func (c *contents) parsePEM(data []byte) {
	begun, read := bytes.Count(data, []byte("-----BEGIN ")), 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		read++
		c.addBlock(block)
	}
	if read < begun {
		c.trouble = append(c.trouble, c.problem(nil, "Copy the file again, each block from its BEGIN line to its END line.",
			"of %d PEM blocks in the file, %d cannot be read", begun, begun-read))
	}
}

func (c *contents) addBlock(block *pem.Block) {
	switch block.Type {
	case "CERTIFICATE", "X509 CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		c.addCertificate(cert, err)
	case "PRIVATE KEY":
		c.addKey(x509.ParsePKCS8PrivateKey(block.Bytes))
	case "RSA PRIVATE KEY":
		c.addOldKey(block, func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) })
	case "EC PRIVATE KEY":
		c.addOldKey(block, func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) })
	case "ENCRYPTED PRIVATE KEY":
		c.addEncrypted()
	case "OPENSSH PRIVATE KEY":
		c.keyTrouble = append(c.keyTrouble, c.problem(nil, "Give the private key of the seal, in PEM or PKCS#12.", "the file holds a key for SSH"))
	case "PKCS7", "CMS":
		c.certTrouble = append(c.certTrouble, c.problem(nil,
			fmt.Sprintf("Convert it: openssl pkcs7 -print_certs -in %s -out chain.pem; then put the leaf first.", shellQuote(c.path)),
			"the certificates are wrapped in PKCS#7"))
	case "TRUSTED CERTIFICATE":
		c.certTrouble = append(c.certTrouble, c.problem(nil,
			fmt.Sprintf("Convert it: openssl x509 -in %s -out certificate.pem.", shellQuote(c.path)),
			"a certificate is in OpenSSL's own form (TRUSTED CERTIFICATE)"))
	default:
		c.others = append(c.others, block.Type)
	}
}

// addOldKey reads the forms that say by a PEM header that they are encrypted.
func (c *contents) addOldKey(block *pem.Block, parse func([]byte) (any, error)) {
	if block.Headers["DEK-Info"] != "" {
		c.addEncrypted()
		return
	}
	c.addKey(parse(block.Bytes))
}

func (c *contents) addEncrypted() {
	c.keyTrouble = append(c.keyTrouble, c.problem(nil,
		fmt.Sprintf("Make it PKCS#12, whose password Waybill takes from WAYBILL_PARTY_KEY_PASSWORD: "+
			"openssl pkcs12 -export -inkey %s -in chain.pem -out party.p12; or take the encryption off: openssl pkey -in %[1]s -out party-key.pem.",
			shellQuote(c.path)),
		"the private key is encrypted PEM, which is not supported"))
}

func (c *contents) addKey(key any, err error) {
	signer, ok := key.(crypto.Signer)
	switch {
	case err != nil:
		c.keyTrouble = append(c.keyTrouble, c.problem(err, "Copy the file again, or export the key again.", "the private key cannot be read: %v", err))
	case !ok: // a key for key agreement, X25519
		c.keyTrouble = append(c.keyTrouble, c.problem(nil, "Give the private key of the seal.", "the private key cannot sign"))
	default:
		c.keys = append(c.keys, signer)
	}
}

func (c *contents) addCertificate(cert *x509.Certificate, err error) {
	if err != nil {
		c.certTrouble = append(c.certTrouble, c.problem(err, "Copy the certificate again.",
			"certificate %d cannot be read: %v", len(c.certs)+len(c.certTrouble)+1, err))
		return
	}
	c.certs = append(c.certs, cert)
}

// parseDER reads one bare certificate or key, and reports whether it was one.
func (c *contents) parseDER(der []byte) bool {
	if cert, err := x509.ParseCertificate(der); err == nil {
		c.certs = append(c.certs, cert)
		return true
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		c.addKey(key, nil)
		return true
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		c.addKey(key, nil)
		return true
	}
	return false
}

// parsePKCS12 reads a key and a set of certificates: PKCS#12 gives them no order,
// and the programs that write it each have their own.
func (c *contents) parsePKCS12(der []byte, password string) {
	key, leaf, issuers, err := pkcs12.DecodeChain(der, password)
	if err != nil {
		c.trouble = append(c.trouble, c.pkcs12Trouble(err, password))
		return
	}
	c.addKey(key, nil)
	c.certs = append([]*x509.Certificate{leaf}, issuers...)
	c.unordered = true
}

func (c *contents) pkcs12Trouble(err error, password string) Problem {
	const where = "WAYBILL_PARTY_KEY_PASSWORD, or put it in a file and name that in WAYBILL_PARTY_KEY_PASSWORD_FILE."
	wrong := errors.Is(err, pkcs12.ErrIncorrectPassword)
	switch {
	case wrong && password == "":
		return c.problem(err, "Set the password in "+where, "the PKCS#12 file has a password, and none is given")
	case wrong:
		return c.problem(err, "Set the right password in "+where, "the password does not open the PKCS#12 file")
	default:
		return c.problem(err,
			fmt.Sprintf("Export it again with its key and chain: openssl pkcs12 -in %s -nodes | openssl pkcs12 -export -out party.p12.", shellQuote(c.path)),
			"the file is neither PEM nor PKCS#12 that can be read: %v", err)
	}
}

// onlyKey is the private key of the file.
func (c *contents) onlyKey() (crypto.Signer, []Problem) {
	switch {
	case len(c.trouble) > 0:
		return nil, c.trouble
	case len(c.keyTrouble) > 0:
		return nil, c.keyTrouble
	case len(c.keys) == 1:
		return c.keys[0], nil
	case len(c.keys) > 1:
		return nil, []Problem{c.problem(nil, "Keep the one that belongs to the certificate.", "the file holds %d private keys", len(c.keys))}
	}
	return nil, []Problem{c.problem(nil,
		"Give the private key that was made together with the certificate's request, in PEM (BEGIN PRIVATE KEY) or PKCS#12.",
		"no private key found: the file holds %s", c.instead())}
}

// someCertificates are the certificates of the file. That there are none has another
// mend when nobody said where they are.
func (c *contents) someCertificates(unnamed bool) ([]*x509.Certificate, []Problem) {
	switch {
	case len(c.trouble) > 0:
		return nil, c.trouble
	case len(c.certTrouble) > 0:
		return nil, c.certTrouble
	case len(c.certs) > 0:
		return c.certs, nil
	case unnamed:
		return nil, []Problem{c.problem(nil, "Name the file of the certificates as well, or use PKCS#12 that holds both.",
			"no certificate found: the file holds %s", c.instead())}
	}
	return nil, []Problem{c.problem(nil,
		"Give the certificates that the trust service provider sent, in PEM (BEGIN CERTIFICATE), leaf first.",
		"no certificate found: the file holds %s", c.instead())}
}

// instead names what is in a file that lacks what was looked for.
func (c *contents) instead() string {
	names := []struct{ kind, words string }{
		{"CERTIFICATE REQUEST", "a certificate signing request"},
		{"NEW CERTIFICATE REQUEST", "a certificate signing request"},
		{"PUBLIC KEY", "a public key"},
		{"RSA PUBLIC KEY", "a public key"},
	}
	for _, n := range names {
		if slices.Contains(c.others, n.kind) {
			return n.words
		}
	}
	switch {
	case c.holdsKey():
		return "a private key only"
	case len(c.certs) > 0:
		return "certificates only"
	}
	return "neither PEM nor PKCS#12"
}

func (c *contents) problem(cause error, mend, format string, args ...any) Problem {
	return Problem{File: c.path, Message: fmt.Sprintf(format, args...), Mend: mend, Cause: cause}
}
