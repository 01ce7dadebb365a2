//go:build pkcs11 && cgo

package pkcs11

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	p11 "github.com/miekg/pkcs11"
)

// Open finds the token and the key that the URI names, and logs in. The session lasts until
// the key is closed, or nobody holds it any more. pinPlaces says in hints where the PIN can be
// put. The error is an [Error].
func Open(u *URI, pin, pinPlaces string) (Key, error) {
	l := &connection{uri: u, pin: pin, pinPlaces: pinPlaces}
	if err := l.connect(); err != nil {
		l.disconnect()
		return nil, err
	}
	key := &tokenKey{connection: l, public: l.public}
	key.cleanup = runtime.AddCleanup(key, (*connection).close, l)
	return key, nil
}

// tokenKey is an RSA key in a token. It is safe for concurrent use; one signature is
// made at a time.
type tokenKey struct {
	public     *rsa.PublicKey
	connection *connection
	cleanup    runtime.Cleanup
}

// Public is an *[rsa.PublicKey].
func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign makes a signature of PKCS #1 v1.5, the only kind that iSHARE has.
func (k *tokenKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer runtime.KeepAlive(k)
	prefix, ok := digestPrefixes[opts.HashFunc()]
	if _, isPSS := opts.(*rsa.PSSOptions); isPSS || !ok {
		return nil, errors.New("keyfile: a key in hardware signs with RSASSA-PKCS1-v1_5 and SHA-256, SHA-384 or SHA-512 only")
	}
	if len(digest) != opts.HashFunc().Size() {
		return nil, errors.New("keyfile: the digest has another length than its hash function gives")
	}
	return k.connection.sign(slices.Concat(prefix, digest))
}

// Close ends the session. Afterwards the key does not sign.
func (k *tokenKey) Close() error {
	k.cleanup.Stop()
	k.connection.close()
	return nil
}

// digestPrefixes stand before a digest in the DER of a DigestInfo (RFC 8017 section 9.2, note 1).
var digestPrefixes = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// A connection is what one key is used by: a module, a session that is logged in, and the key's
// handle there.
type connection struct {
	uri       *URI
	pin       string
	pinPlaces string // where it can be put, for hints

	mu      sync.Mutex // guards what follows, and the session's one operation
	public  *rsa.PublicKey
	lib     *library // nil: not connected
	session p11.SessionHandle
	key     p11.ObjectHandle
	pinEach bool  // the token wants the PIN for each signature
	ended   error // why the connection must not be used again
}

var errClosed = errors.New("keyfile: the key in hardware was closed")

// connect may fail half way: disconnect closes what is open then.
func (l *connection) connect() (err error) {
	if l.lib, err = load(l.uri.module); err != nil {
		return err
	}
	slot, err := l.lib.findSlot(l.uri)
	if err != nil {
		return err
	}
	if l.session, err = l.lib.OpenSession(slot, p11.CKF_SERIAL_SESSION); err != nil {
		return newError(err, "Try again; another program may hold the token.", "the token gives no session: %v", err)
	}
	if err := l.login(slot); err != nil {
		return err
	}
	return l.findKey()
}

// disconnect ends the session. It may be called when there is none.
func (l *connection) disconnect() {
	if l.lib == nil {
		return
	}
	if l.session != 0 {
		_ = l.lib.CloseSession(l.session) // a session that is broken is gone already
	}
	l.lib.release()
	l.lib, l.session = nil, 0
}

func (l *connection) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disconnect()
	l.ended, l.pin = errClosed, ""
}

// sign signs and, when the session turns out to be lost, does so once more in a
// new one: a token in the network that was restarted is found again.
func (l *connection) sign(input []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	signature, err := l.signOnce(input)
	if isOneOf(err, sessionLost...) {
		signature, err = l.signOnce(input)
	}
	if err != nil {
		return nil, fmt.Errorf("keyfile: %s: %w", l.uri.Shown, err)
	}
	return signature, nil
}

// signOnce leaves no session behind in which an operation has failed half way.
func (l *connection) signOnce(input []byte) ([]byte, error) {
	if l.ended != nil {
		return nil, l.ended
	}
	if l.lib == nil {
		if err := l.reconnect(); err != nil {
			l.disconnect()
			return nil, err
		}
	}
	signature, err := l.signInSession(input)
	if err != nil {
		l.disconnect()
	}
	return signature, err
}

func (l *connection) signInSession(input []byte) ([]byte, error) {
	mechanism := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS, nil)}
	if err := l.lib.SignInit(l.session, mechanism, l.key); err != nil {
		return nil, err
	}
	if l.pinEach {
		if err := l.lib.Login(l.session, p11.CKU_CONTEXT_SPECIFIC, l.pin); err != nil {
			return nil, l.endIfPINRefused(err)
		}
	}
	return l.lib.Sign(l.session, input)
}

// reconnect connects anew, and makes sure that the key is the one it was.
func (l *connection) reconnect() error {
	before := l.public
	if err := l.connect(); err != nil {
		return l.endIfPINRefused(err)
	}
	if !before.Equal(l.public) {
		l.public, l.ended = before, errors.New("the token holds another key than before")
		return l.ended
	}
	return nil
}

// endIfPINRefused ends the connection for good when the token refuses the PIN: one that was right
// before must not be tried until the token locks itself.
func (l *connection) endIfPINRefused(err error) error {
	if isOneOf(err, pinRefused...) {
		l.ended = err
	}
	return err
}

// What a library says of a session that is gone, where another may do better, and of a PIN that the token refuses.
var (
	sessionLost = []p11.Error{
		p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_DEVICE_REMOVED, p11.CKR_DEVICE_ERROR,
		p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_CRYPTOKI_NOT_INITIALIZED,
	}
	pinRefused = []p11.Error{p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_LOCKED, p11.CKR_PIN_EXPIRED}
)

func isOneOf(err error, codes ...p11.Error) bool {
	code, ok := errors.AsType[p11.Error](err)
	return ok && slices.Contains(codes, code)
}
