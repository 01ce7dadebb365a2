package client

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/waybill-token/waybill/internal/keyfile"
)

// KeyFiles says where the private key of a seal and its certificates are. Each file
// may be PEM, PKCS#12 in its new and its old encodings, or DER.
type KeyFiles struct {
	// Key is the file of the private key. PKCS#12 and PEM may hold the certificates
	// too. In a program that is built with cgo and the tag pkcs11, it may also be
	// the PKCS#11 URI of a key in hardware (RFC 7512).
	Key string
	// Certificates is the file of the chain, leaf first. Empty: it is in the key's.
	Certificates string
	// Password opens PKCS#12; it is the PIN of a key in hardware. Optional.
	Password string
}

// LoadKey reads a private key and its certificates, for Key and Certificates of
// [Config]. A program that has them by other means needs no LoadKey: any
// [crypto.Signer] with an RSA key will do.
//
// What would make servers refuse the assertions is an error now: a key that is not
// RSA of 2048 to 8192 bits or belongs to another certificate, certificates that are
// in the wrong order, incomplete, or not valid today, a leaf that is no seal. The
// error tells everything that is wrong, a line each and with a mend, and holds
// neither key nor password.
//
// A key in hardware keeps a session with it, and is an [io.Closer].
func LoadKey(files KeyFiles) (crypto.Signer, []*x509.Certificate, error) {
	pair, problems := keyfile.ReadSeal(keyfile.Files(files), time.Now())
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	return pair.Signer(), pair.Certificates, nil
}
