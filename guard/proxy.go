package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// DefaultAnswerTimeout is how long an upstream may take to begin its answer when [ProxyConfig]
// says nothing.
const DefaultAnswerTimeout = time.Minute

// ProxyConfig is what a [Proxy] works with.
type ProxyConfig struct {
	Routes  []Route
	Checker Checker
	Log     *slog.Logger

	// Own answers what no route takes, and OwnPaths, which are its own whatever the routes
	// say: each of these paths and every path below. A route with the path of one of them is
	// refused. Without Own, what no route takes is 404.
	Own      http.Handler
	OwnPaths []string

	// AnswerTimeout is how long an upstream may take to begin its answer, counted from the
	// end of the request; 0 means [DefaultAnswerTimeout]. How long the answer then lasts is not
	// limited.
	AnswerTimeout time.Duration

	// MaxBody is the largest body in bytes that a request may have; 0 means any.
	MaxBody int64

	// Transport sends requests to the upstreams. Nil means one that uses no proxy of the
	// environment, trusts the system's certificates, and keeps up to 100 idle connections to each.
	Transport http.RoundTripper
}

// A Proxy stands before programs that know nothing of iSHARE, and lets requests with a good token
// through to them. Make it with [NewProxy].
//
// # What an upstream gets
//
// The method, the path and query byte for byte, the body as it comes, and the
// header without: X-Ishare-… as a client may have sent it, in any spelling; Authorization, since
// who reads the token can use it; what speaks of other proxies (Forwarded, X-Forwarded-…,
// X-Real-Ip); what some frameworks take for the path (X-Original-Url, X-Rewrite-Url);
// hop-by-hop fields, those that Connection lists included, and trailers.
//
// It gets in addition [HeaderClientID], [HeaderPartyID], [HeaderScope] and [HeaderThumbprint], and
// X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Proto about the connection to us. Host is
// the upstream's own.
//
// # Paths
//
// A path that an upstream could read otherwise than we do is refused with 400, and never mended: with
// segments of dots, empty segments, semicolons or backslashes; with a dot, slash, backslash,
// semicolon, question mark, number sign or control character encoded, once or several times over;
// that is not UTF-8; or that another route would take if case, or dots and blanks at the end of a
// segment, made no difference.
//
// # Time
//
// A request may take as long as client and upstream like, once it is let in: the deadlines of
// the server are lifted, bodies of both directions flow as they come, and WebSockets work over
// HTTP/1.1. Other upgrades are not passed on: h2c would be a tunnel past all of this.
// [http.Server.Shutdown] does not wait for WebSockets. A client is cut off that takes nothing of
// what it is sent for a minute, or sends nothing of a body that it has begun for ten.
//
// # Failures
//
// An upstream that cannot be reached is 502, one that does not answer in time 504, both in
// JSON; what an upstream answers itself is passed on as it is. Where it says nothing about
// caching, Cache-Control: no-store is added.
type Proxy struct {
	config  ProxyConfig
	places  places
	buffers buffers
}

// NewProxy checks the configuration and returns a proxy for it.
func NewProxy(c ProxyConfig) (*Proxy, error) {
	if c.Checker == nil || c.Log == nil || len(c.Routes) == 0 {
		return nil, errors.New("guard: proxy: Checker and Log must be set, and one route at least")
	}
	if c.AnswerTimeout < 0 || c.MaxBody < 0 {
		return nil, errors.New("guard: proxy: AnswerTimeout and MaxBody must not be negative")
	}
	if c.AnswerTimeout == 0 {
		c.AnswerTimeout = DefaultAnswerTimeout
	}
	if c.Transport == nil {
		c.Transport = newTransport(c.AnswerTimeout)
	}
	if c.Own == nil {
		c.Own = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { nothingHere().write(w) })
	}
	p := &Proxy{config: c}
	if err := p.lay(); err != nil {
		return nil, fmt.Errorf("guard: proxy: %w", err)
	}
	return p, nil
}

// lay makes the places of the configuration.
func (p *Proxy) lay() error {
	var list []*place
	for _, path := range p.config.OwnPaths {
		list = append(list, newPlace(path))
	}
	for _, r := range p.config.Routes {
		if err := r.check(); err != nil {
			return err
		}
		routed := newPlace(r.Path)
		routed.route, routed.proxy = r, p.reverse(r)
		list = append(list, routed)
	}
	var err error
	p.places, err = newPlaces(list)
	return err
}

// ServeHTTP passes a request on, or refuses it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reading, suspicion := readPath(r.URL)
	if suspicion != "" {
		badPath(suspicion).write(w)
		return
	}
	place, err := p.places.find(reading)
	switch {
	case err != nil:
		badPath(err.Error()).write(w)
	case place == nil || place.proxy == nil:
		p.config.Own.ServeHTTP(w, r)
	default:
		p.pass(w, r, place)
	}
}

// pass lets a request through that has a good token.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, to *place) {
	claims, refusal := admit(r, p.config.Checker, to.route.Scope)
	if refusal == nil && p.config.MaxBody != 0 && r.ContentLength > p.config.MaxBody {
		refusal = tooLarge()
	}
	if refusal != nil {
		logOutage(r.Context(), p.config.Log, refusal)
		refusal.write(w)
		return
	}
	// What a middleware before us says about caching would stand beside what the upstream says.
	w.Header().Del("Cache-Control")
	w.Header().Del("Pragma")
	patient := newPatientWriter(w)
	defer patient.end()
	r = withCaller(r, claims)
	p.takeBody(patient, r)
	to.proxy.ServeHTTP(patient, r)
}

// takeBody puts the limits on the body of our copy of the request.
func (p *Proxy) takeBody(patient *patientWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	if p.config.MaxBody != 0 {
		r.Body = http.MaxBytesReader(patient, r.Body, p.config.MaxBody)
	}
	patient.take(r)
}

func badPath(why string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: ishare.CodeInvalidRequest, description: why}
}

func nothingHere() *refusal {
	return &refusal{status: http.StatusNotFound, code: ishare.CodeInvalidRequest, description: "there is nothing at this path"}
}
