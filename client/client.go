// Package client is a Service Consumer's side of iSHARE: it gets access tokens from somebody else's token endpoint with
// client assertions, keeps them, and renews them in time (iSHARE 3.0, access token; RFC 6749 section 4.4, RFC 7523).
//
//	c, err := client.New(client.Config{
//		Server:       "https://provider.example",
//		Audience:     "did:ishare:EU.NL.NTRNL-10000002",
//		ClientID:     "did:ishare:EU.NL.NTRNL-10000001",
//		Key:          key,
//		Certificates: chain,
//	})
//	…
//	response, err := c.HTTPClient().Get("https://provider.example/orders")
//
// [LoadKey] reads key and chain from PEM or PKCS#12; any other [crypto.Signer] with an RSA key serves as well, such as
// one in hardware. [Discover] finds the token endpoint of a server that has it in another place than iSHARE puts it.
//
// [Client.Token] gives the token itself, [Client.TokenSource] is the same for
// golang.org/x/oauth2, and [Client.HTTPClient] adds it to requests.
//
// # How often the server is asked
//
// A token is asked for once in its life, however many goroutines want it. Between 75 and 90 % of its life, at a random
// point so that replicas do not come together, the first caller starts a renewal in the background; nobody waits for
// it. A renewal that fails is tried again while the old token is used on, to within ten seconds of its end.
//
// One request is made of up to five attempts in at most 30 seconds. An attempt that meets a broken network, or the
// status 429, 502, 503 or 504, is repeated after a pause that grows from a tenth of a second to one second, or after
// the Retry-After of the server. Each attempt has an assertion of its own: one that left the process is never sent
// again, whatever became of it. A caller whose context ends stops waiting; the request goes on for the others.
//
// After a request that failed, callers without a token get the same error for one second, or for the Retry-After of the
// server up to one minute. So a server that is down or refuses is not hammered, and one that comes back is found again
// within about two seconds.
//
// # What is kept from whom
//
// Assertions and tokens travel over https only; plain http is accepted to a loopback address. The token endpoint's
// redirects are not followed, and the token does not follow a redirect to another origin. No error and no log line
// holds a token or an assertion, not even one that a server quotes back.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/time/rate"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/ishare"
)

// ErrClosed is returned by a client that was closed.
var ErrClosed = errors.New("client: closed")

// A storm of 401 answers makes every caller discard its token. Beyond this burst
// no more than one token a second is asked for.
const (
	tokenInterval = time.Second
	tokenBurst    = 5
)

// A Client gets access tokens for one party from one token endpoint. It is safe
// for concurrent use. It runs no goroutine except while it asks for a token.
type Client struct {
	maker         assertion.Maker
	audience      ishare.PartyID
	endpoint      string
	scope         string
	transport     http.RoundTripper
	own           *http.Transport // transport, when it is not the caller's
	tokens        *http.Client    // for the token endpoint: follows no redirects
	log           *slog.Logger
	pace          *rate.Limiter
	maxRetryAfter time.Duration
	hedge         time.Duration // zero: never
	onPause       func(because error, pause time.Duration)

	requests *flight.Group[string, *cachedToken] // one, by the endpoint
	cached   atomic.Pointer[cachedToken]
	mu       sync.Mutex // guards what follows
	backOff  backOff
}

// New checks the configuration and returns a client for it. It sends nothing.
func New(c Config) (*Client, error) {
	endpoint, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	if _, err := ishare.ParsePartyID(string(c.Audience)); err != nil {
		return nil, fmt.Errorf("client: Audience: %w", err)
	}
	if _, err := ishare.ParsePartyID(string(c.ClientID)); err != nil {
		return nil, fmt.Errorf("client: ClientID: %w", err)
	}
	if err := c.checkSeal(); err != nil {
		return nil, err
	}
	if len(c.Scope) == 0 {
		c.Scope = ishare.Scope{ishare.ScopeISHARE}
	}
	scope, err := ishare.ParseScope(c.Scope.String())
	if err != nil {
		return nil, fmt.Errorf("client: Scope: %w", err)
	}
	client := &Client{
		maker:         assertion.Maker{ClientID: c.ClientID, Key: c.Key, Certificates: c.Certificates, Algorithm: c.Algorithm},
		audience:      c.Audience,
		endpoint:      endpoint,
		scope:         scope.String(),
		transport:     c.Transport,
		log:           c.Log,
		pace:          rate.NewLimiter(rate.Every(tokenInterval), tokenBurst),
		maxRetryAfter: cmp.Or(max(c.MaxRetryAfter, 0), defaultMaxRetryAfter),
		hedge:         max(c.Hedge, 0),
		onPause:       c.OnPause,
		requests:      flight.New[string, *cachedToken](1, totalTimeout),
	}
	if client.transport == nil {
		client.own = NewTransport()
		client.transport = client.own
	}
	if client.onPause == nil {
		client.onPause = func(error, time.Duration) {}
	}
	if client.log == nil {
		client.log = slog.New(slog.DiscardHandler)
	}
	client.tokens = withoutRedirects(client.transport)
	return client, nil
}

// NewTransport returns a transport with timeouts for connecting (5 s), for the TLS handshake (5 s) and for the first
// byte of an answer (30 s), with TLS 1.2 or 1.3, and the proxy of the environment. It has a limit on everything but the
// time that a body takes, which is the caller's business, and the number of connections.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    16,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
}

// withoutRedirects hands redirects over as the answers they are. To follow one would be to send the same assertion a
// second time, and to a place of somebody else's choice.
func withoutRedirects(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// TokenSource returns a token source for golang.org/x/oauth2. Its Token waits no longer than ctx lives. It caches by
// itself: [oauth2.ReuseTokenSource] around it adds nothing.
func (c *Client) TokenSource(ctx context.Context) oauth2.TokenSource {
	return source(func() (*oauth2.Token, error) { return c.Token(ctx) })
}

type source func() (*oauth2.Token, error)

// Token implements [oauth2.TokenSource].
func (s source) Token() (*oauth2.Token, error) { return s() }

// Close ends a token request that is under way, forgets the token, and closes the idle connections of a transport of
// the client's own. Afterwards every call returns [ErrClosed], and no goroutine of the client is left.
func (c *Client) Close() {
	c.requests.Close()
	c.cached.Store(nil)
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}
