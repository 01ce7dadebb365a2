package guard_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/guard/tokenadmin"
	"github.com/waybill-token/waybill/ishare"
)

// undecided is a checker that cannot tell.
type undecided struct{}

func (undecided) Check(context.Context, string) (*accesstoken.Claims, error) {
	return nil, errors.New("the folder is gone: /secret/path")
}

func TestUndecidedIsUnavailable(t *testing.T) {
	for _, way := range ways() {
		t.Run(way.name, func(t *testing.T) {
			w := get(way.guard(t, undecided{}, nil), "/orders", "x")
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
		})
	}
}

// silent is a store of revocations that does not answer.
type silent struct{}

func (silent) Revoked(context.Context, *accesstoken.Claims) (bool, error) {
	return false, errors.New("no connection")
}

func (silent) Revoke(context.Context, accesstoken.TokenRevocation) error {
	return errors.New("no connection")
}

// A good token whose revocation nobody can look up lets nobody in.
func TestSilentRevocationsAreUnavailable(t *testing.T) {
	keys, err := accesstoken.OpenKeys(t.TempDir(), quiet)
	check(t, err)
	issuer, err := accesstoken.New(accesstoken.Config{Party: provider, Lifetime: accesstoken.MaxLifetime, Keys: keys, Revoked: silent{}})
	check(t, err)
	token := (&house{Issuer: issuer}).token(t, "iSHARE")
	for _, way := range ways() {
		if w := get(way.guard(t, issuer, nil), "/orders", token); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", way.name, w.Code, w.Body)
		}
	}
}

// voiceless is a checker that neither vouches for a token nor says what is wrong.
type voiceless struct{}

func (voiceless) Check(context.Context, string) (*accesstoken.Claims, error) {
	return nil, nil //nolint:nilnil // this is what it is about
}

func TestVoicelessIsUnavailable(t *testing.T) {
	for _, way := range ways() {
		if w := get(way.guard(t, voiceless{}, nil), "/orders", "x"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", way.name, w.Code, w.Body)
		}
	}
	introspection, err := tokenadmin.NewIntrospection(tokenadmin.Config{Checker: voiceless{}, Log: quiet})
	check(t, err)
	revocation, err := tokenadmin.NewRevocation(tokenadmin.Config{Checker: voiceless{}, Log: quiet, Revocations: newHouse(t).revocations})
	check(t, err)
	for _, desk := range []http.Handler{introspection, revocation} {
		if w := post(desk, form("token", "x")); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// Why a token could not be checked is logged, once, and what is wrong with a token is not.
func TestOutagesAreLogged(t *testing.T) {
	h := newHouse(t)
	for _, way := range []struct {
		name  string
		guard func(guard.Checker, *slog.Logger) http.Handler
	}{
		{"middleware", func(c guard.Checker, log *slog.Logger) http.Handler {
			return guard.Require(guard.LogOutages(c, log))(http.HandlerFunc(caller))
		}},
		{"optional middleware", func(c guard.Checker, log *slog.Logger) http.Handler {
			return guard.Optional(guard.LogOutages(c, log))(http.HandlerFunc(caller))
		}},
		{"forward-auth", func(c guard.Checker, log *slog.Logger) http.Handler {
			auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: c, Log: log})
			check(t, err)
			return auth
		}},
		{"proxy", func(c guard.Checker, log *slog.Logger) http.Handler {
			return newProxy(t, nil, proxy.Config{Checker: c, Log: log, Routes: []proxy.Route{routeTo(t, "/", "http://x")}})
		}},
	} {
		log, told := newLog()
		for _, outage := range []guard.Checker{undecided{}, voiceless{}} {
			get(way.guard(outage, log), "/auth", "a-token")
		}
		text := told.String()
		if strings.Count(text, "could not be checked") != 2 || !strings.Contains(text, "the folder is gone") || strings.Contains(text, "a-token") {
			t.Errorf("%s: log: %s", way.name, text)
		}
		log, told = newLog()
		for _, token := range []string{"", "bad", newHouse(t).token(t, "iSHARE")} {
			get(way.guard(h, log), "/auth", token)
		}
		if text := told.String(); strings.Contains(text, "ERROR") {
			t.Errorf("%s: log: %s", way.name, text)
		}
	}
}

// A stranger must not fill the log: neither by asking often, nor by leaving before the answer.
func TestOutagesAreLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, told := newLog()
		checker := guard.LogOutages(undecided{}, log)
		lines := func() int { return strings.Count(told.String(), "could not be checked") }
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := checker.Check(gone, "a-token"); err == nil || lines() != 0 {
			t.Errorf("%v, %d lines of a client that has left", err, lines())
		}
		for range 1000 {
			_, _ = checker.Check(t.Context(), "a-token")
		}
		if lines() != 1 {
			t.Errorf("%d lines in one moment", lines())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if lines() != 2 || !strings.Contains(told.String(), `"more":999`) {
			t.Errorf("%d lines when it has ended: %s", lines(), told)
		}
		_, _ = checker.Check(t.Context(), "a-token")
		_, _ = checker.Check(t.Context(), "a-token")
		if same := guard.LogOutages(checker, log); same != checker {
			t.Error("each outage would be told twice")
		}
		check(t, checker.Close())
		if lines() != 4 {
			t.Errorf("%d lines at the end: %s", lines(), told)
		}
	})
}

// Without the middleware there is no caller, whatever the request says.
func TestCallerOutsideOfRequire(t *testing.T) {
	if _, ok := guard.Caller(t.Context()); ok {
		t.Error("a caller out of nothing")
	}
}

func TestOptional(t *testing.T) {
	h := newHouse(t)
	handler := guard.Optional(h, ishare.ScopeISHARE)(http.HandlerFunc(caller))
	if w := get(handler, "/", h.token(t, "iSHARE")); w.Code != http.StatusOK {
		t.Errorf("with a token: %d", w.Code)
	}
	if w := get(handler, "/", ""); w.Code != http.StatusTeapot {
		t.Errorf("without one: %d", w.Code)
	}
	if w := get(handler, "/", "bad"); w.Code != http.StatusUnauthorized {
		t.Errorf("with a bad one: %d", w.Code)
	}
	if w := get(handler, "/", h.token(t, "orders")); w.Code != http.StatusForbidden {
		t.Errorf("with a narrow one: %d", w.Code)
	}
	for value, want := range map[string]int{"Basic eDp5": http.StatusBadRequest, "Bearer": http.StatusBadRequest, "": http.StatusTeapot, " ": http.StatusTeapot} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Authorization"] = []string{value}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d", value, w.Code)
		}
	}
}

// A guard is never made without somebody who checks.
func TestConfigurationsThatGuardNothing(t *testing.T) {
	h := newHouse(t)
	route := []proxy.Route{routeTo(t, "/", "http://127.0.0.1:1")}
	_, noChecker := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Log: quiet})
	_, introspection := tokenadmin.NewIntrospection(tokenadmin.Config{Log: quiet})
	_, revocation := tokenadmin.NewRevocation(tokenadmin.Config{Log: quiet, Revocations: h.revocations})
	_, nowhere := tokenadmin.NewRevocation(tokenadmin.Config{Checker: h, Log: quiet, Revocations: nil})
	_, reverse := proxy.New(proxy.Config{Routes: route, Log: quiet})
	_, noRoutes := proxy.New(proxy.Config{Checker: h, Log: quiet})
	_, negative := proxy.New(proxy.Config{Routes: route, Checker: h, Log: quiet, MaxBody: -1})
	for i, err := range []error{noChecker, introspection, revocation, nowhere, reverse, noRoutes, negative} {
		if err == nil {
			t.Errorf("case %d is accepted", i)
		}
	}
}

// Nor by a middleware, which has no error to return.
func TestNoChecker(t *testing.T) {
	for name, guards := range map[string]func(){
		"Require":    func() { guard.Require(nil, "iSHARE") },
		"Optional":   func() { guard.Optional(nil) },
		"LogOutages": func() { guard.LogOutages(nil, quiet) },
	} {
		func() {
			defer func() {
				if told, _ := recover().(string); !strings.Contains(told, "checker") {
					t.Errorf("%s: %q", name, told)
				}
			}()
			guards()
		}()
	}
}

// Without a log, failures are answered in silence.
func TestNoLog(t *testing.T) {
	route := routeTo(t, "/", "http://127.0.0.1:1")
	reverse, err := proxy.New(proxy.Config{Routes: []proxy.Route{route}, Checker: undecided{}})
	check(t, err)
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: undecided{}})
	check(t, err)
	for _, h := range []http.Handler{reverse, auth, guard.Require(guard.LogOutages(undecided{}, nil))(auth)} {
		if w := get(h, "/", "x"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	c := tokenadmin.Config{Checker: undecided{}, Revocations: newHouse(t).revocations}
	introspection, err := tokenadmin.NewIntrospection(c)
	check(t, err)
	revocation, err := tokenadmin.NewRevocation(c)
	check(t, err)
	for _, h := range []http.Handler{introspection, revocation} {
		if w := post(h, form("token", "x")); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

func flip(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
	}
	return string(b)
}
