package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/rule"
)

// Bounds on reaching an upstream.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	idlePerUpstream  = 100
	bufferSize       = 32 << 10
)

func newTransport(answer time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   handshakeTimeout,
		ResponseHeaderTimeout: answer,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   idlePerUpstream,
		IdleConnTimeout:       idleTimeout,
		DisableCompression:    true, // what to compress is between client and upstream
	}
}

// reverse makes the proxy of one route.
func (p *Proxy) reverse(to Route) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        func(pr *httputil.ProxyRequest) { rewrite(pr, to) },
		ModifyResponse: answered,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			p.failed(w, r, to, err)
		},
		Transport:     p.config.Transport,
		FlushInterval: -1,
		BufferPool:    &p.buffers,
		ErrorLog:      slog.NewLogLogger(p.config.Log.Handler(), slog.LevelDebug),
	}
}

// reversePreflight makes the proxy of one route for preflight requests, which strangers send.
func (p *Proxy) reversePreflight(to Route) *httputil.ReverseProxy {
	reverse := p.reverse(to)
	reverse.Rewrite = func(pr *httputil.ProxyRequest) {
		keepPreflightOnly(pr.Out.Header)
		rewrite(pr, to)
	}
	reverse.ModifyResponse = func(res *http.Response) error { return errors.Join(answered(res), dropBody(res)) }
	return reverse
}

// rewrite makes the upstream's request of the client's. Hop-by-hop fields are gone by
// now, so that a client cannot have ours removed by listing them in Connection.
func rewrite(pr *httputil.ProxyRequest, to Route) {
	pr.Out.URL.RawPath = pathText(pr.In.URL)
	pr.SetURL(to.Upstream)
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it is: judgeLine has seen it
	pr.Out.Trailer = nil
	scrub(pr.Out.Header)
	if to.Paths != PathsOpaque || !to.isRoot() {
		pr.Out.Header.Del("Destination") // where COPY and MOVE of WebDAV write, which no route has judged
	}
	keepWebSocketOnly(pr.Out.Header)
	pr.SetXForwarded()
	claims, known := guard.Caller(pr.In.Context())
	if known {
		identify(pr.Out.Header, claims)
	}
	if known && to.PassToken {
		pr.Out.Header["Authorization"] = pr.In.Header["Authorization"]
	}
}

// keepPreflightOnly removes all that has no part in a preflight request: a stranger sends it.
func keepPreflightOnly(h http.Header) {
	for name := range h {
		switch {
		case name == "Origin", name == "Accept", name == "User-Agent", strings.HasPrefix(name, "Access-Control-Request-"):
		default:
			delete(h, name)
		}
	}
}

// keepWebSocketOnly removes every other upgrade. One to h2c makes a tunnel in which the
// client speaks to the upstream unseen.
func keepWebSocketOnly(h http.Header) {
	if !strings.EqualFold(h.Get("Upgrade"), "websocket") {
		h.Del("Upgrade")
		h.Del("Connection")
	}
}

// answered looks at what an upstream answers before the client gets it.
func answered(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols, res.StatusCode == http.StatusNotModified:
	case len(res.Header.Values("Cache-Control")) == 0:
		res.Header.Set("Cache-Control", "no-store") // iSHARE: caching is made explicit
	}
	res.Header.Del("Alt-Svc") // names a way to the upstream, past us
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
	for name := range res.Header {
		if fetchesFile(foldName(name)) {
			delete(res.Header, name)
		}
	}
	return err
}

// failed answers for an upstream that did not.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, to Route, err error) {
	refusal, hijacked := failure(err), isHijacked(w)
	if hijacked || r.Context().Err() != nil { // the client is gone
		p.config.Log.DebugContext(r.Context(), "a client left", slog.String("route", to.Path), slog.Any("error", err))
	} else if refusal.Status >= http.StatusInternalServerError {
		level := slog.LevelWarn
		if _, known := guard.Caller(r.Context()); !known {
			level = slog.LevelDebug // a stranger has asked, before a preflight's answer
		}
		labels := append(logsum.Reason(err), slog.String("route", to.Path), slog.String("upstream", to.Upstream.Redacted()))
		p.log.Lasting(r.Context(), level, "an upstream is out of reach", labels, func() []slog.Attr { return []slog.Attr{slog.Any("error", err)} })
	}
	if !hijacked {
		refusal.Write(w)
	}
}

func failure(err error) *bearer.Refusal {
	var dial *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return tooLarge()
	case errors.As(err, new(*bodyError)), errors.Is(err, context.Canceled): // the latter may come first, for the same reason
		return brokenBody()
	case errors.As(err, &dial) && dial.Op == "dial": // be it that it took too long
		return outOfReach()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return tooLate()
	}
	return outOfReach()
}

func tooLarge() *bearer.Refusal {
	return &bearer.Refusal{Status: http.StatusRequestEntityTooLarge, Code: rule.CodeInvalidRequest, Description: "the body is larger than this server passes on"}
}

func brokenBody() *bearer.Refusal {
	return &bearer.Refusal{Status: http.StatusBadRequest, Code: rule.CodeInvalidRequest, Description: "the body could not be read to its end"}
}

func outOfReach() *bearer.Refusal {
	return &bearer.Refusal{Status: http.StatusBadGateway, Code: rule.CodeTemporarilyUnavailable, Description: "the service behind this server is out of reach"}
}

func tooLate() *bearer.Refusal {
	return &bearer.Refusal{Status: http.StatusGatewayTimeout, Code: rule.CodeTemporarilyUnavailable, Description: "the service behind this server does not answer in time"}
}

// buffers implements [httputil.BufferPool].
type buffers struct{ pool sync.Pool }

// Get returns a buffer.
func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

// Put takes a buffer back that Get has returned.
func (b *buffers) Put(buffer []byte) {
	if len(buffer) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(buffer))
	}
}
