package guard

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/internal/form"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
)

// DeskConfig is what [NewIntrospection] and [NewRevocation] work with.
//
// Both are for those who run the server, and belong on the internal listener, never on the
// public one: introspection tells whoever asks what a token says, and revocation
// locks parties out. RFC 7662 section 2.1 and RFC 7009 section 2.1 want the caller to be
// authorized. To reach the internal listener is the authorization, unless Secret is set.
type DeskConfig struct {
	Checker Checker
	Log     *slog.Logger

	// Canonical finds the canonical identifier of a party, for [NewRevocation]. An identifier that
	// nobody is known by comes back as it is; an error means that nobody can tell at this time.
	// Nil means that revocation takes every identifier as it is.
	Canonical func(context.Context, ishare.PartyID) (ishare.PartyID, error)

	// Secret must be sent as Authorization: Bearer … when it is not empty. Use one of at
	// least 128 random bits when others can reach the internal listener.
	Secret string
}

func (c DeskConfig) check(what string) error {
	if c.Checker == nil || c.Log == nil {
		return errors.New("guard: " + what + ": Checker and Log must be set")
	}
	return nil
}

// A desk takes a form from somebody who is authorized, and answers it.
type desk struct {
	config DeskConfig
	serve  func(http.ResponseWriter, *http.Request, form.Form) error
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := d.answer(w, r); err != nil {
		d.refuse(w, r, err)
	}
}

func (d *desk) answer(w http.ResponseWriter, r *http.Request) error {
	if fromBrowser(r.Header) {
		return errBrowser
	}
	if !d.authorized(r.Header) {
		return errUnauthorized
	}
	f, err := form.Read(r)
	if err != nil {
		return err
	}
	return d.serve(w, r, f)
}

// fromBrowser finds requests of web pages, which can post forms to the machine of whoever
// looks at them, and with a name of their own that resolves to it pass as being of the same
// site. No page has any business here.
func fromBrowser(h http.Header) bool {
	return len(h.Values("Origin")) > 0 || len(h.Values("Sec-Fetch-Site")) > 0
}

var (
	errBrowser      = errors.New("web pages are not answered here")
	errUnauthorized = errors.New("the request does not carry the secret of this server")
)

// authorized compares hashes in constant time: how long it takes tells neither the secret
// nor its length.
func (d *desk) authorized(h http.Header) bool {
	if d.config.Secret == "" {
		return true
	}
	values := h.Values("Authorization")
	if len(values) != 1 {
		return false
	}
	scheme, secret := splitCredentials(values[0])
	got, want := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(d.config.Secret))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// refuse is the one place where the errors of a desk become HTTP.
func (d *desk) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch rejection, _ := ishare.Classify(err); {
	case errors.Is(err, errBrowser):
		respond.JSON(w, http.StatusForbidden, errorBody{ishare.CodeInvalidRequest, err.Error()})
	case errors.Is(err, errUnauthorized):
		w.Header().Set("WWW-Authenticate", `Bearer realm="internal"`)
		respond.JSON(w, http.StatusUnauthorized, errorBody{ishare.CodeInvalidClient, err.Error()})
	case rejection != nil:
		if rejection.Rule == ishare.RequestMethod {
			w.Header().Set("Allow", http.MethodPost)
		}
		respond.JSON(w, rejection.Rule.Status, errorBody{rejection.Rule.Code, rejection.Description()})
	default:
		d.config.Log.ErrorContext(r.Context(), "a request about access tokens failed", slog.String("path", r.URL.Path), slog.Any("error", err))
		sentence := notChecked
		if undone, ok := errors.AsType[*undoneError](err); ok {
			sentence = undone.sentence
		}
		unavailable(sentence).write(w)
	}
}

// An undoneError says that something we depend on failed. It does not unwrap to the cause,
// in which there may be a rejection of a request of ours.
type undoneError struct {
	sentence string // for the client
	cause    error
}

func (e *undoneError) Error() string { return e.sentence + ": " + e.cause.Error() }

// value is a parameter without blanks around it: what is read from a file often has a line feed
// behind it, with which a token would be none, and its revocation would revoke nothing.
func value(f form.Form, name string) string { return strings.TrimSpace(f.Get(name)) }
