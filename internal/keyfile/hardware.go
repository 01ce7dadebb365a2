package keyfile

import (
	"crypto"
	"errors"
	"io"
)

// A hardwareKey is a private key that stays in a token. Close gives up the session
// with the token, after which the key no longer signs.
type hardwareKey interface {
	crypto.Signer
	io.Closer
}

// pinPlaces is where a PIN is taken from.
const pinPlaces = "pin-source=file:/path in the URI, or in WAYBILL_PARTY_KEY_PASSWORD or the file that WAYBILL_PARTY_KEY_PASSWORD_FILE names"

// openURI finds the key that a PKCS#11 URI names. What is found stands in contents
// as that of a file does.
func openURI(text, password string) *contents {
	c := &contents{path: "PKCS#11 URI"}
	uri, err := parseURI(text)
	if err != nil {
		c.trouble = []Problem{c.problem(err, uriMend(err), "%v", err)}
		return c
	}
	c.path = uri.shown
	pin, trouble := c.pin(uri, password)
	if trouble != nil {
		c.trouble = trouble
		return c
	}
	key, trouble := openHardware(uri, pin)
	if trouble != nil {
		c.trouble = trouble
		return c
	}
	c.keys, c.closer = []crypto.Signer{key}, key
	c.certTrouble = []Problem{c.problem(nil, "Name the PEM file of the chain as well.", "the certificates are not taken from the token")}
	return c
}

func uriMend(err error) string {
	if errors.Is(err, errPinValue) {
		return "Remove it, and put the PIN in " + pinPlaces + "."
	}
	return "Write it as pkcs11:token=LABEL;object=KEY?module-path=/path/of/library.so&pin-source=file:/path/of/pin (RFC 7512)."
}

// pin reads the PIN from where the URI says, or else takes the password.
func (c *contents) pin(u *keyURI, password string) (string, []Problem) {
	switch {
	case u.pinSource == "":
		return password, nil
	case password != "":
		return "", []Problem{c.problem(nil, "Remove one of them.", "the PIN is given twice: by pin-source, and as the password of the key")}
	}
	file := &contents{path: u.pinSource}
	pin, trouble := file.secret()
	if trouble != nil {
		return "", trouble
	}
	c.warnings = permissions(file, "PIN of the token")
	return pin, nil
}
