// Package testca is a certificate authority for tests, the sandbox and bench, shaped like the test PKI of iSHARE: a root,
// a sub CA, an issuing CA, and seals whose only key usage is nonRepudiation.
//
// It issues whatever it is told to, because its purpose includes forgery: an [Identity] can sign a certificate whether
// or not it is a CA. Nothing that it makes may be trusted outside of them.
package testca
