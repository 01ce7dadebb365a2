// Package outbound is how we call others: a Participant Registry, a token endpoint, and whatever address
// a certificate names. It has what these calls share: an error that says that no answer came ([UnreachableError]),
// bodies of bounded size ([ReadBody]), what an answer's header says of time ([RetryAfter], [ClockAhead]), a circuit that
// spares a server that is down ([Circuit]), and a second call beside one that hangs ([Hedged]).
//
// A [Fetcher] calls addresses that are somebody else's choice, and checks where each of them leads.
package outbound

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// An UnreachableError says that there was no answer to judge: the network is broken, or the server
// overloaded, or it does not let us in. It may be well again in a moment.
type UnreachableError struct {
	Cause      error
	RetryAfter time.Duration // until it is worth to try again; zero: not known
}

// Error is that of the cause.
func (e *UnreachableError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// A TooLargeError says that a body is larger than it may be.
type TooLargeError struct {
	Limit int64 // in bytes
	Read  int64 // how many were read before it turned out
}

// Error tells the limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes", e.Limit)
}

// Do sends a request. Its error leaves out method and URL, which are told by whoever wraps it.
func Do(client *http.Client, request *http.Request) (*http.Response, error) {
	response, err := client.Do(request)
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	return response, err
}

// ReadBody reads a body to its end. Of one that is larger than limit, it returns so many bytes and a
// [*TooLargeError]; any other error is the reader's.
func ReadBody(body io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(data)) > limit {
		return data[:limit], &TooLargeError{Limit: limit, Read: limit}
	}
	return data, err
}

// RetryAfter is how long a server asks to wait, in seconds or until a date, which is the server's (RFC 9110
// section 10.2.3): at most limit, and zero when it does not say.
func RetryAfter(header http.Header, received time.Time, limit time.Duration) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, limit)
	}
	then, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = received
	}
	return min(max(then.Sub(now), 0), limit)
}

// ClockAhead is how far the server's clock is ahead of ours, by the Date of its answer. Date names a second, and the
// moment when it was written lies anywhere between question and answer: it may be off by half of either.
func ClockAhead(header http.Header, sent, received time.Time) (ahead time.Duration, ok bool) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0, false
	}
	halfway := sent.Add(received.Sub(sent) / 2)
	return date.Add(time.Second / 2).Sub(halfway.Round(0)), true
}
