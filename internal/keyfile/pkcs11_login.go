//go:build pkcs11 && cgo

package keyfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

// login logs the session in, if the token wants that. All sessions of a process
// with a token are logged in together, so another key may have done it.
func (l *link) login(slot uint) error {
	info, err := l.lib.GetTokenInfo(slot)
	if err != nil {
		return refuse(err, "Check that the token is there.", "the token does not say what it is: %v", err)
	}
	if info.Flags&pkcs11.CKF_LOGIN_REQUIRED == 0 {
		return nil
	}
	if err := pinTrouble(info.Flags, l.pin); err != nil {
		return err
	}
	attempt := attempted{l.uri.module, info.ManufacturerID, info.SerialNumber, sha256.Sum256([]byte(l.pin))}
	if wrongPINs.recently(attempt) {
		return wrong(pkcs11.Error(pkcs11.CKR_PIN_INCORRECT))
	}
	err = l.lib.Login(l.session, pkcs11.CKU_USER, l.pin)
	switch {
	case err == nil || isOneOf(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case isOneOf(err, pkcs11.CKR_PIN_LOCKED):
		return locked(err)
	case isPIN(err):
		wrongPINs.add(attempt)
		return wrong(err)
	}
	return refuse(err, "See the manual of the token.", "logging in to the token failed: %v", err)
}

// attempted is a PIN that was tried at a token.
type attempted struct {
	module, manufacturer, serial string
	pin                          [sha256.Size]byte
}

// A memory of PINs that were wrong. Who looks at a key several times in a row, as
// a check of a configuration does, would use up all tries of the token with one
// mistake.
type memory struct {
	mu    sync.Mutex
	wrong map[attempted]time.Time
}

// retryPIN is when the same PIN may be tried again: somebody may have set it.
const retryPIN = time.Minute

var wrongPINs memory //nolint:gochecknoglobals // the tries are counted by the token, for all of the process

func (m *memory) add(a attempted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.wrong, func(_ attempted, at time.Time) bool { return time.Since(at) > retryPIN })
	if m.wrong == nil {
		m.wrong = make(map[attempted]time.Time)
	}
	m.wrong[a] = time.Now()
}

func (m *memory) recently(a attempted) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, was := m.wrong[a]
	return was && time.Since(at) <= retryPIN
}

func wrong(err error) error {
	return refuse(err, "Correct it in "+pinPlaces+" before you try again: after a few wrong ones the token locks itself.",
		"the PIN does not open the token (%v)", err)
}

// pinTrouble finds what can be known before the PIN is tried. A service that is
// restarted again and again must not use up the last try.
func pinTrouble(flags uint, pin string) error {
	switch {
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return locked(nil)
	case flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
		return refuse(nil, "Set one, with the program that came with the token.", "the token has no user PIN yet")
	case pin == "":
		return refuse(nil, "Put it in "+pinPlaces+".", "the token wants a PIN, and none is given")
	case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return refuse(nil, "Log in once with the right PIN and the program that came with the token, which resets the count.",
			"one more wrong PIN would lock the token, so none is tried")
	}
	return nil
}

func locked(err error) error {
	return refuse(err, "Unlock it with the PIN of the security officer.", "the token has locked its PIN, after too many wrong ones")
}

// refusal is an error that comes with its mend.
type refusal struct {
	message, mend string
	cause         error
}

func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(cause error, mend, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), mend, cause}
}

func tell(u *keyURI, err error) Problem {
	p := Problem{File: u.shown, Message: err.Error(), Hint: "See the manual of the token.", Cause: err}
	if r, ok := errors.AsType[*refusal](err); ok {
		p.Hint = r.mend
	}
	return p
}
