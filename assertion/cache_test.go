package assertion_test

import (
	"crypto/x509"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// Whatever may change after a header was judged counts for the next assertion with
// the same header.
func TestCachedHeaderBypassesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, w *world)
		rule   *rule.Rule
	}{
		{"anchors changed", func(t *testing.T, w *world) {
			w.config.Trust.SetAnchors(anchors(newCA(t).Authority(testca.Root).Certificate()))
		}, rule.ChainUntrusted},
		{"anchors taken away", func(_ *testing.T, w *world) { w.config.Trust.SetAnchors(nil) }, rule.ChainUntrusted},
		{"seal expired", func(_ *testing.T, w *world) {
			time.Sleep(time.Until(w.seal.Certificate().NotAfter) + 1)
		}, rule.CertificateValidity},
		{"party gone", func(_ *testing.T, w *world) { delete(w.registry.records, client) }, rule.PartyUnknown},
		{"party suspended", func(_ *testing.T, w *world) {
			w.claim(ishare.ClaimFrameworkCompliance).Status = "suspended"
		}, rule.PartyNotActive},
		{"compliance ended", func(_ *testing.T, w *world) {
			w.claim(ishare.ClaimFrameworkCompliance).End = time.Now().Add(-1)
		}, rule.PartyNotActive},
		{"certificate withdrawn from the record", func(_ *testing.T, w *world) {
			w.claim(ishare.ClaimX509Certificate).Status = "revoked"
		}, rule.PartyCertificate},
		{"role lost", func(_ *testing.T, w *world) { w.claim(ishare.ClaimFrameworkRole).Status = "inactive" }, rule.PartyPolicy},
		{"certificate revoked", func(_ *testing.T, w *world) { w.revocation.err = rule.CertificateRevoked.Reject() }, rule.CertificateRevoked},
	} {
		t.Run(test.name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				w.config.Roles = []string{"ServiceConsumer"}
				v := w.verifier(t)
				checkAccepted(t, v, newDraft().compact(t, w))
				checkAccepted(t, v, newDraft().compact(t, w))
				if v.Remembered() != 1 {
					t.Errorf("%d headers are remembered, want 1", v.Remembered())
				}
				test.change(t, w)
				checkRefused(t, v, newDraft().compact(t, w), test.rule)
			})
		})
	}
}

// A header that was judged is good for the claims and the signature that come with it,
// and not for those of others.
func TestCachedHeaderIsNoSignature(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		good := newDraft().compact(t, w)
		checkAccepted(t, v, good)

		parts := strings.Split(good, ".")
		other := strings.Split(newDraft().compact(t, w), ".")
		if parts[0] != other[0] {
			t.Fatal("the headers differ")
		}
		checkRefused(t, v, strings.Join([]string{parts[0], other[1], parts[2]}, "."), rule.JWTSignature)
		checkRefused(t, v, strings.Join([]string{parts[0], parts[1], other[2]}, "."), rule.JWTSignature)

		stranger := newDraft()
		stranger.header["x5c"], stranger.signer = encodeChain(w.seal.Chain), w.newSeal(t, testca.SealRequest{}).Key
		checkRefused(t, v, stranger.compact(t, w), rule.JWTSignature)
		checkAccepted(t, v, strings.Join(other, "."))
	})
}

// A seal that has ended does not live on in the cache, and the next one, for the
// same key, has a header of its own.
func TestCacheAfterRenewal(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		old := w.seal
		checkAccepted(t, v, newDraft().compact(t, w))
		w.seal = w.newSeal(t, testca.SealRequest{Key: old.Key, Template: func(c *x509.Certificate) { c.NotAfter = old.Certificate().NotAfter.AddDate(1, 0, 0) }})
		time.Sleep(time.Until(old.Certificate().NotAfter) + 1)
		w.register(w.seal)
		checkAccepted(t, v, newDraft().compact(t, w))
		w.seal = old
		checkRefused(t, v, newDraft().compact(t, w), rule.CertificateValidity)
	})
}

// Only who holds the key of a trusted certificate gets a place in the cache.
func TestStrangersAreNotRemembered(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		strangers := newCA(t)
		seal, err := strangers.Seal(testca.SealRequest{Organization: "Stranger"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			d := newDraft()
			d.header["typ"] = []string{"JWT", "jwt", "jWT", "Jwt"}[i%4]
			d.header["x5c"] = encodeChain(seal.Chain)
			d.signer = seal.Key
			checkRefused(t, v, d.compact(t, w), rule.ChainUntrusted)
			d.header["x5c"] = encodeChain(w.seal.Chain)
			checkRefused(t, v, d.compact(t, w), rule.JWTSignature)
		}
		if n := v.Remembered(); n != 0 {
			t.Errorf("%d headers are remembered", n)
		}
		if got := w.asked(); got != (asked{}) {
			t.Errorf("asked %+v", got)
		}
	})
}

// The cache holds as many clients as the configuration says, however long their headers are: it keeps none.
func TestCacheIsBounded(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.config.AllowExtraHeader, w.config.KnownClients = true, 10
		v := w.verifier(t)
		var before, after runtime.MemStats
		padding := strings.Repeat("x", 1<<20)
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 30 {
			d := newDraft()
			d.header["kid"] = padding + string(rune('a'+i))
			checkAccepted(t, v, d.compact(t, w))
		}
		synctest.Wait() // the cache evicts in the background
		if n := v.Remembered(); n == 0 || n > 10 {
			t.Errorf("%d headers are remembered, want no more than 10", n)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("%d bytes are kept of headers of a megabyte", grown)
		}
	})
}

// The revocation of a client whose header was proven before is asked about with the certificate of the request.
func TestCachedChainHasItsLeaf(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		for range 2 {
			checkAccepted(t, v, newDraft().compact(t, w))
			if got := w.revocation.seen.Certificates(); len(got) != len(w.seal.Chain) || !slices.EqualFunc(got, w.seal.Chain, (*x509.Certificate).Equal) {
				t.Errorf("%d certificates were asked about, or others than the client's", len(got))
			}
		}
	})
}

// Each spelling of a header is judged by itself: what the cache holds for one says
// nothing about the other.
func TestSpellingsOfOneHeader(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		checkAccepted(t, v, newDraft().compact(t, w))
		for spelling, reason := range map[string]*rule.Rule{
			`{"alg":"none",`:   rule.JWTHeader, // alg twice
			`{"alg2":"RS256",`: rule.JWTHeaderParameter,
			`{"crit":["alg"],`: rule.JWTHeaderParameter,
		} {
			d := newDraft()
			d.editHeader = []func(string) string{func(s string) string { return strings.Replace(s, "{", spelling, 1) }}
			checkRefused(t, v, d.compact(t, w), reason)
		}
		d := newDraft()
		d.editHeader = []func(string) string{add(" ")}
		checkAccepted(t, v, d.compact(t, w))
	})
}
