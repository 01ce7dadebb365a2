package accesstoken

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A revocation is over when both clocks say so.
func TestOverByBothClocks(t *testing.T) {
	r := effect{until: 1000, held: time.Hour}
	for at, over := range map[instant]bool{
		{wall: 999, open: time.Hour - 1}:                false,
		{wall: 1000, open: time.Hour - 1}:               false,
		{wall: 1 << 40, open: time.Hour - 1}:            false, // the clock ran ahead
		{wall: 0, open: 1000 * time.Hour}:               false, // it was set back
		{wall: 999, open: time.Hour}:                    false,
		{wall: 1000, open: time.Hour}:                   true,
		{wall: 1 << 40, open: 1<<63 - 1}:                true,
		{wall: 1000, open: time.Hour + time.Nanosecond}: true,
	} {
		s := newRevocationSet()
		s.put(target{tokenTarget, "A"}, r)
		if r.expired(at) != over || (s.unexpired(at).len() == 0) != over {
			t.Errorf("at %+v: over is %v", at, r.expired(at))
		}
	}
}

// A clock that runs years ahead, at a start, while the store serves, and when tokens are
// revoked, brings none of them back to life when it is right again.
func TestClockThatRunsAhead(t *testing.T) {
	dir := t.TempDir()
	revoke := func(t *testing.T, m *MemoryTokenRevocations, r TokenRevocation) {
		t.Helper()
		if err := m.Revoke(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var expires time.Time
	synctest.Test(t, func(t *testing.T) {
		expires = time.Now().Add(2 * time.Hour)
		m := openStore(t, dir)
		revoke(t, m, TokenRevocation{TokenID: "A", Expires: expires})
	})
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(50_000 * time.Hour) // nothing is open meanwhile: to the store, the clock has jumped
		for range 3 {
			m := openStore(t, dir)
			revoke(t, m, TokenRevocation{TokenID: "B", Expires: expires})
			wantRevoked(t, m, "A", "B")
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // begins when the first one did
		wantRevoked(t, openStore(t, dir), "A", "B")
	})
}

// What a start takes over is bounded: of more than there is room for, those go that are
// over by the clock, the longest ago first, and nothing that is not over.
func TestRoomAtTheStart(t *testing.T) {
	s := newRevocationSet()
	for i := range int64(10) {
		s.put(target{tokenTarget, fmt.Sprint(i)}, effect{through: whenever, until: 100 + i})
	}
	for _, c := range []struct{ now, room, want int64 }{{0, 0, 10}, {200, 10, 10}, {200, 4, 4}, {103, 4, 6}, {103, 8, 8}, {200, 0, 0}} {
		kept := s.restored(c.now, int(c.room))
		if int64(kept.len()) != c.want {
			t.Errorf("%+v: %d are kept", c, kept.len())
		}
		for i := range c.want {
			if r, ok := kept.effects[target{tokenTarget, fmt.Sprint(9 - i)}]; !ok || r.held != holdFor {
				t.Errorf("%+v: %d is %v, %+v", c, 9-i, ok, r)
			}
		}
	}
}
