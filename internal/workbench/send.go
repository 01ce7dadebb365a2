package workbench

import "github.com/waybill-token/waybill/rule"

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
	if twice {
		if _, err := m.Request.Send(base); err != nil {
			return nil, err
		}
	}
	said, err := m.Request.Send(base)
	if err != nil {
		return nil, err
	}
	a := &Answer{Status: said.Status, Code: said.Error, Seconds: said.ExpiresIn, Retry: said.Header.Get("Retry-After")}
	a.Rule, a.Sentence = rule.Described(said.Description)
	return a, nil
}
