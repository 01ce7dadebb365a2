// Package assertion makes and judges iSHARE client assertions: the JWT with which a Service Consumer proves who it is
// at a token endpoint (iSHARE 3.0, client assertion; RFC 7523).
//
// A [Maker] makes them, for a client. A [Verifier] judges them, for a server: [Verifier.Verify] takes the client_id and
// the assertion of a request, and returns a [Client] or the reason why there is none, which [rule.Classify] tells apart.
// It judges by a [Config]: whom the assertion is for, which CAs are trusted ([trust.Validator]), who takes
// part ([PartySource]), what is revoked ([RevocationChecker]), and which assertions were used before ([replay.Store]).
//
// The rules are those of [rule.All] from jwt.compact on, in that order, and one walk through a table of stages
// applies them. Nothing leaves the process before signature and chain hold, and nothing is remembered before
// everything else does.
//
// An [Explainer] goes the same way for a person: it goes on after a failure, reports the outcome of every
// rule in a [Report], and can return no [Client]. A [ResponseVerifier] judges the signed answers of a party that was
// called, such as a Participant Registry.
package assertion
