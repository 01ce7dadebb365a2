package probe_test

import (
	"context"
	"fmt"
	"log"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/probe"
)

func ExampleRun() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	server := isharetest.NewProvider(ca, consumer)
	defer server.Close()

	report, err := probe.Run(context.Background(), probe.Config{
		Server: server.URL, Audience: server.Audience, Pause: -1, // on this machine
		Seal: probe.Seal{ClientID: consumer.ID(), Key: consumer.Key, Certificates: consumer.Certificates},
		Only: []string{"claim.aud"},
	})
	if err != nil { // the configuration is of no use
		fmt.Println(err)
		return
	}
	for _, row := range report.Table() {
		fmt.Println(row.Worst, row.Group, row.Outcomes)
	}
	// Output:
	// pass right map[accepted as it must:1]
	// pass claim.aud map[refused as it must:7]
}

func ExampleAssertion() {
	consumer := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	a := probe.NewAssertion(
		probe.Seal{ClientID: consumer.ID(), Key: consumer.Key, Certificates: consumer.Certificates},
		"did:ishare:EU.NL.NTRNL-10000000",
	)
	how, err := a.Break("claim.aud")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(how)
	// Output: aud is an array that holds the server's identifier only.
}
