package listen

import (
	"errors"
	"os"
	"sync"
	"time"
)

// soon is less than the least time that a server gives a client.
const soon = 4 * time.Second

// distantPast is before every deadline that means a time, in UNIX seconds.
const distantPast = 1 << 20

// A deadline is that of the reads or the writes of a connection. A server moves it up to six times a request, mostly
// further off, and each time a timer is changed. So one that is moved further off is only noted, and set when the earlier
// one has passed: see extend.
type deadline struct {
	mu     sync.Mutex
	wanted time.Time // by the server; zero: none
	set    time.Time // on the connection, and not behind the wanted one; zero: none
	over   bool      // the one that is set is in the distant past
}

// move changes what is wanted.
func (d *deadline) move(to time.Time, set func(time.Time) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = to
	if !d.over && (to.IsZero() || !d.set.IsZero() && !to.Before(d.set)) {
		return nil
	}
	if d.over {
		// Behind each request the server sets a deadline in the distant past, to end a read of its own. The next request,
		// with deadlines that come before that of an idle connection, is then likely to be near.
		if early := time.Now().Add(soon); to.IsZero() || early.Before(to) {
			to = early
		}
	}
	d.set, d.over = to, to.Unix() < distantPast
	return set(to)
}

// extend reports whether a read or a write has failed before its time, and is to be tried again.
func (d *deadline) extend(err error, set func(time.Time) error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted.IsZero() && !time.Now().Before(d.wanted) {
		return false
	}
	d.set = d.wanted
	return set(d.wanted) == nil
}

// SetReadDeadline implements [net.Conn].
func (c *conn) SetReadDeadline(t time.Time) error { return c.reads.move(t, c.Conn.SetReadDeadline) }

// SetWriteDeadline implements [net.Conn].
func (c *conn) SetWriteDeadline(t time.Time) error { return c.writes.move(t, c.Conn.SetWriteDeadline) }

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// read reads until the deadline that is wanted.
func (c *conn) read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if n > 0 || err == nil || !c.reads.extend(err, c.Conn.SetReadDeadline) {
			return n, err
		}
	}
}

// Write writes until the deadline that is wanted.
func (c *conn) Write(b []byte) (written int, err error) {
	for {
		n, err := c.Conn.Write(b[written:])
		written += n
		if err == nil || !c.writes.extend(err, c.Conn.SetWriteDeadline) {
			return written, err
		}
	}
}
