package replay_test

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waybill-token/waybill/replay"
)

// benchmarkStore has room for everything that a benchmark can put into it.
func benchmarkStore(b *testing.B, dir string) *replay.Memory {
	b.Helper()
	m, err := replay.Open(replay.Config{Dir: dir, Leeway: leeway, NoHistory: true, Limit: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	})
	return m
}

// BenchmarkUse uses a new pair each time, from all processors at once. The pairs live
// for a second, so that they are forgotten as fast as they come. One of the
// allocations is the jti.
func BenchmarkUse(b *testing.B) {
	m := benchmarkStore(b, b.TempDir())
	var goroutine atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		prefix := strconv.FormatInt(goroutine.Add(1), 36) + "-8f14e45f-ceea-467f-a0e6-"
		for i := 0; pb.Next(); i++ {
			now := time.Now()
			p := replay.Pair{Issuer: "did:ishare:EU.NL.NTRNL-10000001", JTI: prefix + strconv.Itoa(i), IssuedAt: now, Until: now.Add(time.Second)}
			if first, err := m.Use(b.Context(), p); !first || err != nil {
				b.Error(first, err)
				return
			}
		}
	})
}

// BenchmarkUseAgain presents one used pair from all processors at once.
func BenchmarkUseAgain(b *testing.B) {
	m := benchmarkStore(b, b.TempDir())
	now := time.Now()
	p := replay.Pair{Issuer: "did:ishare:EU.NL.NTRNL-10000001", JTI: "a", IssuedAt: now, Until: now.Add(replay.MaxLife)}
	if first, err := m.Use(b.Context(), p); !first || err != nil {
		b.Fatal(first, err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if first, err := m.Use(b.Context(), p); first || err != nil {
				b.Error(first, err)
				return
			}
		}
	})
}

// BenchmarkMemoryOfPair fills a store with a million pairs that live 40 seconds, as
// they come in at an even pace, and reports the heap that each takes.
func BenchmarkMemoryOfPair(b *testing.B) {
	const pairs = 1_000_000
	start := time.Now()
	for b.Loop() {
		before := heap()
		m := benchmarkStore(b, "")
		for i := range pairs {
			at := start.Add(40 * time.Second * time.Duration(i) / pairs)
			p := replay.Pair{Issuer: "did:ishare:EU.NL.NTRNL-10000001", JTI: strconv.Itoa(i), IssuedAt: at, Until: at.Add(41 * time.Second)}
			if first, err := m.UseAt(at, p); !first || err != nil {
				b.Fatal(first, err)
			}
		}
		b.ReportMetric(float64(heap()-before)/pairs, "B/pair")
		runtime.KeepAlive(m)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
