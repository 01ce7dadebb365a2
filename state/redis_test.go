package state

import (
	"os"
	"os/exec"
	"testing"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/accesstoken/accesstokentest"
	"github.com/waybill-token/waybill/internal/redistest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/replay/replaytest"
)

func TestRedisConforms(t *testing.T) {
	server := redistest.Start(t)
	vouch(t, server)
	s := start(t, config(t, server.URL()))
	t.Run("pairs", func(t *testing.T) {
		replaytest.Run(t, 1000, func(*testing.T) replay.Store { return s })
	})
	t.Run("revocations", func(t *testing.T) {
		accesstokentest.Run(t, func(*testing.T) accesstoken.TokenRevocations { return s.Revocations() })
	})
	other := start(t, config(t, server.URL()))
	t.Run("pairs of two servers", func(t *testing.T) {
		replaytest.RunShared(t, 1000, func(*testing.T) []replay.Store { return []replay.Store{s, other} })
	})
	t.Run("revocations of two servers", func(t *testing.T) {
		accesstokentest.RunShared(t, func(*testing.T) []accesstoken.TokenRevocations {
			return []accesstoken.TokenRevocations{s.Revocations(), other.Revocations()}
		})
	})
}

// A program that has this package starts also where SHA-1 is forbidden.
func TestStrictFIPS140(t *testing.T) {
	program := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	program.Env = append(os.Environ(), "GODEBUG=fips140=only")
	if out, err := program.CombinedOutput(); err != nil {
		t.Errorf("%v: %.300s", err, out)
	}
}

func BenchmarkRedisUse(b *testing.B) {
	server := redistest.Start(b)
	vouch(b, server)
	s := start(b, config(b, server.URL()))
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if first, err := s.Use(b.Context(), newest()); !first || err != nil {
				b.Fatal(first, err)
			}
		}
	})
}
