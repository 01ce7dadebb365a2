package bucket_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/bucket"
)

func newSet(t *testing.T, r bucket.Rate) *bucket.Set[int] {
	t.Helper()
	s, err := bucket.New[int](r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, bucket.Rate{Events: 10, Period: time.Second, Burst: 3})
		for i, step := range []struct {
			pause time.Duration
			key   int
			want  time.Duration
		}{
			{0, 1, 0},
			{0, 1, 0},
			{0, 1, 0},
			{0, 1, 100 * time.Millisecond},
			{0, 1, 100 * time.Millisecond}, // what was refused has taken nothing
			{0, 2, 0},                      // another key has its own
			{75 * time.Millisecond, 1, 25 * time.Millisecond},
			{25 * time.Millisecond, 1, 0},
			{0, 1, 100 * time.Millisecond},
			{time.Hour, 1, 0},
			{0, 1, 0},
			{0, 1, 0}, // it holds no more than its burst
			{0, 1, 100 * time.Millisecond},
		} {
			time.Sleep(step.pause)
			if missing := s.Missing(step.key); missing.Round(time.Millisecond) != step.want {
				t.Errorf("step %d: %s is missing, want %s", i, missing, step.want)
			}
			if wait := s.Take(step.key); wait.Round(time.Millisecond) != step.want {
				t.Errorf("step %d: wait %s, want %s", i, wait, step.want)
			}
		}
	})
}

func TestGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, bucket.Rate{Events: 10, Period: time.Second, Burst: 3})
		for range 5 {
			s.Give(1) // to a full bucket
		}
		for range 3 {
			s.Take(1)
		}
		if s.Take(1) == 0 {
			t.Error("it holds more than its burst")
		}
		s.Give(1)
		s.Give(1)
		for i, want := range []bool{true, true, false} {
			if taken := s.Take(1) == 0; taken != want {
				t.Errorf("take %d after two were given back: %t", i+1, taken)
			}
		}
	})
}

// A stranger who has many keys does not fill memory.
func TestKeysAreBounded(t *testing.T) {
	s := newSet(t, bucket.Rate{Events: 1, Period: time.Hour, Burst: 1})
	const keys = 5 << 14
	for key := range keys {
		s.Take(key)
	}
	kept := 0
	for key := range keys {
		if s.Missing(key) > 0 {
			kept++
		}
	}
	if kept == 0 || kept > 1<<16+1<<10 { // what was added last may not have been looked at yet
		t.Errorf("%d of %d keys are kept", kept, keys)
	}
}

func TestRatesThatLetNothingHappen(t *testing.T) {
	for _, r := range []bucket.Rate{{}, {Events: 1, Period: time.Second}, {Events: 1, Burst: 1}, {Period: time.Second, Burst: 1}} {
		if _, err := bucket.New[int](r); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
	if r := (bucket.Rate{Events: 1, Period: time.Minute, Burst: 2}); newSet(t, r).Rate() != r {
		t.Error("the rate is another")
	}
}
