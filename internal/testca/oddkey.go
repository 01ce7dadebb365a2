package testca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
)

// factorBits is the size of an [OddKey]'s primes: small ones are found at once.
const factorBits = 64

// An OddKey is an RSA key of any size and any public exponent that signs correctly, made in milliseconds: its modulus
// is the product of many small primes. It protects nothing. Verifiers, who see the modulus only, cannot tell.
//
// It exists for certificates whose key must be refused for its size or its exponent, with a signature that holds, so that
// nothing else can be the reason, and for bench, because it signs several times as fast as an ordinary key.
type OddKey struct {
	public  rsa.PublicKey
	factors []factor
}

// A factor is a prime p of the modulus with what signing needs of it.
type factor struct {
	p           *big.Int
	d           *big.Int // the private exponent modulo p-1
	coefficient *big.Int // 1 modulo p, 0 modulo every other factor
}

// NewOddKey makes a key of exactly so many bits, 256 at least, with a public exponent that is odd.
func NewOddKey(bits, exponent int) (*OddKey, error) {
	if bits < 4*factorBits || exponent < 1 || exponent%2 == 0 {
		return nil, fmt.Errorf("test CA: no key has %d bits and the exponent %d", bits, exponent)
	}
	e := big.NewInt(int64(exponent))
	n, primes, err := product(bits, e)
	if err != nil {
		return nil, err
	}
	k := &OddKey{public: rsa.PublicKey{N: n, E: exponent}}
	for _, p := range primes {
		rest := new(big.Int).Div(n, p)
		inverse := new(big.Int).ModInverse(new(big.Int).Mod(rest, p), p)
		k.factors = append(k.factors, factor{
			p: p, d: new(big.Int).ModInverse(e, minusOne(p)), coefficient: rest.Mul(rest, inverse),
		})
	}
	return k, nil
}

// product finds different primes whose product has exactly so many bits.
func product(bits int, e *big.Int) (*big.Int, []*big.Int, error) {
	n := big.NewInt(1)
	var primes []*big.Int
	for try := 0; n.BitLen() < bits; try++ {
		// The last prime fills up. Whether one more bit is too much for it or just enough depends on those before.
		size, last := factorBits, bits-n.BitLen()
		if last < 2*factorBits {
			size = last + try%2
		}
		p, err := rand.Prime(rand.Reader, size)
		if err != nil {
			return nil, nil, fmt.Errorf("test CA: prime of %d bits: %w", size, err)
		}
		if new(big.Int).ModInverse(e, minusOne(p)) == nil {
			continue // e has no inverse modulo p-1: nothing could be signed
		}
		next := new(big.Int).Mul(n, p)
		fits := size == factorBits && last >= 2*factorBits || next.BitLen() == bits
		if fits && !slices.ContainsFunc(primes, func(q *big.Int) bool { return p.Cmp(q) == 0 }) {
			n, primes = next, append(primes, p)
		}
	}
	return n, primes, nil
}

// Public returns the public half, an *rsa.PublicKey.
func (k *OddKey) Public() crypto.PublicKey { return &k.public }

// Sign signs a digest as RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.1). There is no other padding.
func (k *OddKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	padded, err := pad(digest, opts.HashFunc(), k.public.Size())
	if err != nil {
		return nil, err
	}
	return k.SignPadded(padded), nil
}

// SignPadded signs what need not be padded as it should be: RSASP1 (RFC 8017 section 5.2.1) of a number below the modulus.
func (k *OddKey) SignPadded(message []byte) []byte {
	m, s := new(big.Int).SetBytes(message), new(big.Int)
	for _, f := range k.factors {
		part := new(big.Int).Exp(new(big.Int).Mod(m, f.p), f.d, f.p)
		s.Add(s, part.Mul(part, f.coefficient))
	}
	return s.Mod(s, k.public.N).FillBytes(make([]byte, k.public.Size()))
}

// pad is EMSA-PKCS1-v1_5 (RFC 8017 section 9.2).
func pad(digest []byte, hash crypto.Hash, size int) ([]byte, error) {
	oid, ok := map[crypto.Hash]asn1.ObjectIdentifier{
		crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
		crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
		crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
	}[hash]
	if !ok {
		return nil, fmt.Errorf("test CA: an odd key does not sign %s", hash)
	}
	info, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.NullRawValue}, digest})
	if err != nil {
		return nil, fmt.Errorf("test CA: digest: %w", err)
	}
	if size < len(info)+11 {
		return nil, errors.New("test CA: the key is too short for the digest")
	}
	padded := slices.Repeat([]byte{0xff}, size)
	padded[0], padded[1] = 0, 1
	padded[size-len(info)-1] = 0
	copy(padded[size-len(info):], info)
	return padded, nil
}
