package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"golang.org/x/oauth2"
)

// maxDrained is how much of a refused answer is read so that its connection can
// be used again, in bytes.
const maxDrained = 4 << 10

// HTTPClient returns an HTTP client that adds the access token to every request.
// It is [Client.RoundTripper] around the transport of [Config] and has no time limit of
// its own: give requests a context that ends.
func (c *Client) HTTPClient() *http.Client {
	return &http.Client{Transport: c.RoundTripper(nil)}
}

// RoundTripper returns a transport that adds the access token to every request and
// hands it on to base. A nil base is the transport of [Config].
//
// An answer 401 makes it get a new token and send the request once more, if there
// is no body or the request has a GetBody; then the second answer counts.
//
// The token goes to https addresses and, in plain http, to loopback addresses. It
// does not follow a redirect to another origin: such a request fails. An
// Authorization header that the request has is replaced.
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
	token, err := t.admit(request)
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
	discard(response)
	if token, err = t.client.Token(request.Context()); err != nil {
		closeBody(second)
		return nil, err
	}
	return t.send(second, token)
}

func (t *roundTripper) admit(request *http.Request) (*oauth2.Token, error) {
	if err := checkDestination(request); err != nil {
		return nil, err
	}
	return t.client.Token(request.Context())
}

// checkDestination keeps the token from places that the caller did not name. An
// http.Client drops the Authorization header when a redirect leads elsewhere, but
// it does so before us.
func checkDestination(request *http.Request) error {
	if err := checkOrigin(request.URL); err != nil {
		return fmt.Errorf("client: sending a token: %w", err)
	}
	if redirect := request.Response; redirect != nil && !redirectsWithin(redirect, request.URL) {
		return errors.New("client: a redirect leads to another origin, where the token does not go: " + request.URL.Host)
	}
	return nil
}

// redirectsWithin looks one step back: the steps before were looked at when they were made.
func redirectsWithin(redirect *http.Response, to *url.URL) bool {
	return redirect.Request != nil && sameOrigin(redirect.Request.URL, to)
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

// rewind returns the request with its body from the beginning, when that can be
// had.
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

func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, maxDrained) // for the connection's sake only
	response.Body.Close()
}

// closeBody: a RoundTripper closes the body whatever happens.
func closeBody(request *http.Request) {
	if request.Body != nil {
		request.Body.Close()
	}
}
