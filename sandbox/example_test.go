package sandbox_test

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/sandbox"
)

// A data space of one's own, for a program that calls a service with iSHARE tokens.
func Example() {
	dir, err := os.MkdirTemp("", "sandbox-")
	check(err)
	defer os.RemoveAll(dir)
	space, err := sandbox.Open(context.Background(), sandbox.Config{Dir: dir})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- space.Run(ctx) }()

	key, certificates, err := client.LoadKey(client.KeyFiles{Key: space.Consumer.KeyFile, Certificates: space.Consumer.ChainFile})
	check(err)
	consumer, err := client.New(client.Config{
		Server: space.URL, Audience: space.Provider.ID, ClientID: space.Consumer.ID, Key: key, Certificates: certificates,
	})
	check(err)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, space.URL+"/me", nil)
	check(err)
	answer, err := consumer.HTTPClient().Do(r)
	check(err)
	answer.Body.Close()
	fmt.Println(answer.StatusCode == http.StatusOK)

	consumer.Close()
	stop()
	fmt.Println(<-ended)
	// Output:
	// true
	// <nil>
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
