package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/waybill-token/waybill/internal/flight"
)

// Bounds of every call of a [Fetcher].
const (
	CallsPerHost      = 32
	MaxRedirects      = 3
	MaxResponseHeader = 16 << 10 // bytes
	maxCalls          = 64       // and connections, to a proxy too
	connectTimeout    = 3 * time.Second
	idleConnection    = 30 * time.Second
)

// An address that failed this often in a row is not called for a moment, and then once at a time until a call succeeds.
// The moment is short, because an address that is well again should be used again; one call in it hurts nobody.
const (
	FetchFailures = 3
	FetchPause    = time.Second
	maxFailing    = 1024 // addresses that are remembered
)

// secondCallAfter is after how much silence a call is made a second time.
const secondCallAfter = time.Second

// A Fetcher calls addresses that certificates of trusted chains name, and those to which they redirect. They are words
// of a certificate authority and not of the operator, so a call never leaves the bounds: http and https
// without credentials, public networks only, no proxy but a configured one, an answer of bounded size in bounded time,
// and at most 64 calls at once, 32 of them to one host.
//
// What fails together is an address without its query, and not a host: many authorities have their responder and their
// lists on one, and while the one fails the other may have to do. An authority that writes something else
// in the query for each certificate is spared all the same.
type Fetcher struct {
	// Client makes the calls. Tests may replace its Transport before the first one.
	Client *http.Client

	// Circuits are by address, see [Endpoint].
	Circuits *Circuits
	// Calls are those under way, by host.
	Calls *flight.Slots[string]

	permit func(*url.URL) error // judges an address before it is called
}

// NewFetcher returns a fetcher, whose Client has idle connections to be closed. Without a proxy the connection is
// judged (see refusePrivate); a proxy makes it on our behalf, so that there is only the address to judge (see
// refusePrivateHost). Proxies of the environment are never asked. With allowPrivate nothing is judged.
func NewFetcher(allowPrivate bool, proxy *url.URL) *Fetcher {
	dialer := &net.Dialer{Timeout: connectTimeout}
	f := &Fetcher{
		Circuits: NewCircuits(CircuitPolicy{Failures: FetchFailures, Pause: FetchPause, OneAtATime: true}, maxFailing),
		Calls:    flight.NewSlots[string](CallsPerHost, maxCalls),
		permit:   func(*url.URL) error { return nil },
	}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    connectTimeout,
		MaxConnsPerHost:        maxCalls,
		MaxIdleConns:           maxCalls,
		IdleConnTimeout:        idleConnection,
		MaxResponseHeaderBytes: MaxResponseHeader,
		DisableCompression:     true, // the size that is bounded is the size that is kept
	}
	if proxy != nil {
		transport.Proxy = http.ProxyURL(proxy)
	}
	switch {
	case allowPrivate:
	case proxy != nil:
		f.permit = refusePrivateHost
	default:
		dialer.Control = refusePrivate
	}
	f.Client = &http.Client{
		Transport: transport,
		// See send, which judges every address first.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f
}

// A Call is one question to an address.
type Call struct {
	Method    string
	Address   string
	MediaType string // of the body
	Body      []byte
	Limit     int64         // bytes of the answer
	Timeout   time.Duration // from the first byte sent to the last one read
}

// Endpoint is what of an address fails together: the address without its query.
func Endpoint(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return address
}

// Fetch makes the call and returns the body of an answer with status 200.
//
// The error is an [*UnreachableError] when no answer came, and wraps an [*OpenError] when none was asked for
// after too many of these. It wraps [flight.ErrBusy] when too many calls are under way, and [ErrNotPublic] when
// the address must not be called, which says nothing about the one who would be.
func (f *Fetcher) Fetch(ctx context.Context, c Call) ([]byte, error) {
	u, err := ParseAddress(c.Address)
	if err != nil {
		return nil, err
	}
	endpoint, began := Endpoint(c.Address), time.Now()
	if open := f.Circuits.Admit(endpoint); open != nil {
		return nil, &UnreachableError{Cause: open}
	}
	body, err := f.hedged(ctx, u, c)
	if err != nil && (flight.GivenUp(ctx) || errors.Is(err, flight.ErrBusy)) {
		f.Circuits.Release(endpoint)
		return nil, err
	}
	f.Circuits.Report(endpoint, began, err)
	return body, err
}

// hedged makes a call, and while nothing comes of it makes another every second, in the place of the one before. So a
// server that is slow can answer, and one that hung answers soon after it does again.
func (f *Fetcher) hedged(ctx context.Context, u *url.URL, c Call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var received atomic.Int64
	before := int64(0)
	silent := func(time.Time) bool {
		now := received.Load()
		none := now == before
		before = now
		return none
	}
	return Hedged(ctx, Hedge{Every: secondCallAfter, Again: silent, Replace: true}, func(ctx context.Context) ([]byte, error) {
		if err := f.Calls.Take(u.Host); err != nil {
			return nil, err
		}
		defer f.Calls.Give(u.Host)
		return f.send(ctx, u, c, &received)
	})
}

// ParseAddress takes what a certificate names for an address to call.
func ParseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("the address is malformed")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the address has the scheme %.20q; http and https are followed", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("the address names no host")
	case u.User != nil:
		return nil, errors.New("the address holds credentials")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }):
		// net/http would ask for another name, made of it by the rules of IDNA.
		return nil, errors.New("the address names a host in other characters than ASCII (RFC 5280 section 7.4)")
	}
	return u, nil
}

// send asks at the address, and where its answer is a redirect, at the one that is named by it:
// a few times, and in the time that one call has.
func (f *Fetcher) send(ctx context.Context, u *url.URL, c Call, received *atomic.Int64) ([]byte, error) {
	for hop := range 1 + MaxRedirects {
		body, next, err := f.sendOnce(ctx, u, c, received)
		if err != nil && hop > 0 {
			err = fmt.Errorf("redirected to %.200q: %w", u, err)
		}
		if next == nil {
			return body, err
		}
		u = next
	}
	return nil, fmt.Errorf("there are more than %d redirects", MaxRedirects)
}

// sendOnce returns either the body of an answer or the address to which it redirects.
func (f *Fetcher) sendOnce(ctx context.Context, u *url.URL, c Call, received *atomic.Int64) (body []byte, next *url.URL, err error) {
	if err := f.permit(u); err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, c.Method, u.String(), bytes.NewReader(c.Body))
	if err != nil {
		return nil, nil, fmt.Errorf("the address cannot be called: %w", err)
	}
	// Not sent: it lets net/http ask again when an idle connection turns out to be
	// closed, for POST as for GET. Asking twice changes nothing.
	request.Header["Idempotency-Key"] = []string{}
	if c.MediaType != "" {
		request.Header.Set("Content-Type", c.MediaType)
	}
	response, err := Do(f.Client, request)
	if errors.Is(err, ErrNotPublic) { // it will not be better in a moment
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, &UnreachableError{Cause: err}
	}
	defer response.Body.Close()
	if isRedirect(response.StatusCode, c.Method) {
		// The target is held to the bounds of addresses in certificates. From https to http it may lead: answers are
		// signed.
		location, err := response.Location()
		if err != nil {
			return nil, nil, fmt.Errorf("answered with HTTP status %d and no address to go to", response.StatusCode)
		}
		if next, err = ParseAddress(location.String()); err != nil {
			return nil, nil, fmt.Errorf("redirected elsewhere: %w", err)
		}
		return nil, next, nil
	}
	if err := statusError(response); err != nil {
		return nil, nil, err
	}
	if response.ContentLength > c.Limit {
		return nil, nil, &TooLargeError{Limit: c.Limit}
	}
	body, err = ReadBody(io.TeeReader(response.Body, byteCounter{received}), c.Limit)
	switch {
	case errors.As(err, new(*TooLargeError)):
		return nil, nil, err
	case err != nil:
		return nil, nil, &UnreachableError{Cause: fmt.Errorf("the answer broke off: %w", err)}
	}
	return body, nil, nil
}

// A byteCounter takes note that something comes.
type byteCounter struct{ count *atomic.Int64 }

func (c byteCounter) Write(b []byte) (int, error) {
	c.count.Add(int64(len(b)))
	return len(b), nil
}

// isRedirect reports whether an answer with the status sends us elsewhere with the same question. A question that was
// POSTed stays one after 301 and 302, which RFC 9110 section 15.4 leaves to the client: by GET nothing would be asked.
// After 303 nothing but a GET is allowed.
func isRedirect(status int, method string) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	case http.StatusSeeOther:
		return method == http.MethodGet
	}
	return false
}

func statusError(response *http.Response) error {
	err := fmt.Errorf("answered with HTTP status %d", response.StatusCode)
	switch status := response.StatusCode; {
	case status == http.StatusOK:
		return nil
	case status == http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: the proxy wants credentials", err)
	case status >= 500 || status == http.StatusTooManyRequests:
		return &UnreachableError{Cause: err}
	}
	return err
}
