package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// How long a client may do nothing when it is its turn. How long it takes for all of it is up to
// the client.
const (
	stall   = time.Minute      // taking no more than a part of what is written at once, which is up to bufferSize
	silence = 10 * time.Minute // sending nothing of the body that it has begun
)

// A patientWriter lifts the deadlines that a server sets for a whole request, which would cut
// long answers, and gives each write and each read one of its own.
type patientWriter struct {
	http.ResponseWriter
	deadlines *http.ResponseController

	mu    sync.Mutex
	ended bool // the connection is the server's again

	hijacked bool // nobody can be answered on it any more
}

// newPatientWriter lifts the deadlines. The client is known by now: it holds a good token. A
// writer without deadlines, as in tests, has nothing to lift.
func newPatientWriter(w http.ResponseWriter) *patientWriter {
	p := &patientWriter{ResponseWriter: w, deadlines: http.NewResponseController(w)}
	p.readBy(time.Time{})
	_ = p.deadlines.SetWriteDeadline(time.Time{})
	return p
}

// Write implements [io.Writer].
func (p *patientWriter) Write(b []byte) (int, error) {
	defer p.hurry()()
	return p.ResponseWriter.Write(b)
}

// FlushError is what [http.ResponseController.Flush] looks for.
func (p *patientWriter) FlushError() error {
	defer p.hurry()()
	return p.deadlines.Flush()
}

// hurry sets the deadline for one write, and returns what lifts it: with HTTP/2 a deadline that
// passes while nothing is written ends the stream.
func (p *patientWriter) hurry() func() {
	_ = p.deadlines.SetWriteDeadline(time.Now().Add(stall))
	return func() { _ = p.deadlines.SetWriteDeadline(time.Time{}) }
}

// readBy sets the deadline for reading. It may come from the goroutine that sends the body to the
// upstream, which can outlive the request by a moment.
func (p *patientWriter) readBy(deadline time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = p.deadlines.SetReadDeadline(deadline)
	}
}

// end sets deadlines for what is left to the server after the handler: to read what is left of
// the body, and then to write what is buffered.
func (p *patientWriter) end() {
	p.readBy(time.Now().Add(stall))
	_ = p.deadlines.SetWriteDeadline(time.Now().Add(2 * stall))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// take puts the request's body under our deadlines.
func (p *patientWriter) take(r *http.Request) {
	b := &body{r.Body, p, r.ProtoMajor == 1}
	if b.guarded {
		p.readBy(time.Now().Add(silence))
	}
	r.Body = b
}

// A body is what a client sends. Its errors are the client's, and not the upstream's.
type body struct {
	io.ReadCloser
	patient *patientWriter

	// guarded is for HTTP/1.1: there is a deadline also between our reads, since the server reads by
	// itself what the upstream does not want. Over HTTP/2 it does not, and a deadline that passes
	// while a slow upstream lets the client wait would end the body for good.
	guarded bool
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	b.patient.readBy(time.Now().Add(silence))
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF), err == nil && !b.guarded: // at the end, the server listens on whether the client leaves
		b.patient.readBy(time.Time{})
	case err != nil:
		err = &bodyError{err}
	}
	return n, err
}

// A bodyError says that the body broke off.
type bodyError struct{ cause error }

func (e *bodyError) Error() string { return "the client's body: " + e.cause.Error() }

func (e *bodyError) Unwrap() error { return e.cause }
