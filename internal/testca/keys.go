package testca

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"sync"
)

// exponent is the public exponent of every key that is not odd on purpose.
const exponent = 65537

var errComposite = errors.New("test CA: the factors make no RSA key")

// pools holds a pool of primes for each size of key. They live as long as the
// process, because that is what makes keys cheap.
var pools = struct { //nolint:gochecknoglobals // shared by all tests of a process, see PooledKey
	sync.Mutex

	bySize map[int]*pool
}{bySize: map[int]*pool{}}

// A pool gives one key for every pair of its primes.
type pool struct {
	primes []*big.Int
	i, j   int // the next pair, i < j
}

// PooledKey makes an RSA key for a test. No two calls in a process return the same key, and n calls cost about as much
// as √(n/2) calls of rsa.GenerateKey, because keys share primes: with k primes there are k(k-1)/2 pairs of them.
//
// Whoever sees two such keys can break both. They are for tests only, in which keys are many and secret from nobody.
func PooledKey(bits int) (*rsa.PrivateKey, error) {
	pools.Lock()
	defer pools.Unlock()
	p := pools.bySize[bits]
	if p == nil {
		p = &pool{j: 1}
		pools.bySize[bits] = p
	}
	for len(p.primes) <= p.j {
		fresh, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, fmt.Errorf("test CA: key of %d bits: %w", bits, err)
		}
		p.primes = append(p.primes, fresh.Primes...)
	}
	key, err := rsaKey(p.primes[p.i], p.primes[p.j])
	p.i++
	if p.i == p.j {
		p.i, p.j = 0, p.j+1
	}
	return key, err
}

func rsaKey(p, q *big.Int) (*rsa.PrivateKey, error) {
	d := new(big.Int).ModInverse(big.NewInt(exponent), new(big.Int).Mul(minusOne(p), minusOne(q)))
	if d == nil {
		return nil, errComposite
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent},
		D:         d,
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", errComposite, err)
	}
	return key, nil
}

func minusOne(n *big.Int) *big.Int { return new(big.Int).Sub(n, big.NewInt(1)) }
