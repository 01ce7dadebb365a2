package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/rule"
)

// An api accepts the tokens that it is told to, and remembers what came.
type api struct {
	accept func(token string) bool

	mu     sync.Mutex
	tokens []string
	bodies []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a.mu.Lock()
	a.tokens = append(a.tokens, token)
	a.bodies = append(a.bodies, string(body))
	a.mu.Unlock()
	if !a.accept(token) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		http.Error(w, "refused", http.StatusUnauthorized)
		return
	}
	io.WriteString(w, "orders")
}

// world is a token endpoint and an API behind one transport.
func world(tb testing.TB, server *tokenServer, api http.Handler) http.RoundTripper {
	tb.Helper()
	mux := http.NewServeMux()
	mux.Handle("/connect/token", server)
	mux.Handle("/", api)
	return &inMemory{handler: mux}
}

const ordersURL = "https://api.example/orders"

func TestHTTPClientAddsTheToken(t *testing.T) {
	a := &api{accept: func(token string) bool { return token == "token-1" }}
	server := newTokenServer(t)
	c := newClient(t, config(world(t, server, a)))
	for range 3 {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, ordersURL, http.NoBody)
		request.Header.Set("Authorization", "Basic c29tZWJvZHk6ZWxzZQ==")
		got, err := do(c.HTTPClient(), request)
		if err != nil {
			t.Fatal(err)
		}
		if got.body != "orders" {
			t.Errorf("%d %s", got.status, got.body)
		}
		if got := got.request.Header.Get("Authorization"); strings.Contains(got, "token-1") {
			t.Error("the answer's request shows the token")
		}
		if got := request.Header.Get("Authorization"); strings.Contains(got, "token-1") {
			t.Error("the caller's request was changed")
		}
	}
	if got := server.requests(); got != 1 {
		t.Errorf("%d token requests, want 1", got)
	}
}

func TestUnauthorizedBringsANewToken(t *testing.T) {
	onlySecond := func(token string) bool { return token == "token-2" }
	never := func(string) bool { return false }
	tests := []struct {
		name   string
		accept func(string) bool
		body   io.Reader
		status int
		tokens []string
	}{
		{"no body", onlySecond, http.NoBody, 200, []string{"token-1", "token-2"}},
		{"body that can be read again", onlySecond, strings.NewReader("an order"), 200, []string{"token-1", "token-2"}},
		{"body that cannot", onlySecond, io.MultiReader(strings.NewReader("an order")), 401, []string{"token-1"}},
		{"refused for good", never, strings.NewReader("an order"), 401, []string{"token-1", "token-2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := &api{accept: test.accept}
			c := newClient(t, config(world(t, newTokenServer(t), a)))
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, ordersURL, test.body)
			got, err := do(c.HTTPClient(), request)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != test.status || got.body == "" {
				t.Errorf("%d %s, want %d", got.status, got.body, test.status)
			}
			if !slices.Equal(a.tokens, test.tokens) {
				t.Errorf("tokens %v, want %v", a.tokens, test.tokens)
			}
			for _, body := range a.bodies {
				if want := a.bodies[0]; body != want || test.body != http.NoBody && body != "an order" {
					t.Errorf("bodies %q", a.bodies)
				}
			}
		})
	}
}

// After a 401 that could not be repeated, the next request has a new token.
func TestUnrepeatable401DiscardsTheToken(t *testing.T) {
	a := &api{accept: func(token string) bool { return token == "token-2" }}
	c := newClient(t, config(world(t, newTokenServer(t), a)))
	for _, want := range []int{401, 200} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, ordersURL, io.MultiReader(strings.NewReader("x")))
		got, err := do(c.HTTPClient(), request)
		if err != nil || got.status != want {
			t.Errorf("%d, %v; want %d", got.status, err, want)
		}
	}
}

func TestThousandRefusedCallersMakeOneMoreRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newTokenServer(t)
		server.delay = 50 * time.Millisecond
		c := newClient(t, config(world(t, server, &api{accept: func(token string) bool { return token == "token-2" }})))
		mustToken(t, c)
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				status, err := get(t, c.HTTPClient(), ordersURL)
				if err != nil || status != http.StatusOK {
					t.Errorf("%d, %v", status, err)
				}
			})
		}
		all.Wait()
		if got := server.requests(); got != 2 {
			t.Errorf("%d token requests, want 2", got)
		}
	})
}

// What the token endpoint says is more telling than the API's 401: the party was
// suspended, and its token with it.
func TestRefusedRenewalIsTold(t *testing.T) {
	server := newTokenServer(t)
	c := newClient(t, config(world(t, server, &api{accept: func(string) bool { return false }})))
	mustToken(t, c)
	server.next(refusal(rule.PartyNotActive))
	_, err := get(t, c.HTTPClient(), ordersURL)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.RuleID != "party.not-active" {
		t.Errorf("got %v", err)
	}
}

func TestTokenGoesNowhereElse(t *testing.T) {
	a := &api{accept: func(string) bool { return true }}
	network := world(t, newTokenServer(t), a)
	c := newClient(t, config(network))
	redirectTo := func(to string) http.RoundTripper {
		mux := http.NewServeMux()
		mux.Handle("api.example/old", http.RedirectHandler(to, http.StatusFound))
		mux.Handle("localhost/old", http.RedirectHandler(to, http.StatusFound))
		mux.Handle("api.example/older", http.RedirectHandler("/old", http.StatusFound))
		mux.Handle("/", a)
		return c.RoundTripper(&inMemory{handler: mux})
	}
	tests := []struct {
		name string
		base http.RoundTripper
		url  string
		ok   bool
	}{
		{"plain http", c.RoundTripper(nil), "http://api.example/orders", false},
		{"plain http to a loopback address", c.RoundTripper(nil), "http://127.0.0.1:8080/orders", true},
		{"redirect to the same origin", redirectTo("/orders"), "https://api.example/old", true},
		{"the same origin, written out", redirectTo("https://API.example:443/orders"), "https://api.example/old", true},
		{"redirect to another host", redirectTo("https://evil.example/"), "https://api.example/old", false},
		{"to another port", redirectTo("https://api.example:8443/"), "https://api.example/old", false},
		{"to plain http", redirectTo("http://api.example/"), "https://api.example/old", false},
		{"to plain http on the same port", redirectTo("http://localhost:8443/"), "https://localhost:8443/old", false},
		{"to a loopback address", redirectTo("http://127.0.0.1/"), "https://api.example/old", false},
		{"in two steps", redirectTo("https://evil.example/"), "https://api.example/older", false},
		{"two steps at home", redirectTo("/orders"), "https://api.example/older", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := len(a.tokens)
			status, err := get(t, &http.Client{Transport: test.base}, test.url)
			if (err == nil) != test.ok {
				t.Errorf("%d, %v", status, err)
			}
			if !test.ok && len(a.tokens) > before {
				t.Error("the token was sent")
			}
		})
	}
}

type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error {
	b.closed = true
	return nil
}

// A RoundTripper closes the body whatever happens.
func TestBodyIsClosed(t *testing.T) {
	server := newTokenServer(t, refusal(rule.PartyUnknown))
	c := newClient(t, config(world(t, server, http.NotFoundHandler())))
	for _, url := range []string{"http://api.example/", ordersURL} {
		b := &body{Reader: strings.NewReader("x")}
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, b)
		if _, err := do(c.HTTPClient(), request); err == nil {
			t.Errorf("%s: no error", url)
		}
		if !b.closed {
			t.Errorf("%s: the body is still open", url)
		}
	}
}

func TestRequestsContextBoundsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, config(world(t, newTokenServer(t, silence), http.NotFoundHandler())))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, ordersURL, http.NoBody)
		if _, err := do(c.HTTPClient(), request); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// The transport that is made when none is given.
func TestOwnTransport(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/connect/token", newTokenServer(t))
	mux.Handle("/", &api{accept: func(token string) bool { return token == "token-1" }})
	endpoint := httptest.NewServer(mux)
	defer endpoint.Close()
	conf := config(nil)
	conf.Server = endpoint.URL
	c := newClient(t, conf)
	status, err := get(t, c.HTTPClient(), endpoint.URL+"/orders")
	if err != nil || status != http.StatusOK {
		t.Errorf("%d, %v", status, err)
	}
}
