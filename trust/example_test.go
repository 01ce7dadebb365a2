package trust_test

import (
	"fmt"
	"time"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// A chain is trusted up to an anchor, and no further.
func Example() {
	ca := isharetest.NewCA()
	party := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Party")
	validator, err := trust.New(ca.Anchors())
	if err != nil {
		fmt.Println(err)
		return
	}
	chain, err := validator.Validate(party.Certificates, time.Now(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(chain.Leaf().Subject.CommonName)
	for _, certificate := range chain.Certificates() {
		fmt.Printf("%s, issued by %s\n", certificate.Subject.CommonName, certificate.Issuer.CommonName)
	}

	stranger := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000001", "Some Party")
	_, err = validator.Validate(stranger.Certificates, time.Now(), nil)
	rejection, _ := rule.Classify(err)
	fmt.Println(rejection.Rule.ID)
	// Output:
	// Some Party
	// Some Party, issued by Waybill Test Issuing CA
	// Waybill Test Issuing CA, issued by Waybill Test Sub CA
	// Waybill Test Sub CA, issued by Waybill Test Root CA
	// Waybill Test Root CA, issued by Waybill Test Root CA
	// chain.untrusted
}
