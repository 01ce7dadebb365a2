package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/time/rate"

	"github.com/waybill-token/waybill/internal/listen"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// Bounds on what a connection may cost. A token request takes milliseconds; a
// client that needs longer than these is broken or hostile.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
)

func (d *Daemon) server(handler http.Handler, listener *listen.Listener) *http.Server {
	return &http.Server{
		Handler:           listen.Handler(d.setHeaders(recoverPanics(d.options.Log, d.panics, d.countPanic, handler))),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         listener.ConnState,
		ConnContext:       listener.ConnContext,
		ErrorLog:          slog.NewLogLogger(d.panics.Handler("a connection failed"), slog.LevelDebug),

		DisableGeneralOptionsHandler: true, // which answers without the header fields of ours
	}
}

// setHeaders begins every answer, for which a handler may say otherwise: it must not be cached, as iSHARE asks.
//
// The connection ends behind a request in chunks. There may have been a Content-Length besides, which net/http
// forgets, and by which somebody before us may have seen the request end elsewhere; RFC 9112 section 6.1 has the
// connection closed then, so that nothing behind it is taken for a request.
//
// It also ends while the server stops, so that no client sends a request at the moment in which its connection is
// closed. An upgrade has a Connection header of its own.
func (d *Daemon) setHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond.ForbidCaching(w.Header())
		if len(r.TransferEncoding) > 0 || d.draining.Load() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// recoverPanics turns a panic into the answer to every error of our own, which shows
// nothing but where to look in the log, and keeps serving. Each is counted. The log gets each with its stack until there are many.
func recoverPanics(log *slog.Logger, sums *logsum.Log, count func(), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { //nolint:contextcheck // the log of panics is that of the server
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint,err113 // the documented sentinel, compared as net/http does
				panic(v)
			}
			count()
			text := fmt.Sprint(v)
			correlation, full := sums.Failure(slog.LevelError, "panic", []slog.Attr{slog.String("value", text[:min(len(text), maxPanic)])})
			if full {
				correlation = respond.Correlation(w.Header()) // by which the request may stand elsewhere in the log
				log.ErrorContext(r.Context(), "panic", slog.String("correlation", correlation),
					slog.Any("value", v), slog.String("stack", string(debug.Stack())))
			}
			w.Header()[respond.RequestID] = []string{correlation} // whatever the answer was to have
			internal := rule.Internal.Because("%s; correlation id %s", rule.Internal.Sentence, correlation)
			respond.Error(w, internal.Rule.Status, internal.Rule.Code, internal.Description())
		}()
		next.ServeHTTP(w, r)
	})
}

// maxPanic bounds by how much of their values panics are told apart.
const maxPanic = 160

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

// setProtocols says which protocols a server speaks. HTTP/2 is only ever spoken with TLS, to who
// has negotiated it.
func setProtocols(server *http.Server, http2 bool) {
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
