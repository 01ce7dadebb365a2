package assertion_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
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
// one RSA verification that cannot be avoided. It reports the ratio.
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
}

// BenchmarkNewClients compares clients that were never seen with one that is known, by turns: below issuing CAs that are
// known, and below CAs that are not, whose keys have 4096 bits.
func BenchmarkNewClients(b *testing.B) {
	w := newWorld(b)
	w.config.Revocation = revocation.Off{}
	w.config.Replay = &fresh{store: w.memory.store}
	odd := func(bits int) *testca.OddKey {
		key, err := testca.NewOddKey(bits, 1<<16+1)
		if err != nil {
			b.Fatal(err)
		}
		return key
	}
	rootKey, subKey, issuingKey, key := odd(4096), odd(4096), odd(4096), odd(2048)
	root, err := testca.SelfSign(w.ca.Template(testca.Root), rootKey)
	if err != nil {
		b.Fatal(err)
	}
	issue := func(by *testca.Identity, level testca.Level, key *testca.OddKey) *testca.Identity {
		id, err := by.Issue(w.ca.Template(level), key)
		if err != nil {
			b.Fatal(err)
		}
		return id
	}
	known := issue(issue(root, testca.Sub, subKey), testca.Issuing, issuingKey)
	w.config.Trust = w.trusting(b, root.Certificate())
	for name, issuer := range map[string]func() *testca.Identity{
		"known CA": func() *testca.Identity { return known },
		"new CAs":  func() *testca.Identity { return issue(issue(root, testca.Sub, subKey), testca.Issuing, issuingKey) },
	} {
		b.Run(name, func(b *testing.B) {
			v := w.verifier(b)
			var first, again time.Duration
			for b.Loop() {
				w.seal = w.newSeal(b, testca.SealRequest{Key: key, Issuer: issuer()})
				w.claim(ishare.ClaimX509Certificate).X5T = ishare.Thumbprint(w.seal.Certificate().Raw)
				compact := newDraft().compact(b, w)
				for _, spent := range []*time.Duration{&first, &again} {
					begin := time.Now()
					if _, _, err := v.Verify(b.Context(), client, compact); err != nil {
						b.Fatal(err)
					}
					*spent += time.Since(begin)
				}
			}
			b.ReportMetric(float64(first.Microseconds())/float64(b.N), "µs/new")
			b.ReportMetric(float64(first)/float64(again), "×known")
		})
	}
}

// BenchmarkKnownClients reports what a known client takes of the heap.
func BenchmarkKnownClients(b *testing.B) {
	w := newWorld(b)
	w.config.Revocation = revocation.Off{}
	w.config.AllowExtraHeader = true // so that one seal can have many headers
	v := w.verifier(b)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	clients := 0
	for b.Loop() {
		d := newDraft()
		d.header["kid"] = strconv.Itoa(clients)
		if _, _, err := v.Verify(b.Context(), client, d.compact(b, w)); err != nil {
			b.Fatal(err)
		}
		clients++
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if clients > 1000 { // of fewer, all the rest counts
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(clients), "B/client")
	}
	runtime.KeepAlive(v)
}
