package ishare_test

import (
	"fmt"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

func ExampleParsePartyID() {
	id, err := ishare.ParsePartyID("did:ishare:EU.NL.NTRNL-10000000")
	fmt.Println(id, err)
	_, err = ishare.ParsePartyID("did:ishare:EU.NL.NTRNL-10000000\n") // read from a file
	fmt.Println(err)
	// Output:
	// did:ishare:EU.NL.NTRNL-10000000 <nil>
	// not a party identifier: it ends with a line feed
}

func ExampleParty_Compliant() {
	party, err := ishare.ParseParty([]byte(`{
		"id": "did:ishare:EU.NL.NTRNL-10000001", "name": "Some Consumer",
		"claims": [
			{"type": "frameworkCompliance", "frameworkId": "iSHARE", "status": "active",
			 "startDate": "2026-01-01T00:00:00Z", "endDate": "2026-12-31T00:00:00Z"},
			{"type": "frameworkRole", "roleId": "ServiceConsumer", "status": "active"}
		]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	in2026, in2027 := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	fmt.Println(party.Compliant(in2026), party.HasRole("ServiceConsumer", in2026))
	fmt.Println(party.Compliant(in2027))
	// Output:
	// <nil> true
	// compliance ended on 2026-12-31
}

func ExampleDeriveID() {
	fmt.Println(ishare.DeriveID("NTRNL-10000000"))
	// Output: did:ishare:EU.NL.NTRNL-10000000 <nil>
}
