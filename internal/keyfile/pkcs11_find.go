//go:build pkcs11 && cgo

package keyfile

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/miekg/pkcs11"
)

// findKey gives the one private key that the URI means, with its public half.
func (l *link) findKey() error {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}
	if l.uri.object != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, l.uri.object))
	}
	if len(l.uri.id) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, l.uri.id))
	}
	found, err := l.objects(template)
	switch {
	case err != nil:
		return refuse(err, "See the manual of the token.", "the token does not list its keys: %v", err)
	case len(found) == 0:
		return refuse(nil, "Correct object= or id= in the URI; pkcs11-tool --list-objects --type privkey --login shows what is there.", "no private key on the token matches the URI")
	case len(found) > 1:
		return refuse(nil, "Add "+l.tellApart(found)+".", "%d private keys on the token match the URI", len(found))
	}
	l.key = found[0]
	return l.inspect()
}

// tellApart says what the URI lacks to mean one key.
func (l *link) tellApart(keys []pkcs11.ObjectHandle) string {
	var ids []string
	for _, key := range keys {
		if id := l.attribute(key, pkcs11.CKA_ID); len(id) > 0 && len(l.uri.id) == 0 {
			ids = append(ids, fmt.Sprintf("id=%s", escapeID(id)))
		}
	}
	if len(ids) == 0 {
		return "object= or id=, whichever differs"
	}
	return "one of " + strings.Join(ids, ", ")
}

func escapeID(id []byte) string {
	var out strings.Builder
	for _, b := range id {
		fmt.Fprintf(&out, "%%%02X", b)
	}
	return out.String()
}

// manyObjects is how many matches are looked at.
const manyObjects = 16

func (l *link) objects(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := l.lib.FindObjectsInit(l.session, template); err != nil {
		return nil, err
	}
	found, _, err := l.lib.FindObjects(l.session, manyObjects)
	return found, errors.Join(err, l.lib.FindObjectsFinal(l.session))
}

// attribute is nil when the token does not tell.
func (l *link) attribute(object pkcs11.ObjectHandle, kind uint) []byte {
	got, err := l.lib.GetAttributeValue(l.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil || len(got) != 1 {
		return nil
	}
	return got[0].Value
}

// inspect reads what is known of the key. Its size is judged with the certificates.
func (l *link) inspect() error {
	kind := pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA).Value
	switch {
	case !bytes.Equal(l.attribute(l.key, pkcs11.CKA_KEY_TYPE), kind):
		return refuse(nil, "Name the RSA key of the seal.", "the private key on the token is not RSA, which iSHARE demands")
	case bytes.Equal(l.attribute(l.key, pkcs11.CKA_SIGN), []byte{0}):
		return refuse(nil, "Name the key of the seal.", "the private key on the token is not allowed to sign")
	}
	l.pinEach = bytes.Equal(l.attribute(l.key, pkcs11.CKA_ALWAYS_AUTHENTICATE), []byte{1})
	l.public = l.publicHalf(l.key)
	if id := l.attribute(l.key, pkcs11.CKA_ID); l.public == nil && len(id) > 0 {
		l.public = l.publicBeside(id)
	}
	if l.public == nil {
		return refuse(nil, "Import the public key or set CKA_MODULUS, with the same CKA_ID as the private key.", "the token does not tell the public half of the private key")
	}
	return nil
}

// publicBeside reads the public key object that belongs to the private key by its id.
func (l *link) publicBeside(id []byte) *rsa.PublicKey {
	found, err := l.objects([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	})
	if err != nil || len(found) == 0 {
		return nil
	}
	return l.publicHalf(found[0])
}

// publicHalf reads modulus and exponent, which are no secret, of either half.
func (l *link) publicHalf(object pkcs11.ObjectHandle) *rsa.PublicKey {
	modulus := new(big.Int).SetBytes(l.attribute(object, pkcs11.CKA_MODULUS))
	exponent := new(big.Int).SetBytes(l.attribute(object, pkcs11.CKA_PUBLIC_EXPONENT))
	if modulus.Sign() == 0 || exponent.Sign() == 0 || exponent.BitLen() > 31 {
		return nil
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
}
