package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"time"
)

// roundTrip is less than it takes a client that reads an answer to send the next request.
const roundTrip = 50 * time.Microsecond

type connKey struct{}

// ConnContext gives the requests of a connection what [Handler] and [Keep] need; see [http.Server].
func (l *Listener) ConnContext(ctx context.Context, given net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, accepted(given))
}

// Keep says that the client of the request has proven who it is, so that its connection is not closed for
// another until it has no request any more, and then later than those of others. Its context is that of the request; a
// connection of some other listener is left as it is.
func Keep(ctx context.Context) {
	if c, _ := ctx.Value(connKey{}).(*conn); c != nil {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		if ctx.Err() == nil { // or the connection may have no request already, and nothing would end it
			c.listener.keep(c)
		}
	}
}

// keep is [Keep]. The caller holds the lock.
func (l *Listener) keep(c *conn) {
	l.use(c)
	c.kept, c.known = true, true
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
		q := begin(c, r.Body == http.NoBody)
		defer q.answer()
		if r.Body != http.NoBody {
			r.Body = &body{r.Body, q}
		}
		next.ServeHTTP(&writer{w, q}, r)
	})
}

// A request is one that the handler has. Its fields are under the lock of the listener.
type request struct {
	conn            *conn
	whole, answered bool
}

func begin(c *conn, whole bool) *request {
	q := &request{conn: c}
	c.listener.mu.Lock()
	pipelined := time.Since(c.answered) < roundTrip
	c.listener.mark(c, false)
	c.listener.await(c)
	c.listener.mu.Unlock()
	if pipelined {
		// Requests that do not wait for answers never wait for anything. Unless they let those of other connections go
		// first, their connection has a processor for as long as the scheduler lets it.
		runtime.Gosched()
	}
	if whole {
		q.work()
	}
	return q
}

// work notes that the request is whole.
func (q *request) work() {
	l := q.conn.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	if !q.whole && !q.answered {
		q.whole = true
		q.conn.requests++
		l.use(q.conn)
	}
}

// answer notes that the answer has begun.
func (q *request) answer() {
	l := q.conn.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.whole && !q.answered {
		q.conn.requests--
		l.await(q.conn)
	}
	q.answered = true
}

// A body tells when it has been read to its end.
type body struct {
	io.ReadCloser

	request *request
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.request.work()
	}
	return n, err
}

// A writer tells when the answer begins.
type writer struct {
	http.ResponseWriter

	request *request
}

// WriteHeader implements [http.ResponseWriter].
func (w *writer) WriteHeader(status int) {
	if status >= http.StatusOK { // the others only announce an answer
		w.request.answer()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (w *writer) Write(b []byte) (int, error) {
	w.request.answer()
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
