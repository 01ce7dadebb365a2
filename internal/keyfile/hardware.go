package keyfile

import (
	"cmp"
	"crypto"
	"errors"
	"io"
	"strings"

	"github.com/waybill-token/waybill/internal/keyforms"
)

// A hardwareKey is a private key that stays in a token. Close gives up the session
// with the token, after which the key no longer signs.
type hardwareKey interface {
	crypto.Signer
	io.Closer
}

// Where a PIN is taken from. Who knows where the password comes from says so in its place.
const (
	keyPassword = "the password of the key"
	pinPlaces   = "pin-source=file:/path in the URI, or in " + keyPassword
)

// openURI finds the key that a PKCS#11 URI names. What is found stands in contents
// as that of a file does.
func openURI(files Files) *contents {
	c := openHardwareKey(files)
	for i := range c.trouble {
		c.trouble[i].Hint = strings.ReplaceAll(c.trouble[i].Hint, keyPassword, cmp.Or(files.PasswordFrom, keyPassword))
	}
	return c
}

func openHardwareKey(files Files) *contents {
	c := &contents{Contents: &keyforms.Contents{}, path: "PKCS#11 URI"}
	uri, err := parseURI(files.Key)
	if err != nil {
		c.trouble = []Problem{c.problem(err, uriMend(err), "%v", err)}
		return c
	}
	c.path = uri.shown
	pin, trouble := c.pin(uri, files.Password)
	if trouble != nil {
		c.trouble = trouble
		return c
	}
	key, trouble := openHardware(uri, pin)
	if trouble != nil {
		c.trouble = trouble
		return c
	}
	c.Keys, c.closer = []keyforms.Key{{Signer: key}}, key
	c.Faults = []keyforms.Fault{{Part: keyforms.Certificate, Hint: "Name the PEM file of the chain as well.", Message: "the certificates are not taken from the token"}}
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
