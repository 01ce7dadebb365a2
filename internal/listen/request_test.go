package listen_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// The parts of requests.
const (
	end     = " HTTP/1.1\r\nHost: server.example\r\n\r\n"
	counted = " HTTP/1.1\r\nHost: server.example\r\nContent-Length: 5\r\n\r\n"
	chunked = " HTTP/1.1\r\nHost: server.example\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// A connection makes room for another when the server waits for its client, in whatever part of a
// request, unless the client is known; and never when the client waits for the server.
func TestPending(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text  string
		reads bool // the first answer
		cut   bool
	}{
		"nothing":                        {"", false, true},
		"a header":                       {"GET / HT", false, true},
		"a body":                         {"POST /body" + counted + "ha", false, true},
		"a body that nobody reads":       {"POST /slow" + counted + "ha", false, true},
		"a body that is refused":         {"POST /" + counted + "ha", false, true},
		"a chunk":                        {"POST /body" + chunked + "5\r\nha", false, true},
		"chunks without an end":          {"POST /body" + chunked + "5\r\nwhole\r\n", false, true},
		"an unread answer":               {"GET /large" + end, false, true},
		"a whole request":                {"GET /slow" + end, false, false},
		"a whole body":                   {"POST /body" + counted + "whole", false, false},
		"whole chunks":                   {"POST /body" + chunked + "5\r\nwhole\r\n0\r\n\r\n", false, false},
		"a request behind another":       {"GET /" + end + "GET /slow" + end, true, false},
		"a known client's body":          {"POST /known/body" + counted + "ha", false, false},
		"a known client's answer":        {"GET /known/large" + end, false, false},
		"a body behind a known client's": {"GET /known/" + end + "POST /body" + counted + "ha", true, true},
		"silence behind a known client":  {"GET /known/" + end, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "")
				peer := w.connect()
				if c.text != "" {
					go func() { _, _ = io.WriteString(peer, c.text) }()
				}
				if c.reads {
					go func() { _, _ = peer.Read(make([]byte, 4096)) }()
				}
				time.Sleep(time.Second / 2)
				next := w.dialRaw()
				time.Sleep(time.Second / 2)
				if cut := isCut(peer); cut != c.cut {
					t.Fatalf("cut: %t", cut)
				}
				if c.cut {
					next.gets("/")
				}
				close(w.release)
				peer.Close()
				next.Close()
				time.Sleep(time.Second)
				w.end()
			})
		})
	}
}

// isCut tells whether the server has closed a connection whose client need not read.
func isCut(c net.Conn) bool {
	err := c.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if err == nil {
		_, err = io.WriteString(c, "a")
	}
	return errors.Is(err, io.ErrClosedPipe)
}

// However many begin a body and do not go on, a good client has its answer at once, and nobody
// is cut before a client can have sent its request.
func TestFloodOfBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 64, "")
		for i := range 10_000 {
			w.dialRaw().says("POST /body" + counted + "ha")
			if i%1000 == 999 {
				began := time.Now()
				w.dial().gets("/")
				if d := time.Since(began); d > time.Second {
					t.Errorf("behind %d: served after %s", i, d)
				}
			}
		}
		if w.listener.Open() > 64 {
			t.Errorf("%d connections", w.listener.Open())
		}
		w.end()
	})
}

// The connection that goes is the one whose client has been waited for longest, wherever in a request
// it is, and none before its time.
func TestLongestWaitGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, "")
		body, used, header := w.dial(), w.dial(), w.dial()
		body.says("POST /body" + counted)
		time.Sleep(time.Second)
		used.gets("/")
		time.Sleep(time.Second)
		header.says("GET / HT")
		body.says("ha") // which is no merit
		peers := []*peer{body, used, header}
		for i := range peers {
			w.dial()
			for j, p := range peers {
				if want := j > i; p.isOpen() != want {
					t.Errorf("behind newcomer %d: client %d is open: %t", i, j, !want)
				}
			}
		}
		began := time.Now()
		for range 7 { // each of three waits for its turn, twice
			w.dialRaw()
		}
		if d := time.Since(began); d < time.Second/10 || d > time.Second {
			t.Errorf("seven newcomers at three places are taken within %s", d)
		}
		time.Sleep(time.Second) // the last has its place, too
		w.end()
	})
}

// Who has proven who they are keeps a connection that is not used for ten seconds longer than others.
func TestKnownClientsGoLater(t *testing.T) {
	t.Parallel()
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2, protocol)
				known, used := w.dial(), w.dial()
				known.gets("/known/")
				time.Sleep(time.Second)
				used.gets("/")
				next := w.dial()
				if !known.isOpen() || used.isOpen() || !next.isOpen() {
					t.Errorf("after a second: known %t, used %t, next %t", known.isOpen(), used.isOpen(), next.isOpen())
				}
				time.Sleep(9 * time.Second)
				next.gets("/")
				time.Sleep(time.Second)
				last := w.dial()
				if known.isOpen() || !next.isOpen() || !last.isOpen() {
					t.Errorf("after eleven: known %t, next %t, last %t", known.isOpen(), next.isOpen(), last.isOpen())
				}
				w.end()
			})
		})
	}
}

// When more than half of all connections are those of known clients, they have to make room as others do.
func TestKnownClientsLeaveRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, "")
		var known []*peer
		for range 3 {
			known = append(known, w.dial())
			known[len(known)-1].gets("/known/")
		}
		time.Sleep(time.Second)
		used := w.dial()
		used.gets("/")
		next := w.dial()
		if known[0].isOpen() || !known[1].isOpen() || !used.isOpen() || !next.isOpen() {
			t.Errorf("known %t and %t, used %t, next %t", known[0].isOpen(), known[1].isOpen(), used.isOpen(), next.isOpen())
		}
		w.end()
	})
}
