package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/waybill-token/waybill/internal/loopback"
)

// maxDrained is how much of a refused answer is read so that its connection can be used again, in bytes.
const maxDrained = 4 << 10

// HTTPClient returns an HTTP client that adds the access token to every request. It is [Client.RoundTripper] around the
// transport of [Config] and has no time limit of its own: give requests a context that ends.
func (c *Client) HTTPClient() *http.Client {
	return &http.Client{Transport: c.RoundTripper(nil)}
}

// RoundTripper returns a transport that adds the access token to every request and
// hands it on to base. A nil base is the transport of [Config].
//
// An answer 401 makes it get a new token and send the request once more, if there
// is no body or the request has a GetBody; then the second answer counts.
//
// The token goes to https addresses and, in plain http, to loopback addresses. It does not follow a redirect to another
// origin: such a request fails. An Authorization header that the request has is replaced.
func (c *Client) RoundTripper(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = c.transport
	}
	return &roundTripper{client: c, base: base}
}

type roundTripper struct {
	client *Client
	base   http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	err := checkDestination(request)
	var token *oauth2.Token
	if err == nil {
		token, err = t.client.Token(request.Context())
	}
	if err != nil {
		closeBody(request)
		return nil, err
	}
	response, err := t.send(request, token)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	t.client.Invalidate(token.AccessToken)
	second, ok := rewind(request)
	if !ok {
		return response, nil
	}
	_, _ = io.CopyN(io.Discard, response.Body, maxDrained) // for the connection's sake only
	response.Body.Close()
	if token, err = t.client.Token(request.Context()); err != nil {
		closeBody(second)
		return nil, err
	}
	return t.send(second, token)
}

// checkDestination keeps the token from places that the caller did not name. An http.Client drops the Authorization
// header when a redirect leads elsewhere, but it does so before us.
func checkDestination(request *http.Request) error {
	if err := checkOrigin(request.URL); err != nil {
		return fmt.Errorf("client: sending a token: %w", err)
	}
	redirect := request.Response
	if redirect == nil {
		return nil
	}
	// One step back: the steps before were checked when they were made. Scheme, host and port count (RFC 6454 section
	// 5).
	if from, to := redirect.Request, request.URL; from == nil || from.URL.Scheme != to.Scheme ||
		!strings.EqualFold(from.URL.Hostname(), to.Hostname()) || portOf(from.URL) != portOf(to) {
		return errors.New("client: a redirect leads to another origin, where the token does not go: " + to.Host)
	}
	return nil
}

// send gives the answer back as one to the request without the token, so that
// whoever logs the answer's request does not log the token.
func (t *roundTripper) send(request *http.Request, token *oauth2.Token) (*http.Response, error) {
	authorized := request.Clone(request.Context())
	token.SetAuthHeader(authorized)
	response, err := t.base.RoundTrip(authorized)
	if response != nil {
		response.Request = request
	}
	return response, err
}

// rewind returns the request with its body from the beginning, when that can be had.
func rewind(request *http.Request) (*http.Request, bool) {
	if request.Body == nil || request.Body == http.NoBody {
		return request, true
	}
	if request.GetBody == nil {
		return nil, false
	}
	body, err := request.GetBody()
	if err != nil {
		return nil, false
	}
	second := request.Clone(request.Context())
	second.Body = body
	return second, true
}

// closeBody: a RoundTripper closes the body whatever happens.
func closeBody(request *http.Request) {
	if request.Body != nil {
		request.Body.Close()
	}
}

// checkOrigin admits https, and plain http to a loopback address, where nobody
// is on the way (RFC 6749 section 3.2, RFC 6750 section 5.3).
func checkOrigin(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && loopback.Is(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%s://%s is not https; plain http is accepted to a loopback address only", u.Scheme, u.Host)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
