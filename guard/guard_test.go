package guard_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/ishare"
)

func TestUndecidedIsUnavailable(t *testing.T) {
	for _, way := range guardtest.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			w := guardtest.Get(way.Guard(t, guardtest.Undecided, nil), "/orders", "x")
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
		})
	}
}

// A good token whose revocation nobody can look up lets nobody in.
func TestSilentRevocationsAreUnavailable(t *testing.T) {
	keys, err := accesstoken.OpenKeys(t.TempDir(), slog.New(slog.DiscardHandler))
	guardtest.NoError(t, err)
	issuer, err := accesstoken.New(accesstoken.Config{Party: guardtest.Provider, Lifetime: accesstoken.MaxLifetime, Keys: keys, Revoked: guardtest.Unreachable{}})
	guardtest.NoError(t, err)
	token := (&guardtest.Issuer{Issuer: issuer}).Token(t, "iSHARE")
	for _, way := range guardtest.Ways() {
		if w := guardtest.Get(way.Guard(t, issuer, nil), "/orders", token); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", way.Name, w.Code, w.Body)
		}
	}
}

func TestNoResultIsUnavailable(t *testing.T) {
	for _, way := range guardtest.Ways() {
		if w := guardtest.Get(way.Guard(t, guardtest.NoResult, nil), "/orders", "x"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", way.Name, w.Code, w.Body)
		}
	}
}

// Why a token could not be checked is logged, once, and what is wrong with a token is not.
func TestOutagesAreLogged(t *testing.T) {
	h := guardtest.NewIssuer(t)
	optional := guardtest.Way{Name: "optional middleware", Guard: func(_ testing.TB, c guard.Checker, log *slog.Logger, _ ...string) http.Handler {
		return guard.Optional(guard.LogOutages(c, log))(http.HandlerFunc(guardtest.Caller))
	}}
	for _, way := range append(guardtest.Ways(), optional) {
		log, told := guardtest.NewLog()
		for _, outage := range []guard.Checker{guardtest.Undecided, guardtest.NoResult} {
			guardtest.Get(way.Guard(t, outage, log), "/orders", "a-token")
		}
		text := told.String()
		if strings.Count(text, "could not be checked") != 2 || !strings.Contains(text, "the folder is gone") || strings.Contains(text, "a-token") {
			t.Errorf("%s: log: %s", way.Name, text)
		}
		log, told = guardtest.NewLog()
		for _, token := range []string{"", "bad", guardtest.NewIssuer(t).Token(t, "iSHARE")} {
			guardtest.Get(way.Guard(t, h, log), "/orders", token)
		}
		if text := told.String(); strings.Contains(text, "ERROR") {
			t.Errorf("%s: log: %s", way.Name, text)
		}
	}
}

// A stranger must not fill the log: neither by asking often, nor by leaving before the answer.
func TestOutagesAreLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, told := guardtest.NewLog()
		checker := guard.LogOutages(guardtest.Undecided, log)
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
		checker.Close()
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
	h := guardtest.NewIssuer(t)
	handler := guard.Optional(h, ishare.ScopeISHARE)(http.HandlerFunc(guardtest.Caller))
	if w := guardtest.Get(handler, "/", h.Token(t, "iSHARE")); w.Code != http.StatusOK {
		t.Errorf("with a token: %d", w.Code)
	}
	if w := guardtest.Get(handler, "/", ""); w.Code != http.StatusTeapot {
		t.Errorf("without one: %d", w.Code)
	}
	if w := guardtest.Get(handler, "/", "bad"); w.Code != http.StatusUnauthorized {
		t.Errorf("with a bad one: %d", w.Code)
	}
	if w := guardtest.Get(handler, "/", h.Token(t, "orders")); w.Code != http.StatusForbidden {
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

// A guard is never made without somebody who checks. There is no error to return.
func TestNoChecker(t *testing.T) {
	for name, guards := range map[string]func(){
		"Require":    func() { guard.Require(nil, "iSHARE") },
		"Optional":   func() { guard.Optional(nil) },
		"LogOutages": func() { guard.LogOutages(nil, slog.New(slog.DiscardHandler)) },
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
	for _, way := range guardtest.Ways() {
		if w := guardtest.Get(way.Guard(t, guardtest.Undecided, nil), "/orders", "x"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", way.Name, w.Code, w.Body)
		}
	}
}

// Whoever imports the middleware, or the administration of tokens, gets no reverse proxy with it.
func TestDependencies(t *testing.T) {
	for pkg, others := range map[string][]string{
		".":            {"net/http/httputil", "github.com/waybill-token/waybill/guard/proxy", "github.com/waybill-token/waybill/guard/tokenadmin"},
		"./tokenadmin": {"net/http/httputil", "github.com/waybill-token/waybill/guard/proxy"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
		guardtest.NoError(t, err)
		deps := strings.Fields(string(out))
		if !slices.Contains(deps, "github.com/waybill-token/waybill/guard") {
			t.Fatalf("%s: %q", pkg, deps)
		}
		for _, other := range others {
			if slices.Contains(deps, other) {
				t.Errorf("%s needs %s", pkg, other)
			}
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
