package client_test

import (
	"net/url"
	"strconv"
	"testing"

	"github.com/waybill-token/waybill/client"
)

// BenchmarkCachedToken is what every call but one an hour costs.
func BenchmarkCachedToken(b *testing.B) {
	c := newClient(b, config(&inMemory{handler: newTokenServer(b)}))
	mustToken(b, c)
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Token(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Token(b.Context()); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkNewToken is one whole token request, without a network: nearly all of it
// is the signature.
func BenchmarkNewToken(b *testing.B) {
	network := &inMemory{handler: token("t", 3600e9)}
	b.ReportAllocs()
	for b.Loop() {
		c, err := client.New(config(network))
		if err != nil {
			b.Fatal(err)
		}
		mustToken(b, c)
	}
}

// BenchmarkDiscoverHostile reads capabilities that name as many token endpoints as fit: the work
// must not grow with their square.
func BenchmarkDiscoverHostile(b *testing.B) {
	for _, count := range []int{3_000, 24_000} {
		body, base := manyEndpoints(b, count), &url.URL{Scheme: "https", Host: "provider.example"}
		b.Run(strconv.Itoa(count), func(b *testing.B) {
			for b.Loop() {
				if got, err := client.ReadCapabilities(body, provider, base); err == nil {
					b.Fatalf("chose %q", got)
				}
			}
		})
	}
}
