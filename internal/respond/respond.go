// Package respond writes the answers of an API: JSON that must not be cached, and errors in the form of OAuth.
package respond

import (
	"crypto/rand"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/rule"
)

// JSON answers with a body that can always be encoded: strings, numbers, booleans, and what consists of them.
func JSON(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil { // a mistake of ours; there is nothing to tell
		status, b = http.StatusInternalServerError, nil
	}
	Encoded(w, status, b)
}

// Encoded answers with JSON that has been encoded.
func Encoded(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	ForbidCaching(h)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// RequestID is the header of an answer that holds its [Correlation].
const RequestID = "X-Request-Id"

// Correlation is the identifier of a request, by which its event is found in the log: the X-Request-Id of the answer with
// this header. It is made when it is first asked for, and never taken from the request, where a stranger could write
// whatever should stand in our log, or the identifier of somebody else's request.
func Correlation(answer http.Header) string {
	if ids := answer[RequestID]; len(ids) == 1 {
		return ids[0]
	}
	id := rand.Text()
	answer[RequestID] = []string{id}
	return id
}

// Error answers with an error of RFC 6749 section 5.2, and its [Correlation] in a further member, as that section allows. The
// description is in the alphabet of that section.
func Error(w http.ResponseWriter, status int, code, description string) {
	JSON(w, status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Correlation string `json:"correlation"`
	}{code, description, Correlation(w.Header())})
}

// Unavailable answers that what was asked for cannot be done for the moment, and that one should try again in a second.
func Unavailable(w http.ResponseWriter, description string) {
	w.Header().Set("Retry-After", "1")
	Error(w, http.StatusServiceUnavailable, rule.CodeTemporarilyUnavailable, description)
}

// ForbidCaching is what RFC 6749 section 5.1 asks of every answer with a token, and iSHARE of
// every answer: that it says whether it may be kept.
func ForbidCaching(h http.Header) {
	values := []string{"no-store", "no-cache"} // one allocation for both
	h["Cache-Control"], h["Pragma"] = values[0:1:1], values[1:2:2]
}
