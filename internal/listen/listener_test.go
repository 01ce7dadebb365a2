package listen_test

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/listen"
)

// Plain HTTP, and what TLS negotiates.
var protocols = map[string]string{"plain": "", "TLS": "http/1.1"}

// A connection that was opened ahead lives as long as an idle one; the time for a header
// begins with its first byte.
func TestQuietConnections(t *testing.T) {
	t.Parallel()
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 10, protocol)
				ahead, silent, slow, begins := w.dial(), w.dial(), w.dial(), w.dial()
				slow.says("GET / HT")
				time.Sleep(headerTimeout + time.Second)
				slow.hears("400")
				if slow.isOpen() {
					t.Error("a header that does not end is waited for")
				}
				time.Sleep(idleTimeout / 2)
				ahead.gets("/")
				ahead.gets("/")
				begins.says("GET / HT")
				time.Sleep(headerTimeout - time.Second)
				begins.says("TP/1.1\r\nHost: server.example\r\n\r\n")
				begins.hears("200")
				if !silent.isOpen() {
					t.Error("a connection that was opened ahead is cut")
				}
				time.Sleep(idleTimeout / 2)
				if silent.isOpen() {
					t.Error("a connection without a request lives for ever")
				}
				w.end()
			})
		})
	}
}

// Before and within a handshake the same holds as before and within a header.
func TestQuietHandshakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, "http/1.1")
		ahead, begins := w.dialRaw(), w.dialRaw()
		begins.says("\x16\x03\x01")
		time.Sleep(headerTimeout + time.Second)
		if begins.isOpen() {
			t.Error("a handshake that does not end is waited for")
		}
		if !ahead.isOpen() {
			t.Error("a connection that was opened ahead is cut")
		}
		ahead.says("GET / HTTP/1.1\r\n")
		b := make([]byte, 100)
		n, _ := ahead.Read(b)
		if !strings.HasPrefix(string(b[:n]), "HTTP/1.0 400 ") {
			t.Errorf("HTTP without TLS is answered with %q", b[:n])
		}
		w.dial().gets("/tls")
		w.end()
	})
}

// At the limit, whoever is without a request for longest makes room, and nobody else.
func TestLimit(t *testing.T) {
	t.Parallel()
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3, protocol)
				busy, ahead, used := w.dial(), w.dial(), w.dial()
				used.gets("/")
				busy.says("GET /slow HTTP/1.1\r\nHost: server.example\r\n\r\n")
				synctest.Wait()
				next := w.dial()
				if ahead.isOpen() || !used.isOpen() || !next.isOpen() {
					t.Errorf("ahead %t, used %t, next %t", ahead.isOpen(), used.isOpen(), next.isOpen())
				}
				next.gets("/")
				used.gets("/")
				last := w.dial()
				if next.isOpen() || !used.isOpen() || !last.isOpen() {
					t.Errorf("next %t, used %t, last %t", next.isOpen(), used.isOpen(), last.isOpen())
				}
				if w.listener.Open() != 3 {
					t.Errorf("%d connections", w.listener.Open())
				}
				w.release <- struct{}{}
				busy.hears("200")
				w.end()
			})
		})
	}
}

// A header that has begun is not cut for a connection that comes later, while others wait.
func TestBegunHeaderIsNotTheFirstToGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, "")
		begins, ahead := w.dial(), w.dial()
		begins.gets("/")
		ahead.gets("/")
		begins.says("GET / HT")
		synctest.Wait()
		w.dial()
		if ahead.isOpen() {
			t.Error("the one without a request stays")
		}
		begins.says("TP/1.1\r\nHost: server.example\r\n\r\n")
		begins.hears("200")
		w.end()
	})
}

// When all have requests under way, the next waits for the first that is done.
func TestFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, "")
		var busy []*peer
		for range 2 {
			p := w.dial()
			p.says("GET /slow HTTP/1.1\r\nHost: server.example\r\n\r\n")
			busy = append(busy, p)
		}
		synctest.Wait()
		next := w.dialRaw()
		time.Sleep(time.Hour)
		if !next.isOpen() || w.listener.Open() != 2 {
			t.Errorf("the next is open: %t; %d connections", next.isOpen(), w.listener.Open())
		}
		if p := w.listener.Problems(); len(p) != 1 || !strings.Contains(p[0], "listen.public: 2 connections have requests under way") {
			t.Errorf("problems: %v", p)
		}
		w.release <- struct{}{}
		w.release <- struct{}{}
		for _, p := range busy {
			p.hears("200")
		}
		next.gets("/")
		if n := strings.Count(w.log.String(), "connections are in trouble"); n != 1 {
			t.Errorf("told %d times", n)
		}
		w.end()
	})
}

// Ten thousand that open connections and say nothing do not shut out whoever has a request.
func TestFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 64, "")
		for i := range 10_000 {
			w.dialRaw()
			if i%1000 == 0 {
				w.dial().gets("/")
			}
		}
		if w.listener.Open() > 64 {
			t.Errorf("%d connections", w.listener.Open())
		}
		if n := strings.Count(w.log.String(), "connections are in trouble"); n != 1 {
			t.Errorf("told %d times", n)
		}
		w.end()
	})
}

// Without descriptors, what is unused is given up, the trouble is told once, and it ends.
func TestAcceptErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10, "")
		idle, busy := w.dial(), w.dial()
		busy.says("GET /slow HTTP/1.1\r\nHost: server.example\r\n\r\n")
		synctest.Wait()
		for range 30 {
			w.network.incoming <- syscall.EMFILE
		}
		if p := w.listener.Problems(); len(p) != 1 || !strings.Contains(p[0], "listen.public: connections cannot be taken: "+syscall.EMFILE.Error()) {
			t.Errorf("problems: %v", p)
		}
		if idle.isOpen() {
			t.Error("what is unused is kept")
		}
		time.Sleep(time.Minute)
		if p := w.listener.Problems(); len(p) != 0 {
			t.Errorf("problems: %v", p)
		}
		w.dial().gets("/")
		w.release <- struct{}{}
		busy.hears("200")
		for text, want := range map[string]int{"connections are in trouble": 1, "connections are taken as always again": 1} {
			if n := strings.Count(w.log.String(), text); n != want {
				t.Errorf("%q: told %d times", text, n)
			}
		}
		w.end()
	})
}

// Who connected just before a stop is still served; who is long silent is not waited for.
func TestRetire(t *testing.T) {
	t.Parallel()
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 10, protocol)
				old := w.dial()
				time.Sleep(time.Minute)
				fresh, silent, begins := w.dial(), w.dial(), w.dial()
				begins.says("GET / HT")
				stopped := make(chan error, 1)
				began := time.Now()
				go func() { stopped <- w.listener.StopAccepting(t.Context()) }()
				synctest.Wait()
				if old.isOpen() || !fresh.isOpen() {
					t.Errorf("old %t, fresh %t", old.isOpen(), fresh.isOpen())
				}
				time.Sleep(time.Second / 2)
				fresh.gets("/")
				time.Sleep(2 * time.Second)
				select {
				case err := <-stopped:
					t.Errorf("stopped before a header has ended: %v", err)
				default:
				}
				begins.says("TP/1.1\r\nHost: server.example\r\n\r\n")
				begins.hears("200")
				if err := <-stopped; err != nil || time.Since(began) > 3*time.Second {
					t.Errorf("stopped after %s: %v", time.Since(began), err)
				}
				synctest.Wait()
				if silent.isOpen() {
					t.Error("silent is kept")
				}
				if err := w.server.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				w.end()
			})
		})
	}
}

// Memory is released when many have gone for good, seldom, and not for few.
func TestReleaseMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1000, "")
		var freed atomic.Int64
		go w.listener.ReleaseMemory(t.Context(), func() { freed.Add(1) })
		wave := func(n int) {
			t.Helper()
			var peers []*peer
			for range n {
				peers = append(peers, w.dialRaw())
			}
			for _, p := range peers {
				p.Close()
			}
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		for _, c := range []struct {
			wave int
			want int64
			wait time.Duration
		}{
			{100, 0, time.Hour},
			{300, 1, 15 * time.Second},
			{300, 1, 15 * time.Second},
			{0, 2, time.Minute},
			{0, 2, time.Hour},
		} {
			wave(c.wave)
			time.Sleep(c.wait)
			synctest.Wait()
			if freed.Load() != c.want {
				t.Errorf("after a wave of %d and %s: freed %d times, want %d", c.wave, c.wait, freed.Load(), c.want)
			}
		}
		w.end()
	})
}

func TestShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		descriptors, wanted int
		passedOn            bool
		want                listen.Share
	}{
		{16, 0, false, listen.Share{Public: 1, Internal: 2, Lowered: true}},
		{64, 0, false, listen.Share{Public: 16, Internal: 8}},
		{64, 0, true, listen.Share{Public: 8, Internal: 8, Lowered: true}},
		{128, 0, false, listen.Share{Public: 72, Internal: 16}},
		{256, 0, false, listen.Share{Public: 160, Internal: 32}},
		{256, 0, true, listen.Share{Public: 80, Internal: 32}},
		{1024, 0, false, listen.Share{Public: 640, Internal: 128}},
		{20000, 0, false, listen.Share{Public: 4096, Internal: 256}},
		{20000, 10000, false, listen.Share{Public: 10000, Internal: 256}},
		{20000, 10000, true, listen.Share{Public: 9744, Internal: 256, Lowered: true}},
		{256, 1000, false, listen.Share{Public: 160, Internal: 32, Lowered: true}},
		{256, 100, false, listen.Share{Public: 100, Internal: 32}},
	} {
		if got := listen.NewShare(c.descriptors, c.wanted, c.passedOn); got != c.want {
			t.Errorf("NewShare(%d, %d, %t) = %+v, want %+v", c.descriptors, c.wanted, c.passedOn, got, c.want)
		}
	}
	if n := listen.Descriptors(); n < 16 {
		t.Errorf("%d descriptors", n)
	}
}
