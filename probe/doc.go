// Package probe is a suite for the token endpoint of any iSHARE server, whoever wrote it. It sends right and wrong token
// requests with one's own seal, looks at what comes back, and says of each case what the specification asks, what was
// sent, what came, and whether that is as it must be.
//
//	report, err := probe.Run(ctx, probe.Config{
//		Server: "https://provider.example", Audience: "did:ishare:EU.NL.NTRNL-10000000",
//		Seal: probe.Seal{ClientID: "did:ishare:EU.NL.NTRNL-10000001", Key: key, Certificates: certificates},
//	})
//
// [Cases] is the table of all cases: those of the official conformance test by their names, then ours. Most need
// nothing but a seal that the server accepts. Those about other certificates need a certificate authority that it trusts
// ([NewTestSeals]), and those about access tokens a secured endpoint ([Config.SecuredURL]).
//
// # What it does to a server
//
// One request after the other, with a pause between them, some two hundred in all, and twenty of them at once in one case.
// Nothing is sent to another address than the ones that are configured: no redirect is followed. A secured endpoint is asked
// with GET only. The right requests get access tokens, which expire unused.
//
// # What is in a report
//
// Neither an assertion nor a token: of an assertion that was sent, header and payload are shown and no signature, and what
// a server said is cut and cleaned of everything that looks like a secret.
//
// # Single assertions
//
// [NewAssertion] makes an assertion, [Assertion.Break] breaks one rule of it, and [Assertion.Set] changes one member.
package probe
