package guard

import (
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
)

// Error codes of RFC 6750 section 3.1.
const (
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
)

// A refusal is an answer instead of what was asked for.
type refusal struct {
	status      int
	code        string
	description string // in the alphabet of RFC 6749 section 5.2
	bearer      bool   // it is one of RFC 6750 section 3, with a challenge
	scope       string // what is demanded
}

// missingToken challenges, and says nothing of an error: RFC 6750 section 3.1.
func missingToken() *refusal {
	return &refusal{status: http.StatusUnauthorized, bearer: true}
}

func invalidRequest(description string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: ishare.CodeInvalidRequest, description: description, bearer: true}
}

func invalidToken(description string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: codeInvalidToken, description: description, bearer: true}
}

func insufficientScope(scopes []string) *refusal {
	return &refusal{
		status: http.StatusForbidden, code: codeInsufficientScope, bearer: true,
		description: "the token lacks a scope value that is asked for here", scope: strings.Join(scopes, " "),
	}
}

func unavailable(description string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: ishare.CodeTemporarilyUnavailable, description: description}
}

const notChecked = "the token cannot be checked at this time"

func unchecked() *refusal { return unavailable(notChecked) }

func badRequest(why string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: ishare.CodeInvalidRequest, description: why}
}

// challenge is the value of WWW-Authenticate.
func (f *refusal) challenge() string {
	parts := []string{`Bearer realm="iSHARE"`}
	if f.code != "" {
		parts = append(parts, `error="`+f.code+`"`, `error_description="`+f.description+`"`)
	}
	if f.scope != "" {
		parts = append(parts, `scope="`+f.scope+`"`)
	}
	return strings.Join(parts, ", ")
}

// errorBody is the answer of RFC 6749 section 5.2, which RFC 6750 leaves to us.
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (f *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	if f.bearer {
		h["Www-Authenticate"] = []string{f.challenge()}
	}
	switch f.status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", passedMethods)
	}
	if f.code == "" {
		respond.ForbidCaching(h)
		h.Set("Content-Length", "0") // also to HEAD
		w.WriteHeader(f.status)
		return
	}
	respond.JSON(w, f.status, errorBody{f.code, f.description})
}
