package bearer

import (
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/rule"
)

// Error codes of RFC 6750 section 3.1.
const (
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
)

// A refusal is an answer instead of what was asked for.
type Refusal struct {
	Status      int
	Code        string
	Description string // in the alphabet of RFC 6749 section 5.2
	Challenge   bool   // it is one of RFC 6750 section 3, with a challenge
	Scope       string // what is demanded
	Allow       string // the methods that are allowed, beside status 405
}

// missingToken challenges, and says nothing of an error: RFC 6750 section 3.1.
func missingToken() *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Challenge: true}
}

func invalidRequest(description string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: rule.CodeInvalidRequest, Description: description, Challenge: true}
}

func invalidToken(description string) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Code: codeInvalidToken, Description: description, Challenge: true}
}

func insufficientScope(scopes []string) *Refusal {
	return &Refusal{
		Status: http.StatusForbidden, Code: codeInsufficientScope, Challenge: true,
		Description: "the token lacks a scope value that is asked for here", Scope: strings.Join(scopes, " "),
	}
}

func Unavailable(description string) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: rule.CodeTemporarilyUnavailable, Description: description}
}

const NotChecked = "the token cannot be checked at this time"

func unchecked() *Refusal { return Unavailable(NotChecked) }

func BadRequest(why string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: rule.CodeInvalidRequest, Description: why}
}

// challenge is the value of WWW-Authenticate.
func (f *Refusal) challenge() string {
	parts := []string{`Bearer realm="iSHARE"`}
	if f.Code != "" {
		parts = append(parts, `error="`+f.Code+`"`, `error_description="`+f.Description+`"`)
	}
	if f.Scope != "" {
		parts = append(parts, `scope="`+f.Scope+`"`)
	}
	return strings.Join(parts, ", ")
}

func (f *Refusal) Write(w http.ResponseWriter) {
	h := w.Header()
	if f.Challenge {
		h["Www-Authenticate"] = []string{f.challenge()}
	}
	switch f.Status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", f.Allow)
	}
	if f.Code == "" {
		respond.ForbidCaching(h)
		h.Set("Content-Length", "0") // also to HEAD
		w.WriteHeader(f.Status)
		return
	}
	respond.Error(w, f.Status, f.Code, f.Description)
}
