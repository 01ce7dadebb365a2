package listen

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"
)

// A conn is a connection as it was accepted.
type conn struct {
	net.Conn

	listener *Listener
	idle     atomic.Bool // nothing has been read since the last request
	http2    atomic.Bool // when requests begin is not seen

	reads, writes deadline

	// Under the lock of the listener.
	element       *list.Element // of the list of those waited for; nil: the server does not wait for the client, or it is gone
	waitingSince  time.Time     // when the server began to wait
	answered      time.Time     // when the last request was
	requests      int           // how many the server is at work on
	protected     bool          // never to be closed for another
	authenticated bool          // a client has proven here who it is
	gone          bool
	awaitsFirst   bool // no byte of the first request has come
	started       bool // a request has begun, of which the handler does not know yet
}

// connOf is the connection of an element, or nil where there is no element.
func connOf(e *list.Element) *conn {
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
		runtime.Gosched() // as in Handler, to which a frame need not come
	}
	n, err := c.read(b)
	if n > 0 && c.idle.CompareAndSwap(true, false) {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		if c.element != nil {
			c.listener.startWaiting(c, time.Now())
			c.listener.setStarted(c, !c.http2.Load())
		}
	}
	return n, err
}

// Close closes the connection, and has another accepted in its stead.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.listener.remove(c)
	return err
}

// CloseWrite says that nothing more is sent. The server does it to have the client read an
// answer before the connection is gone.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(halfCloser); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// A halfCloser closes the direction in which it sends, as a [net.TCPConn] and a [tls.Conn] do.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// A peeked connection, plain or TLS, gives once more the byte that was read to see that its first request, or its
// handshake, begins.
type peeked struct {
	halfCloser

	accepted *conn
	first    []byte // read, and not given yet
}

// Read gives the first byte first.
func (b *peeked) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.halfCloser.Read(p)
}

// A tlsPeeked connection is one over TLS, of which the server learns from it.
type tlsPeeked struct {
	*peeked

	tls *tls.Conn
}

// ConnectionState is what [http.Request] has as its TLS.
func (s *tlsPeeked) ConnectionState() tls.ConnectionState { return s.tls.ConnectionState() }

// accepted gives what was accepted for what was given to a server; nil when it was not.
func accepted(given net.Conn) *conn {
	switch c := given.(type) {
	case *peeked:
		return c.accepted
	case *tlsPeeked:
		return c.accepted
	case *tls.Conn:
		return accepted(c.NetConn())
	}
	return nil
}

// deliver gives a connection to the server when its first request begins. It closes one on which
// nothing comes in time.
func (l *Listener) deliver(c *conn) {
	given, err := l.prepare(c)
	if err != nil {
		_ = c.Close() // no request has begun that could be answered
		return
	}
	select {
	case l.ready <- given:
	case <-l.closed:
		_ = c.Close()
	}
}

// prepare waits for what the server is to be given. A handshake that failed is given, too: the
// server has an answer for a client that speaks HTTP without TLS. HTTP/2 begins with the handshake.
func (l *Listener) prepare(c *conn) (net.Conn, error) {
	opened, err := l.peek(c, c)
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
		l.setStarted(c, false)
		return secure, nil
	}
	b, err := l.peek(c, secure)
	return &tlsPeeked{b, secure}, err
}

// peek waits for the first byte on a connection that was accepted, read as is or through TLS.
func (l *Listener) peek(c *conn, from halfCloser) (*peeked, error) {
	b := &peeked{halfCloser: from, accepted: c, first: make([]byte, 1)}
	l.mu.Lock()
	c.awaitsFirst = true
	l.startWaiting(c, time.Now())
	l.setStarted(c, false)
	limit := l.config.Idle
	if isClosed(l.stopped) {
		limit = grace
	}
	c.idle.Store(true)
	err := c.SetReadDeadline(c.waitingSince.Add(limit)) // under the lock, or it could undo the one of a stop
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if _, err := from.Read(b.first); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.awaitsFirst = false
	return b, c.SetReadDeadline(time.Time{})
}

// roundTrip is less than it takes a client that reads an answer to send the next request.
const roundTrip = 50 * time.Microsecond

type connKey struct{}

// ConnContext gives the requests of a connection what [Handler] and [MarkAuthenticated] need; see [http.Server].
func (l *Listener) ConnContext(ctx context.Context, given net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, accepted(given))
}

// MarkAuthenticated says that the client of the request has proven who it is, so that its connection is not closed for
// another until it has no request any more, and then later than those of others. Its context is that of the request; a
// connection of some other listener is left as it is.
func MarkAuthenticated(ctx context.Context) {
	if c, _ := ctx.Value(connKey{}).(*conn); c != nil {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		if ctx.Err() == nil { // or the connection may have no request already, and nothing would end it
			c.listener.stopWaiting(c)
			c.protected, c.authenticated = true, true
		}
	}
}

// Handler notes what a request waits for: its client, as long as the body has not been read
// to its end and once the answer has begun, and the handler between.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(*conn)
		if c == nil {
			next.ServeHTTP(w, r)
			return
		}
		q := &request{ResponseWriter: w, conn: c}
		if r.Body != http.NoBody {
			r.Body = &body{r.Body, q}
		}
		if pipelined := q.start(r.Body == http.NoBody); pipelined {
			// Requests that do not wait for answers never wait for anything. Unless they let those of other connections go
			// first, their connection has a processor for as long as the scheduler lets it.
			runtime.Gosched()
		}
		defer q.startAnswer()
		next.ServeHTTP(q, r)
	})
}

// A request is one that the handler has, and writes its answer to: it tells when that begins.
type request struct {
	http.ResponseWriter

	conn     *conn
	answered atomic.Bool // the answer has begun

	bodyRead bool // under the lock of the listener
}

// start notes that the handler has the request, and whether it has the whole of it.
func (q *request) start(whole bool) (pipelined bool) {
	l, now := q.conn.listener, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setStarted(q.conn, false)
	if whole {
		q.startWork()
	} else {
		l.startWaiting(q.conn, now)
	}
	return now.Sub(q.conn.answered) < roundTrip
}

// startWork notes that the body has been read to its end. The caller holds the lock of the listener.
func (q *request) startWork() {
	if !q.bodyRead && !q.answered.Load() {
		q.bodyRead = true
		q.conn.requests++
		q.conn.listener.stopWaiting(q.conn)
	}
}

// startAnswer notes that the answer has begun.
func (q *request) startAnswer() {
	if q.answered.Swap(true) {
		return
	}
	l, now := q.conn.listener, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.bodyRead {
		q.conn.requests--
		l.startWaiting(q.conn, now)
	}
}

// WriteHeader implements [http.ResponseWriter].
func (q *request) WriteHeader(status int) {
	if status >= http.StatusOK { // the others only announce an answer
		q.startAnswer()
	}
	q.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (q *request) Write(b []byte) (int, error) {
	q.startAnswer()
	return q.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (q *request) Unwrap() http.ResponseWriter { return q.ResponseWriter }

// A body tells when it has been read to its end.
type body struct {
	io.ReadCloser

	request *request
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		l := b.request.conn.listener
		l.mu.Lock()
		defer l.mu.Unlock()
		b.request.startWork()
	}
	return n, err
}
