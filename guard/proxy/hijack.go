package proxy

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"time"
)

// Hijack implements [http.Hijacker], for upgrades. What is buffered goes by the patient way too.
func (p *patientWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := p.deadlines.Hijack()
	if err != nil {
		return nil, nil, err
	}
	p.hijacked = true
	patient := &patientConn{conn}
	buffered.Writer.Reset(patient)
	return patient, buffered, nil
}

// isHijacked reports whether a connection is no longer one for answers.
func isHijacked(w http.ResponseWriter) bool {
	p, ok := w.(*patientWriter)
	return ok && p.hijacked
}

// A patientConn gives each write a deadline. Reads have none: a client may be silent.
type patientConn struct{ net.Conn }

// Write implements [io.Writer].
func (c *patientConn) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(stall))
	defer func() { _ = c.SetWriteDeadline(time.Time{}) }() // TLS may have to write on its own
	return c.Conn.Write(b)
}

// CloseWrite ends our side only, where the connection can: [httputil.ReverseProxy] looks for it.
func (c *patientConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
