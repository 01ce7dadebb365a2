// Package pkcs11 signs with a private key that stays in hardware, reached by a PKCS#11 library
// and named by a PKCS#11 URI (RFC 7512). Only a build with the tag pkcs11 can do it: the
// libraries are in C. Every other build says so when it is asked to.
package pkcs11

import (
	"crypto"
	"io"
)

// A Key is a private key that stays in a token. Close gives up the session with the token,
// after which the key no longer signs.
type Key interface {
	crypto.Signer
	io.Closer
}

// An Error says what is wrong with a token, a key in it or its library, and what to do about
// it. It is fit to be shown to the person who keeps the token, and holds no PIN.
type Error struct {
	Message string
	Hint    string
	Cause   error // what the library said, or nil
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }
