package isharetest_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// A consumer asks a provider for a token, and is refused when it asks again with
// the same assertion.
func Example() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := isharetest.NewProvider(ca, consumer)
	defer provider.Close()

	request := consumer.Request(provider.Audience)
	for range 2 {
		answer, err := request.Send(provider.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d %q\n", answer.Status, answer.RuleID())
	}
	// Output:
	// 200 ""
	// 400 "jti.replayed"
}

// To test a server of your own, make it trust the CA and know the parties, and try
// everything. Here a provider of this package stands for it.
func ExampleAttempts() {
	const audience = "did:ishare:EU.NL.NTRNL-10000000"
	ca := isharetest.NewCA()
	attempts := isharetest.NewAttempts(ca, audience)

	// ca.RootPEM() goes into your trusted list, and the Record of each party into
	// your Participant Registry.
	server := isharetest.NewProvider(ca, attempts.Parties()...)
	defer server.Close()

	failed := 0
	for _, attempt := range attempts.All() {
		if err := attempt.Check(server.URL); err != nil {
			fmt.Println(attempt, attempt.About, err)
			failed++
		}
	}
	fmt.Println(failed, "failed")
	// Output:
	// 0 failed
}

// A mistake that no attempt makes is made by taking a right request apart.
func ExampleParty_Request() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := isharetest.NewProvider(ca, consumer)
	defer provider.Close()

	r := consumer.Request(provider.Audience)
	r.Assertion.Header.Set("typ", "statement+jwt")
	r.Form.Add("state", "42")

	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Do(r.HTTP(provider.URL))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	fmt.Println(response.Status)
	// Output:
	// 400 Bad Request
}

// The standing of a party can change while a provider runs.
func ExampleList_Put() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := isharetest.NewProvider(ca, consumer)
	defer provider.Close()

	provider.Parties.Put(consumer.With(isharetest.Suspended))
	answer, err := consumer.Request(provider.Audience).Send(provider.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Description)
	// Output:
	// party.not-active: compliance is suspended
}

// Seals can be forged. This one states no key usage that allows signing.
func ExampleParty_Resealed() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	forged := consumer.Resealed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
	provider := isharetest.NewProvider(ca, forged)
	defer provider.Close()

	answer, err := forged.Request(provider.Audience).Send(provider.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.RuleID())
	// Output:
	// certificate.usage
}

// An assertion alone is enough for a client under test, or for waybill explain.
func ExampleParty_Assertion() {
	ca := isharetest.NewCA()
	consumer := ca.Party("EU.EORI.NL000000001", "Some Consumer", isharetest.MemberOf("demo"))
	assertion := consumer.Assertion("did:ishare:EU.NL.NTRNL-10000000")
	fmt.Println(len(assertion) > 4000, len(consumer.Certificates))
	// Output:
	// true 4
}

// Your server asks a Participant Registry about its clients. Here our own client of registries stands for it. What the
// registry says, and how it fails, can change while it runs.
func ExampleRegistry() {
	ca := isharetest.NewCA()
	you := ca.Party("did:ishare:EU.NL.NTRNL-10000000", "Your Server")
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	participants := isharetest.NewRegistry(ca, you, consumer)
	defer participants.Close()

	validator, err := trust.New(ca.Anchors())
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := registry.NewRemote(registry.RemoteConfig{
		ID: participants.ID, URL: participants.URL, Party: []ishare.PartyID{you.ID()},
		Key: you.Key, Certificates: you.Certificates, Trust: validator, Revocation: revocation.Off{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	for _, change := range []func(){
		func() {},
		func() { participants.Parties.Put(consumer.With(isharetest.Suspended)) },
		func() { participants.Fail(isharetest.FaultWrongSigner) },
	} {
		change()
		party, err := server.Party(context.Background(), consumer.ID())
		if err != nil {
			fmt.Println("no record that can be believed")
			continue
		}
		fmt.Println(party.Name, party.Compliant(time.Now()))
	}
	fmt.Println(participants.Counters().Parties, "questions")
	// Output:
	// Some Consumer <nil>
	// Some Consumer compliance is suspended
	// no record that can be believed
	// 3 questions
}

// Certificates of this CA name a responder and revocation lists, which say what the test wants. The checker of package
// revocation stands for your server.
func ExampleStatusServices() {
	status := isharetest.NewStatusServices()
	defer status.Close()
	consumer := status.CA.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	status.Revoke(consumer.Certificates[0])
	status.FailOCSP(isharetest.FaultOff) // the lists are asked instead

	validator, err := trust.New(status.CA.Anchors())
	if err != nil {
		fmt.Println(err)
		return
	}
	chain, err := validator.Validate(consumer.Certificates, time.Now(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	checker, err := revocation.New(revocation.Config{AllowPrivate: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer checker.Close()
	rejection, _ := rule.Classify(checker.Check(context.Background(), chain))
	fmt.Println(rejection.Rule.ID, status.Counters().CRL > 0)
	// Output:
	// certificate.revoked true
}
