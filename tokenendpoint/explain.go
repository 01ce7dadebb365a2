package tokenendpoint

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/form"
	"github.com/waybill-token/waybill/rule"
)

// Asked is what an explanation finds in a token request.
type Asked struct {
	ClientID  string // as it was sent
	Assertion string
	Scope     string
}

// formRules are the rules about the request that come before its parameters, in their order.
var formRules = []*rule.Rule{
	rule.RequestMethod, rule.RequestMediaType, rule.RequestSize, rule.RequestMalformed, rule.RequestDuplicateParameter,
}

// parameterOf is the parameter that a rule is about.
var parameterOf = map[*rule.Rule]string{
	rule.RequestGrantType: "grant_type", rule.RequestScope: "scope", rule.RequestClientID: "client_id", rule.RequestAssertionType: "client_assertion_type",
}

// Explain judges a request as a [Handler] with these scopes does, up to the assertion, and records the outcome of each rule
// in the trace. It does not stop at the first rule that fails, and returns what it could find. Without scopes, any value
// counts as known.
func Explain(r *http.Request, scopes []string, trace *rule.Trace) Asked {
	values := parametersOf(r, trace)
	f, err := form.Parse([]byte(values.Encode()))
	if values == nil || err != nil { // there is too much of it
		return Asked{}
	}
	if scopes == nil {
		scopes = strings.Fields(f.Get("scope"))
	}
	in := newParametersInput(r, f, knownScopes(scopes))
	for _, check := range parameterChecks {
		if name := parameterOf[check.Rule]; name == "" || f.View(name) != "" { // that it is missing was said
			trace.Record(check.Rule, check.Apply(in))
		}
	}
	return Asked{ClientID: f.Get("client_id"), Assertion: f.Get("client_assertion"), Scope: f.Get("scope")}
}

// parametersOf applies the rules about the form. Where one fails, what it is about is put right, so that the next can be
// applied, and of parameters that occur more than once the first counts.
func parametersOf(r *http.Request, trace *rule.Trace) url.Values {
	body, _ := io.ReadAll(io.LimitReader(r.Body, MaxBody+1)) // an error is one of the form
	attempt := r.Clone(r.Context())
	for range formRules {
		attempt.Body = io.NopCloser(bytes.NewReader(body))
		f, err := form.Read(attempt)
		if err == nil {
			f.Release()
		}
		rejection, _ := rule.Classify(err)
		recordUpTo(rejection, trace)
		if rejection != nil && rejection.Rule == rule.RequestSize {
			return nil
		}
		if rejection == nil || rejection.Rule != rule.RequestMethod && rejection.Rule != rule.RequestMediaType {
			break
		}
		attempt.Method = http.MethodPost
		if rejection.Rule == rule.RequestMediaType {
			attempt.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			values, inForm := sent(r.Header, body)
			if !inForm {
				return values
			}
		}
	}
	return formOf(body)
}

// Sent reads as much of a body as can be read, whether it is a form or, wrongly, JSON or multipart: of each parameter the
// first value that is not empty.
func Sent(header http.Header, body []byte) url.Values {
	values, _ := sent(header, body)
	return values
}

func sent(header http.Header, body []byte) (values url.Values, inForm bool) {
	if mediaType, parameters, err := mime.ParseMediaType(header.Get("Content-Type")); err == nil && mediaType == "multipart/form-data" {
		parts, err := multipart.NewReader(bytes.NewReader(body), parameters["boundary"]).ReadForm(MaxBody)
		if err == nil {
			defer func() { _ = parts.RemoveAll() }() // none is so large that it would be on disk
			return parts.Value, false
		}
	}
	if values := membersOf(body); values != nil {
		return values, false
	}
	return formOf(body), true
}

// formOf reads a form. A semicolon is part of a value, as it is to a [Handler].
func formOf(body []byte) url.Values {
	values, _ := url.ParseQuery(strings.ReplaceAll(string(body), ";", "%3B")) // as much as can be read
	for name, all := range values {
		given := slices.DeleteFunc(all, func(value string) bool { return value == "" })
		if values[name] = given[:min(len(given), 1)]; len(given) == 0 {
			delete(values, name)
		}
	}
	return values
}

// recordUpTo records that the rules about the form hold up to one that does not.
func recordUpTo(rejection *rule.Rejection, trace *rule.Trace) {
	for _, reason := range formRules {
		fails := rejection != nil && reason == rejection.Rule
		if _, applied := trace.Outcome(reason); !applied && fails {
			trace.Record(reason, rejection)
		} else if !applied {
			trace.Record(reason, nil)
		}
		if fails {
			return
		}
	}
}

// membersOf are the parameters of a body that is a JSON object of texts, which some clients send.
func membersOf(body []byte) url.Values {
	var members map[string]any
	if json.Unmarshal(body, &members) != nil {
		return nil
	}
	values := url.Values{}
	for name, member := range members {
		if text, ok := member.(string); ok {
			values.Set(name, text)
		}
	}
	return values
}
