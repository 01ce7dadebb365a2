package assertion_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

// fresh makes every pair a new one, so that a benchmark can show one assertion many
// times to a real memory.
type fresh struct {
	store *replay.Memory
	n     atomic.Uint64
}

func (f *fresh) Use(ctx context.Context, p replay.Pair) (bool, error) {
	p.JTI = strconv.FormatUint(f.n.Add(1), 36)
	p.IssuedAt, p.Until = time.Now(), time.Now().Add(time.Minute)
	return f.store.Use(ctx, p)
}

func (f *fresh) Leeway() time.Duration { return f.store.Leeway() }

// BenchmarkVerify judges an assertion whose header is in the cache, beside the floor: the
// one RSA verification that cannot be avoided. It reports the ratio, and the cost
// without the cache.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	w.config.Revocation = revocation.Off{}
	w.config.Replay = &fresh{store: w.memory.store}
	key, parts := w.seal.Key.Public().(*rsa.PublicKey), []string(nil) //nolint:forcetypeassert // made as RSA
	// An assertion lives half a minute, and a benchmark may take longer.
	var compact string
	var until time.Time
	renew := func() string {
		if time.Now().After(until) {
			compact, until = newDraft().compact(b, w), time.Now().Add(20*time.Second)
			parts = strings.Split(compact, ".")
		}
		return compact
	}
	floor := func() {
		digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature); err != nil {
			b.Fatal(err)
		}
	}
	verify := func(b *testing.B, v *assertion.Verifier) {
		b.Helper()
		if _, _, err := v.Verify(b.Context(), client, renew()); err != nil {
			b.Fatal(err)
		}
	}
	renew()
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			floor()
		}
	})
	b.Run("warm", func(b *testing.B) {
		v := w.verifier(b)
		b.ReportAllocs()
		var spent, least time.Duration // taken in turns, so that both see the same machine
		for b.Loop() {
			begin := time.Now()
			verify(b, v)
			middle := time.Now()
			floor()
			spent, least = spent+middle.Sub(begin), least+time.Since(middle)
		}
		b.ReportMetric(float64(spent)/float64(least), "×floor")
	})
	b.Run("cold", func(b *testing.B) {
		v, root := w.verifier(b), w.ca.Authority(testca.Root).Certificate()
		for n := 0; b.Loop(); n++ {
			// The same anchor by another name makes the verifier forget what was trusted.
			w.config.Trust.SetAnchors(trust.Anchors{trust.FingerprintOf(root): strconv.Itoa(n)})
			verify(b, v)
		}
	})
}
