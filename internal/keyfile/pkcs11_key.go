//go:build pkcs11 && cgo

package keyfile

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"runtime"
	"slices"
)

// openHardware finds the token and the key that the URI names, and logs in. The
// session lasts until the key is closed, or nobody holds it any more.
func openHardware(u *keyURI, pin string) (hardwareKey, []Problem) {
	l := &link{uri: u, pin: pin}
	if err := l.open(); err != nil {
		l.hangUp()
		return nil, []Problem{tell(u, err)}
	}
	key := &tokenKey{link: l, public: l.public}
	key.cleanup = runtime.AddCleanup(key, (*link).close, l)
	return key, nil
}

// tokenKey is an RSA key in a token. It is safe for concurrent use; one signature is
// made at a time.
type tokenKey struct {
	public  *rsa.PublicKey
	link    *link
	cleanup runtime.Cleanup
}

// Public is an *[rsa.PublicKey].
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign makes a signature of PKCS #1 v1.5, the only kind that iSHARE has.
func (k *tokenKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer runtime.KeepAlive(k)
	prefix, ok := digestPrefix(opts.HashFunc())
	if _, isPSS := opts.(*rsa.PSSOptions); isPSS || !ok {
		return nil, errors.New("keyfile: a key in hardware signs with RSASSA-PKCS1-v1_5 and SHA-256, SHA-384 or SHA-512 only")
	}
	if len(digest) != opts.HashFunc().Size() {
		return nil, errors.New("keyfile: the digest has another length than its hash function gives")
	}
	return k.link.sign(slices.Concat(prefix, digest))
}

// Close ends the session. Afterwards the key does not sign.
func (k *tokenKey) Close() error {
	k.cleanup.Stop()
	k.link.close()
	return nil
}

// digestPrefix is what stands before a digest in the DER of a DigestInfo (RFC 8017 section 9.2,
// note 1).
func digestPrefix(hash crypto.Hash) ([]byte, bool) {
	switch hash {
	case crypto.SHA256:
		return []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, true
	case crypto.SHA384:
		return []byte{0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}, true
	case crypto.SHA512:
		return []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}, true
	default:
		return nil, false
	}
}
