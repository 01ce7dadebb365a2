package proxy

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// Bounds on reaching an upstream.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 10 * time.Second
	idleConnTimeout  = 90 * time.Second
	idlePerUpstream  = 100
	bufferSize       = 32 << 10
)

// newReverseProxy makes the proxy of one route.
func (p *Proxy) newReverseProxy(to Route) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        func(pr *httputil.ProxyRequest) { rewrite(pr, to) },
		ModifyResponse: modifyResponse,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			p.handleError(w, r, to, err)
		},
		Transport:     p.config.Transport,
		FlushInterval: -1,
		BufferPool:    &p.buffers,
		ErrorLog:      slog.NewLogLogger(p.log.Handler("a request was not passed on to its end"), slog.LevelDebug),
	}
}

// rewrite makes the upstream's request of the client's. Hop-by-hop fields are gone by
// now, so that a client cannot have ours removed by listing them in Connection.
func rewrite(pr *httputil.ProxyRequest, to Route) {
	pr.Out.URL.RawPath = pathText(pr.In.URL)
	pr.SetURL(to.Upstream)
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it is: rejectRequestLine has seen it
	pr.Out.Trailer = nil
	stripIdentityHeaders(pr.Out.Header)
	if to.Paths != PathsOpaque || !to.isRoot() {
		pr.Out.Header.Del("Destination") // where COPY and MOVE of WebDAV write, which no route has been looked up for
	}
	keepWebSocketOnly(pr.Out.Header)
	pr.SetXForwarded()
	claims, known := guard.Caller(pr.In.Context())
	if known {
		setIdentityHeaders(pr.Out.Header, claims)
		setCorrelation(pr.In.Context(), pr.Out.Header)
	}
	if known && to.PassToken {
		pr.Out.Header["Authorization"] = pr.In.Header["Authorization"]
	}
}

// keepPreflightOnly removes all that has no part in a preflight request: a stranger sends it.
func keepPreflightOnly(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool {
		kept := name == "Origin" || name == "Accept" || name == "User-Agent" || strings.HasPrefix(name, "Access-Control-Request-")
		return !kept
	})
}

// keepWebSocketOnly removes every other upgrade. One to h2c makes a tunnel in which the
// client speaks to the upstream unseen.
func keepWebSocketOnly(h http.Header) {
	if !strings.EqualFold(h.Get("Upgrade"), "websocket") {
		h.Del("Upgrade")
		h.Del("Connection")
	}
}

// modifyResponse changes what an upstream answers before the client gets it.
func modifyResponse(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols, res.StatusCode == http.StatusNotModified:
	case len(res.Header.Values("Cache-Control")) == 0:
		res.Header.Set("Cache-Control", "no-store") // iSHARE: caching is made explicit
	}
	res.Header.Del("Alt-Svc") // names a way to the upstream, past us
	if res.Request != nil {   // which a transport of somebody else's may have left out
		setCorrelation(res.Request.Context(), res.Header)
	}
	return nil
}

// dropBody leaves of the answer to a preflight request what a browser reads of it. A server before us must not
// fetch a body either: strangers get none.
func dropBody(res *http.Response) error {
	err := res.Body.Close()
	res.Body, res.ContentLength, res.TransferEncoding, res.Trailer = http.NoBody, 0, nil, nil
	for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Type", "Trailer"} {
		res.Header.Del(name)
	}
	maps.DeleteFunc(res.Header, func(name string, _ []string) bool { return slices.Contains(sendfileHeaders, foldName(name)) })
	return err
}

// handleError answers for an upstream that did not.
func (p *Proxy) handleError(w http.ResponseWriter, r *http.Request, to Route, err error) {
	status, code, description := describeFailure(err)
	writer, ok := w.(*deadlineWriter)
	hijacked := ok && writer.hijacked         // the connection is no longer one for answers
	if hijacked || r.Context().Err() != nil { // the client is gone
		p.config.Log.DebugContext(r.Context(), "a client left", slog.String("route", to.Path), slog.Any("error", err))
	} else if status >= http.StatusInternalServerError {
		level := slog.LevelWarn
		if _, known := guard.Caller(r.Context()); !known {
			level = slog.LevelDebug // a stranger has asked, before a preflight's answer
		} else if p.config.UpstreamFailed != nil {
			p.config.UpstreamFailed(to.Path)
		}
		labels := append(logsum.Reason(err), slog.String("route", to.Path), slog.String("upstream", to.Upstream.Redacted()))
		p.log.Lasting(r.Context(), level, "an upstream is out of reach", labels, func() []slog.Attr { return []slog.Attr{slog.Any("error", err)} })
	}
	if !hijacked {
		setCorrelation(r.Context(), w.Header())
		respond.Error(w, status, code, description)
	}
}

const bodyTooLarge = "the body is larger than this server passes on"

// describeFailure says what the client gets when a request could not be passed on.
func describeFailure(err error) (status int, code, description string) {
	var dial *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return http.StatusRequestEntityTooLarge, rule.CodeInvalidRequest, bodyTooLarge
	case errors.Is(err, errBody), errors.Is(err, context.Canceled): // the latter may come first, for the same reason
		return http.StatusBadRequest, rule.CodeInvalidRequest, "the body could not be read to its end"
	case errors.As(err, &dial) && dial.Op == "dial": // be it that it took too long
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return http.StatusGatewayTimeout, rule.CodeTemporarilyUnavailable, "the service behind this server does not answer in time"
	}
	return http.StatusBadGateway, rule.CodeTemporarilyUnavailable, "the service behind this server is out of reach"
}

// A bufferPool implements [httputil.BufferPool].
type bufferPool struct{ pool sync.Pool }

// Get returns a buffer.
func (b *bufferPool) Get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

// Put takes a buffer back that Get has returned.
func (b *bufferPool) Put(buffer []byte) {
	if len(buffer) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(buffer))
	}
}
