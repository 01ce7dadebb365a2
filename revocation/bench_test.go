package revocation

import (
	"crypto/x509"
	"math/big"
	"runtime"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
)

// BenchmarkCheckFromMemory is what every request pays: a chain of three
// certificates below the anchor whose answers are at hand.
func BenchmarkCheckFromMemory(b *testing.B) {
	p := newPKI(b, "http://status.test", nil)
	r, chain := p.inMemory(Require), p.chain()
	mustPass(b, r.Check(b.Context(), chain))
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := r.Check(b.Context(), chain); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := r.Check(b.Context(), chain); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("new chain of known certificates", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			other := *chain
			if err := r.Check(b.Context(), &other); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOCSP is the price of an answer, besides the network.
func BenchmarkOCSP(b *testing.B) {
	p := newPKI(b, "http://status.test", nil).pinned()
	chain := p.chain()
	r := p.inMemory(Require)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.askOCSP(b.Context(), chain.Leaf().OCSPServer[0], chain.Certificates()[0], chain.Certificates()[1]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLargestList takes a list of about the largest size apart that is
// fetched, and says what it costs in memory: at the peak, and for as long as it is kept.
func BenchmarkLargestList(b *testing.B) {
	p := newPKI(b, "http://status.test", nil)
	issuer := p.ca.Authority(testca.Issuing)
	answer := testca.ListAnswer{
		RevocationList: x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
			RevokedCertificateEntries: manyEntries(400_000),
		},
		Issuer: issuer.Certificate(), Key: issuer.Key,
	}
	der, err := answer.Sign()
	if err != nil {
		b.Fatal(err)
	}
	answer = testca.ListAnswer{}
	b.ReportAllocs()
	var kept *crl
	before := heap()
	for b.Loop() {
		if kept, err = readList(der, issuer.Certificate(), time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(der)), "DER-bytes")
	b.ReportMetric(float64(heap()-before), "kept-bytes")
	b.StopTimer()
	begin := time.Now()
	if v, err := kept.statusOf(issuer.Certificate()); err != nil || v.revoked != nil {
		b.Fatal(v, err)
	}
	b.ReportMetric(float64(time.Since(begin).Milliseconds()), "search-ms")
	runtime.KeepAlive(der)
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
