package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/problem"
	"github.com/waybill-token/waybill/rule"
)

// Bounds of what is asked of a registry.
const (
	// lookupTimeout is for everything that one party or one trusted list takes: the access token and up to five
	// requests: for the party itself, two searches, and the trusted list, which may be in two places.
	lookupTimeout = 10 * time.Second
	// maxAnswer is in bytes, decompressed. A record with a certificate is about
	// 10 KiB, and a trusted list of a whole continent some 100 KiB.
	maxAnswer    = 1 << 20
	maxRedirects = 3
	// maxConnections bounds those of HTTP/1.1; by HTTP/2 there are few.
	maxConnections = 64
	maxDrained     = 4 << 10 // of an answer that is not read, for the connection's sake
)

// A registry that failed this often in a row is not asked, apart from one request in every pause. The pause is short so
// that a registry that is well again is used again at once: two requests a second hurt nobody. With Retry-After it can
// ask for a longer one, and have clients told so.
const (
	circuitFailures = 3
	circuitPause    = 500 * time.Millisecond
	maxPause        = time.Second
)

// A request that hangs is made again, at the earliest hedgeAfter after it was made, when a later one was
// answered (hedges times at most, since some questions take longer than others), or when no other
// was made for as long. Whether that is so is looked at each hedgeTick.
const (
	hedgeAfter = time.Second
	hedgeTick  = 250 * time.Millisecond
	hedges     = 2
)

var (
	errSlow        = fmt.Errorf("the registry did not answer within %s", lookupTimeout)
	errCircuitOpen = errors.New("the registry is left alone for a moment")
	errElsewhere   = errors.New("a redirect leads to another origin, which is not followed")
	errTooLong     = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	// errNobody is the answer, signed by the registry, that there is no such party.
	errNobody = errors.New("the registry answers that there is no such party")
	// errNotFound is a status that says that there is no such party, or nothing at that
	// place. Nobody signed it: a server before the registry may answer so too.
	errNotFound = errors.New("the registry answers that there is no such thing")
	// errNoForm is the answer of a registry that does not know this way of asking.
	errNoForm = errors.New("the registry does not answer a question of this form")
)

// requestTimes are when requests were made last, by which those that hang are found.
type requestTimes struct {
	mu       sync.Mutex
	made     time.Time // the last one
	answered time.Time // when the last one was made of those that were answered
}

func (t *requestTimes) note(made time.Time, answered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !answered {
		t.made = made
	} else if made.After(t.answered) {
		t.answered = made
	}
}

// again reports whether a request that was made at a time and hangs is to be made again; overtaken counts how
// often it was because a later one was answered.
func (t *requestTimes) again(made time.Time, overtaken *int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case now.Sub(made) < hedgeAfter:
		return false
	case t.answered.After(made) && *overtaken < hedges:
		*overtaken++
		return true
	case now.Sub(t.made) >= hedgeAfter:
		t.made = now
		return true
	}
	return false
}

// get asks a question and returns the body of an answer with status 200. A request that hangs is made
// again beside it when others are answered that were made later, and now and then anyway.
//
// The error is an [*outbound.UnreachableError] when there was no answer to judge, errNotFound,
// errNoForm, the context's, or what is wrong with the answer.
func (r *Remote) get(ctx context.Context, q question) ([]byte, error) {
	if open := r.circuit.Admit(); open != nil {
		return nil, &outbound.UnreachableError{
			Cause:      fmt.Errorf("%[2]w after %[3]d failures: %[1]w", open.Cause, errCircuitOpen, open.Failures),
			RetryAfter: time.Until(open.Until),
		}
	}
	type answer struct {
		body  []byte
		wrong error
	}
	overtaken := 0
	hedge := outbound.Hedge{Every: hedgeTick, Again: func(made time.Time) bool { return r.times.again(made, &overtaken) }}
	a, err := outbound.Hedged(ctx, hedge, func(ctx context.Context) (answer, error) {
		made := time.Now()
		r.times.note(made, false)
		r.requests.Add(1)
		body, err := r.send(ctx, q)
		if e, ok := errors.AsType[*outbound.UnreachableError](err); ok {
			r.circuit.Failed(made, e.Cause, e.RetryAfter)
			return answer{}, err
		}
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		r.times.note(made, true)
		r.circuit.Answered()
		return answer{body, err}, nil // it is one, whatever is wrong with it
	})
	if err != nil {
		return nil, err
	}
	return a.body, a.wrong
}

func (r *Remote) send(ctx context.Context, q question) ([]byte, error) {
	address := r.base.JoinPath(q.path)
	address.RawQuery = q.query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "waybill")
	sent := time.Now()
	response, err := outbound.Do(r.http, request)
	if err != nil {
		return nil, callError(ctx, err)
	}
	defer response.Body.Close()
	if ahead, ok := outbound.ClockAhead(response.Header, sent, time.Now()); ok {
		r.clockOffset.Store(int64(ahead))
	}
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxDrained)) // also for the connection's sake
		said := ""
		if token, err := r.tokens.Token(ctx); err == nil { // some servers repeat what they were sent
			said = problem.Text(bytes.ReplaceAll(body, []byte(token.AccessToken), []byte("[removed]")))
		}
		return nil, statusError(response, said)
	}
	body, err := outbound.ReadBody(response.Body, maxAnswer)
	switch {
	case errors.As(err, new(*outbound.TooLargeError)):
		return nil, errTooLong
	case err != nil:
		return nil, callError(ctx, fmt.Errorf("the answer broke off: %w", err))
	}
	return body, nil
}

// callError says why a request came to nothing. Errors of package client name no token.
func callError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errElsewhere):
		return err
	case errors.Is(context.Cause(ctx), errSlow):
		return &outbound.UnreachableError{Cause: fmt.Errorf("%w: %w", errSlow, err)}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	e := &outbound.UnreachableError{Cause: err}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		e.RetryAfter = min(refused.RetryAfter, maxPause)
	}
	return e
}

// Refusal is what a registry answered to our own token request, when an error of a [Remote]
// comes of that: our standing there is at fault, or our seal, and not the network. Otherwise it is nil.
func Refusal(err error) *client.Error {
	if _, outage := rule.Classify(err); outage != nil {
		err = outage.Cause
	}
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Status < 400 || refused.Status >= 500 || refused.Status == http.StatusTooManyRequests {
		return nil
	}
	return refused
}

// statusError gives every status but 200 its meaning, and tells what the registry said. 401 comes here when a second
// token was refused like the first, so that the registry is out of reach for everyone.
func statusError(response *http.Response, said string) error {
	if said != "" {
		said = "; it says: " + said
	}
	switch status := response.StatusCode; {
	case status == http.StatusNotFound, status == http.StatusGone:
		return fmt.Errorf("%w: status %d%s", errNotFound, status, said)
	case status == http.StatusBadRequest, status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return fmt.Errorf("%w: status %d%s", errNoForm, status, said)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return &outbound.UnreachableError{Cause: fmt.Errorf("the registry does not accept our access token: status %d%s", status, said)}
	case status == http.StatusTooManyRequests, status >= 500:
		return &outbound.UnreachableError{
			Cause:      fmt.Errorf("the registry answers with status %d%s", status, said),
			RetryAfter: outbound.RetryAfter(response.Header, time.Now(), maxPause),
		}
	default:
		return fmt.Errorf("the registry answers with status %d%s", status, said)
	}
}

// sameOrigin is an [http.Client]'s CheckRedirect: the access token and the question go nowhere else.
func sameOrigin(request *http.Request, via []*http.Request) error {
	first := via[0].URL
	if request.URL.Scheme != first.Scheme || !strings.EqualFold(request.URL.Host, first.Host) {
		return fmt.Errorf("%w: %.100q", errElsewhere, request.URL.Host)
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d redirects", errElsewhere, maxRedirects)
	}
	return nil
}
