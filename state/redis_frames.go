package state

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
)

// Bounds of one message in either direction. The largest holds all revocations.
const (
	maxMessage = 64 << 20 // bytes, counted as itemSize for an item and its length for a text
	itemSize   = 64
	maxDepth   = 16
	maxNumber  = 20 // characters in the line of a length, with its end
)

var (
	errFraming  = errors.New("it sends what is no answer in the protocol of Redis (RESP), or one that is too large")
	errNotAsked = errors.New("it sends an answer to nothing that it was asked")
)

// A framedConn is a connection to a Redis that reads no answer which the client does not expect. The client trusts its
// server: it makes room for as much as an answer says that comes, and ends the process at an answer to no command. A
// proxy that gets out of step, or somebody on the way where there is no TLS, must not be able to end all servers so.
type framedConn struct {
	net.Conn

	answers  frames
	commands frames
	asked    atomic.Int64 // how many commands were sent
}

// dialFramed connects as the client would.
func dialFramed(ctx context.Context, address string, dialer *net.Dialer, secure *tls.Config) (net.Conn, error) {
	var conn net.Conn
	var err error
	if secure == nil {
		conn, err = dialer.DialContext(ctx, "tcp", address)
	} else {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: secure}).DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return nil, err
	}
	return &framedConn{Conn: conn}, nil
}

// Write implements [net.Conn].
func (c *framedConn) Write(b []byte) (int, error) {
	if err := c.commands.follow(b); err != nil {
		return 0, err
	}
	c.asked.Store(c.commands.messages)
	return c.Conn.Write(b)
}

// Read implements [net.Conn].
func (c *framedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch framing := c.answers.follow(b[:n]); {
	case framing != nil:
		return 0, framing
	case c.answers.messages > c.asked.Load(), c.answers.pushes > 0:
		return 0, errNotAsked
	}
	return n, err
}

// frames follows messages of RESP, whose bytes come in any parts, and refuses what is none. It knows the types that a
// server of ours sends: no attributes, and no text or list that comes without its length.
type frames struct {
	messages int64 // that came whole, but for pushes
	pushes   int64

	line [maxNumber]byte // the beginning of the line at hand
	have int             // its length so far, which may be more
	last byte            // the byte that came last in it
	text int             // what is still to come of the text at hand, and of its end
	open []int           // how many items are still to come of each list around the one at hand
	size int             // of the message at hand
	push bool            // it is one
}

func (f *frames) follow(b []byte) error {
	for len(b) > 0 {
		if f.text > 0 {
			n := min(f.text, len(b))
			f.text, b = f.text-n, b[n:]
			if f.text == 0 {
				f.itemEnds()
			}
			continue
		}
		c := b[0]
		b = b[1:]
		if f.have < len(f.line) {
			f.line[f.have] = c
		}
		f.have++
		if f.have > maxMessage {
			return errFraming
		}
		if c == '\n' {
			if f.last != '\r' {
				return errFraming
			}
			if err := f.lineEnds(); err != nil {
				return err
			}
			c, f.have = 0, 0
		}
		f.last = c
	}
	return nil
}

// lineEnds judges a line, which is an item or the head of one.
func (f *frames) lineEnds() error {
	if f.size += itemSize + f.have; f.size > maxMessage {
		return errFraming
	}
	kind := f.line[0]
	if len(f.open) == 0 {
		f.push = kind == '>'
	}
	switch kind {
	case '+', '-', ':', ',', '(': // a line
		f.itemEnds()
		return nil
	case '_', '#': // null, or a truth value of one letter, of which the client reads no more
		if kind == '_' && f.have != len("_\r\n") || kind == '#' && f.have != len("#t\r\n") {
			return errFraming
		}
		f.itemEnds()
		return nil
	}
	if f.have < len("$0\r\n") || f.have > len(f.line) {
		return errFraming
	}
	n, err := strconv.Atoi(string(f.line[1 : f.have-len("\r\n")]))
	switch {
	case err != nil, n < -1, n > maxMessage, kind != '$' && n > maxMessage/itemSize:
		return errFraming
	case kind == '$', kind == '=', kind == '!': // a text
		if n == -1 {
			f.itemEnds()
			return nil
		}
		f.size += n
		f.text = n + len("\r\n")
	case kind == '*', kind == '~', kind == '>', kind == '%': // a list, or a map
		if n <= 0 {
			f.itemEnds()
			return nil
		}
		if kind == '%' {
			n *= 2
		}
		f.size += n * itemSize
		f.open = append(f.open, n)
	default:
		return errFraming
	}
	if f.size > maxMessage || len(f.open) > maxDepth {
		return errFraming
	}
	return nil
}

// itemEnds counts an item in its list, and the list in the one around it where it was the last.
func (f *frames) itemEnds() {
	for len(f.open) > 0 {
		last := len(f.open) - 1
		f.open[last]--
		if f.open[last] > 0 {
			return
		}
		f.open = f.open[:last]
	}
	f.size = 0
	if f.push {
		f.pushes++
	} else {
		f.messages++
	}
}
