package listen

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// A conn is a connection as it was accepted.
type conn struct {
	net.Conn

	listener *Listener
	quiet    atomic.Bool // nothing has been read since the last request
	http2    atomic.Bool // when requests begin is not seen

	// Under the lock of the listener.
	place    *list.Element // among the pending; nil: the server does not wait for the client, or it is gone
	since    time.Time     // when it began to wait
	answered time.Time     // when the last request was
	requests int           // how many the server is at work on
	kept     bool          // never to be closed for another
	known    bool          // a client has proven here who it is
	gone     bool
	waiting  bool // for its first request
	begins   bool // a request has begun, of which the handler does not know yet
}

// element is the connection of a place, or nil where there is no place.
func element(e *list.Element) *conn {
	if e == nil {
		return nil
	}
	c, _ := e.Value.(*conn)
	return c
}

// Read notes when a request begins: its connection is not the next one to be closed any
// more. A second byte changes nothing, or a slow header would be as good as a request.
func (c *conn) Read(b []byte) (int, error) {
	if c.http2.Load() {
		runtime.Gosched() // as in begin, to which a frame need not come
	}
	n, err := c.Conn.Read(b)
	if n > 0 && c.quiet.CompareAndSwap(true, false) {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		if c.place != nil {
			c.listener.await(c)
			c.listener.mark(c, !c.http2.Load())
		}
	}
	return n, err
}

// Close closes the connection, and makes room for another.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.forget(c)
	return err
}

// CloseWrite says that nothing more is sent. The server does it to have the client read an
// answer before the connection is gone.
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// A begun connection, plain or TLS, has a byte of its first request, or of its handshake.
type begun struct {
	net.Conn

	accepted *conn
	first    []byte // read, and not given yet
}

// Read gives the first byte first.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// CloseWrite is as that of a [net.TCPConn].
func (b *begun) CloseWrite() error { return closeWrite(b.Conn) }

// A secured connection tells the server of its TLS.
type secured struct {
	*begun

	tls *tls.Conn
}

// ConnectionState is what [http.Request] has as its TLS.
func (s *secured) ConnectionState() tls.ConnectionState { return s.tls.ConnectionState() }

// accepted gives what was accepted for what was given to a server; nil when it was not.
func accepted(given net.Conn) *conn {
	switch c := given.(type) {
	case *begun:
		return c.accepted
	case *secured:
		return c.accepted
	case *tls.Conn:
		return accepted(c.NetConn())
	}
	return nil
}

// deliver gives a connection to the server when its first request begins. It closes one that
// stays quiet.
func (l *Listener) deliver(c *conn) {
	given, err := l.ready(c)
	if err != nil {
		_ = c.Close() // nobody is there to hear of it
		return
	}
	select {
	case l.begun <- given:
	case <-l.closed:
		_ = c.Close()
	}
}

// ready waits for what the server is to be given. A handshake that failed is given, too: the
// server has an answer for who speaks HTTP without TLS. HTTP/2 begins with the handshake.
func (l *Listener) ready(c *conn) (net.Conn, error) {
	opened, err := l.first(c, c)
	if err != nil || l.config.TLS == nil {
		return opened, err
	}
	secure := tls.Server(opened, l.config.TLS)
	if err := c.SetDeadline(time.Now().Add(l.config.Handshake)); err != nil {
		return nil, err
	}
	if err := secure.HandshakeContext(context.Background()); err != nil {
		return secure, nil
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.http2.Store(true)
		l.mark(c, false)
		return secure, nil
	}
	b, err := l.first(c, secure)
	return &secured{b, secure}, err
}

// first waits for the first byte on a connection that was accepted, read as is or through TLS.
func (l *Listener) first(c *conn, from net.Conn) (*begun, error) {
	b := &begun{Conn: from, accepted: c, first: make([]byte, 1)}
	if err := l.patient(c); err != nil {
		return nil, err
	}
	if _, err := from.Read(b.first); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.waiting = false
	return b, c.SetReadDeadline(time.Time{})
}

// patient sets how long the first byte may take.
func (l *Listener) patient(c *conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.waiting = true
	l.await(c)
	l.mark(c, false)
	limit := l.config.Idle
	if ended(l.retired) {
		limit = grace
	}
	c.quiet.Store(true)
	return c.SetReadDeadline(c.since.Add(limit))
}
