// Package isharetest is for the tests of whoever builds on iSHARE: a certificate authority in a line, parties in good
// and in bad standing, token requests right and wrong, and servers that run: a provider, a Participant Registry, an
// OCSP responder with revocation lists.
//
//	ca := isharetest.NewCA()
//	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
//	provider := isharetest.NewProvider(ca, consumer)
//	defer provider.Close()
//
// # Wrong on purpose
//
// A server is only as good as what it refuses. [Attempts] holds, for every rule of [rule.All] that needs no network,
// several token requests that break this rule and, as far as that is possible, no other: a server that forgets the rule
// gives a token. Where one mistake must break several rules, the first of the catalogue's order is the one that is
// named. Among them are the official conformance cases.
//
// To make another mistake, take a right request apart:
//
//	r := consumer.Request(provider.Audience)
//	r.Assertion.Payload.Set("aud", []string{"did:ishare:EU.NL.NTRNL-10000000"})
//	response, err := http.DefaultClient.Do(r.HTTP(provider.URL))
//
// # The servers around yours
//
// A server that is tested asks others, and must work when they fail. [Registry] is a Participant Registry of framework
// 3.0 or 2.x, and [StatusServices] tell which certificates are revoked. Parties are added, changed and removed while
// they run; a [Fault] makes them slow, break connections off, or sign what a client must not accept; and both count
// what they were asked.
//
//	status := isharetest.NewStatusServices() // the certificates of status.CA name them
//	defer status.Close()
//	participants := isharetest.NewRegistry(status.CA, you, consumer)
//	defer participants.Close()
//	participants.Parties.Put(consumer.With(isharetest.Suspended))
//	participants.Fail(isharetest.FaultOff)
//	status.Revoke(consumer.Certificates[0])
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
// [testing/synctest] bubble; the servers do not, because they listen on sockets. A
// [Registry] with a URL, and [StatusServices] with CAs of yours, are handlers that do.
package isharetest
