package guard_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
)

// A program that issues tokens guards its own API in three lines: make the guard, put it around
// the handlers, and ask it who calls.
func ExampleRequire() {
	tokens := guardtest.ExampleIssuer(nil) // made with accesstoken.New

	guarded := guard.Require(guard.LogOutages(tokens, slog.Default()), "iSHARE")
	mux := http.NewServeMux()
	mux.Handle("GET /orders", guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := guard.Caller(r.Context())
		fmt.Fprintf(w, "the orders of %s", caller.Party)
	})))

	server := httptest.NewServer(mux)
	defer server.Close()
	fmt.Println(guardtest.Ask(server.URL+"/orders", ""))
	fmt.Println(guardtest.Ask(server.URL+"/orders", guardtest.ExampleToken(tokens)))
	// Output:
	// 401 Bearer realm="iSHARE"
	// 200 the orders of did:ishare:EU.NL.NTRNL-10000001
}
