package client

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/time/rate"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// Config says which token endpoint to ask, and as whom. Every field that is not
// marked optional must be set.
type Config struct {
	// Server is the server's base URL, such as https://provider.example. The
	// token endpoint is taken to be at /connect/token below it, where iSHARE
	// puts it. It need not be set when TokenEndpoint is.
	Server string
	// TokenEndpoint is the URL of the token endpoint, for a server that has it
	// in another place; see [Discover]. Optional.
	TokenEndpoint string
	// Audience is the server's party identifier: the aud of the assertions.
	Audience ishare.PartyID
	// ClientID is our own party identifier, as the Participant Registry knows it.
	ClientID ishare.PartyID
	// Key is the private key of our seal: RSA, in memory or in hardware. It signs
	// one assertion at a time.
	Key crypto.Signer
	// Certificates is the chain of our seal, leaf first, up to and including a
	// certificate that the server trusts.
	Certificates []*x509.Certificate
	// Algorithm is RS256 unless set. Servers of the 2.x framework accept
	// nothing else. Optional.
	Algorithm jws.Algorithm
	// Scope is what to ask for: iSHARE unless set. Optional.
	Scope ishare.Scope
	// Transport carries the token requests, and the requests of
	// [Client.HTTPClient]: one of [NewTransport] unless set. It must not repeat a
	// POST by itself. Optional.
	Transport http.RoundTripper
	// MaxRest bounds for how long the server's Retry-After keeps the client from asking again: a
	// minute unless set. Optional.
	MaxRest time.Duration
	// Hedge is how long a token request may hang until another one is made beside it, and so on: for a
	// client whose callers must not wait for a server that is well again. It is not done unless
	// set. Optional.
	Hedge time.Duration
	// Log gets a line for each token, each repetition and each failure. Optional.
	Log *slog.Logger
}

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
	maker     assertion.Maker
	audience  ishare.PartyID
	endpoint  string
	scope     string
	transport http.RoundTripper
	own       *http.Transport // transport, when it is not the caller's
	tokens    *http.Client    // for the token endpoint: follows no redirects
	log       *slog.Logger
	pace      *rate.Limiter
	maxRest   time.Duration
	hedge     time.Duration // zero: never

	held atomic.Pointer[held]

	mu      sync.Mutex // guards what follows, and the step from flight to held
	flight  *pending   // nil when nobody asks
	trouble trouble
	closed  bool
}

// New checks the configuration and returns a client for it. It sends nothing.
func New(c Config) (*Client, error) {
	endpoint, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	if err := c.checkParties(); err != nil {
		return nil, err
	}
	if err := c.checkSeal(); err != nil {
		return nil, err
	}
	scope, err := c.scope()
	if err != nil {
		return nil, err
	}
	client := &Client{
		maker:     assertion.Maker{ClientID: c.ClientID, Key: c.Key, Certificates: c.Certificates, Algorithm: c.Algorithm},
		audience:  c.Audience,
		endpoint:  endpoint,
		scope:     scope,
		transport: c.Transport,
		log:       c.Log,
		pace:      rate.NewLimiter(rate.Every(tokenInterval), tokenBurst),
		maxRest:   cmp.Or(max(c.MaxRest, 0), maxServerRest),
		hedge:     max(c.Hedge, 0),
	}
	if client.transport == nil {
		client.own = NewTransport()
		client.transport = client.own
	}
	if client.log == nil {
		client.log = slog.New(slog.DiscardHandler)
	}
	client.tokens = withoutRedirects(client.transport)
	return client, nil
}

func (c *Config) endpoint() (string, error) {
	if c.TokenEndpoint != "" {
		u, err := parseURL("TokenEndpoint", c.TokenEndpoint)
		if err != nil {
			return "", err
		}
		return u.String(), nil
	}
	base, err := c.base()
	if err != nil {
		return "", err
	}
	return fixedPlace(base), nil
}

func (c *Config) base() (*url.URL, error) {
	if c.Server == "" {
		return nil, errors.New("client: neither Server nor TokenEndpoint is set")
	}
	return parseBase(c.Server)
}

func (c *Config) checkParties() error {
	if _, err := ishare.ParsePartyID(string(c.Audience)); err != nil {
		return fmt.Errorf("client: Audience: %w", err)
	}
	if _, err := ishare.ParsePartyID(string(c.ClientID)); err != nil {
		return fmt.Errorf("client: ClientID: %w", err)
	}
	return nil
}

// checkSeal finds now what would otherwise fail every token request.
func (c *Config) checkSeal() error {
	if c.Algorithm != "" {
		if _, err := jws.ParseAlgorithm(string(c.Algorithm)); err != nil {
			return fmt.Errorf("client: Algorithm: %w", err)
		}
	}
	switch {
	case c.Key == nil:
		return errors.New("client: Key is not set")
	case len(c.Certificates) == 0:
		return errors.New("client: Certificates is empty")
	case len(c.Certificates) > jws.MaxCertificates:
		return fmt.Errorf("client: Certificates holds %d certificates, more than %d", len(c.Certificates), jws.MaxCertificates)
	}
	public, ok := c.Key.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("client: Key is of type %T; iSHARE asks for RSA", c.Key.Public())
	}
	if !public.Equal(c.Certificates[0].PublicKey) {
		return errors.New("client: Key does not belong to the first certificate; the leaf comes first")
	}
	return nil
}

func (c *Config) scope() (string, error) {
	if len(c.Scope) == 0 {
		return ishare.ScopeISHARE, nil
	}
	scope, err := ishare.ParseScope(c.Scope.String())
	if err != nil {
		return "", fmt.Errorf("client: Scope: %w", err)
	}
	return scope.String(), nil
}

// NewTransport returns a transport with timeouts for connecting (5 s), for the TLS handshake (5 s) and
// for the first byte of an answer (30 s), with TLS 1.2 or 1.3, and the proxy of the
// environment. It has a limit on everything but the time that a body takes, which is the
// caller's business, and the number of connections.
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

// withoutRedirects hands redirects over as the answers they are. To follow one
// would be to send the same assertion a second time, and to a place of somebody
// else's choice.
func withoutRedirects(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// TokenSource returns a token source for golang.org/x/oauth2. Its Token waits no
// longer than ctx lives. It caches by itself: [oauth2.ReuseTokenSource] around
// it adds nothing.
func (c *Client) TokenSource(ctx context.Context) oauth2.TokenSource {
	return source(func() (*oauth2.Token, error) { return c.Token(ctx) })
}

type source func() (*oauth2.Token, error)

// Token implements [oauth2.TokenSource].
func (s source) Token() (*oauth2.Token, error) { return s() }

// Close ends a token request that is under way, forgets the token, and closes the
// idle connections of a transport of the client's own. Afterwards every call
// returns [ErrClosed], and no goroutine of the client is left. The error is nil.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	f := c.flight
	c.mu.Unlock()
	if f != nil {
		f.cancel()
		<-f.done
	}
	c.held.Store(nil)
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
	return nil
}
