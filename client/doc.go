// Package client is a Service Consumer's side of iSHARE: it gets access tokens from
// somebody else's token endpoint with client assertions, keeps them, and
// renews them in time (iSHARE 3.0, access token; RFC 6749 section 4.4, RFC 7523).
//
//	c, err := client.New(client.Config{
//		Server:       "https://provider.example",
//		Audience:     "did:ishare:EU.NL.NTRNL-10000002",
//		ClientID:     "did:ishare:EU.NL.NTRNL-10000001",
//		Key:          key,
//		Certificates: chain,
//	})
//	…
//	response, err := c.HTTPClient().Get("https://provider.example/orders")
//
// [LoadKey] reads key and chain from PEM or PKCS#12; any other [crypto.Signer] with an
// RSA key serves as well, such as one in hardware. [Discover] finds the token
// endpoint of a server that has it in another place than iSHARE puts it.
//
// [Client.Token] gives the token itself, [Client.TokenSource] is the same for
// golang.org/x/oauth2, and [Client.HTTPClient] adds it to requests.
//
// # How often the server is asked
//
// A token is asked for once in its life, however many goroutines want it. Between 75
// and 90 % of its life, at a random point so that replicas do not come
// together, the first caller starts a renewal in the background; nobody waits
// for it. A renewal that fails is tried again while the old token is used on,
// to within ten seconds of its end.
//
// One request is made of up to five attempts in at most 30 seconds. An attempt
// that meets a broken network, or the status 429, 502, 503 or 504, is repeated after a
// pause that grows from a tenth of a second to one second, or after the
// Retry-After of the server. Each attempt has an assertion of its own: one that
// left the process is never sent again, whatever became of it. A caller whose
// context ends stops waiting; the request goes on for the others.
//
// After a request that failed, callers without a token get the same error for
// one second, or for the Retry-After of the server up to one minute. So a server
// that is down or refuses is not hammered, and one that comes back is found again
// within about two seconds.
//
// # What is kept from whom
//
// Assertions and tokens travel over https only; plain http is accepted to a
// loopback address. The token endpoint's redirects are not followed, and the token
// does not follow a redirect to another origin. No error and no log line holds a
// token or an assertion, not even one that a server quotes back.
package client
