package guard_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/guard/tokenadmin"
)

// ordersHandler is what was there before.
func ordersHandler(w http.ResponseWriter, r *http.Request) {
	if caller, ok := guard.Caller(r.Context()); ok {
		fmt.Fprintf(w, "the orders of %s", caller.Party)
	}
}

// A program that issues tokens guards its own API in three lines: make the guard, put it around
// the handlers, and ask it who calls.
func ExampleRequire() {
	tokens := exampleIssuer()

	guarded := guard.Require(tokens, "iSHARE")
	mux := http.NewServeMux()
	mux.Handle("GET /orders", guarded(http.HandlerFunc(ordersHandler)))

	server := httptest.NewServer(mux)
	defer server.Close()
	fmt.Println(ask(server.URL+"/orders", ""))
	fmt.Println(ask(server.URL+"/orders", exampleToken(tokens)))
	// Output:
	// 401 Bearer realm="iSHARE"
	// 200 the orders of did:ishare:EU.NL.NTRNL-10000001
}

// A program that cannot be changed is guarded by a proxy, which tells it who calls.
func Example_proxy() {
	tokens := exampleIssuer()
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.URL.Path, r.Header.Get(proxy.HeaderPartyID))
	}))
	defer program.Close()

	reverse, err := proxy.New(proxy.Config{
		Routes:  []proxy.Route{{Path: "/api/", Upstream: exampleURL(program.URL), Scope: []string{"iSHARE"}}},
		Checker: tokens,
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}

	server := httptest.NewServer(reverse)
	defer server.Close()
	token := exampleToken(tokens)
	fmt.Println(ask(server.URL+"/api/orders", token))
	fmt.Println(ask(server.URL+"/api/%2e%2e/admin", token))
	// Output:
	// 200 /api/orders for did:ishare:EU.NL.NTRNL-10000001
	// 400
}

// Whoever runs the server can withdraw the tokens of a party.
func Example_revocation() {
	revocations, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{}) // with Dir, they outlive the process
	if err != nil {
		panic(err)
	}
	defer revocations.Close()
	tokens := exampleIssuer(revocations)

	handler, err := tokenadmin.NewRevocation(tokenadmin.Config{Checker: tokens, Log: slog.New(slog.DiscardHandler), Revocations: revocations})
	if err != nil {
		panic(err)
	}
	internal := httptest.NewServer(handler)
	defer internal.Close()

	token := exampleToken(tokens)
	answer, err := http.PostForm(internal.URL+"/revoke", map[string][]string{"party_id": {"did:ishare:EU.NL.NTRNL-10000001"}})
	if err != nil {
		panic(err)
	}
	answer.Body.Close()
	_, err = tokens.Check(context.Background(), token)
	fmt.Println(answer.StatusCode, err)
	// Output: 200 access token is not valid: it was revoked
}

func exampleIssuer(revoked ...accesstoken.TokenRevocationChecker) *accesstoken.Issuer {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	keys, err := accesstoken.OpenKeys(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	c := accesstoken.Config{Party: "did:ishare:EU.NL.NTRNL-10000000", Lifetime: time.Hour, Keys: keys}
	if len(revoked) > 0 {
		c.Revoked = revoked[0]
	}
	issuer, err := accesstoken.New(c)
	if err != nil {
		panic(err)
	}
	return issuer
}
