// Package rsaverify verifies RSASSA-PKCS1-v1_5 signatures (RFC 8017 section 8.2.2) with SHA-256, SHA-384 and SHA-512. It
// accepts and refuses what [rsa.VerifyPKCS1v15] does, which its tests hold, in less time.
//
// crypto/rsa prepares the modulus at every call, and has quick arithmetic for keys of 2048 bits only. Here a key of 2048
// bits is prepared once, and longer ones are left to math/big, whose time depends on its input. That matters to
// private keys: there is nothing secret in a signature, a digest and a public key.
package rsaverify

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"math/big"

	"filippo.io/bigmod"
)

// The keys that are not left to crypto/rsa. What math/big does with longer ones was not measured.
const (
	exponent     = 1<<16 + 1
	preparedBits = 2048
	maxBits      = 8192
)

// A Key is a public key that is ready to verify with. It is safe for concurrent use.
type Key struct {
	size     int             // of the modulus and of every signature, in bytes
	prepared *bigmod.Modulus // for bigmod, or
	modulus  *big.Int        // for math/big, or
	public   *rsa.PublicKey  // for crypto/rsa
}

// New prepares a key. In the mode FIPS 140-3 (GODEBUG=fips140=on) every key is left to crypto/rsa.
func New(public *rsa.PublicKey) *Key {
	if public == nil || public.N == nil {
		return &Key{public: &rsa.PublicKey{N: new(big.Int)}} // which verifies nothing
	}
	bits := public.N.BitLen()
	if fips140.Enabled() || public.E != exponent || public.N.Sign() < 0 || public.N.Bit(0) == 0 || bits < preparedBits || bits > maxBits {
		return &Key{size: public.Size(), public: public}
	}
	if bits == preparedBits {
		if modulus, err := bigmod.NewModulus(public.N.Bytes()); err == nil {
			return &Key{size: public.Size(), prepared: modulus}
		}
	}
	return &Key{size: public.Size(), modulus: public.N}
}

// Size is how many bytes the modulus has, and so every signature; 0 of a key that verifies nothing.
func (k *Key) Size() int { return k.size }

// Verify returns nil if the signature of the digest was made with the private half of the key, and
// [rsa.ErrVerification] or another error otherwise.
func (k *Key) Verify(hash crypto.Hash, digest, signature []byte) error {
	prefix, supported := digestInfo[hash]
	if !supported || len(digest) != hash.Size() {
		return rsa.ErrVerification
	}
	if k.public != nil {
		return rsa.VerifyPKCS1v15(k.public, hash, digest, signature)
	}
	if len(signature) != k.size {
		return rsa.ErrVerification
	}
	message, ok := k.power(signature)
	if !ok || !bytes.Equal(message, encode(k.size, prefix, digest)) {
		return rsa.ErrVerification
	}
	return nil
}

// power is RSAVP1 (RFC 8017 section 5.2.2): the message representative of a signature, which is a number below the modulus.
func (k *Key) power(signature []byte) ([]byte, bool) {
	if k.prepared != nil {
		s, err := bigmod.NewNat().SetBytes(signature, k.prepared) // an error if it is not below
		if err != nil {
			return nil, false
		}
		return bigmod.NewNat().ExpShortVarTime(s, exponent, k.prepared).Bytes(k.prepared), true
	}
	s := new(big.Int).SetBytes(signature)
	if s.Cmp(k.modulus) >= 0 {
		return nil, false
	}
	return s.Exp(s, big.NewInt(exponent), k.modulus).FillBytes(make([]byte, k.size)), true
}

// encode is EMSA-PKCS1-v1_5 (RFC 8017 section 9.2): 0x00 0x01 0xff … 0xff 0x00 and what the digest is. A message is
// compared with it whole, so that nothing of the padding has to be read.
func encode(size int, prefix string, digest []byte) []byte {
	message := bytes.Repeat([]byte{0xff}, size)
	message[0], message[1] = 0, 1
	info := message[size-len(prefix)-len(digest):]
	message[size-len(info)-1] = 0
	copy(info[copy(info, prefix):], digest)
	return message
}

// digestInfo is what precedes a digest: the DER encoding of DigestInfo up to it (RFC 8017 section 9.2, note 1).
var digestInfo = map[crypto.Hash]string{
	crypto.SHA256: "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	crypto.SHA384: "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
	crypto.SHA512: "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}
