package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/proxy"
)

// A program that cannot be changed is guarded by a proxy, which tells it who calls.
func ExampleNew() {
	tokens := guardtest.ExampleIssuer(nil) // made with accesstoken.New
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.URL.Path, r.Header.Get(proxy.HeaderPartyID))
	}))
	defer program.Close()
	upstream, err := url.Parse(program.URL)
	if err != nil {
		panic(err)
	}

	reverse, err := proxy.New(proxy.Config{
		Routes:  []proxy.Route{{Path: "/api/", Upstream: upstream, Scope: []string{"iSHARE"}}},
		Checker: tokens,
	})
	if err != nil {
		panic(err)
	}
	defer reverse.Close()

	server := httptest.NewServer(reverse)
	defer server.Close()
	token := guardtest.ExampleToken(tokens)
	fmt.Println(guardtest.Ask(server.URL+"/api/orders", token))
	fmt.Println(guardtest.Ask(server.URL+"/api/%2e%2e/admin", token))
	// Output:
	// 200 /api/orders for did:ishare:EU.NL.NTRNL-10000001
	// 400
}

// nginx, Caddy, HAProxy, Traefik or Envoy ask about each request, and pass the client's Authorization header on.
func ExampleNewForwardAuth() {
	tokens := guardtest.ExampleIssuer(nil) // made with accesstoken.New

	auth, err := proxy.NewForwardAuth(proxy.ForwardAuthConfig{Checker: tokens})
	if err != nil {
		panic(err)
	}
	defer auth.Close()

	internal := httptest.NewServer(auth)
	defer internal.Close()
	r, err := http.NewRequest(http.MethodGet, internal.URL+"/auth?scope=iSHARE", nil)
	if err != nil {
		panic(err)
	}
	r.Header.Set("Authorization", "Bearer "+guardtest.ExampleToken(tokens))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	fmt.Println(answer.StatusCode, answer.Header.Get(proxy.HeaderPartyID))
	// Output: 200 did:ishare:EU.NL.NTRNL-10000001
}
