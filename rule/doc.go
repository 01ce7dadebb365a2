// Package rule holds the reasons for which a token request can be refused, and the little machinery by which they
// are applied.
//
// A [Rule] is a value: an id such as claim.aud that never changes, what the rule asks, the clause that it
// comes from, the OAuth error and the HTTP status of the answer, a sentence for the caller and a hint. The same id
// stands in the error_description, the log, `waybill explain` and docs/rules.md, which a
// test writes from here. [All] is the catalogue in the order of evaluation: cheap before dear, local before remote, and
// nothing remembered before everything else holds. [Outages] lists the reasons for which no decision could be made.
//
// A [Check] applies one rule to an input that was parsed before. [Evaluate] applies a table of them in order, and ends
// at the first rejection; given a [Trace], it goes on and records the outcome of every rule, which is
// how one is explained to a person what a server would have said.
//
// An error that comes of judging a request is one of three:
//
//   - a [*Rejection]: the caller is at fault and can mend it. Its sentence and hint may be shown to anyone.
//   - an [*Outage]: something that the decision depends on is out of reach, or the server is overloaded. There is no
//     token, and the caller may try again.
//   - any other error is the server's own, and its words are not for the caller.
//
// [Classify] tells them apart, wherever an error becomes an answer. It looks for an outage first, however errors are
// joined or wrapped: while something is out of reach, a rejection would be a guess.
package rule
