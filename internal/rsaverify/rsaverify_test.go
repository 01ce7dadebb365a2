package rsaverify

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/waybill-token/waybill/internal/testca"
)

// cases is how many signatures TestLikeTheStandardLibrary tries with keys of 2048 bits; longer keys get fewer.
var cases = flag.Int("cases", 300, "signatures that are compared with crypto/rsa")

// sizes of keys, as so many need arithmetic of their own: whole words and bytes, and one bit more or less.
var sizes = []int{1024, 2040, 2047, 2048, 2049, 2056, 3072, 4095, 4096, 8192, 8200}

var hashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// keyOf makes one key of each size and exponent, once.
var keyOf = func() func(bits, exponent int) *testca.OddKey {
	var mu sync.Mutex
	keys := map[[2]int]*testca.OddKey{}
	return func(bits, exponent int) *testca.OddKey {
		mu.Lock()
		defer mu.Unlock()
		id := [2]int{bits, exponent}
		if keys[id] == nil {
			key, err := testca.NewOddKey(bits, exponent)
			if err != nil {
				panic(err)
			}
			keys[id] = key
		}
		return keys[id]
	}
}()

func publicOf(key *testca.OddKey) *rsa.PublicKey {
	public, _ := key.Public().(*rsa.PublicKey) // which it is
	return public
}

// A mistake is made in a message before it is signed, or in a signature.
type mistake struct {
	name      string
	message   func(r *rand.Rand, m []byte, info int) []byte // info is where DigestInfo begins
	signature func(r *rand.Rand, s []byte, n *big.Int) []byte
}

var mistakes = []mistake{
	{name: "none"},
	{name: "a bit of the message", message: func(r *rand.Rand, m []byte, _ int) []byte { return flip(r, m, 0, len(m)) }},
	{name: "a bit of the padding", message: func(r *rand.Rand, m []byte, info int) []byte { return flip(r, m, 0, info) }},
	{name: "a bit of DigestInfo", message: func(r *rand.Rand, m []byte, info int) []byte { return flip(r, m, info, len(m)) }},
	{name: "short padding and a tail", message: func(r *rand.Rand, m []byte, info int) []byte {
		// What Bleichenbacher's forgery of 2006 has: the digest in front and anything behind.
		cut := 2 + r.IntN(info-3)
		short := append(slices.Clone(m[:cut]), m[info-1:]...)
		for len(short) < len(m) {
			short = append(short, byte(r.Uint32()))
		}
		return short
	}},
	{name: "no zero before DigestInfo", message: func(_ *rand.Rand, m []byte, info int) []byte { m[info-1] = 0xff; return m }},
	{name: "an early zero", message: func(r *rand.Rand, m []byte, info int) []byte { m[2+r.IntN(info-3)] = 0; return m }},
	{name: "type 0", message: func(_ *rand.Rand, m []byte, _ int) []byte { m[1] = 0; return m }},
	{name: "type 2", message: func(_ *rand.Rand, m []byte, _ int) []byte { m[1] = 2; return m }},
	{name: "DigestInfo without NULL", message: func(_ *rand.Rand, m []byte, info int) []byte {
		der := slices.Concat([]byte{0x30, m[info+1] - 2, 0x30, m[info+3] - 2}, m[info+4:info+15], m[info+17:])
		m[info-1] = 0xff
		m[len(m)-len(der)-1] = 0
		copy(m[len(m)-len(der):], der)
		return m
	}},
	{name: "nothing but padding", message: func(_ *rand.Rand, m []byte, _ int) []byte {
		copy(m[2:], slices.Repeat([]byte{0xff}, len(m)))
		return m
	}},
	{name: "a bit of the signature", signature: func(r *rand.Rand, s []byte, _ *big.Int) []byte { return flip(r, s, 0, len(s)) }},
	{name: "one byte less", signature: func(_ *rand.Rand, s []byte, _ *big.Int) []byte { return s[1:] }},
	{name: "cut", signature: func(r *rand.Rand, s []byte, _ *big.Int) []byte { return s[:r.IntN(len(s))] }},
	{name: "a zero before", signature: func(_ *rand.Rand, s []byte, _ *big.Int) []byte { return append([]byte{0}, s...) }},
	{name: "a zero behind", signature: func(_ *rand.Rand, s []byte, _ *big.Int) []byte { return append(s, 0) }},
	{name: "plus the modulus", signature: func(_ *rand.Rand, s []byte, n *big.Int) []byte {
		more := new(big.Int).Add(new(big.Int).SetBytes(s), n)
		return more.FillBytes(make([]byte, max(len(s), (more.BitLen()+7)/8)))
	}},
	{name: "the modulus less it", signature: func(_ *rand.Rand, s []byte, n *big.Int) []byte {
		return new(big.Int).Sub(n, new(big.Int).SetBytes(s)).FillBytes(make([]byte, len(s)))
	}},
	{name: "the modulus", signature: func(_ *rand.Rand, s []byte, n *big.Int) []byte { return n.FillBytes(make([]byte, len(s))) }},
	{name: "0", signature: func(_ *rand.Rand, s []byte, _ *big.Int) []byte { return make([]byte, len(s)) }},
	{name: "1", signature: func(_ *rand.Rand, s []byte, _ *big.Int) []byte { return append(make([]byte, len(s)-1), 1) }},
	{name: "all ones", signature: func(_ *rand.Rand, s []byte, _ *big.Int) []byte { return slices.Repeat([]byte{0xff}, len(s)) }},
	{name: "anything", signature: func(r *rand.Rand, s []byte, _ *big.Int) []byte { return random(r, len(s)) }},
}

// Every signature is accepted or refused as the standard library does.
func TestLikeTheStandardLibrary(t *testing.T) {
	for _, bits := range sizes {
		for _, exponent := range []int{exponent, 3, 1<<31 - 1} {
			t.Run(fmt.Sprintf("%d bits, exponent %d", bits, exponent), func(t *testing.T) {
				t.Parallel()
				n := *cases * 2048 / bits * 2048 / bits
				if exponent != 1<<16+1 || bits < preparedBits || bits > maxBits { // crypto/rsa does both
					n = 200
				}
				key := keyOf(bits, exponent)
				public := publicOf(key)
				compare(t, key, New(public), rand.New(rand.NewPCG(uint64(bits), uint64(exponent))), n)
			})
		}
	}
}

func compare(t *testing.T, key *testca.OddKey, prepared *Key, r *rand.Rand, n int) {
	t.Helper()
	public := publicOf(key)
	accepted := 0
	for i := range n {
		m := &mistakes[i%len(mistakes)]
		hash := hashes[r.IntN(len(hashes))]
		digest := random(r, hash.Size())
		message := encode(public.Size(), digestInfo[hash], digest)
		if m.message != nil {
			message = m.message(r, message, len(message)-len(digestInfo[hash])-len(digest))
		}
		signature := key.SignPadded(message)
		if m.signature != nil {
			signature = m.signature(r, signature, public.N)
		}
		if r.IntN(8) == 0 { // another hash, which has another length, or another digest of this hash
			hash = hashes[r.IntN(len(hashes))]
		}
		want := rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
		if got := prepared.Verify(hash, digest, signature) == nil; got != want {
			t.Fatalf("%s: accepted: %t, by crypto/rsa: %t\nn = %x\nhash %s of %x\nsignature %x", m.name, got, want, public.N, hash, digest, signature)
		}
		if want {
			accepted++
			if m.name != "none" {
				t.Fatalf("%s: this is no mistake", m.name)
			}
		}
	}
	if accepted < n/len(mistakes)/2 {
		t.Errorf("only %d of %d were accepted", accepted, n)
	}
}

func flip(r *rand.Rand, b []byte, from, to int) []byte {
	b[from+r.IntN(to-from)] ^= 1 << r.IntN(8)
	return b
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Keys that are none verify nothing, and nothing panics.
func TestNoKey(t *testing.T) {
	for name, public := range map[string]*rsa.PublicKey{
		"nil": nil, "no modulus": {E: exponent}, "zero": {N: new(big.Int), E: exponent},
		"negative": {N: new(big.Int).Neg(publicOf(keyOf(2048, exponent)).N), E: exponent},
		"even":     {N: new(big.Int).Lsh(big.NewInt(1), 2047), E: exponent},
		"exponent": {N: publicOf(keyOf(2048, exponent)).N, E: 0},
	} {
		for _, signature := range [][]byte{nil, {}, make([]byte, 256), slices.Repeat([]byte{1}, 256)} {
			if New(public).Verify(crypto.SHA256, make([]byte, 32), signature) == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	}
	for _, hash := range []crypto.Hash{0, crypto.MD5, crypto.SHA1, crypto.SHA224, crypto.SHA512_256, 99} {
		if New(publicOf(keyOf(2048, exponent))).Verify(hash, make([]byte, 32), make([]byte, 256)) == nil {
			t.Errorf("hash %d: accepted", hash)
		}
	}
}

func FuzzLikeTheStandardLibrary(f *testing.F) {
	for i := range mistakes {
		f.Add(uint8(i), uint16(i), []byte(nil))
	}
	f.Add(uint8(0), uint16(3), []byte{1})
	f.Fuzz(func(t *testing.T, size uint8, seed uint16, tail []byte) {
		key := keyOf(sizes[int(size)%len(sizes)], exponent)
		public := publicOf(key)
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		digest := random(r, 32)
		message := encode(public.Size(), digestInfo[crypto.SHA256], digest)
		copy(message[max(0, len(message)-len(tail)):], tail)
		if len(tail) > len(message) || message[0] != 0 { // a number that is not below the modulus
			message = tail[:min(len(tail), len(message))]
			if got, want := New(public).Verify(crypto.SHA256, digest, message), rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, message); (got == nil) != (want == nil) {
				t.Fatalf("%v, and by crypto/rsa %v", got, want)
			}
			return
		}
		signature := key.SignPadded(message)
		if got, want := New(public).Verify(crypto.SHA256, digest, signature), rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, signature); (got == nil) != (want == nil) {
			t.Fatalf("%v, and by crypto/rsa %v", got, want)
		}
	})
}

// BenchmarkVerify beside BenchmarkVerify/…/floor, which is crypto/rsa.
func BenchmarkVerify(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		key := keyOf(bits, exponent)
		public := publicOf(key)
		digest := make([]byte, 32)
		signature := key.SignPadded(encode(public.Size(), digestInfo[crypto.SHA256], digest))
		prepared := New(public)
		for name, verify := range map[string]func() error{
			"floor":    func() error { return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, signature) },
			"prepared": func() error { return prepared.Verify(crypto.SHA256, digest, signature) },
			"new":      func() error { return New(public).Verify(crypto.SHA256, digest, signature) },
		} {
			b.Run(fmt.Sprintf("%d/%s", bits, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := verify(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
