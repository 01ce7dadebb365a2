package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/isharetest"
)

// The usual way: a client that is made once, and an HTTP client that gets, keeps
// and renews the token by itself.
func Example() {
	// In earnest these are the party's own seal and a provider of the data space.
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := isharetest.NewProvider(ca, consumer)
	defer provider.Close()

	c, err := client.New(client.Config{
		Server:       provider.URL,
		Audience:     provider.Audience,
		ClientID:     consumer.ID(),
		Key:          consumer.Key,
		Certificates: consumer.Certificates,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	response, err := c.HTTPClient().Get(provider.URL + isharetest.SecuredPath)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(response.Status, string(body), err)
	// Output:
	// 200 OK {"party":"did:ishare:EU.NL.NTRNL-10000001","client_id":"did:ishare:EU.NL.NTRNL-10000001","scope":"iSHARE"} <nil>
}

// Libraries that know golang.org/x/oauth2 take a token source.
func ExampleClient_TokenSource() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := isharetest.NewProvider(ca, consumer)
	defer provider.Close()

	c, err := client.New(client.Config{
		Server: provider.URL, Audience: provider.Audience,
		ClientID: consumer.ID(), Key: consumer.Key, Certificates: consumer.Certificates,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	token, err := c.TokenSource(context.Background()).Token()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.Type(), token.Valid(), time.Until(token.Expiry) > 59*time.Minute)
	// Output: Bearer true true
}

// A refusal says which rule failed and how to mend it.
func ExampleError() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer", isharetest.Suspended)
	provider := isharetest.NewProvider(ca, consumer)
	defer provider.Close()

	c, err := client.New(client.Config{
		Server: provider.URL, Audience: provider.Audience,
		ClientID: consumer.ID(), Key: consumer.Key, Certificates: consumer.Certificates,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	_, err = c.Token(context.Background())
	if refused, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(refused.Status, refused.Code)
		fmt.Println("rule:", refused.RuleID)
		fmt.Println("hint:", refused.Hint)
	}
	// Output:
	// 400 invalid_client
	// rule: party.not-active
	// hint: Ask your registrar to put your compliance in the Participant Registry right: active, with a start and an end date around today.
}

// A server that does not have its token endpoint at /connect/token names it in its
// capabilities.
func ExampleDiscover() {
	server := newCapabilitiesServer()
	defer server.Close()

	config := client.Config{Server: server.URL, Audience: "did:ishare:EU.NL.NTRNL-10000002"}
	endpoint, err := client.Discover(context.Background(), config)
	if err != nil {
		fmt.Println(err)
		return
	}
	config.TokenEndpoint = endpoint
	fmt.Println(endpoint)
	// Output: https://auth.provider.example/oauth/token
}
