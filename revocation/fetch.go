package revocation

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

// Bounds of every call to an address that a certificate names.
const (
	connectTimeout    = 3 * time.Second
	idleConnection    = 30 * time.Second
	callsAHost        = 32
	callsInAll        = 64 // and connections, to a proxy too
	maxResponseHeader = 16 << 10
	maxRedirects      = 3
)

// A fetcher calls addresses that certificates of trusted chains name, and those to
// which they redirect. They are words of a certificate authority and not of the operator,
// so a call never leaves the bounds: http and https without credentials, public networks
// only, no proxy but a configured one, an answer of bounded size in bounded time.
type fetcher struct {
	client   *http.Client
	circuits circuits
	calls    *slots[string]       // by host
	permit   func(*url.URL) error // judges an address before it is called
}

// newFetcher: without a proxy the connection is judged (see refusePrivate); a proxy
// makes it on our behalf, so that there is only the address to judge (see
// refusePrivateHost). Proxies of the environment are never asked.
func newFetcher(allowPrivate bool, proxy *url.URL) *fetcher {
	dialer := &net.Dialer{Timeout: connectTimeout}
	f := &fetcher{calls: newSlots[string](callsAHost, callsInAll), permit: func(*url.URL) error { return nil }}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    connectTimeout,
		MaxConnsPerHost:        callsInAll,
		MaxIdleConns:           callsInAll,
		IdleConnTimeout:        idleConnection,
		MaxResponseHeaderBytes: maxResponseHeader,
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
	f.client = &http.Client{
		Transport: transport,
		// See send, which judges every address first.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f
}

// A call is one question to an address.
type call struct {
	method  string
	address string
	media   string // type of the body
	body    []byte
	limit   int64         // bytes of the answer
	timeout time.Duration // from the first byte sent to the last one read
	seen    *atomic.Int64 // grows with what has come of it, where that matters
}

// circuit names the address whose failures count together. The query is left out: an
// authority that writes something else in it for each certificate would not be spared.
func (c call) circuit() string {
	address, _, _ := strings.Cut(c.address, "?")
	return address
}

// An unreachableError says that an address gave no answer at all, and may be
// well again in a moment.
type unreachableError struct{ cause error }

func (e *unreachableError) Error() string { return e.cause.Error() }
func (e *unreachableError) Unwrap() error { return e.cause }

// fetch makes the call and returns the body of an answer with status 200.
func (f *fetcher) fetch(ctx context.Context, c call) ([]byte, error) {
	u, err := parseAddress(c.address)
	if err != nil {
		return nil, err
	}
	if err := f.circuits.admit(c.circuit(), time.Now()); err != nil {
		return nil, err
	}
	body, err := f.insist(ctx, u, c)
	if err != nil && (gaveUp(ctx) || errors.Is(err, flight.ErrBusy)) {
		f.circuits.release(c.circuit()) // which says nothing of the address
		return nil, err
	}
	f.circuits.report(c.circuit(), err, time.Now())
	return body, err
}

// parseAddress takes what a certificate names for an address to call.
func parseAddress(address string) (*url.URL, error) {
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
func (f *fetcher) send(ctx context.Context, u *url.URL, c call) ([]byte, error) {
	for hop := range 1 + maxRedirects {
		body, next, err := f.sendOnce(ctx, u, c)
		if err != nil && hop > 0 {
			err = fmt.Errorf("redirected to %.200q: %w", u, err)
		}
		if next == nil {
			return body, err
		}
		u = next
	}
	return nil, fmt.Errorf("there are more than %d redirects", maxRedirects)
}

// sendOnce returns either the body of an answer or the address to which it redirects.
func (f *fetcher) sendOnce(ctx context.Context, u *url.URL, c call) (body []byte, next *url.URL, err error) {
	if err := f.permit(u); err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, c.method, u.String(), bytes.NewReader(c.body))
	if err != nil {
		return nil, nil, fmt.Errorf("the address cannot be called: %w", err)
	}
	// Not sent: it lets net/http ask again when an idle connection turns out to be
	// closed, for POST as for GET. Asking twice changes nothing.
	request.Header["Idempotency-Key"] = []string{}
	if c.media != "" {
		request.Header.Set("Content-Type", c.media)
	}
	response, err := f.client.Do(request)
	if err != nil {
		return nil, nil, callError(err)
	}
	defer response.Body.Close()
	if redirects(response.StatusCode, c.method) {
		next, err = redirectTarget(response)
		return nil, next, err
	}
	if err := statusError(response); err != nil {
		return nil, nil, err
	}
	body, err = c.read(response)
	return body, nil, err
}

// redirects reports whether an answer with the status sends us elsewhere with the same
// question. A question that was POSTed stays one after 301 and 302, which RFC 9110
// section 15.4 leaves to the client: by GET nothing would be asked. After 303 nothing
// but a GET is allowed.
func redirects(status int, method string) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	case http.StatusSeeOther:
		return method == http.MethodGet
	}
	return false
}

// redirectTarget is the address to which an answer redirects, held to the bounds of those in
// certificates. From https to http it may lead: answers are signed.
func redirectTarget(response *http.Response) (*url.URL, error) {
	location, err := response.Location()
	if err != nil {
		return nil, fmt.Errorf("answered with HTTP status %d and no address to go to", response.StatusCode)
	}
	next, err := parseAddress(location.String())
	if err != nil {
		return nil, fmt.Errorf("redirected elsewhere: %w", err)
	}
	return next, nil
}

// callError says why a call came to nothing. An address that must not be called
// is there, so to speak, and will not be better in a moment.
func callError(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // the address is told by whoever wraps the error
	}
	if errors.Is(err, ErrNotPublic) {
		return err
	}
	return &unreachableError{err}
}

func statusError(response *http.Response) error {
	err := fmt.Errorf("answered with HTTP status %d", response.StatusCode)
	switch status := response.StatusCode; {
	case status == http.StatusOK:
		return nil
	case status == http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: the proxy wants credentials", err)
	case status >= 500 || status == http.StatusTooManyRequests:
		return &unreachableError{err}
	}
	return err
}

// A costlyError is that so many bytes of an answer were read that was no good.
type costlyError struct {
	cause error
	size  int64
}

func (e *costlyError) Error() string { return e.cause.Error() }
func (e *costlyError) Unwrap() error { return e.cause }

// read reads the body of an answer, if it is not too large.
func (c call) read(response *http.Response) ([]byte, error) {
	tooBig := fmt.Errorf("the answer is larger than %d bytes", c.limit)
	if response.ContentLength > c.limit {
		return nil, tooBig
	}
	body, err := io.ReadAll(io.TeeReader(io.LimitReader(response.Body, c.limit+1), c))
	switch {
	case err != nil:
		return nil, &unreachableError{fmt.Errorf("the answer broke off: %w", err)}
	case int64(len(body)) > c.limit:
		return nil, &costlyError{tooBig, c.limit}
	}
	return body, nil
}

// Write takes note that something comes.
func (c call) Write(b []byte) (int, error) {
	c.seen.Add(int64(len(b)))
	return len(b), nil
}

// close lets go of connections that wait for another call.
func (f *fetcher) close() { f.client.CloseIdleConnections() }
