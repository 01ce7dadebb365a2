package isharetest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/rule"
)

// An Answer is what a server said to a token request (RFC 6749 sections 5.1 and
// 5.2).
type Answer struct {
	Status int         `json:"-"`
	Header http.Header `json:"-"`

	AccessToken string  `json:"access_token"`
	TokenType   string  `json:"token_type"`
	ExpiresIn   float64 `json:"expires_in"` // seconds
	Scope       string  `json:"scope"`

	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// sendTimeout ends a request to a server that does not answer.
const sendTimeout = 30 * time.Second

// maxAnswer is the most that is read of an answer.
const maxAnswer = 1 << 20

// Send makes the request to the server at a base URL. The error says that there was
// no answer, or none in JSON; a refusal is an answer.
func (r *Request) Send(base string) (*Answer, error) {
	client := &http.Client{Timeout: sendTimeout}
	response, err := client.Do(r.HTTP(base))
	if err != nil {
		return nil, fmt.Errorf("isharetest: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("isharetest: answer: %w", err)
	}
	a := &Answer{Status: response.StatusCode, Header: response.Header}
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("isharetest: answer with status %d: %w", response.StatusCode, err)
	}
	return a, nil
}

// RuleID is the id of the rule that the answer's error_description begins with, or
// "" when it begins with none: servers other than Waybill name none.
func (a *Answer) RuleID() string {
	id, _, _ := strings.Cut(a.Description, ":")
	known := func(r *rule.Rule) bool { return r.ID == id }
	if slices.ContainsFunc(rule.All(), known) || slices.ContainsFunc(rule.Outages(), known) {
		return id
	}
	return ""
}

// Meets returns nil when the answer is the one that a request asks for: a token
// when rule is nil, and otherwise the status and the error code of the rule, and no
// other rule's id.
func (a *Answer) Meets(reason *rule.Rule) error {
	if reason == nil {
		if a.Status != http.StatusOK || a.AccessToken == "" || a.Error != "" {
			return fmt.Errorf("isharetest: no token, but status %d, error %q: %s", a.Status, a.Error, a.Description)
		}
		return nil
	}
	var problems []error
	if a.AccessToken != "" {
		problems = append(problems, errors.New("isharetest: the server gave a token"))
	}
	if a.Status != reason.Status {
		problems = append(problems, fmt.Errorf("isharetest: status %d, want %d", a.Status, reason.Status))
	}
	if a.Error != reason.Code {
		problems = append(problems, fmt.Errorf("isharetest: error %q, want %q", a.Error, reason.Code))
	}
	if id := a.RuleID(); id != "" && id != reason.ID {
		problems = append(problems, fmt.Errorf("isharetest: refused by %s, want %s", id, reason.ID))
	}
	return errors.Join(problems...)
}

// Check sends the requests of the attempt to the server at a base URL, and returns
// nil when every answer [Answer.Meets] what its request expects.
func (a Attempt) Check(base string) error {
	for i, r := range a.Requests() {
		answer, err := r.Send(base)
		if err == nil {
			err = answer.Meets(r.Expect)
		}
		if err != nil {
			return fmt.Errorf("%s, request %d: %w", a, i+1, err)
		}
	}
	return nil
}
