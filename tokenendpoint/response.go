package tokenendpoint

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// tokenAnswer is the JSON of RFC 6749 section 5.1. An empty scope is left out.
func tokenAnswer(token string, life time.Duration, scope string) ([]byte, error) {
	b := make([]byte, 0, len(token)+len(scope)+128)
	b, err := jsontext.AppendQuote(append(b, `{"access_token":`...), token)
	b = append(b, `,"token_type":"Bearer","expires_in":`...)
	b = strconv.AppendInt(b, int64(life/time.Second), 10)
	if err == nil && scope != "" {
		b, err = jsontext.AppendQuote(append(b, `,"scope":`...), scope)
	}
	return append(b, '}'), err
}

// writeError is the one place where errors become HTTP. What is neither a rejection nor an outage is our own fault and
// shows nothing but its correlation id.
func writeError(w http.ResponseWriter, err error, correlation string) {
	rejection, outage := rule.Classify(err)
	switch {
	case outage != nil:
		seconds := max(1, int(math.Ceil(outage.RetryAfter.Seconds()))) // an earlier try would be in vain
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		respond.Error(w, outage.Rule.Status, outage.Rule.Code, outage.Description())
		return
	case rejection == nil:
		rejection = rule.Internal.Because("%s; correlation id %s", rule.Internal.Sentence, correlation)
	case rejection.Rule == rule.RequestMethod:
		w.Header().Set("Allow", http.MethodPost)
	}
	respond.Error(w, rejection.Rule.Status, rejection.Rule.Code, rejection.Description())
}
