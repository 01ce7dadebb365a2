package certcheck

import "math/big"

// HasROCA reports whether a modulus has the structure of keys that certain smart cards and
// security modules made (CVE-2017-15361): both primes, and so the modulus, are powers
// of 65537 modulo many small primes, and the private key can be computed.
//
// These are the primes modulo which the powers of 65537 are not all numbers. An ordinary
// modulus is among them modulo all of these once in 200 million times.
func HasROCA(n *big.Int) bool {
	const generator = 65537
	for _, p := range [...]uint64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157} {
		residue := new(big.Int).Mod(n, new(big.Int).SetUint64(p)).Uint64()
		power := uint64(1)
		for power != residue {
			if power = power * generator % p; power == 1 {
				return false // all powers are seen
			}
		}
	}
	return true
}
