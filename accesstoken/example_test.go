package accesstoken_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/ishare"
)

func Example() {
	data, err := os.MkdirTemp("", "waybill-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(data)

	keys, err := accesstoken.OpenKeys(filepath.Join(data, "keys"), slog.Default())
	if err != nil {
		log.Print(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go keys.Run(ctx)

	issuer, err := accesstoken.New(accesstoken.Config{
		Party:    "did:ishare:EU.NL.NTRNL-10000000",
		Lifetime: time.Hour,
		Keys:     keys,
	})
	if err != nil {
		log.Print(err)
		return
	}
	token, _, err := issuer.Issue(ctx, accesstoken.Claims{
		Party:      "did:ishare:EU.NL.NTRNL-10000001",
		Client:     "EU.EORI.NL000000001",
		Scope:      ishare.Scope{"iSHARE"},
		Thumbprint: ishare.Thumbprint([]byte("the client's certificate in DER")),
	})
	if err != nil {
		log.Print(err)
		return
	}
	claims, err := issuer.Check(ctx, token)
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(claims.Party, claims.Client, claims.Scope, claims.Expires.Sub(claims.Issued))
	// Output: did:ishare:EU.NL.NTRNL-10000001 EU.EORI.NL000000001 iSHARE 1h0m0s
}
