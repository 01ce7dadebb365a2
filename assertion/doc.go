// Package assertion makes and judges iSHARE client assertions: the JWT with
// which a Service Consumer proves who it is at a token endpoint (iSHARE 3.0,
// client assertion; RFC 7523).
//
// A [Maker] makes them. A [Verifier] judges them, by every rule of the catalogue
// in [rule.All] from jwt.compact on and in that order. The walk is a row of
// stages, and each stage takes a value that only the stages before it can make,
// so that leaving one out does not compile. Nothing leaves the process before
// signature and chain hold, and nothing is remembered before everything else does.
//
// [Verifier.Explain] walks the same rules for a person: it goes on after a
// failure and reports every outcome, and it can return no [Client].
package assertion
