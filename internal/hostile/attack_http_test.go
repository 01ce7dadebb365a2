package hostile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// httpScenarios send what HTTP/1.1 does not allow, or only just.
func httpScenarios() []scenario {
	return []scenario{
		{
			name: "pipelining", attack: "100 connections send 100 requests at a time without reading an answer",
			run: func(ctx context.Context, a *attacker) {
				text := bytes.Repeat([]byte(plainGet+head+"Content-Length: 1\r\n\r\na"), 50)
				a.crowd(ctx, a.some(100), func(ctx context.Context, c net.Conn) {
					go c.Write(text)
					if n := len(answers(c, 10*time.Second)); n != 100 && ctx.Err() == nil {
						a.count("cut short")
					}
				})
			},
		},
		{
			name: "chunks", attack: "50 connections send chunks that are too many, too large or none",
			run: func(ctx context.Context, a *attacker) {
				a.crowd(ctx, a.some(50)+5, func(ctx context.Context, c net.Conn) {
					shape := chunks[time.Now().UnixNano()/1000%int64(len(chunks))]
					go func() {
						io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n")
						for range shape.times {
							if _, err := io.WriteString(c, shape.text); err != nil {
								return
							}
						}
					}()
					a.refusedOnce(ctx, shape.name, answers(c, 20*time.Second))
				})
			},
		},
		{
			name: "smuggling", attack: "30 connections send requests that two readers could read as two different ones",
			run: func(ctx context.Context, a *attacker) {
				var next atomic.Int64
				a.crowd(ctx, 30, func(ctx context.Context, c net.Conn) {
					s := smuggled[int(next.Add(1)-1)%len(smuggled)]
					io.WriteString(c, s.text)
					a.refusedOnce(ctx, s.name, answers(c, time.Second))
				})
				if int(next.Load()) < len(smuggled) {
					a.breach("only %d shapes were sent", next.Load())
				}
			},
		},
	}
}

// refusedOnce notes a breach unless one answer came, a refusal.
func (a *attacker) refusedOnce(ctx context.Context, what string, codes []int) {
	switch {
	case ctx.Err() != nil || len(codes) == 0: // the connection was cut
	case len(codes) > 1:
		a.breach("%s: answers %v", what, codes)
	case codes[0] < 400 || codes[0] >= 500 && codes[0] != 501 && codes[0] != 503 && codes[0] != 505:
		a.breach("%s: status %d", what, codes[0])
	}
	a.count(fmt.Sprint("answers ", codes))
}

// chunks are bodies in the chunked coding (RFC 9112 section 7.1).
var chunks = []struct {
	name, text string
	times      int
}{
	{"a size beyond 64 bits", "fffffffffffffffff\r\na", 1},
	{"a negative size", "-1\r\na\r\n0\r\n\r\n", 1},
	{"a size that is none", "xyz\r\na\r\n0\r\n\r\n", 1},
	{"a size with a prefix", "0x1\r\na\r\n0\r\n\r\n", 1},
	{"no end of a chunk", "1\r\naa\r\n0\r\n\r\n", 1},
	{"a line feed alone", "1\na\n0\n\n", 1},
	{"bytes one by one without end", "1\r\na\r\n", 1 << 20},
	{"a chunk of a gigabyte", "40000000\r\n" + strings.Repeat("a", 1<<16), 1 << 14},
	{"an extension of a megabyte", "1;" + strings.Repeat("a", 1<<20) + "\r\na\r\n0\r\n\r\n", 1},
	{"extensions without end", "1;" + strings.Repeat("a", 1000) + "\r\na\r\n", 1 << 14},
	{"trailers without end", "0\r\nX-Trailer: a\r\n" + strings.Repeat("X-Trailer: a\r\n", 1<<16), 1},
}

// second is what a smuggled request would be answered to.
const second = "GET /capabilities HTTP/1.1\r\nHost: provider.example\r\n\r\n"

// framed begins a token request without saying where its body ends.
const framed = "POST /connect/token HTTP/1.1\r\nHost: provider.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"

// smuggled are requests whose end or meaning two readers could see in different places, as RFC 9112 section 11.2 has it.
// Behind each stands a second one. Folded lines are not among them: they are read as section 5.2 has it.
var smuggled = []smuggle{
	{"Content-Length and Transfer-Encoding", framed + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second},
	{"Transfer-Encoding and Content-Length", framed + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + second},
	{"two lengths", framed + "Content-Length: 1\r\nContent-Length: 2\r\n\r\naa" + second},
	{"a list of lengths", framed + "Content-Length: 1, 2\r\n\r\naa" + second},
	{"a length with a sign", framed + "Content-Length: +1\r\n\r\na" + second},
	{"a length in hexadecimal", framed + "Content-Length: 0x1\r\n\r\na" + second},
	{"a negative length", framed + "Content-Length: -1\r\n\r\n" + second},
	{"an empty length", framed + "Content-Length:\r\n\r\n" + second},
	{"two codings", framed + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + second},
	{"a list of codings", framed + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + second},
	{"a coding that is none", framed + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + second},
	{"a coding with a tab", framed + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + second},
	{"a blank behind a name", framed + "Content-Length : 1\r\n\r\na" + second},
	{"a name with a line feed", framed + "X\nContent-Length: 1\r\n\r\na" + second},
	{"a name with a carriage return", framed + "X\rContent-Length: 1\r\n\r\na" + second},
	{"a name with a zero byte", framed + "Content\x00-Length: 1\r\n\r\na" + second},
	{"no name", framed + ": 1\r\nContent-Length: 0\r\n\r\n" + second},
	{"a line that is no field", framed + "nothing\r\nContent-Length: 0\r\n\r\n" + second},
	{"a value with a zero byte", framed + "X-A: a\x00b\r\nContent-Length: 0\r\n\r\n" + second},
	{"two hosts", "GET /capabilities HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n" + second},
	{"no host", "GET /capabilities HTTP/1.1\r\n\r\n" + second},
	{"another host in the target", "GET http://other.example/capabilities HTTP/1.1\r\nHost: user@provider.example\r\n\r\n" + second},
	{"a version that is none", "GET /capabilities HTTP/1.9x\r\nHost: a\r\n\r\n" + second},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + second},
	{"a header of a megabyte", "GET /capabilities HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n" + second},
}

type smuggle struct{ name, text string }
