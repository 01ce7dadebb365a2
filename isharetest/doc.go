// Package isharetest is for the tests of whoever builds on iSHARE: a certificate
// authority in a line, parties in good and in bad standing, token requests right and
// wrong, and a provider that runs.
//
//	ca := isharetest.NewCA()
//	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
//	provider := isharetest.NewProvider(ca, consumer)
//	defer provider.Close()
//
// # Wrong on purpose
//
// A server is only as good as what it refuses. [Attempts] holds, for every rule of
// [rule.All] that needs no network, several token requests that break this rule
// and, as far as that is possible, no other: a server that forgets the rule gives a
// token. Where one mistake must break several rules, the first of the catalogue's
// order is the one that is named. Among them are the official conformance cases.
//
// To make another mistake, take a right request apart:
//
//	r := consumer.Request(provider.Audience)
//	r.Assertion.Payload.Set("aud", []string{"did:ishare:EU.NL.NTRNL-10000000"})
//	response, err := http.DefaultClient.Do(r.HTTP(provider.URL))
//
// # What to know
//
// Functions panic when their arguments make no sense, as those of
// [net/http/httptest] do: a test cannot go on from there.
//
// Keys are made cheaply and protect nothing, and the CA signs whatever it is told
// to. Nothing of this package belongs into a server that others can reach.
//
// All of it goes by the time of its goroutine, so that it works inside a
// [testing/synctest] bubble; [Provider] does not, because it listens on a socket.
package isharetest
