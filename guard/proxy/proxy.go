// Package proxy guards programs that know nothing of access tokens, in one of two ways:
//
//   - [New] makes a reverse proxy that stands before them and lets requests with a good token through;
//   - [NewForwardAuth] makes the handler that somebody else's reverse proxy asks about each request.
//
// Both check tokens as package guard does, and tell the program who calls, in header fields whose names begin with
// X-Ishare-: see [HeaderPartyID] and the others. The program must be reachable through the proxy only, and no client may
// be able to send these fields itself. [Proxy] sees to that; with a proxy of somebody else it is a matter of its
// configuration.
//
//	orders, err := url.Parse("http://127.0.0.1:3000")
//	...
//	reverse, err := proxy.New(proxy.Config{
//		Routes:  []proxy.Route{{Path: "/orders", Upstream: orders, Scope: []string{"iSHARE"}}},
//		Checker: tokens, // such as an accesstoken.Issuer
//		Log:     log,
//	})
//	...
//	defer reverse.Close()
//	server := &http.Server{Handler: reverse, ReadTimeout: 15 * time.Second}
//
// Paths, headers and request lines that a program might read otherwise than the proxy are refused or removed. What that
// means is told at [Proxy], [Route] and [Paths].
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/authority"
	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// Bounds on preflight requests, which strangers send.
const (
	maxPreflights    = 64 // under way by a route
	preflightTimeout = 10 * time.Second
)

// DefaultAnswerTimeout is how long an upstream may take to begin its answer when [Config] says nothing.
const DefaultAnswerTimeout = time.Minute

// Config is what a [Proxy] works with.
type Config struct {
	// Routes are the programs behind the proxy, one at least.
	Routes []Route

	// Checker tells what a token says. It must be set.
	Checker guard.Checker

	// UpstreamFailed is told, by the path of its route, of each request that was let in and that its upstream did not answer,
	// for metrics. Optional.
	UpstreamFailed func(route string)

	// Log is told of upstreams that are out of reach, and why tokens cannot be checked. Nil means silence.
	Log *slog.Logger

	// Own answers what no route takes, and OwnPaths, which are its own whatever the routes say: each of these paths and
	// every path below. A route to one of them is refused. Without Own, what no route takes is 404.
	Own      http.Handler
	OwnPaths []string

	// AnswerTimeout is how long an upstream may take to begin its answer, counted from the end of the request; 0 means
	// [DefaultAnswerTimeout]. How long the answer then lasts is not limited.
	AnswerTimeout time.Duration

	// MaxBody is the largest body in bytes that a request may have; 0 means any.
	MaxBody int64

	// Observe is put around the transport that makes the calls, for logs and traces. Optional.
	Observe func(http.RoundTripper) http.RoundTripper

	// Transport sends requests to the upstreams. Nil means one that uses no proxy of the
	// environment, trusts the system's certificates, and keeps up to 100 idle connections to each.
	Transport http.RoundTripper
}

// A Proxy stands before programs that know nothing of iSHARE, and lets requests with a good token
// through to them. Make it with [New].
//
// # What an upstream gets
//
// The method and the query byte for byte, the path too but that characters that a URL may only hold encoded, such as é
// or |, are encoded; the body as it comes; and the header without: X-Ishare-… as a client may have sent it, in any
// spelling; Authorization, since who reads the token can use it, unless the route has PassToken; what speaks of other
// proxies and of what they found out about the client (Forwarded, X-Forwarded-…, X-Real-Ip, Client-Cert, X-Ssl-… and
// their like); what programs take for another path, method or host (X-Original-…, X-Rewrite-Url, Script-Name,
// X-Http-Method-Override), and Destination, where WebDAV writes, unless the route is opaque and to the root of its
// upstream; what steers how files are sent (X-Accel-…, X-Sendfile-Type); Proxy, which CGI takes for its proxy;
// hop-by-hop fields, those that Connection lists included, and trailers.
//
// It gets in addition [HeaderClientID], [HeaderPartyID], [HeaderScope] and [HeaderThumbprint], and X-Forwarded-For,
// X-Forwarded-Host and X-Forwarded-Proto about the connection to us. Host is the upstream's own. Unless the client has
// sent an X-Request-Id, it gets that of our answer, which an X-Request-Id of the upstream's takes the place of.
//
// Of its answer, Alt-Svc does not pass. X-Accel-Redirect, X-Sendfile and their like do, so that a server
// before this one can send files on the upstream's word, but not in the answer to a preflight request.
//
// # Paths
//
// A path that an upstream could read otherwise than we do is refused with 400, and never mended, where the paths of a
// route are exact: with segments of dots or blanks, or dots before a blank, empty segments, semicolons or backslashes;
// with a dot, slash, backslash, semicolon, question mark, number sign or control character encoded, once or several
// times over; with a character that Unicode's form NFKC makes one of these or a percent sign, such as a full-width
// slash or an ellipsis; with a character written as %u0061 below the first encoding; that names a stream of a file
// (:$); that is not UTF-8; or that another route would take if case, the width of letters, what cannot be seen, blanks
// around a segment or dots at its end made no difference; where another route's path goes on with anything but a
// letter, digit, - or _, such as /orders.json beside /orders; that another route would take without a segment with a
// dot in it, as /index.php/orders; or that holds a session of ASP.NET, as /(S(abc))/orders. Other names that a program
// gives its resources are not known here: what wants another scope belongs on a host or port of its own then. [Paths]
// says when they are opaque, and such a path passes as it stands.
//
// A route is refused that leads to what another one guards with a demand that it does not make itself, because
// their upstreams are parts of one server.
//
// 414 is the answer to a path of more than 8 KiB, and 400 is also the answer to a query with a blank or a control
// character in it, to a method that is not a token of RFC 9110 section 5.6.2, and to a host that is more than a name or
// an address and a port; 405 is that to CONNECT.
//
// # Time
//
// A request may take as long as client and upstream like, once it is let in: the deadlines of the server are lifted,
// bodies of both directions flow as they come, and WebSockets work over HTTP/1.1. Other upgrades are not passed on: h2c
// would be a tunnel past all of this. [http.Server.Shutdown] does not wait for WebSockets.
//
// A client is cut off that takes less than 32 KiB in a minute while there is more for it, over a WebSocket too, or that
// sends nothing for ten minutes of a body that it has begun. One that is silent while nothing is asked of it stays.
//
// # Failures
//
// An upstream that cannot be reached is 502, one that does not answer in time 504, both in JSON; what an upstream
// answers itself is passed on as it is. Where it says nothing about caching, Cache-Control: no-store is added. The log
// gets the first failure of a route for each cause, and how many more there were when it has ended.
type Proxy struct {
	config  Config
	log     *logsum.Log
	routes  routeTable
	buffers bufferPool
}

// New checks the configuration and returns a proxy for it. When routes cannot be used, the error wraps [RouteErrors].
func New(c Config) (*Proxy, error) {
	if c.Checker == nil {
		return nil, errors.New("guard: proxy: the field Checker must be set")
	}
	if len(c.Routes) == 0 {
		return nil, errors.New("guard: proxy: the field Routes must hold one route at least")
	}
	if c.AnswerTimeout < 0 || c.MaxBody < 0 {
		return nil, errors.New("guard: proxy: AnswerTimeout and MaxBody must not be negative")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Checker = guard.LogOutages(c.Checker, c.Log)
	c.AnswerTimeout = cmp.Or(c.AnswerTimeout, DefaultAnswerTimeout)
	if c.Transport == nil {
		c.Transport = &http.Transport{
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   handshakeTimeout,
			ResponseHeaderTimeout: c.AnswerTimeout,
			ExpectContinueTimeout: time.Second,
			MaxIdleConnsPerHost:   idlePerUpstream,
			IdleConnTimeout:       idleConnTimeout,
			DisableCompression:    true, // what to compress is between client and upstream
		}
	}
	if c.Observe != nil {
		c.Transport = c.Observe(c.Transport)
	}
	if c.Own == nil {
		c.Own = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			respond.Error(w, http.StatusNotFound, rule.CodeInvalidRequest, "there is nothing at this path")
		})
	}
	p := &Proxy{config: c, log: logsum.New(c.Log)}
	if err := p.addRoutes(); err != nil {
		return nil, fmt.Errorf("guard: proxy: %w", err)
	}
	return p, nil
}

// CloseIdleConnections closes connections to upstreams that nobody uses, and those in use when
// they are free again. It is for a proxy that gets no more requests.
func (p *Proxy) CloseIdleConnections() {
	if t, ok := p.config.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Close does that, and writes to the log what was only counted so far.
func (p *Proxy) Close() {
	p.CloseIdleConnections()
	p.log.Close()
}

// addRoutes fills the table of routes, and refuses routes that would not guard what they should.
func (p *Proxy) addRoutes() error {
	var refused RouteErrors
	for _, path := range p.config.OwnPaths {
		if err := p.routes.add(newRouteEntry(path)); err != nil {
			return err
		}
	}
	for i, r := range p.config.Routes {
		if err := p.addRoute(r); err != nil {
			refused = append(refused, RouteError{Index: i, Err: err})
		}
	}
	p.routes.sort()
	if len(refused) == 0 {
		refused = p.routes.bypasses(p.config.Routes)
	}
	if len(refused) > 0 {
		return refused
	}
	return nil
}

func (p *Proxy) addRoute(r Route) (err error) {
	if err := r.check(); err != nil {
		return err
	}
	if r.Paths, err = resolvePaths(r, p.config.Routes); err != nil {
		return err
	}
	e := newRouteEntry(r.Path)
	e.route, e.proxy = r, p.newReverseProxy(r)
	e.preflight, e.preflights = p.newReverseProxy(r), make(chan struct{}, maxPreflights)
	e.preflight.Rewrite = func(pr *httputil.ProxyRequest) {
		keepPreflightOnly(pr.Out.Header)
		rewrite(pr, r)
	}
	e.preflight.ModifyResponse = func(res *http.Response) error { return errors.Join(modifyResponse(res), dropBody(res)) }
	return p.routes.add(e)
}

// ServeHTTP passes a request on, or refuses it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect { // by which a client asks for a way past everything here
		w.Header().Set("Allow", usualMethods)
		respond.Error(w, http.StatusMethodNotAllowed, rule.CodeInvalidRequest, "this server makes no tunnels")
		return
	}
	if rejectReason := authority.Check(r); rejectReason != "" {
		respond.Error(w, http.StatusBadRequest, rule.CodeInvalidRequest, rejectReason)
		return
	}
	if max(len(r.URL.Path), len(r.URL.RawPath)) > maxPath {
		respond.Error(w, http.StatusRequestURITooLong, rule.CodeInvalidRequest, "the path is too long")
		return
	}
	entry, rejectReason := p.routes.lookup(pathText(r.URL))
	if rejectReason != "" {
		respond.Error(w, http.StatusBadRequest, rule.CodeInvalidRequest, rejectReason)
		return
	}
	if entry == nil || entry.proxy == nil {
		p.config.Own.ServeHTTP(w, r)
		return
	}
	if rejectReason := rejectRequestLine(r); rejectReason != "" {
		respond.Error(w, http.StatusBadRequest, rule.CodeInvalidRequest, rejectReason)
		return
	}
	if entry.route.Preflight && isPreflight(r) {
		p.passPreflight(w, r, entry)
		return
	}
	p.pass(w, r, entry)
}

// usualMethods is for Allow. The upstream knows what it allows.
const usualMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"

// pass lets a request through that has a good token.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, to *routeEntry) {
	claims, refusal := bearer.Admit(w, r, p.config.Checker, bearer.Demand{Route: to.route.Path, Scopes: to.route.Scope})
	if refusal != nil {
		refusal.Write(w)
		return
	}
	if p.config.MaxBody != 0 && r.ContentLength > p.config.MaxBody {
		respond.Error(w, http.StatusRequestEntityTooLarge, rule.CodeInvalidRequest, bodyTooLarge)
		return
	}
	// What a middleware before us says about caching would stand beside what the upstream says.
	w.Header().Del("Cache-Control")
	w.Header().Del("Pragma")
	r = withCorrelation(w, r)
	limited := newDeadlineWriter(w)
	defer limited.end()
	r = bearer.WithCaller(r, claims)
	if r.ContentLength != 0 {
		if p.config.MaxBody != 0 {
			r.Body = http.MaxBytesReader(limited, r.Body, p.config.MaxBody)
		}
		body := &deadlineBody{r.Body, limited, r.ProtoMajor == 1}
		if body.betweenReads {
			limited.setReadDeadline(time.Now().Add(idleTimeout))
		}
		r.Body = body
	}
	to.proxy.ServeHTTP(limited, r)
}

type correlationKey struct{}

// withCorrelation keeps the identifier of the request for its upstream, and for an answer in which the upstream has none.
func withCorrelation(w http.ResponseWriter, r *http.Request) *http.Request {
	id := respond.Correlation(w.Header())
	w.Header().Del(respond.RequestID)
	return r.WithContext(context.WithValue(r.Context(), correlationKey{}, id))
}

// setCorrelation has a header hold that identifier, unless it holds one.
func setCorrelation(ctx context.Context, h http.Header) {
	if id, ok := ctx.Value(correlationKey{}).(string); ok && len(h[respond.RequestID]) == 0 {
		h[respond.RequestID] = []string{id}
	}
}

// passPreflight passes a request on without a token. The deadlines of the server stay as they are.
func (p *Proxy) passPreflight(w http.ResponseWriter, r *http.Request, to *routeEntry) {
	select {
	case to.preflights <- struct{}{}:
		defer func() { <-to.preflights }()
	default:
		respond.Unavailable(w, "too many preflight requests are under way")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), preflightTimeout)
	defer cancel()
	w.Header().Del("Cache-Control")
	w.Header().Del("Pragma")
	to.preflight.ServeHTTP(w, r.WithContext(ctx))
}

// isPreflight follows the CORS protocol of the Fetch standard, section 3.2.2. A preflight request has no
// credentials and no body.
func isPreflight(r *http.Request) bool {
	h := r.Header
	return r.Method == http.MethodOptions && len(h.Values("Origin")) == 1 && isToken(h.Get("Access-Control-Request-Method")) &&
		len(h.Values("Access-Control-Request-Method")) == 1 && bearer.NoAuthorization(h) && r.ContentLength == 0
}

// rejectRequestLine rejects what must not stand in the request line of HTTP/1.1, in which the upstream gets
// it. Over HTTP/2, where the query needs no such line to come in, it may hold a blank, and with
// ?q HTTP/1.0 a client would end the upstream's line where it likes.
func rejectRequestLine(r *http.Request) (rejectReason string) {
	breaksLine := func(r rune) bool { return r <= ' ' || r == 0x7f }
	switch {
	case !isToken(r.Method):
		return "the method is not a token of HTTP"
	case strings.ContainsFunc(r.URL.RawQuery, breaksLine):
		return "the query holds a blank or a control character"
	}
	return ""
}

// isToken follows RFC 9110 section 5.6.2.
func isToken(text string) bool {
	isOther := func(r rune) bool {
		alphanumeric := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
	return text != "" && !strings.ContainsFunc(text, isOther)
}
