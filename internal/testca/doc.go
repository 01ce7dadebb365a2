// Package testca is a certificate authority for tests and for the sandbox, shaped like the test PKI of iSHARE: a root,
// a sub CA, an issuing CA, and seals whose only key usage is nonRepudiation.
//
// It issues whatever it is told to, because its purpose includes forgery: an [Identity] can sign a certificate whether
// or not it is a CA. Nothing that it makes may be trusted outside a test or a sandbox.
package testca
