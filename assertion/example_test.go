package assertion_test

import (
	"context"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

// A consumer makes an assertion, and a provider lets it in once.
func Example() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	maker := assertion.Maker{ClientID: consumer.ID(), Key: consumer.Key, Certificates: consumer.Certificates}
	compact, err := maker.Make("did:ishare:EU.NL.NTRNL-10000000")
	if err != nil {
		fmt.Println(err)
		return
	}

	validator, err := trust.New(ca.Anchors())
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := replay.Open(replay.Config{Leeway: 10 * time.Second, NoHistory: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	verifier, err := assertion.NewVerifier(assertion.Config{
		Audience:   []ishare.PartyID{"did:ishare:EU.NL.NTRNL-10000000"},
		Trust:      validator,
		Parties:    isharetest.NewList(consumer),
		Revocation: revocation.Off{},
		Replay:     store,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		client, _, err := verifier.Verify(context.Background(), consumer.ID(), compact)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(client.ID(), client.Party().Name)
	}
	// Output:
	// did:ishare:EU.NL.NTRNL-10000001 Some Consumer
	// jti.replayed: an assertion with this jti was used before
}

// An explanation goes on after a failure, and uses nothing up.
func ExampleExplainer() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	validator, err := trust.New(ca.Anchors())
	if err != nil {
		fmt.Println(err)
		return
	}
	explainer, err := assertion.NewExplainer(assertion.Config{
		Audience:   []ishare.PartyID{"did:ishare:EU.NL.NTRNL-10000000"},
		Trust:      validator,
		Parties:    isharetest.NewList(), // which the consumer is not on
		Revocation: revocation.Off{},
	}, 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	report := explainer.Explain(context.Background(), consumer.Assertion("https://provider.example/connect/token"), time.Now())
	for _, f := range report.Findings {
		if f.Outcome == assertion.Fail {
			fmt.Println(f.Rule.ID, f.Rule.Title)
		}
	}
	// Output:
	// claim.aud aud is this server and nobody else
	// party.unknown The client is a participant
}
