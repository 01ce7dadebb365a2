// Package ishare holds the words of the iSHARE trust framework that the rest
// of Waybill is written in: party identifiers, scopes, party records, and the
// catalogue of rules by which a token request can be refused.
//
// The package depends on no transport, no store and no clock: every question
// about time takes the time as an argument.
package ishare
