package bench_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/bench"
)

// A script is a connection on which all that comes is written down.
type script struct {
	net.Conn
	io.Reader
}

func (s script) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer string
		status       int // 0: an error
		body         string
		spent        bool
	}{
		{"Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1", 200, "ok", false},
		{"field in another case", "HTTP/1.1 200 OK\r\ncontent-length:  2 \r\n\r\nok", 200, "ok", false},
		{"no reason", "HTTP/1.1 401\r\nContent-Length: 0\r\n\r\n", 401, "", false},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", 200, "ok", false},
		{"chunks and a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n", 200, "ok", false},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", false},
		{"to the end", "HTTP/1.1 200 OK\r\n\r\nok", 200, "ok", true},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, "", false},
		{"nothing", "", 0, "", false},
		{"another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 0, "", false},
		{"HTTP/2", "HTTP/2 200 OK\r\n\r\n", 0, "", false},
		{"cut in the head", "HTTP/1.1 200 OK\r\nContent-Le", 0, "", false},
		{"cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 0, "", false},
		{"cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", 0, "", false},
		{"cut in the trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 0, "", false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", 0, "", false},
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", false},
		{"length below zero", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", false},
		{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 0, "", false},
		{"no field", "HTTP/1.1 200 OK\r\nnothing\r\n\r\n", 0, "", false},
		{"body too long", "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n" + strings.Repeat("a", 1<<20+1), 0, "", false},
		{"body without length too long", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("a", 1<<20+1), 0, "", true},
		{"line too long", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 16<<10) + "\r\n\r\n", 0, "", false},
		{"too many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", 0, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status, body, spent, err := bench.ReadAnswer(script{Reader: strings.NewReader(c.answer)})
			if (err == nil) != (c.status != 0) || spent != c.spent || err == nil && (status != c.status || string(body) != c.body) {
				t.Errorf("status %d, body %.40q, spent %v, %v; want %d, %q, %v", status, body, spent, err, c.status, c.body, c.spent)
			}
		})
	}
}

// FuzzReadAnswer: what both read as an answer, net/http reads the same.
func FuzzReadAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.1 204 \r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 N\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		status, body, spent, err := bench.ReadAnswer(script{Reader: bytes.NewReader(answer)})
		if err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(answer))
		var theirs *http.Response
		for theirs == nil || theirs.StatusCode < http.StatusOK {
			if theirs, err = http.ReadResponse(r, nil); err != nil {
				return // it is strict about fields that mean nothing here
			}
		}
		defer theirs.Body.Close()
		want, err := io.ReadAll(theirs.Body)
		if err != nil {
			return // it also looks at what follows
		}
		if status != theirs.StatusCode || !bytes.Equal(body, want) || theirs.Close && !spent {
			t.Errorf("status %d, body %q, spent %v; net/http reads %d, %q, %v", status, body, spent, theirs.StatusCode, want, theirs.Close)
		}
	})
}
