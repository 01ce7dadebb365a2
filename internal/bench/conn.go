package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
)

const (
	maxLine = 16 << 10 // of the head of an answer
	maxHead = 100      // lines
	maxBody = 1 << 20
)

var errAnswer = errors.New("not an answer of HTTP/1.1")

// A conn sends requests and reads answers, one after the other. It is net/http's transport without what costs a load
// generator more than the server: no goroutines, no map of header fields, no body that is allocated.
type conn struct {
	net.Conn

	r       *countingReader
	buf     *bufio.Reader
	body    bytes.Buffer
	spent   bool        // the server closes the connection, or what it sent is not known to the end
	release func() bool // ends the watch over the connection; may be nil
}

// Close ends the connection, and the watch over it.
func (c *conn) Close() error {
	if c.release != nil {
		c.release()
	}
	return c.Conn.Close()
}

// A countingReader counts the bytes that come.
type countingReader struct {
	io.Reader

	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}

func newConn(c net.Conn) *conn {
	r := &countingReader{Reader: c}
	return &conn{Conn: c, r: r, buf: bufio.NewReaderSize(r, maxLine)}
}

// exchange sends a request and reads its answer. The body is good until the next exchange. After an error the
// connection is spent.
func (c *conn) exchange(request []byte) (status int, body []byte, err error) {
	if _, err = c.Write(request); err == nil {
		status, err = c.readAnswer()
	}
	c.spent = c.spent || err != nil
	return status, c.body.Bytes(), err
}

// readAnswer reads an answer to a POST as RFC 9112 frames it (section 6.3).
func (c *conn) readAnswer() (status int, err error) {
	var h head
	for status < http.StatusOK { // an interim answer is none
		if status, h, err = c.readHead(); err != nil {
			return 0, err
		}
	}
	c.body.Reset()
	c.spent = c.spent || h.closes
	body, want := io.Reader(c.buf), h.length
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified:
		return status, nil
	case h.chunked:
		body, want = httputil.NewChunkedReader(c.buf), -1
	case h.length < 0: // to the end of the connection
		c.spent = true
	case h.length > maxBody:
		return 0, fmt.Errorf("%w: a body of %d bytes", errAnswer, h.length)
	default:
		body = io.LimitReader(body, h.length)
	}
	n, err := c.body.ReadFrom(io.LimitReader(body, maxBody+1))
	switch {
	case err != nil:
		return 0, err
	case n > maxBody:
		return 0, fmt.Errorf("%w: a body above %d bytes", errAnswer, maxBody)
	case want >= 0 && n < want:
		return 0, io.ErrUnexpectedEOF
	case h.chunked:
		return status, c.readTrailer()
	}
	return status, nil
}

// A head is what the header fields say of the body and the connection.
type head struct {
	length          int64 // -1: not given
	chunked, closes bool
}

// readHead reads the status line and the header fields.
func (c *conn) readHead() (status int, h head, err error) {
	line, err := c.readLine()
	if err != nil {
		return 0, head{}, err
	}
	version, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	status, err = strconv.Atoi(string(code))
	if err != nil || len(code) != 3 || status < 100 || string(version) != "HTTP/1.1" {
		return 0, head{}, fmt.Errorf("%w: it begins with %.40q", errAnswer, line)
	}
	h.length = -1
	for range maxHead {
		line, err = c.readLine()
		if err != nil || len(line) == 0 {
			return status, h, err
		}
		if err := h.field(line); err != nil {
			return 0, head{}, err
		}
	}
	return 0, head{}, fmt.Errorf("%w: more than %d header fields", errAnswer, maxHead)
}

// field takes in one header field.
func (h *head) field(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	value = bytes.TrimSpace(value)
	switch {
	case !ok || len(name) == 0 || bytes.ContainsAny(name, " \t"):
		return fmt.Errorf("%w: header field %.40q", errAnswer, line)
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseUint(string(value), 10, 62)
		if err != nil || h.length >= 0 || h.chunked {
			return fmt.Errorf("%w: Content-Length %.40q", errAnswer, value)
		}
		h.length = int64(n)
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if !bytes.EqualFold(value, []byte("chunked")) || h.length >= 0 || h.chunked {
			return fmt.Errorf("%w: Transfer-Encoding %.40q", errAnswer, value)
		}
		h.chunked = true
	case bytes.EqualFold(name, []byte("Connection")):
		h.closes = h.closes || bytes.EqualFold(value, []byte("close"))
	}
	return nil
}

// readTrailer reads what stands behind the last chunk.
func (c *conn) readTrailer() error {
	for range maxHead {
		if line, err := c.readLine(); err != nil || len(line) == 0 {
			return err
		}
	}
	return fmt.Errorf("%w: more than %d trailer fields", errAnswer, maxHead)
}

// readLine reads a line of the head, without its end. It is good until the next is read.
func (c *conn) readLine() ([]byte, error) {
	line, err := c.buf.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: a line above %d bytes", errAnswer, maxLine)
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}
