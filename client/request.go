package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/outbound"
)

// Bounds of one request for a token.
const (
	totalTimeout    = 30 * time.Second // all attempts and the pauses between them
	attemptTimeout  = 10 * time.Second
	maxAttempts     = 5
	firstPause      = 100 * time.Millisecond
	maxAttemptPause = time.Second
	maxAnswer       = 64 << 10 // bytes of the body, decompressed
)

// assertionType is fixed by RFC 7523 section 2.2.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// request asks until there is a token, a refusal, or no more time.
func (c *Client) request(ctx context.Context) (*cachedToken, error) {
	if err := c.pace.Wait(ctx); err != nil {
		return nil, fmt.Errorf("client: too many token requests: %w", err)
	}
	for attempt := 1; ; attempt++ {
		t, err := c.hedged(ctx)
		if err == nil {
			return t, nil
		}
		// The pause grows, and is at least what the server asks for. It is random in part, so that clients who failed
		// together do not return together.
		half, asked := min(firstPause<<(attempt-1), maxAttemptPause)/2, min(retryAfterOf(err), c.maxRetryAfter)
		wait := max(
			half+time.Duration(float64(half)*fraction()),
			asked+time.Duration(float64(asked)/10*fraction()),
		)
		end, bounded := ctx.Deadline()
		if attempt == maxAttempts || !repeatable(err) || bounded && !time.Now().Add(wait).Before(end) {
			return nil, err
		}
		c.log.DebugContext(ctx, "token request is repeated", "endpoint", c.endpoint, "attempt", attempt, "wait", wait, "error", err)
		c.onPause(err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// hedged makes one attempt, or several side by side while nothing is answered.
func (c *Client) hedged(ctx context.Context) (*cachedToken, error) {
	if c.hedge == 0 {
		return c.attempt(ctx)
	}
	type answered struct {
		token   *cachedToken
		refusal error
	}
	again := func(began time.Time) bool { return time.Since(began) >= c.hedge }
	a, err := outbound.Hedged(ctx, outbound.Hedge{Every: c.hedge, Again: again}, func(ctx context.Context) (answered, error) {
		t, err := c.attempt(ctx)
		if errors.As(err, new(*outbound.UnreachableError)) {
			return answered{}, err
		}
		return answered{t, err}, nil
	})
	if err != nil {
		return nil, err
	}
	return a.token, a.refusal
}

// attempt asks once, with an assertion that nobody has seen before.
func (c *Client) attempt(ctx context.Context) (*cachedToken, error) {
	compact, err := c.maker.Make(c.audience)
	if err != nil {
		return nil, fmt.Errorf("client: making an assertion: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	form := url.Values{
		"grant_type":            {"client_credentials"},
		"scope":                 {c.scope},
		"client_id":             {string(c.maker.ClientID)},
		"client_assertion_type": {assertionType},
		"client_assertion":      {compact},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("client: token request: %w", err)
	}
	// With it, a transport would send the same assertion again when a connection breaks. We send a new one.
	request.GetBody = nil
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "waybill")
	a, err := exchange(c.tokens, request, maxAnswer)
	if err != nil {
		return nil, unreachable(c.endpoint, compact, err)
	}
	return a.token(compact, c.scope)
}

// exchange sends a request and reads the answer, whose body may have so many bytes.
func exchange(client *http.Client, request *http.Request, limit int64) (*answer, error) {
	sent := time.Now()
	response, err := outbound.Do(client, request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	received := time.Now()
	body, err := outbound.ReadBody(response.Body, limit)
	tooLarge, isTooLarge := errors.AsType[*outbound.TooLargeError](err)
	if err != nil && !isTooLarge {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body, tooLarge: tooLarge, sent: sent, received: received}, nil
}

// unreachable says that no complete answer came, without the assertion that the error may quote.
func unreachable(endpoint, compact string, err error) error {
	said := clean(err.Error(), compact, 300)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) { // of attempts that were given up together
		said = "no answer came in time"
	}
	text := fmt.Sprintf("client: %s is out of reach: %s", endpoint, said)
	return &outbound.UnreachableError{Cause: &redactedError{text, err}}
}

// A redactedError has its text in place of that of the cause.
type redactedError struct {
	text  string
	cause error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.cause }

// repeatable reports whether another attempt may fare better. A certificate
// that does not verify will not verify in a second either.
func repeatable(err error) bool {
	if refused, ok := errors.AsType[*Error](err); ok {
		switch refused.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	return errors.As(err, new(*outbound.UnreachableError)) && !errors.As(err, new(*tls.CertificateVerificationError))
}

func retryAfterOf(err error) time.Duration {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.RetryAfter
	}
	return 0
}

// fraction is random in [0, 1).
func fraction() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}
