// Package guardtest has what the tests of guarding share: somebody who issues tokens, checkers that cannot tell, and every
// way to guard an API with them.
package guardtest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/ishare"
)

// Who issues tokens, and who gets them: by an alias, with a certificate of this thumbprint.
const (
	Provider    = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")
	Consumer    = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000001")
	Alias       = ishare.PartyID("EU.EORI.NL000000001")
	Certificate = "abababababababababababababababababababababababababababababababab"
)

// An Issuer has keys of its own, and forgets revocations when it ends.
type Issuer struct {
	*accesstoken.Issuer
	Revocations *accesstoken.MemoryTokenRevocations
}

// NewIssuer makes an issuer whose tokens last an hour.
func NewIssuer(tb testing.TB) *Issuer {
	tb.Helper()
	keys, err := accesstoken.OpenKeys(tb.TempDir(), slog.New(slog.DiscardHandler))
	NoError(tb, err)
	revocations, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{})
	NoError(tb, err)
	issuer, err := accesstoken.New(accesstoken.Config{Party: Provider, Lifetime: time.Hour, Keys: keys, Revoked: revocations})
	NoError(tb, err)
	return &Issuer{issuer, revocations}
}

// Token issues one to the consumer.
func (i *Issuer) Token(tb testing.TB, scope ...string) string {
	tb.Helper()
	token, _, err := i.Issue(tb.Context(), accesstoken.Claims{Party: Consumer, Client: Alias, Scope: scope, Thumbprint: Certificate})
	NoError(tb, err)
	return token
}

// NoError ends the test if there is an error.
func NoError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// A CheckResult is a checker that returns this error and no claims.
type CheckResult struct{ Err error }

// Check implements [guard.Checker].
func (c CheckResult) Check(context.Context, string) (*accesstoken.Claims, error) { return nil, c.Err }

// Undecided is a checker that cannot tell whether a token is good.
var Undecided = CheckResult{errors.New("the folder is gone: /secret/path")} //nolint:gochecknoglobals // a constant

// NoResult is one that returns neither claims nor an error.
var NoResult = CheckResult{} //nolint:gochecknoglobals // as above

// Unreachable is a store of revocations that does not answer.
type Unreachable struct{}

// Revoked implements [accesstoken.TokenRevocations].
func (Unreachable) Revoked(context.Context, *accesstoken.Claims) (bool, error) {
	return false, errors.New("no connection")
}

// Revoke implements [accesstoken.TokenRevocations].
func (Unreachable) Revoke(context.Context, accesstoken.TokenRevocation) error {
	return errors.New("no connection")
}

// Get asks a handler, with the token if it is not empty.
func Get(h http.Handler, target, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// NewLog returns a log in JSON, and what is written to it.
func NewLog() (*slog.Logger, *logtest.Buffer) {
	t := &logtest.Buffer{}
	return slog.New(slog.NewJSONHandler(t, &slog.HandlerOptions{Level: slog.LevelDebug})), t
}

// CheckSummedUp checks that a failure of every request is logged once while it lasts, and a second time, with the number of
// requests, when it has ended.
func CheckSummedUp(t *testing.T, message string, newHandler func(*slog.Logger) (http.Handler, error), ask func(http.Handler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log, told := NewLog()
		handler, err := newHandler(log)
		NoError(t, err)
		lines := func() int { return strings.Count(told.String(), message) }
		for range 100 {
			ask(handler)
		}
		if lines() != 1 {
			t.Errorf("%d lines while it lasts: %s", lines(), told)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if lines() != 2 || !strings.Contains(told.String(), `"more":99`) {
			t.Errorf("%d lines when it has ended: %s", lines(), told)
		}
		ask(handler)
		ask(handler)
		closer, ok := handler.(interface{ Close() })
		if !ok {
			t.Fatal("nothing writes what was counted at the end")
		}
		closer.Close()
		if lines() != 4 {
			t.Errorf("%d lines at the end: %s", lines(), told)
		}
	})
}

// HandlerTransport answers requests by a handler, without a network.
type HandlerTransport struct{ http.Handler }

// RoundTrip implements [http.RoundTripper].
func (h HandlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	served := r.Clone(r.Context())
	served.RequestURI = r.URL.RequestURI()
	if served.Body == nil {
		served.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, served)
	answer := w.Result()
	answer.Request = r
	return answer, nil
}

// A Way is one of the ways to guard an API: it makes a handler that lets requests with the scope
// values through to GET /orders, which answers the caller's party. Log may be nil.
type Way struct {
	Name  string
	Guard func(tb testing.TB, checker guard.Checker, log *slog.Logger, scopes ...string) http.Handler
}

// Ways are all of them.
func Ways() []Way {
	return []Way{
		{"middleware", func(_ testing.TB, checker guard.Checker, log *slog.Logger, scopes ...string) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("GET /orders", guard.Require(guard.LogOutages(checker, log), scopes...)(http.HandlerFunc(Caller)))
			return mux
		}},
		{"forward-auth", func(tb testing.TB, checker guard.Checker, log *slog.Logger, scopes ...string) http.Handler {
			tb.Helper()
			auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: checker, Log: log})
			NoError(tb, err)
			return &gateway{auth: auth, upstream: orders(), query: url.Values{"scope": scopes, "status": {"exact"}}}
		}},
		{"proxy", func(tb testing.TB, checker guard.Checker, log *slog.Logger, scopes ...string) http.Handler {
			tb.Helper()
			reverse, err := proxy.New(proxy.Config{
				Checker: checker, Log: log, Transport: HandlerTransport{orders()},
				Routes: []proxy.Route{{Path: "/", Upstream: &url.URL{Scheme: "http", Host: "upstream.example"}, Scope: scopes}},
			})
			NoError(tb, err)
			return reverse
		}},
	}
}

// IdentityHeaders are the names by which a program behind a proxy learns who calls.
var IdentityHeaders = []string{proxy.HeaderClientID, proxy.HeaderPartyID, proxy.HeaderScope, proxy.HeaderThumbprint}

// Caller answers who calls, by the context.
func Caller(w http.ResponseWriter, r *http.Request) {
	c, ok := guard.Caller(r.Context())
	if !ok {
		http.Error(w, "no caller", http.StatusTeapot)
		return
	}
	_, _ = io.WriteString(w, string(c.Client)+" "+string(c.Party)+" "+c.Scope.String()+" "+c.Thumbprint)
}

// orders answers who calls, by the header, as a program does that knows nothing of us.
func orders() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		var values []string
		for _, name := range IdentityHeaders {
			values = append(values, r.Header.Values(name)...)
		}
		_, _ = io.WriteString(w, strings.Join(values, " ")) //nolint:gosec // no browser reads the answers of a test
	})
	return mux
}

// A gateway asks forward-auth about each request, as nginx and its like do.
type gateway struct {
	auth, upstream http.Handler
	query          url.Values
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	question := httptest.NewRequestWithContext(r.Context(), http.MethodGet, "/auth?"+g.query.Encode(), nil)
	question.Header = r.Header.Clone()
	answer := httptest.NewRecorder()
	g.auth.ServeHTTP(answer, question)
	if answer.Code != http.StatusOK {
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	for _, name := range IdentityHeaders {
		r.Header[name] = answer.Header()[name]
	}
	g.upstream.ServeHTTP(w, r)
}
