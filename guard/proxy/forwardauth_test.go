package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/ishare"
)

// nginx knows 401 and 403 only.
func TestForwardAuthForNginx(t *testing.T) {
	h := guardtest.NewIssuer(t)
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h})
	guardtest.NoError(t, err)
	for _, c := range []struct {
		name, value, query string
		status             int
	}{
		{"valid", "Bearer " + h.Token(t, "iSHARE"), "", 200},
		{"not Bearer", "Basic eDp5", "", 401},
		{"not Bearer, exact", "Basic eDp5", "?status=exact", 400},
		{"narrow", "Bearer " + h.Token(t, "iSHARE"), "?scope=orders", 403},
		{"one of two scopes", "Bearer " + h.Token(t, "iSHARE", "orders"), "?scope=orders&scope=invoices", 403},
		{"the other of two scopes", "Bearer " + h.Token(t, "iSHARE", "orders"), "?scope=invoices&scope=orders", 403},
		{"one of two scopes in one", "Bearer " + h.Token(t, "iSHARE", "orders"), "?scope=orders%20invoices", 403},
		{"both scopes", "Bearer " + h.Token(t, "iSHARE", "orders", "invoices"), "?scope=orders+invoices&scope=iSHARE", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/auth"+c.query, nil)
			r.Header.Set("Authorization", c.value)
			w := httptest.NewRecorder()
			auth.ServeHTTP(w, r)
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if c.status == http.StatusOK && w.Body.Len() != 0 {
				t.Errorf("a body: %s", w.Body)
			}
			if got := w.Header().Get("WWW-Authenticate"); (c.status != http.StatusOK) != strings.HasPrefix(got, "Bearer ") {
				t.Errorf("WWW-Authenticate: %q", got)
			}
		})
	}
}

// A slip of the pen in a proxy's configuration lets nobody in.
func TestForwardAuthAskedWrongly(t *testing.T) {
	h := guardtest.NewIssuer(t)
	log, told := guardtest.NewLog()
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, Log: log})
	guardtest.NoError(t, err)
	token := h.Token(t, "iSHARE")
	for _, query := range []string{
		"?scopes=orders", "?Scope=orders", "?scope=", "?scope=%22", "?scope=a++b", "?scope=%zz", "?status=", "?status=200", "?status=exact&status=exact", "?x=1", "?scope=iSHARE;x", "?=",
	} {
		if w := guardtest.Get(auth, "/auth"+query, token); w.Code != http.StatusInternalServerError || w.Header().Get(proxy.HeaderPartyID) != "" {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	if !strings.Contains(told.String(), "forward-auth is asked wrongly") {
		t.Error("the log says nothing")
	}
}

// Envoy puts the client's path and query behind ours.
func TestForwardAuthVerbatim(t *testing.T) {
	h := guardtest.NewIssuer(t)
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h, IgnoreURL: true})
	guardtest.NoError(t, err)
	if w := guardtest.Get(auth, "/auth/orders?scope=nonsense&x=%zz", h.Token(t, "iSHARE")); w.Code != http.StatusOK || w.Header().Get(proxy.HeaderPartyID) != string(guardtest.Consumer) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r := httptest.NewRequest(http.MethodPost, "/auth/orders", strings.NewReader("body"))
	r.Header.Set("Authorization", "Basic eDp5")
	w := httptest.NewRecorder()
	auth.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("not Bearer: %d", w.Code)
	}
}

func FuzzForwardAuth(f *testing.F) {
	h := guardtest.NewIssuer(f)
	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: h})
	guardtest.NoError(f, err)
	token := h.Token(f, "iSHARE", "orders")
	for _, seed := range []string{"", "scope=orders", "scope=orders%20iSHARE&status=exact", "scope=&scope=x", "%zz", "scope=a;b", "status=exact"} {
		f.Add(seed, "Bearer "+token)
	}
	f.Add("", "Basic x")
	f.Add("", "Bearer a b")
	f.Fuzz(func(t *testing.T, query, authorization string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/auth", RawQuery: query}, Header: http.Header{"Authorization": {authorization}}}
		w := httptest.NewRecorder()
		auth.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return
		}
		_, got, _ := strings.Cut(authorization, " ")
		if got != token || w.Header().Get(proxy.HeaderPartyID) != string(guardtest.Consumer) {
			t.Fatalf("%q is let in as %q", authorization, w.Header().Get(proxy.HeaderPartyID))
		}
		asked, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q is understood", query)
		}
		for _, value := range asked["scope"] {
			if scope, err := ishare.ParseScope(value); err != nil || scope.Has("invoices") {
				t.Errorf("scope %q is granted", value)
			}
		}
	})
}
