package provider_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
)

// A server of one's own with a token endpoint and a guarded route. The parties are made for a test here, which nobody
// can ask whether a certificate is revoked; a real provider leaves Revocation and NoHistory out.
func Example() {
	ca := isharetest.NewCA()
	us, consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000000", "Us"), ca.Party("did:ishare:EU.NL.NTRNL-10000001", "A Consumer")
	data, err := os.MkdirTemp("", "provider-")
	check(err)
	defer os.RemoveAll(data)

	p, err := provider.New(provider.Config{
		Party: us.ID(), Key: us.Key, Certificates: us.Certificates, // our seal
		Anchors: ca.Anchors(),                 // the CAs that we trust
		Parties: isharetest.NewList(consumer), // or PartiesFile, or Registry
		Data:    data,
		URL:     &url.URL{Scheme: "https", Host: "api.example"},

		Revocation: provider.Revocation{Mode: revocation.ModeOff}, NoHistory: true,
	})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()

	mux := http.NewServeMux()
	mux.Handle("/", p.Public()) // POST /connect/token, GET /capabilities, ...
	mux.Handle("GET /orders", guard.Require(p.Tokens(), "iSHARE")(http.HandlerFunc(orders)))
	server := httptest.NewServer(mux)

	answer, err := consumer.Request(us.ID()).Send(server.URL)
	check(err)
	fmt.Println(get(server.URL+"/orders", answer.AccessToken))

	server.Close()
	stop()
	fmt.Println(<-ended)
	// Output:
	// 200 orders of did:ishare:EU.NL.NTRNL-10000001
	// <nil>
}

func orders(w http.ResponseWriter, r *http.Request) {
	caller, _ := guard.Caller(r.Context())
	fmt.Fprintf(w, "orders of %s", caller.Party)
}

func get(address, token string) string {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	check(err)
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := new(http.Client).Do(r)
	check(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	check(err)
	return fmt.Sprintf("%d %s", answer.StatusCode, body)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
