package tokenadmin_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/tokenadmin"
)

// A gateway that does not know our tokens asks about them.
func ExampleNewIntrospection() {
	tokens := guardtest.ExampleIssuer(nil) // made with accesstoken.New

	handler, err := tokenadmin.NewIntrospection(tokenadmin.Config{Checker: tokens})
	if err != nil {
		panic(err)
	}
	defer handler.Close()

	internal := httptest.NewServer(handler)
	defer internal.Close()
	answer, err := http.PostForm(internal.URL+"/introspect", url.Values{"token": {"a-token-of-somebody-else"}})
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Println(string(body), err)
	// Output: {"active":false} <nil>
}

// Whoever runs the server can make the tokens of a party invalid.
func ExampleNewRevocation() {
	revocations, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{}) // with Dir, they outlive the process
	if err != nil {
		panic(err)
	}
	defer revocations.Close()
	tokens := guardtest.ExampleIssuer(revocations) // made with accesstoken.New

	handler, err := tokenadmin.NewRevocation(tokenadmin.Config{Checker: tokens, Revocations: revocations})
	if err != nil {
		panic(err)
	}
	defer handler.Close()
	internal := httptest.NewServer(handler)
	defer internal.Close()

	token := guardtest.ExampleToken(tokens)
	answer, err := http.PostForm(internal.URL+"/revoke", url.Values{"party_id": {"did:ishare:EU.NL.NTRNL-10000001"}})
	if err != nil {
		panic(err)
	}
	answer.Body.Close()
	_, err = tokens.Check(context.Background(), token)
	fmt.Println(answer.StatusCode, err)
	// Output: 200 access token is not valid: it was revoked
}
