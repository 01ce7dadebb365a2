package tokenendpoint

import (
	"math"
	"net/http"
	"strconv"
	"time"

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

// writeError is the one place where errors become HTTP. What is neither a
// rejection nor an outage is our own fault and shows nothing but its
// correlation id.
func writeError(w http.ResponseWriter, err error, correlation string) {
	switch rejection, outage := rule.Classify(err); {
	case rejection != nil:
		if rejection.Rule == rule.RequestMethod {
			w.Header().Set("Allow", http.MethodPost)
		}
		writeRule(w, rejection.Rule, rejection.Description())
	case outage != nil:
		w.Header().Set("Retry-After", strconv.Itoa(retrySeconds(outage.RetryAfter)))
		writeRule(w, outage.Rule, outage.Description())
	default:
		internal := rule.Internal.Because("%s; correlation id %s", rule.Internal.Sentence, correlation)
		writeRule(w, internal.Rule, internal.Description())
	}
}

// retrySeconds rounds up: an earlier try would be in vain.
func retrySeconds(d time.Duration) int {
	return max(1, int(math.Ceil(d.Seconds())))
}

func writeRule(w http.ResponseWriter, reason *rule.Rule, description string) {
	respond.Error(w, reason.Status, reason.Code, description)
}
