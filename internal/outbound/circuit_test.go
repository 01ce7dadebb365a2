package outbound

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func testCircuits() *Circuits {
	return NewCircuits(CircuitPolicy{Failures: FetchFailures, Pause: FetchPause, OneAtATime: true}, maxFailing)
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testCircuits()
		down := &UnreachableError{Cause: errors.New("down")}
		admitted := func() bool { return c.Admit("a") == nil }

		for range FetchFailures - 1 {
			c.Report("a", time.Now(), down)
		}
		if !admitted() || c.Open() != 0 {
			t.Error("left alone too early")
		}
		c.Report("a", time.Now(), down)
		if admitted() || c.Open() != 1 {
			t.Error("not left alone")
		}
		if c.Admit("b") != nil {
			t.Error("another address is left alone")
		}
		time.Sleep(FetchPause)
		if !admitted() {
			t.Error("not tried again")
		}
		if admitted() {
			t.Error("tried by two at once")
		}
		c.Report("a", time.Now(), fmt.Errorf("wrapped: %w", down))
		if admitted() {
			t.Error("the failed try does not count")
		}
		time.Sleep(FetchPause)
		if !admitted() {
			t.Error("not tried again")
		}
		c.Report("a", time.Now(), errors.New("nonsense")) // but an answer
		for range FetchFailures - 1 {
			if !admitted() {
				t.Error("left alone although it answers")
			}
			c.Report("a", time.Now(), down)
		}
		if !admitted() {
			t.Error("failures from before the answer count")
		}
	})
}

func TestWhatFailsTogether(t *testing.T) {
	if Endpoint("http://a/list?ca=1") != Endpoint("http://a/list?ca=2") {
		t.Error("a query keeps an address from being spared")
	}
	for _, other := range []string{"http://a/ocsp", "http://a:8080/list", "http://b/list", "https://a/list"} {
		if Endpoint(other) == Endpoint("http://a/list") {
			t.Errorf("%s fails with http://a/list", other)
		}
	}
}

func TestFailingAddressesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testCircuits()
		down := &UnreachableError{Cause: errors.New("down")}
		for i := range 3 * maxFailing {
			c.Report(fmt.Sprint(i), time.Now(), down)
		}
		if len(c.failing) > maxFailing {
			t.Errorf("%d addresses are remembered", len(c.failing))
		}
		time.Sleep(2 * FetchPause)
		c.Report("new", time.Now(), down)
		if len(c.failing) != 1 {
			t.Errorf("%d addresses are remembered after the pause", len(c.failing))
		}
	})
}

// A circuit that does not wait for the call that it admitted admits one in each pause.
func TestCircuitWhoseCallsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCircuit(CircuitPolicy{Failures: 2, Pause: time.Second, MaxPause: 3 * time.Second})
		down := errors.New("down")
		early := time.Now()
		for range 2 {
			c.Failed(early, down, 0)
		}
		for range 5 {
			if open := c.Admit(); open == nil || !errors.Is(open, down) || open.Failures != 2 || !open.Until.Equal(time.Now().Add(time.Second)) {
				t.Errorf("Admit = %+v", open)
			}
			time.Sleep(time.Second)
			if open := c.Admit(); open != nil {
				t.Error(open)
			}
		}
		c.Failed(time.Now(), down, time.Minute)
		time.Sleep(3*time.Second - 1)
		if c.Admit() == nil {
			t.Error("a Retry-After is not waited for")
		}
		time.Sleep(1)
		if open := c.Admit(); open != nil {
			t.Error("the bound of Retry-After is passed")
		}
		c.Answered()
		for range 2 {
			c.Failed(early, down, 0)
		}
		if c.Open() {
			t.Error("failures of calls that were made before the last answer count")
		}
	})
}
