package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/outbound"
)

// Bounds of one request for a token.
const (
	totalTimeout   = 30 * time.Second // all attempts and the pauses between them
	attemptTimeout = 10 * time.Second
	maxAttempts    = 5
	firstPause     = 100 * time.Millisecond
	maxPause       = time.Second
	maxAnswer      = 64 << 10 // bytes of the body, decompressed
)

// assertionType is fixed by RFC 7523 section 2.2.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// obtain asks until there is a token, a refusal, or no more time.
func (c *Client) obtain(ctx context.Context) (*held, error) {
	if err := c.pace.Wait(ctx); err != nil {
		return nil, fmt.Errorf("client: too many token requests: %w", err)
	}
	for attempt := 1; ; attempt++ {
		h, err := c.askHedged(ctx)
		if err == nil {
			return h, nil
		}
		wait := c.pauseAfter(attempt, err)
		if attempt == maxAttempts || !repeatable(err) || !fits(ctx, wait) {
			return nil, err
		}
		c.log.DebugContext(ctx, "token request is repeated", "endpoint", c.endpoint, "attempt", attempt, "wait", wait, "error", err)
		if !sleep(ctx, wait) {
			return nil, err
		}
	}
}

// askHedged makes one attempt, or several side by side while nothing is answered.
func (c *Client) askHedged(ctx context.Context) (*held, error) {
	if c.hedge == 0 {
		return c.ask(ctx)
	}
	type answered struct {
		held *held
		err  error
	}
	again := func(began time.Time) bool { return time.Since(began) >= c.hedge }
	a, err := outbound.Hedged(ctx, outbound.Hedge{Every: c.hedge, Again: again}, func(ctx context.Context) (answered, error) {
		h, err := c.ask(ctx)
		if errors.As(err, new(*unreachableError)) {
			return answered{}, err
		}
		return answered{h, err}, nil
	})
	if err != nil {
		return nil, err
	}
	return a.held, a.err
}

// ask makes one attempt, with an assertion that nobody has seen before.
func (c *Client) ask(ctx context.Context) (*held, error) {
	compact, err := c.maker.Make(c.audience)
	if err != nil {
		return nil, fmt.Errorf("client: making an assertion: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	request, err := c.request(ctx, compact)
	if err != nil {
		return nil, err
	}
	a, err := exchange(c.tokens, request, maxAnswer)
	if err != nil {
		return nil, &unreachableError{place: c.endpoint, text: clean(err.Error(), compact, 300), err: err}
	}
	return a.token(compact, c.scope)
}

func (c *Client) request(ctx context.Context, compact string) (*http.Request, error) {
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
	// With it, a transport would send the same assertion again when a
	// connection breaks. We send a new one.
	request.GetBody = nil
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "waybill")
	return request, nil
}

// exchange sends a request and reads the answer, whose body may have so many bytes.
func exchange(client *http.Client, request *http.Request, limit int) (*answer, error) {
	sent := time.Now()
	response, err := client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // method and URL are known to the caller
		}
		return nil, err
	}
	defer response.Body.Close()
	received := time.Now()
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body, limit: limit, sent: sent, received: received}, nil
}

// An unreachableError says that no complete answer came.
type unreachableError struct {
	place string
	text  string // of err, fit for a log and without the assertion
	err   error
}

// Error tells what happened on the way.
func (e *unreachableError) Error() string {
	return fmt.Sprintf("client: %s is out of reach: %s", e.place, e.text)
}

// Unwrap returns the error of the transport.
func (e *unreachableError) Unwrap() error { return e.err }

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
	return errors.As(err, new(*unreachableError)) && !errors.As(err, new(*tls.CertificateVerificationError))
}

// pauseAfter grows from attempt to attempt and is at least what the server asks
// for. It is random in part, so that clients who failed together do not return
// together.
func (c *Client) pauseAfter(attempt int, err error) time.Duration {
	pause := min(firstPause<<(attempt-1), maxPause)
	pause = pause/2 + time.Duration(float64(pause/2)*fraction())
	asked := min(retryAfterOf(err), c.maxRest)
	return max(pause, asked+time.Duration(float64(asked)/10*fraction()))
}

func retryAfterOf(err error) time.Duration {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.RetryAfter
	}
	return 0
}

// fits reports whether something can be done after the pause.
func fits(ctx context.Context, pause time.Duration) bool {
	end, ok := ctx.Deadline()
	return !ok || time.Now().Add(pause).Before(end)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fraction is random in [0, 1).
func fraction() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}
