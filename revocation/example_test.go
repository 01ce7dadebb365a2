package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// The certificates of isharetest name nobody who could be asked, so that there is no decision in the mode Require.
func Example() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	validator, err := trust.New(ca.Anchors())
	if err != nil {
		log.Fatal(err)
	}
	chain, err := validator.Validate(consumer.Certificates, time.Now(), nil)
	if err != nil {
		log.Fatal(err)
	}
	checker, err := revocation.New(revocation.Config{Mode: revocation.Require})
	if err != nil {
		log.Fatal(err)
	}
	defer checker.Close()

	err = checker.Check(context.Background(), chain)
	rejection, outage := rule.Classify(err)
	switch {
	case rejection != nil: // a certificate is revoked
		fmt.Println("refused:", rejection.Description())
	case outage != nil: // nobody knows
		fmt.Println("no decision:", outage.Rule.ID)
		fmt.Println("not before its CA issues another certificate:", errors.Is(outage.Cause, revocation.ErrNoSource))
	case err != nil: // the context has ended
		fmt.Println("given up:", err)
	default:
		fmt.Println("not revoked")
	}
	// Output:
	// no decision: unavailable.revocation
	// not before its CA issues another certificate: true
}
