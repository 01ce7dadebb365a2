package replay

import (
	"strconv"
	"testing"
	"time"
)

// TestShardShrinks: what a wave of pairs took is given back, and what lives through
// it is not lost.
func TestShardShrinks(t *testing.T) {
	t.Parallel()
	s := &shard{used: map[Key]struct{}{}}
	all := &shared{limit: DefaultLimit}
	now := time.Unix(1_795_435_200, 0)
	use := func(name string, life int64) bool {
		t.Helper()
		first, err := s.use(now, Pair{Issuer: "did:ishare:A", JTI: name}.Key(), now.Unix()+life, all)
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	const wave, rest = 10_000, 100
	for i := range wave {
		use("wave "+strconv.Itoa(i), 10)
	}
	for i := range rest {
		use("rest "+strconv.Itoa(i), 20)
	}
	now = now.Add(10 * time.Second)
	for i := range rest {
		if use("rest "+strconv.Itoa(i), 20) {
			t.Fatalf("pair %d was forgotten", i)
		}
	}
	if s.peak != rest || len(s.used) != rest || all.held.Load() != rest {
		t.Errorf("peak %d, %d used, %d held, want %d", s.peak, len(s.used), all.held.Load(), rest)
	}
	if !use("wave 0", 10) {
		t.Error("a pair that ended is still used")
	}
}

// TestShardRefusesWhatItForgot: with a clock that was set back, a pair that ended in
// the last second that was swept is as forgotten as an older one, and the next one is
// not.
func TestShardRefusesWhatItForgot(t *testing.T) {
	t.Parallel()
	s := &shard{used: map[Key]struct{}{}}
	all := &shared{limit: 10}
	now := time.Unix(1_795_435_200, 0)
	all.raiseFloor(now.Unix()) // by any shard
	for ago, refused := range map[int64]bool{0: true, 1: true, 100: true, -1: false} {
		first, err := s.use(now.Add(-time.Hour), Key{byte(ago)}, now.Unix()-ago, all)
		if refused == first || refused == (err == nil) {
			t.Errorf("ended %d s before: %v, %v", ago, first, err)
		}
	}
}
