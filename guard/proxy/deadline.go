package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// How long a client may do nothing when it is its turn. How long it takes for all of it is up to the client.
const (
	writeTimeout = time.Minute      // taking no more than a part of what is written at once, which is up to bufferSize
	idleTimeout  = 10 * time.Minute // sending nothing of the body that it has begun
)

// A deadlineWriter lifts the deadlines that a server sets for a whole request, which would cut long answers, and gives each
// write and each read one of its own.
type deadlineWriter struct {
	http.ResponseWriter
	deadlines *http.ResponseController

	mu    sync.Mutex
	ended bool // the connection is the server's again

	hijacked bool // nobody can be answered on it any more
}

// newDeadlineWriter lifts the deadlines. The client is known by now: it holds a good token. A writer without deadlines, as
// in tests, has nothing to lift.
func newDeadlineWriter(w http.ResponseWriter) *deadlineWriter {
	d := &deadlineWriter{ResponseWriter: w, deadlines: http.NewResponseController(w)}
	d.setReadDeadline(time.Time{})
	_ = d.deadlines.SetWriteDeadline(time.Time{})
	return d
}

// Write implements [io.Writer].
func (d *deadlineWriter) Write(b []byte) (int, error) {
	defer d.limitWrite()()
	return d.ResponseWriter.Write(b)
}

// FlushError is what [http.ResponseController.Flush] looks for.
func (d *deadlineWriter) FlushError() error {
	defer d.limitWrite()()
	return d.deadlines.Flush()
}

// limitWrite sets the deadline for one write, and returns what lifts it: with HTTP/2 a deadline that
// passes while nothing is written ends the stream.
func (d *deadlineWriter) limitWrite() (lift func()) {
	_ = d.deadlines.SetWriteDeadline(time.Now().Add(writeTimeout))
	return func() { _ = d.deadlines.SetWriteDeadline(time.Time{}) }
}

// setReadDeadline may be called from the goroutine that sends the body to the upstream, which can
// outlive the request by a moment.
func (d *deadlineWriter) setReadDeadline(deadline time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		_ = d.deadlines.SetReadDeadline(deadline)
	}
}

// end sets deadlines for what is left to the server after the handler: to read what is left of
// the body, and then to write what is buffered.
func (d *deadlineWriter) end() {
	d.setReadDeadline(time.Now().Add(writeTimeout))
	_ = d.deadlines.SetWriteDeadline(time.Now().Add(2 * writeTimeout))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
}

// A deadlineBody is what a client sends, with a deadline for each read. Its errors wrap errBody: they are the client's, and
// not the upstream's.
type deadlineBody struct {
	io.ReadCloser
	writer *deadlineWriter

	// betweenReads is for HTTP/1.1: there is a deadline also between our reads, since the server reads by
	// itself what the upstream does not want. Over HTTP/2 it does not, and a deadline that passes
	// while a slow upstream lets the client wait would end the body for good.
	betweenReads bool
}

// Read implements [io.Reader].
func (b *deadlineBody) Read(p []byte) (int, error) {
	b.writer.setReadDeadline(time.Now().Add(idleTimeout))
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF), err == nil && !b.betweenReads: // at the end, the server listens on whether the client leaves
		b.writer.setReadDeadline(time.Time{})
	case err != nil:
		err = fmt.Errorf("%w: %w", errBody, err)
	}
	return n, err
}

var errBody = errors.New("the client's body")

// Hijack implements [http.Hijacker], for upgrades. What is buffered gets the same deadlines.
func (d *deadlineWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := d.deadlines.Hijack()
	if err != nil {
		return nil, nil, err
	}
	d.hijacked = true
	limited := &deadlineConn{conn}
	buffered.Writer.Reset(limited)
	return limited, buffered, nil
}

// A deadlineConn gives each write a deadline. Reads have none: a client may be silent.
type deadlineConn struct{ net.Conn }

// Write implements [io.Writer].
func (c *deadlineConn) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	defer func() { _ = c.SetWriteDeadline(time.Time{}) }() // TLS may have to write on its own
	return c.Conn.Write(b)
}

// CloseWrite ends our side only, where the connection can: [httputil.ReverseProxy] looks for it.
func (c *deadlineConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
