//go:build pkcs11 && cgo

package keyfile

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/miekg/pkcs11"
)

// A link is the way to one key: a module, a session that is logged in, and the
// key's handle there.
type link struct {
	uri *keyURI
	pin string

	mu      sync.Mutex // guards what follows, and the session's one operation
	public  *rsa.PublicKey
	lib     *library // nil: not connected
	session pkcs11.SessionHandle
	key     pkcs11.ObjectHandle
	pinEach bool  // the token wants the PIN for each signature
	ended   error // why the link is not to be used again
}

var errClosed = errors.New("keyfile: the key in hardware was closed")

// open connects. What it has opened when it fails, hangUp closes.
func (l *link) open() (err error) {
	if l.lib, err = load(l.uri.module); err != nil {
		return err
	}
	slot, err := l.lib.find(l.uri)
	if err != nil {
		return err
	}
	if l.session, err = l.lib.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return refuse(err, "Try again; another program may hold the token.", "the token gives no session: %v", err)
	}
	if err := l.login(slot); err != nil {
		return err
	}
	return l.findKey()
}

// hangUp ends the session. It may be called when there is none.
func (l *link) hangUp() {
	if l.lib == nil {
		return
	}
	if l.session != 0 {
		_ = l.lib.CloseSession(l.session) // a session that is broken is gone already
	}
	l.lib.release()
	l.lib, l.session = nil, 0
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangUp()
	l.ended, l.pin = errClosed, ""
}

// sign signs and, when the session turns out to be lost, does so once more in a
// new one: a token in the network that was restarted is found again.
func (l *link) sign(input []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	signature, err := l.signOnce(input)
	if isLost(err) {
		signature, err = l.signOnce(input)
	}
	if err != nil {
		return nil, fmt.Errorf("keyfile: %s: %w", l.uri.shown, err)
	}
	return signature, nil
}

// signOnce leaves no session behind in which an operation has failed half way.
func (l *link) signOnce(input []byte) ([]byte, error) {
	if l.ended != nil {
		return nil, l.ended
	}
	if l.lib == nil {
		if err := l.reopen(); err != nil {
			l.hangUp()
			return nil, err
		}
	}
	signature, err := l.signIn(input)
	if err != nil {
		l.hangUp()
	}
	return signature, err
}

func (l *link) signIn(input []byte) ([]byte, error) {
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}
	if err := l.lib.SignInit(l.session, mechanism, l.key); err != nil {
		return nil, err
	}
	if l.pinEach {
		if err := l.lib.Login(l.session, pkcs11.CKU_CONTEXT_SPECIFIC, l.pin); err != nil {
			return nil, l.giveUp(err)
		}
	}
	return l.lib.Sign(l.session, input)
}

// reopen connects anew, and makes sure that the key is the one it was.
func (l *link) reopen() error {
	before := l.public
	if err := l.open(); err != nil {
		return l.giveUp(err)
	}
	if !before.Equal(l.public) {
		l.public, l.ended = before, errors.New("the token holds another key than before")
		return l.ended
	}
	return nil
}

// giveUp keeps a PIN that was right once, and is not any more, from being tried until
// the token locks itself.
func (l *link) giveUp(err error) error {
	if isPIN(err) {
		l.ended = err
	}
	return err
}

// isLost reports whether the session is gone, and another may do better.
func isLost(err error) bool {
	return isOneOf(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN,
		pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_ERROR,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
}

// isPIN reports whether the token minds the PIN.
func isPIN(err error) bool {
	return isOneOf(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED)
}

func isOneOf(err error, codes ...pkcs11.Error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	return ok && slices.Contains(codes, code)
}
