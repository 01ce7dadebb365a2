package tokenendpoint_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

// A token endpoint on one's own mux, and a consumer that asks it for a token twice with the same assertion.
func Example() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")

	folder, err := os.MkdirTemp("", "")
	exitOn(err)
	defer os.RemoveAll(folder)
	validator, err := trust.New(ca.Anchors())
	exitOn(err)
	store, err := replay.Open(replay.Config{Leeway: 10 * time.Second, NoHistory: true})
	exitOn(err)
	defer store.Close()
	verifier, err := assertion.NewVerifier(assertion.Config{
		Audience: []ishare.PartyID{provider}, Trust: validator, Parties: isharetest.NewList(consumer),
		Revocation: revocation.Off{}, Replay: store,
	})
	exitOn(err)
	keys, err := accesstoken.OpenKeys(folder, slog.New(slog.DiscardHandler))
	exitOn(err)
	issuer, err := accesstoken.New(accesstoken.Config{Party: provider, Lifetime: time.Hour, Keys: keys})
	exitOn(err)
	handler, err := tokenendpoint.New(tokenendpoint.Config{Verifier: verifier, Issuer: issuer})
	exitOn(err)
	defer handler.Close()
	mux := http.NewServeMux()
	mux.Handle(tokenendpoint.Path, handler)

	request := consumer.Request(provider)
	for range 2 {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, request.HTTP("https://provider.example"))
		fmt.Println(answer.Code, answer.Header().Get("Cache-Control"))
	}
	// Output:
	// 200 no-store
	// 400 no-store
}

func exitOn(err error) {
	if err != nil {
		panic(err)
	}
}
