package client

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/problem"
	"github.com/waybill-token/waybill/ishare"
)

// What the fuzz targets and the tests of parsing need.
const (
	MaxAnswer       = maxAnswer
	MaxCapabilities = maxCapabilities
	MaxLife         = maxLife
	MaxRetryAfter   = maxRetryAfter
)

// An Answer of a token endpoint to a request that was sent at a time.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Sent   time.Time
	Took   time.Duration
}

// Read parses the answer to a request with the assertion compact.
func (a Answer) Read(compact string) (*oauth2.Token, error) {
	raw := &answer{
		status: a.Status, header: a.Header,
		sent: a.Sent, received: a.Sent.Add(a.Took),
	}
	raw.cut([]byte(a.Body), maxAnswer)
	h, err := raw.token(compact, ishare.ScopeISHARE)
	if err != nil {
		return nil, err
	}
	return h.copy(), nil
}

// ReadCapabilities parses the answer of /capabilities.
func ReadCapabilities(body []byte, issuer ishare.PartyID, base *url.URL) (string, error) {
	a := &answer{
		status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}},
	}
	a.cut(body, maxCapabilities)
	info, err := a.capabilities(issuer)
	if err != nil {
		return "", err
	}
	return chooseEndpoint(info, base)
}

// Redact takes an assertion out of a text.
func Redact(s, compact string) string { return problem.Without(s, compact) }

// cut gives the answer a body as it is read.
func (a *answer) cut(body []byte, limit int64) {
	var err error
	a.body, err = outbound.ReadBody(bytes.NewReader(body), limit)
	a.tooLarge, _ = errors.AsType[*outbound.TooLargeError](err)
}
