package replay_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/waybill-token/waybill/replay"
)

// A store is asked last, when everything else about an assertion holds.
func Example() {
	dir, err := os.MkdirTemp("", "replay")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	const leeway = 10 * time.Second
	store, err := replay.Open(replay.Config{Dir: dir, Leeway: leeway, NoHistory: true})
	if err != nil {
		panic(err)
	}
	defer store.Close()

	iat := time.Now()
	pair := replay.Pair{
		Issuer:   "did:ishare:EU.NL.NTRNL-10000001",
		JTI:      "378a47c4-2822-4ca5-a49a-7e5a1cc7ea59",
		IssuedAt: iat,
		Until:    iat.Add(30*time.Second + leeway),
	}
	fmt.Println(store.Use(context.Background(), pair))
	fmt.Println(store.Use(context.Background(), pair))
	// Output:
	// true <nil>
	// false <nil>
}
