package accesstoken

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// floor is the cryptography of a token and nothing else, on the bytes of its
// claims: what no implementation can do without.
type floor struct{ issue, check func() }

func floors(b *testing.B, payload []byte) map[Format]floor {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, sealingKeySize))
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	sealed := gcm.Seal(nil, nonce, payload, nil)
	buffer := make([]byte, 0, len(sealed))
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, secret, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	return map[Format]floor{
		Opaque: {
			issue: func() { gcm.Seal(buffer, nonce, payload, nil) },
			check: func() { gcm.Open(buffer, nonce, sealed, nil) },
		},
		JWT: {
			issue: func() { sum := sha256.Sum256(payload); ecdsa.SignASN1(rand.Reader, secret, sum[:]) },
			check: func() { sum := sha256.Sum256(payload); ecdsa.VerifyASN1(&secret.PublicKey, sum[:], signature) },
		},
	}
}

// measure reports how many floors one call of work costs. Both run in short
// bursts by turns, and the median burst counts, so that other work on the
// machine moves the ratio little.
func measure(b *testing.B, floor, work func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		work()
	}
	const rounds = 101
	var floors, works []time.Duration
	for range rounds {
		floors = append(floors, burst(floor))
		works = append(works, burst(work))
	}
	slices.Sort(floors)
	slices.Sort(works)
	perFloor, perWork := floors[rounds/2], works[rounds/2]
	b.ReportMetric(float64(perFloor)/burstSize, "floor-ns/op")
	b.ReportMetric(float64(perWork)/burstSize, "median-ns/op")
	b.ReportMetric(float64(perWork)/float64(perFloor), "x-floor")
}

const burstSize = 20

func burst(f func()) time.Duration {
	start := time.Now()
	for range burstSize {
		f()
	}
	return time.Since(start)
}

func benchmark(b *testing.B, work func(*Issuer, string) func(), pick func(floor) func()) {
	b.Helper()
	keys := openKeys(b, filepath.Join(b.TempDir(), "keys"))
	for _, format := range formats {
		b.Run(string(format), func(b *testing.B) {
			issuer := newIssuer(b, format, keys)
			token, claims := issue(b, issuer)
			payload, err := claims.encode()
			if err != nil {
				b.Fatal(err)
			}
			measure(b, pick(floors(b, payload)[format]), work(issuer, token))
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	benchmark(b, func(i *Issuer, _ string) func() {
		return func() {
			if _, _, err := i.Issue(b.Context(), grant()); err != nil {
				b.Fatal(err)
			}
		}
	}, func(f floor) func() { return f.issue })
}

func BenchmarkCheck(b *testing.B) {
	benchmark(b, func(i *Issuer, token string) func() {
		return func() {
			if _, err := i.Check(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	}, func(f floor) func() { return f.check })
}

// BenchmarkCheckForeign is what a stranger's token costs us.
func BenchmarkCheckForeign(b *testing.B) {
	issuer, stranger := freshIssuer(b, Opaque), freshIssuer(b, Opaque)
	foreign, _ := issue(b, stranger)
	own, _ := issue(b, issuer)
	for name, token := range map[string]string{"unknown-kid": foreign, "altered": own[:len(own)-2] + "AA", "garbage": own[5:]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := issuer.Check(b.Context(), token); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
