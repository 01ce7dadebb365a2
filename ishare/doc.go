// Package ishare holds the words of the iSHARE trust framework that the rest of Waybill is written in.
//
//   - A [PartyID] identifies a participant: did:ishare:EU.NL.NTRNL-10000000, or EU.EORI.NL000000001 in the 2.x
//     framework. [ParsePartyID] reads one, and refuses what is none, such as a URL.
//   - A [Party] is a participant's record, as a Participant Registry of iSHARE 3.0 shapes it. [ParseParty] and
//     [ParseParties] read records strictly. [Party.Compliant], [Party.CheckCertificate], [Party.HasRole] and
//     [Party.MemberOf] are the questions that a token request depends on.
//   - A [Scope] is a list of scope values; [ScopeISHARE] is in every one.
//   - [Thumbprint] is the form in which records name certificates, and [CertificateIDs] what a seal says whose it is.
//
// The package depends on no transport, no store and no clock: every question about time takes the time as an argument.
// The rules by which requests are refused are in package rule.
package ishare
