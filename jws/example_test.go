package jws_test

import (
	"crypto/rsa"
	"fmt"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/jws"
)

// Reading and verifying are separate steps: the key is one that is trusted for other reasons than that the
// token names it.
func Example() {
	party := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000001", "Some Party")
	compact, err := jws.Sign(jws.RS256, party.Key, party.Certificates, []byte(`{"hello":"world"}`))
	if err != nil {
		fmt.Println(err)
		return
	}

	token, err := jws.Split(compact)
	if err != nil {
		fmt.Println(err)
		return
	}
	header, err := token.Header()
	if err != nil {
		fmt.Println(err)
		return
	}
	name, _ := header.Text("alg")
	algorithm, err := jws.ParseAlgorithm(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	trusted, _ := party.Key.Public().(*rsa.PublicKey)
	fmt.Println(algorithm, token.Verify(algorithm, jws.NewKey(trusted)), string(token.Payload()))
	// Output: RS256 <nil> {"hello":"world"}
}

// What is wrong is said in words that may be shown to whoever sent it.
func ExampleSplit() {
	_, err := jws.Split("header.payload")
	fmt.Println(err)
	// Output: jws: not a compact serialisation: it has 2 parts between dots instead of three
}
