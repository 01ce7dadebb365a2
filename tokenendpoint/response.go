package tokenendpoint

import (
	"math"
	"net/http"
	"strconv"

	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// tokenBody is the answer of RFC 6749 section 5.1.
type tokenBody struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	Scope       string `json:"scope,omitempty"`
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
