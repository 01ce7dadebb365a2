package accesstoken_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/ishare"
)

// A provider issues a token to a client that has authenticated, checks it when the client
// comes with it, and revokes it.
func Example() {
	if err := issueCheckRevoke(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// issued to did:ishare:EU.NL.NTRNL-10000001 for 1h0m0s
	// did:ishare:EU.NL.NTRNL-10000001 may use iSHARE
	// revoked: true
}

func issueCheckRevoke(ctx context.Context) error {
	data, err := os.MkdirTemp("", "waybill-example-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)

	// Without keys there are no tokens that could have been revoked.
	haveKeys, err := accesstoken.HaveKeys(filepath.Join(data, "keys"))
	if err != nil {
		return err
	}
	revocations, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{
		Dir:       filepath.Join(data, "revocations"),
		NoHistory: !haveKeys,
	})
	if err != nil {
		return err
	}
	defer revocations.Close()

	keys, err := accesstoken.OpenKeys(filepath.Join(data, "keys"), nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go keys.Run(ctx) // replaces them daily

	issuer, err := accesstoken.New(accesstoken.Config{
		Party:    "did:ishare:EU.NL.NTRNL-10000000",
		Lifetime: time.Hour,
		Keys:     keys,
		Revoked:  revocations,
	})
	if err != nil {
		return err
	}

	// At the token endpoint, when the client has authenticated.
	token, issued, err := issuer.Issue(ctx, accesstoken.Claims{
		Party:      "did:ishare:EU.NL.NTRNL-10000001",
		Client:     "EU.EORI.NL000000001",
		Scope:      ishare.Scope{ishare.ScopeISHARE},
		Thumbprint: ishare.Thumbprint([]byte("the client's certificate in DER")),
	})
	if err != nil {
		return err
	}
	fmt.Println("issued to", issued.Party, "for", issued.Expires.Sub(issued.Issued))

	// At a secured endpoint.
	claims, err := issuer.Check(ctx, token)
	if err != nil {
		return err
	}
	fmt.Println(claims.Party, "may use", claims.Scope)

	// When the operator, or the client itself, withdraws it.
	err = revocations.Revoke(ctx, accesstoken.TokenRevocation{TokenID: claims.ID, Expires: claims.Expires})
	if err != nil {
		return err
	}
	_, err = issuer.Check(ctx, token)
	fmt.Println("revoked:", errors.Is(err, accesstoken.ErrRevoked))
	return nil
}
