package guard

import (
	"net/http"
	"time"
)

// stall is how long a client may take none of what it is sent. How long it takes for all of
// it is up to the client.
const stall = time.Minute

// A patientWriter lifts the deadlines that a server sets for a whole request, which would cut
// long answers, and gives each write one of its own.
type patientWriter struct {
	http.ResponseWriter
	deadlines *http.ResponseController
}

// newPatientWriter also lifts the deadline for reading, since a body may flow for as long as the
// answer does. The client is known by now: it holds a good token. A writer without
// deadlines, as in tests, has nothing to lift.
func newPatientWriter(w http.ResponseWriter) *patientWriter {
	p := &patientWriter{ResponseWriter: w, deadlines: http.NewResponseController(w)}
	_ = p.deadlines.SetReadDeadline(time.Time{})
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

// hurry sets the deadline for one write, and returns what lifts it: with HTTP/2 a deadline that passes
// while nothing is written ends the stream.
func (p *patientWriter) hurry() func() {
	_ = p.deadlines.SetWriteDeadline(time.Now().Add(stall))
	return func() { _ = p.deadlines.SetWriteDeadline(time.Time{}) }
}

// end sets deadlines for what is left to the server after the handler: to write what is
// buffered, and to read what is left of the body.
func (p *patientWriter) end() {
	_ = p.deadlines.SetWriteDeadline(time.Now().Add(stall))
	_ = p.deadlines.SetReadDeadline(time.Now().Add(stall))
}

// Unwrap is what [http.ResponseController] looks for, to upgrade.
func (p *patientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
