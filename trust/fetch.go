package trust

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
	"time"
)

// Bounds of every call to an address that a certificate names.
const (
	connectTimeout    = 3 * time.Second
	idleConnection    = 30 * time.Second
	connectionsAHost  = 64
	maxResponseHeader = 16 << 10
)

// A fetcher calls addresses that certificates of trusted chains name. They are
// words of a certificate authority and not of the operator, so a call never
// leaves the bounds: http and https without credentials, public networks only
// (see refusePrivate), no redirect, no proxy, an answer of bounded size in bounded time.
type fetcher struct {
	client   *http.Client
	circuits circuits
}

func newFetcher(allowPrivate bool) *fetcher {
	dialer := &net.Dialer{Timeout: connectTimeout}
	if !allowPrivate {
		dialer.Control = refusePrivate
	}
	return &fetcher{client: &http.Client{
		Transport: &http.Transport{
			// No Proxy: it would connect on our behalf to wherever a name leads,
			// networks included that refusePrivate keeps out of reach.
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    connectTimeout,
			MaxConnsPerHost:        connectionsAHost,
			IdleConnTimeout:        idleConnection,
			MaxResponseHeaderBytes: maxResponseHeader,
			DisableCompression:     true, // the size that is bounded is the size that is kept
		},
		// A redirect is an address that no certificate names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A call is one question to an address.
type call struct {
	method  string
	address string
	media   string // type of the body
	body    []byte
	limit   int64         // bytes of the answer
	timeout time.Duration // from the first byte sent to the last one read
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
	body, err := f.send(ctx, u, c)
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
	}
	return u, nil
}

func (f *fetcher) send(ctx context.Context, u *url.URL, c call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, c.method, u.String(), bytes.NewReader(c.body))
	if err != nil {
		return nil, fmt.Errorf("the address cannot be called: %w", err)
	}
	// Not sent: it lets net/http ask again when an idle connection turns out to be
	// closed, for POST as for GET. Asking twice changes nothing.
	request.Header["Idempotency-Key"] = []string{}
	if c.media != "" {
		request.Header.Set("Content-Type", c.media)
	}
	response, err := f.client.Do(request)
	if err != nil {
		return nil, callError(err)
	}
	defer response.Body.Close()
	if err := statusError(response); err != nil {
		return nil, err
	}
	return readAtMost(response, c.limit)
}

// callError says why a call came to nothing. An address that must not be called
// is there, so to speak, and will not be better in a moment.
func callError(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // the address is told by whoever wraps the error
	}
	if errors.Is(err, errNotPublic) {
		return err
	}
	return &unreachableError{err}
}

func statusError(response *http.Response) error {
	err := fmt.Errorf("answered with HTTP status %d", response.StatusCode)
	switch status := response.StatusCode; {
	case status == http.StatusOK:
		return nil
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: redirects are not followed", err)
	case status >= 500 || status == http.StatusTooManyRequests:
		return &unreachableError{err}
	}
	return err
}

func readAtMost(response *http.Response, limit int64) ([]byte, error) {
	tooBig := fmt.Errorf("the answer is larger than %d bytes", limit)
	if response.ContentLength > limit {
		return nil, tooBig
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, &unreachableError{fmt.Errorf("the answer broke off: %w", err)}
	case int64(len(body)) > limit:
		return nil, tooBig
	}
	return body, nil
}

// close lets go of connections that wait for another call.
func (f *fetcher) close() { f.client.CloseIdleConnections() }
