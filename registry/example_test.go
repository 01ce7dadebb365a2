package registry_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
)

// A cache stands in front of whatever source there is: a Participant Registry, or as here a fixed list.
func Example() {
	list, err := registry.NewList([]*ishare.Party{
		{ID: "did:ishare:EU.NL.NTRNL-10000001", Name: "Some Consumer", AlsoKnownAs: []ishare.PartyID{"EU.EORI.NL000000001"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	cache, err := registry.NewCache(registry.CacheConfig{Source: list})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()

	party, err := cache.Party(context.Background(), "EU.EORI.NL000000001")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(party.ID, party.Name)
	_, err = cache.Party(context.Background(), "did:ishare:EU.NL.NTRNL-99999999")
	fmt.Println(errors.Is(err, registry.ErrUnknown))
	// Output:
	// did:ishare:EU.NL.NTRNL-10000001 Some Consumer
	// true
}
