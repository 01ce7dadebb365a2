//go:build linux

package replicas

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A link is the network between the servers and a store: it can be cut, and lead to another store.
type link struct {
	addr string

	mu              sync.Mutex
	network, target string
	cut             bool
	conns           map[net.Conn]bool
}

// newLink leads to an address.
func newLink(t *testing.T, network, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	l := &link{addr: listener.Addr().String(), network: network, target: target, conns: map[net.Conn]bool{}}
	go func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			go l.pass(here)
		}
	}()
	return l
}

// sever ends all connections, and lets no more through until mend.
func (l *link) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for conn := range l.conns {
		conn.Close()
	}
}

// mend leads to an address again, be it another one.
func (l *link) mend(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.target = false, target
}

func (l *link) pass(here net.Conn) {
	defer here.Close()
	there := l.open(here)
	if there == nil {
		return
	}
	defer l.forget(here, there)
	go func() {
		io.Copy(there, here)
		there.Close()
	}()
	io.Copy(here, there)
}

// open makes the other half of a connection; nil: there is none.
func (l *link) open(here net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil
	}
	there, err := net.Dial(l.network, l.target)
	if err != nil {
		return nil
	}
	l.conns[here], l.conns[there] = true, true
	return there
}

func (l *link) forget(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
		delete(l.conns, conn)
	}
}
