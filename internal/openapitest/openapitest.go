// Package openapitest holds what a server answers against its OpenAPI description, in tests.
package openapitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	validation "github.com/pb33f/libopenapi-validator/errors"
)

// A Transport is an [http.RoundTripper] that fails when an answer is not one that the description tells of: its path,
// method and status, its required header fields, its media type and its body. Requests are not judged: a test sends
// wrong ones on purpose.
type Transport struct {
	base http.RoundTripper

	mu        sync.Mutex // the validator makes no promise about simultaneous use
	validator validator.Validator
}

// NewTransport reads an OpenAPI document, which must be a valid one, and returns a transport on top of another.
func NewTransport(document []byte, base http.RoundTripper) (*Transport, error) {
	parsed, err := libopenapi.NewDocument(document)
	if err != nil {
		return nil, fmt.Errorf("openapitest: %w", err)
	}
	v, errs := validator.NewValidator(parsed, config.WithFormatAssertions())
	if len(errs) > 0 {
		return nil, fmt.Errorf("openapitest: %w", errors.Join(errs...))
	}
	if ok, problems := v.ValidateDocument(); !ok {
		return nil, fmt.Errorf("openapitest: document: %w", join(problems))
	}
	return &Transport{base: base, validator: v}, nil
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, fmt.Errorf("openapitest: reading the answer: %w", err)
	}
	// What is validated are copies: request and answer stay as they are.
	described := &http.Request{Method: r.Method, URL: r.URL, Header: r.Header.Clone(), Host: r.Host}
	// A method that is not answered has no operation of its own: 405 stands with the one that is.
	if answer.StatusCode == http.StatusMethodNotAllowed {
		described.Method, _, _ = strings.Cut(answer.Header.Get("Allow"), ",")
	}
	seen := *answer
	seen.Header = answer.Header.Clone()
	seen.Body = io.NopCloser(bytes.NewReader(body))
	t.mu.Lock()
	defer t.mu.Unlock()
	ok, problems := t.validator.ValidateHttpResponse(described.WithContext(r.Context()), &seen)
	if !ok {
		return nil, fmt.Errorf("openapitest: %s %s, status %d, %q: %w", r.Method, r.URL.Path, answer.StatusCode, body, join(problems))
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

func join(problems []*validation.ValidationError) error {
	if len(problems) == 0 {
		return errors.New("not described")
	}
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}
