package trust_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/trust"
)

// tall is a chain as the real ones: CAs of these sizes, the root first, and a
// seal of 2048 bits.
func tall(tb testing.TB, bits ...int) []*x509.Certificate {
	tb.Helper()
	id, err := testca.SelfSign(ca().Template(testca.Root), odd(bits[0], 65537))
	if err != nil {
		tb.Fatal(err)
	}
	for i, n := range bits[1:] {
		id = authority(id, odd(n, 65537), func(c *x509.Certificate) {
			c.Subject.CommonName = fmt.Sprintf("CA %d", i)
			c.MaxPathLen = -1
		})
	}
	return under(id)
}

// BenchmarkValidate judges a chain of four with CAs of 4096 bits, beside the floor:
// the three signatures and nothing else.
func BenchmarkValidate(b *testing.B) {
	chain := tall(b, 4096, 4096, 4096)
	for depth, name := range []string{"", "issuing CA", "sub CA", "root"} {
		if depth == 0 {
			continue
		}
		v := validator(b, anchorsOf(chain[depth]))
		b.Run("anchor="+name, func(b *testing.B) { validate(b, v, chain, true) })
		b.Run("anchor="+name+"/floor", func(b *testing.B) {
			for b.Loop() {
				for i := range depth {
					if err := chain[i+1].CheckSignature(chain[i].SignatureAlgorithm, chain[i].RawTBSCertificate, chain[i].Signature); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkForgery is what a forged leaf costs under public CAs of 4096 bits whose own
// signatures are known: one verification. A client whose header is known costs none here,
// and one with its key of 2048 bits for the assertion: see package assertion.
func BenchmarkForgery(b *testing.B) {
	chain := tall(b, 4096, 4096, 4096)
	v := validator(b, anchorsOf(chain[3]))
	validate(b, v, with(chain, 0, withBrokenSignature(chain[0])), false)
}

// BenchmarkHostile is what a stranger's chain costs who has made the dearest one
// that the rules let him make: without an anchor, and with a public one on top.
func BenchmarkHostile(b *testing.B) {
	chain := tall(b, 8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192)
	v := validator(b, level(testca.Root))
	b.Run("no anchor", func(b *testing.B) { validate(b, v, chain, false) })
	// The highest of them is self-signed under the name of the anchor.
	crowned := slices.Concat(chain, ca().Authority(testca.Root).Chain)
	b.Run("anchor on top", func(b *testing.B) { validate(b, v, crowned, false) })
	trusted := validator(b, anchorsOf(chain[len(chain)-1]))
	b.Run("eight signatures of 8192 bits", func(b *testing.B) { validate(b, trusted, chain, true) })
}

func validate(b *testing.B, v *trust.Validator, chain []*x509.Certificate, want bool) {
	b.Helper()
	at := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Validate(chain, at, nil); (err == nil) != want {
			b.Fatal(err)
		}
	}
}
