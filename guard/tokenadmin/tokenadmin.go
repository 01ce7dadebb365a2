// Package tokenadmin has the two handlers by which those who run a server, and the gateways before its APIs, deal with
// its access tokens over HTTP:
//
//   - [NewIntrospection] answers what a token says, and whether it is good (RFC 7662);
//   - [NewRevocation] makes tokens invalid before they expire (RFC 7009): one token, or all of a party or a certificate.
//
// Both are for an internal listener:
//
//	c := tokenadmin.Config{Checker: tokens, Revocations: revocations, Log: log}
//	introspection, err := tokenadmin.NewIntrospection(c)
//	...
//	revocation, err := tokenadmin.NewRevocation(c)
//	...
//	internal.Handle("/introspect", introspection)
//	internal.Handle("/revoke", revocation)
//
// where tokens is the [accesstoken.Issuer] of the tokens, and revocations is what it has been given as its Revoked.
package tokenadmin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/bearer"
	"github.com/waybill-token/waybill/internal/form"
	"github.com/waybill-token/waybill/internal/logsum"
	"github.com/waybill-token/waybill/internal/respond"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// Config is what [NewIntrospection] and [NewRevocation] work with.
//
// Both are for those who run the server, and belong on the internal listener, never on the public one: introspection
// tells whoever asks what a token says, and revocation locks parties out. RFC 7662 section 2.1 and RFC 7009 section 2.1
// want the caller to be authorized. To reach the internal listener is the authorization, unless there are secrets.
//
// A secret may come as HTTP Basic or as client_id and client_secret in the form (RFC 6749 section
// 2.3.1), or as Authorization: Bearer; in one of these ways only.
//
// What fails for a cause of ours is written to the log once for each cause while it lasts, and how often when it has
// ended.
type Config struct {
	// Checker tells what a token says. Both handlers need it.
	Checker guard.Checker

	// Revocations is where [NewRevocation] keeps what is revoked, and must be set there.
	Revocations accesstoken.TokenRevocations

	// Log is told of revocations and of failures. Nil means silence.
	Log *slog.Logger

	// Record is told of each revocation before it takes place. When it cannot keep it, its error is that of the revocation.
	// Optional.
	Record func(context.Context, Revocation) error

	// Canonical finds the canonical identifier of a party, for [NewRevocation]. An identifier that
	// nobody is known by comes back as it is; an error means that nobody can tell at this time.
	// Nil means that revocation takes every identifier as it is.
	Canonical func(context.Context, ishare.PartyID) (ishare.PartyID, error)

	// Secret is good with any client identifier when it is not empty. Use one of at least 128
	// random bits when others can reach the internal listener.
	Secret string

	// Callers are the secrets of those who may ask besides, by client identifier, which consists of
	// up to 64 letters, digits and the characters - . _ ~. The log names who revokes. No two secrets
	// may be equal, Secret included. A map without entries lets nobody in; nil is no such map.
	Callers map[string]string
}

// A Revocation is who revokes which access tokens.
type Revocation struct {
	Caller, Remote string
	What           accesstoken.TokenRevocation
}

var callerName = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)

// newHandler checks the configuration, what being how errors call the handler.
func newHandler(what string, c Config) (*Handler, error) {
	if c.Checker == nil {
		return nil, errors.New("guard: " + what + ": the field Checker must be set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{config: c, log: logsum.New(c.Log), open: c.Secret == "" && c.Callers == nil}
	if c.Secret != "" {
		h.secrets = append(h.secrets, secret{hash: sha256.Sum256([]byte(c.Secret))})
	}
	for name, text := range c.Callers {
		hash := sha256.Sum256([]byte(text))
		switch {
		case !callerName.MatchString(name):
			return nil, fmt.Errorf("guard: %s: the name %q of a caller is empty, too long or holds other characters than letters, digits and -._~", what, name)
		case text == "":
			return nil, fmt.Errorf("guard: %s: the caller %s has no secret", what, name)
		case slices.ContainsFunc(h.secrets, func(s secret) bool { return s.hash == hash }):
			return nil, fmt.Errorf("guard: %s: the secret of the caller %s is that of another too", what, name)
		}
		h.secrets = append(h.secrets, secret{name, hash})
	}
	return h, nil
}

// A secret is kept as its hash, so that comparing takes the same time for every length.
type secret struct {
	name string // whose it is; empty: it is good with any name
	hash [sha256.Size]byte
}

// A Handler answers the requests of those who are authorized. Make it with [NewIntrospection] or [NewRevocation].
type Handler struct {
	config  Config
	log     *logsum.Log // of failures
	open    bool        // nobody needs a secret
	secrets []secret
	serve   func(http.ResponseWriter, *authorizedRequest) error
}

// An authorizedRequest is a request whose sender is authorized.
type authorizedRequest struct {
	*http.Request

	form   *form.Form
	caller string // empty: without a name
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	respond.Correlation(w.Header())
	if err := h.handle(w, r); err != nil {
		h.writeError(w, r, err)
	}
}

// Close writes to the log what was only counted so far. It is for a handler that gets no more requests.
func (h *Handler) Close() { h.log.Close() }

// handle finds out who sends the request, reads its form and does what it asks for.
func (h *Handler) handle(w http.ResponseWriter, r *http.Request) error {
	if fromBrowser(r.Header) {
		return errBrowser
	}
	a := &authorizedRequest{Request: r}
	var known bool
	if !h.open && !bearer.NoAuthorization(r.Header) { // before the body is read
		if a.caller, known = h.identify(headerCredentials(r.Header)); !known {
			return errUnauthorized
		}
	}
	var err error
	if a.form, err = form.Read(r); err != nil {
		return err
	}
	defer a.form.Release()
	shown := a.form.Get("client_secret")
	switch {
	case h.open:
	case known && shown != "":
		return errTwoCredentials
	case known:
	default:
		if a.caller, known = h.identify([]credentials{{a.form.Get("client_id"), shown, false}}); !known {
			return errUnauthorized
		}
	}
	return h.serve(w, a)
}

// Credentials are what a request shows.
type credentials struct {
	name, secret string
	nameless     bool // as with Bearer: the secret tells whose it is
}

// headerCredentials reads the Authorization header. RFC 6749 section 2.3.1 encodes name and secret before they go into
// Basic, and not every client does: both readings are given, and who knows neither gains nothing by there being two.
func headerCredentials(h http.Header) []credentials {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return nil
	}
	scheme, text := bearer.SplitAuthorization(values[0])
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return []credentials{{secret: text, nameless: true}}
	case !strings.EqualFold(scheme, "Basic"):
		return nil
	}
	decoded, err := base64.StdEncoding.DecodeString(text)
	name, secret, ok := strings.Cut(string(decoded), ":")
	if err != nil || !ok {
		return nil
	}
	readings := []credentials{{name, secret, false}}
	plainName, err1 := url.QueryUnescape(name)
	plainSecret, err2 := url.QueryUnescape(secret)
	if err1 == nil && err2 == nil {
		readings = append(readings, credentials{plainName, plainSecret, false})
	}
	return readings
}

// identify compares with every secret, in constant time: how long it takes tells nothing about one.
func (h *Handler) identify(shown []credentials) (caller string, known bool) {
	for _, c := range shown {
		got := sha256.Sum256([]byte(c.secret))
		for _, s := range h.secrets {
			equal := subtle.ConstantTimeCompare(got[:], s.hash[:]) == 1
			if equal && (c.nameless || s.name == "" || s.name == c.name) {
				caller, known = s.name, true
			}
		}
	}
	return caller, known
}

// fromBrowser finds requests of web pages, which can post forms to the machine of whoever looks at them, and with a
// name of their own that resolves to it pass as being of the same site. No page has any business here.
func fromBrowser(h http.Header) bool {
	return len(h.Values("Origin")) > 0 || len(h.Values("Sec-Fetch-Site")) > 0
}

var (
	errBrowser        = errors.New("web pages are not answered here")
	errUnauthorized   = errors.New("the request does not carry a secret of this server")
	errTwoCredentials = errors.New("the request carries client_secret besides the Authorization header") // RFC 6749 section 2.3
)

// writeError is the one place where the errors of a handler become HTTP.
func (h *Handler) writeError(w http.ResponseWriter, r *http.Request, err error) {
	switch rejection, _ := rule.Classify(err); {
	case errors.Is(err, errBrowser):
		respond.Error(w, http.StatusForbidden, rule.CodeInvalidRequest, err.Error())
	case errors.Is(err, errUnauthorized):
		w.Header()["Www-Authenticate"] = []string{`Basic realm="internal", charset="UTF-8"`, `Bearer realm="internal"`}
		respond.Error(w, http.StatusUnauthorized, rule.CodeInvalidClient, err.Error())
	case errors.Is(err, errTwoCredentials):
		respond.Error(w, http.StatusBadRequest, rule.CodeInvalidRequest, err.Error())
	case rejection != nil:
		if rejection.Rule == rule.RequestMethod {
			w.Header().Set("Allow", http.MethodPost)
		}
		respond.Error(w, rejection.Rule.Status, rejection.Rule.Code, rejection.Description())
	default:
		sentence, cause := bearer.NotChecked, err
		if failed, ok := errors.AsType[*dependencyError](err); ok {
			sentence, cause = failed.sentence, failed.cause
		}
		h.log.Lasting(r.Context(), slog.LevelError, "a request about access tokens failed", logsum.Reason(cause),
			func() []slog.Attr {
				return []slog.Attr{slog.String("correlation", respond.Correlation(w.Header())), slog.String("path", r.URL.Path), slog.Any("error", err)}
			})
		respond.Unavailable(w, sentence)
	}
}

// A dependencyError says that something we depend on failed. It does not unwrap to the cause,
// in which there may be a rejection of a request of ours.
type dependencyError struct {
	sentence string // for the client
	cause    error
}

func (e *dependencyError) Error() string { return e.sentence + ": " + e.cause.Error() }

// value is a parameter without blanks around it: what is read from a file often has a line feed
// behind it, with which a token would be none, and its revocation would revoke nothing.
func (a *authorizedRequest) value(name string) string { return strings.TrimSpace(a.form.Get(name)) }
