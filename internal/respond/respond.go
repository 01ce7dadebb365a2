// Package respond writes the answers of an API: JSON that nobody may keep.
package respond

import (
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
)

// JSON answers with a body that can always be encoded: strings, numbers, booleans, and what
// consists of them.
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

// ForbidCaching is what RFC 6749 section 5.1 asks of every answer with a token, and iSHARE of
// every answer: that it says whether it may be kept.
func ForbidCaching(h http.Header) {
	h["Cache-Control"] = []string{"no-store"}
	h["Pragma"] = []string{"no-cache"}
}
