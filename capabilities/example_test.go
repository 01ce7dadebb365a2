package capabilities_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/jws"
)

// The party's seal signs what it offers. The token endpoint and /capabilities are in the list by
// themselves; orders is for those who have a token.
func ExampleNew() {
	party := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000000", "Some Provider")
	handler, err := capabilities.New(capabilities.Config{
		Party:        party.ID(),
		Key:          party.Key,
		Certificates: party.Certificates,
		URL:          &url.URL{Scheme: "https", Host: "provider.example"},
		Checker:      exampleTokens(),
		Restricted: []capabilities.Service{
			{Identifier: "orders", Title: "Orders", EndpointURL: "/orders", Methods: []string{"GET"}},
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, capabilities.Path, nil))
	for _, s := range examplePublic(w.Body.Bytes()) {
		fmt.Println(s.Identifier, s.Methods, s.EndpointURL)
	}
	// Output:
	// request-oauth-token [POST] https://provider.example/connect/token
	// get-capabilities-token [GET] https://provider.example/capabilities
}

func exampleTokens() *accesstoken.Issuer {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	keys, err := accesstoken.OpenKeys(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	issuer, err := accesstoken.New(accesstoken.Config{Party: "did:ishare:EU.NL.NTRNL-10000000", Lifetime: time.Hour, Keys: keys})
	if err != nil {
		panic(err)
	}
	return issuer
}

func examplePublic(answer []byte) []capabilities.Service {
	var body struct {
		Token string `json:"capabilitiesToken"`
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		panic(err)
	}
	token, err := jws.Split(body.Token)
	if err != nil {
		panic(err)
	}
	var payload struct {
		Info struct {
			Public []capabilities.Service `json:"publicServices"`
		} `json:"capabilitiesInfo"`
	}
	if err := json.Unmarshal(token.Payload(), &payload); err != nil {
		panic(err)
	}
	return payload.Info.Public
}
