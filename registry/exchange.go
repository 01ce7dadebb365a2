package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/internal/flight"
	"github.com/waybill-token/waybill/internal/problem"
	"github.com/waybill-token/waybill/rule"
)

// Bounds of what is asked of a registry.
const (
	// lookupTimeout is for everything that one party or one trusted list takes:
	// the access token and up to five requests: for the party itself, two searches, and
	// the trusted list, which may be in two places.
	lookupTimeout = 10 * time.Second
	// maxAnswer is in bytes, decompressed. A record with a certificate is about
	// 10 KiB, and a trusted list of a whole continent some 100 KiB.
	maxAnswer    = 1 << 20
	maxRedirects = 3
	// maxConnections bounds those of HTTP/1.1; by HTTP/2 there are few.
	maxConnections = 64
	maxDrained     = 4 << 10 // of an answer that is not read, for the connection's sake
)

var (
	errSlow      = fmt.Errorf("the registry did not answer within %s", lookupTimeout)
	errElsewhere = errors.New("a redirect leads to another origin, which is not followed")
	errTooLong   = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	// errNobody is the answer, signed by the registry, that there is no such party.
	errNobody = errors.New("the registry answers that there is no such party")
	// errNotFound is a status that says that there is no such party, or nothing at that
	// place. Nobody signed it: a server before the registry may answer so too.
	errNotFound = errors.New("the registry answers that there is no such thing")
	// errNoForm is the answer of a registry that does not know this way of asking.
	errNoForm = errors.New("the registry does not answer a question of this form")
)

// bound limits a lookup so that it can be told from a caller who gave up.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, lookupTimeout, errSlow)
}

// get asks a question and returns the body of an answer with status 200. A request that hangs is made
// again beside it when others are answered that were made later, and now and then anyway.
//
// The error is an [*unreachableError] when there was no answer to judge, errNotFound,
// errNoForm, the context's, or what is wrong with the answer.
func (r *Remote) get(ctx context.Context, q question) ([]byte, error) {
	if err := r.circuit.admit(time.Now()); err != nil {
		return nil, err
	}
	overtaken := 0
	again := func(began time.Time) bool { return r.circuit.again(began, time.Now(), &overtaken) }
	a, err := flight.Hedge(ctx, hedgeTick, again, func(ctx context.Context) (answer, error) { return r.attempt(ctx, q) })
	if err != nil {
		return nil, err
	}
	return a.body, a.err
}

// An answer is the body, or what is wrong with it.
type answer struct {
	body []byte
	err  error
}

// attempt returns an error when there was no answer.
func (r *Remote) attempt(ctx context.Context, q question) (answer, error) {
	began := time.Now()
	r.circuit.begun(began)
	r.requests.Add(1)
	body, err := r.send(ctx, q)
	now := time.Now()
	if e, ok := errors.AsType[*unreachableError](err); ok {
		r.circuit.failed(began, e, now)
		return answer{}, err
	}
	if ctx.Err() != nil {
		return answer{}, ctx.Err()
	}
	r.circuit.answered(began, now)
	return answer{body, err}, nil
}

func (r *Remote) send(ctx context.Context, q question) ([]byte, error) {
	place := r.base.JoinPath(q.path)
	place.RawQuery = q.query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, place.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "waybill")
	sent := time.Now()
	response, err := r.http.Do(request)
	if err != nil {
		return nil, callError(ctx, err)
	}
	defer response.Body.Close()
	r.hearClock(response.Header, sent)
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxDrained)) // also for the connection's sake
		said := ""
		if token, err := r.tokens.Token(ctx); err == nil { // some servers repeat what they were sent
			said = problem.Text(bytes.ReplaceAll(body, []byte(token.AccessToken), []byte("[removed]")))
		}
		return nil, statusError(response, said)
	}
	return readBody(ctx, response.Body)
}

// callError says why a request came to nothing. Errors of package client name no
// token.
func callError(ctx context.Context, err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // method and URL are told by whoever wraps the error
	}
	switch {
	case errors.Is(err, errElsewhere):
		return err
	case errors.Is(context.Cause(ctx), errSlow):
		return &unreachableError{cause: fmt.Errorf("%w: %w", errSlow, err)}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	e := &unreachableError{cause: err}
	if refused, ok := errors.AsType[*client.Error](err); ok {
		e.wait = min(refused.RetryAfter, maxPause)
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

// statusError gives every status but 200 its meaning, and tells what the registry said. 401
// comes here when a second token was refused like the first, so that the registry is out of
// reach for everyone.
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
		return &unreachableError{cause: fmt.Errorf("the registry does not accept our access token: status %d%s", status, said)}
	case status == http.StatusTooManyRequests, status >= 500:
		return &unreachableError{
			cause: fmt.Errorf("the registry answers with status %d%s", status, said),
			wait:  min(seconds(response.Header.Get("Retry-After")), maxPause),
		}
	default:
		return fmt.Errorf("the registry answers with status %d%s", status, said)
	}
}

// seconds reads the form of Retry-After that services use; the other one, a date,
// counts as not given.
func seconds(retryAfter string) time.Duration {
	n, err := strconv.ParseUint(retryAfter, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

func readBody(ctx context.Context, from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxAnswer+1))
	switch {
	case err != nil:
		return nil, callError(ctx, fmt.Errorf("the answer broke off: %w", err))
	case len(body) > maxAnswer:
		return nil, errTooLong
	}
	return body, nil
}

// sameOrigin is an [http.Client]'s CheckRedirect: the access token and the question
// go nowhere else.
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

// hearClock takes note of the registry's clock by the Date of its answer, which
// names a second.
func (r *Remote) hearClock(header http.Header, sent time.Time) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return
	}
	halfway := sent.Add(time.Since(sent) / 2)
	r.clockOffset.Store(int64(date.Add(time.Second / 2).Sub(halfway)))
}
