package client

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/waybill-token/waybill/internal/keyfile"
)

// KeyFiles says where the private key of a seal and its certificates are. Each file
// may be PEM (also where its line breaks are lost or escaped, or in UTF-16), PKCS#12 in any
// of its encodings, PKCS#7, or DER.
type KeyFiles struct {
	// Key is the file of the private key, or the PEM text of it. PKCS#12 and PEM may hold
	// the certificates too. Of several keys the one counts that has certificates. In a
	// program that is built with cgo and the tag pkcs11, it may also be the
	// PKCS#11 URI of a key in hardware (RFC 7512).
	Key string
	// Certificates is the file of the chain, leaf first, or the PEM text of it. In PKCS#12 and
	// PKCS#7, which know no order, it is found. Empty: it is in the key's.
	Certificates string
	// Password opens PKCS#12 and encrypted keys; it is the PIN of a key in hardware. Optional.
	Password string
}

// LoadKey reads a private key and its certificates, for Key and Certificates of
// [Config]. A program that has them by other means needs no LoadKey: any
// [crypto.Signer] with an RSA key will do.
//
// What would make servers refuse the assertions is an error now, by the same rules by which
// they judge (see [trust.Check]); so is a key that belongs to another certificate.
// The error tells everything that is wrong, a line each and with a mend, and holds
// neither key nor password.
//
// A key in hardware keeps a session with it, and is an [io.Closer].
func LoadKey(files KeyFiles) (crypto.Signer, []*x509.Certificate, error) {
	pair, problems := keyfile.ReadSeal(keyfile.Files{Key: files.Key, Certificates: files.Certificates, Password: files.Password}, time.Now())
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	return pair.Signer(), pair.Certificates, nil
}
