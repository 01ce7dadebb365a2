package daemon

import (
	"context"
	"net"
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// Bounds on what a connection with HTTP/2 may cost. A client of the token endpoint has a
// few requests at once.
const (
	maxStreams   = 16
	maxResets    = 64 // beyond the requests that were answered, at once
	moreResets   = 16 // a second: pages take back what nobody looks at any more
	http2Frame   = 16 << 10
	http2Stream  = 64 << 10 // what a request may send before it is read
	http2Receive = 128 << 10
)

// speak says which protocols a server speaks. HTTP/2 is only ever spoken with TLS, to who
// has negotiated it.
func speak(server *http.Server, http2 bool) {
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	if !http2 {
		return
	}
	server.Protocols.SetHTTP2(true)
	server.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams, MaxReadFrameSize: http2Frame,
		MaxReceiveBufferPerStream: http2Stream, MaxReceiveBufferPerConnection: http2Receive,
	}
	within := server.ConnContext
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(within(ctx, c), resetsKey{}, &resets{c, rate.NewLimiter(moreResets, maxResets)})
	}
	server.Handler = limitResets(server.Handler)
}

type resetsKey struct{}

// A resets allows a connection some requests that the client takes back before they are answered, and one more for
// each that is answered.
type resets struct {
	conn    net.Conn
	allowed *rate.Limiter
}

// limitResets closes a connection on which a client begins requests only to take them
// back. It has us work, and by taking them back it evades the bound on streams
// (CVE-2023-44487).
func limitResets(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		counted, ok := r.Context().Value(resetsKey{}).(*resets)
		switch {
		case !ok || r.ProtoMajor != 2:
		case r.Context().Err() == nil:
			counted.allowed.AllowN(time.Now(), -1)
		case !counted.allowed.Allow():
			_ = counted.conn.Close() // the client is told nothing, as it does not listen
		}
	})
}
