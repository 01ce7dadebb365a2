package workbench

import (
	"net/http"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// An Answer is what the provider said to a request. It does not hold the token.
type Answer struct {
	Status   int
	Code     string     // the error code of OAuth; empty: a token was given
	Rule     *rule.Rule // by which it was refused, or nil
	Sentence string     // why, in the words of the answer
	Seconds  float64    // for which the token is good
	Retry    string     // seconds, of Retry-After; empty: it says nothing
}

// Send sends a request to the provider at a base URL, twice when the draft says so, and tells the last answer. The error
// says that there was none, or none in JSON.
func (m *Made) Send(base string, twice bool) (*Answer, error) {
	r := isharetest.Request{
		Method: http.MethodPost, Path: isharetest.TokenPath, Form: m.Form,
		Header: http.Header{"Content-Type": {isharetest.MediaType}},
	}
	if twice {
		if _, err := r.Send(base); err != nil {
			return nil, err
		}
	}
	said, err := r.Send(base)
	if err != nil {
		return nil, err
	}
	a := &Answer{Status: said.Status, Code: said.Error, Seconds: said.ExpiresIn, Retry: said.Header.Get("Retry-After")}
	id, sentence, _ := strings.Cut(said.Description, ": ")
	for _, reason := range slices.Concat(rule.All(), rule.Outages()) {
		if reason.ID == id {
			a.Rule, a.Sentence = reason, sentence
		}
	}
	return a, nil
}
