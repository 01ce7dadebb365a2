//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"
)

// A library is a PKCS#11 module that is loaded. It is started and ended for the whole
// process, so that all keys behind one module share it.
type library struct {
	*p11.Ctx

	path  string
	users int
}

var libraries = struct { //nolint:gochecknoglobals // a module is started once in a process
	mu     sync.Mutex
	loaded map[string]*library
}{loaded: make(map[string]*library)}

func load(path string) (*library, error) {
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	lib := libraries.loaded[path]
	if lib == nil {
		ctx := p11.New(path)
		if ctx == nil {
			return nil, newError(nil, "Check module-path: it names the library that came with the token, built for this machine.",
				"%s cannot be loaded as a PKCS#11 library", path)
		}
		if err := ctx.Initialize(); err != nil {
			ctx.Destroy()
			return nil, newError(err, "See the manual of the token: many libraries want a configuration file or a variable.",
				"the PKCS#11 library %s does not start: %v", path, err)
		}
		lib = &library{Ctx: ctx, path: path}
		libraries.loaded[path] = lib
	}
	lib.users++
	return lib, nil
}

// release ends the library with its last user.
func (lib *library) release() {
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	lib.users--
	if lib.users > 0 {
		return
	}
	delete(libraries.loaded, lib.path)
	_ = lib.Finalize() // then it is as good as ended
	lib.Destroy()
}

// findSlot gives the slot of the one token that the URI means.
func (lib *library) findSlot(u *URI) (uint, error) {
	slots, err := lib.GetSlotList(true)
	if err != nil {
		return 0, newError(err, "See the manual of the token.", "the PKCS#11 library lists no tokens: %v", err)
	}
	var found []uint
	var others []string
	for _, slot := range slots {
		info, err := lib.GetTokenInfo(slot)
		switch {
		case err != nil: // being taken out, or not the one
		case u.matches(slot, &info):
			found = append(found, slot)
		case info.Label == "" && info.Flags&p11.CKF_TOKEN_INITIALIZED == 0: // SoftHSM always has one to spare
		default:
			others = append(others, fmt.Sprintf("%q", info.Label))
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return 0, newError(nil, "Add serial= or slot-id=; pkcs11-tool --list-token-slots shows them.", "%d tokens match the URI", len(found))
	case len(others) == 0:
		return 0, newError(nil, "Connect the token, and check that the account that Waybill runs under may use it.", "the PKCS#11 library sees no token")
	}
	return 0, newError(nil, "Correct token=, serial= or slot-id= in the URI.", "no token matches the URI; the tokens that are there: %s", strings.Join(others, ", "))
}

func (u *URI) matches(slot uint, info *p11.TokenInfo) bool {
	fits := func(want, got string) bool { return want == "" || want == got }
	return fits(u.token, info.Label) && fits(u.serial, info.SerialNumber) && fits(u.model, info.Model) &&
		fits(u.manufacturer, info.ManufacturerID) && (u.slot == nil || *u.slot == slot)
}

// login logs the session in, if the token wants that. All sessions of a process
// with a token are logged in together, so another key may have done it.
func (l *connection) login(slot uint) error {
	info, err := l.lib.GetTokenInfo(slot)
	if err != nil {
		return newError(err, "Check that the token is there.", "the token does not say what it is: %v", err)
	}
	if info.Flags&p11.CKF_LOGIN_REQUIRED == 0 {
		return nil
	}
	if err := l.checkPINStatus(info.Flags); err != nil {
		return err
	}
	now := attempt{l.uri.module, info.ManufacturerID, info.SerialNumber, sha256.Sum256([]byte(l.pin))}
	if wrongPINs.recently(now) {
		return l.wrongPINError(p11.Error(p11.CKR_PIN_INCORRECT))
	}
	err = l.lib.Login(l.session, p11.CKU_USER, l.pin)
	switch {
	case err == nil || isOneOf(err, p11.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case isOneOf(err, p11.CKR_PIN_LOCKED):
		return lockedPINError(err)
	case isOneOf(err, pinRefused...):
		wrongPINs.add(now)
		return l.wrongPINError(err)
	}
	return newError(err, "See the manual of the token.", "logging in to the token failed: %v", err)
}

// An attempt is a PIN that was tried at a token.
type attempt struct {
	module, manufacturer, serial string
	pin                          [sha256.Size]byte
}

// triedPINs remembers PINs that were wrong. Who looks at a key several times in a row, as
// a check of a configuration does, would use up all tries of the token with one
// mistake.
type triedPINs struct {
	mu    sync.Mutex
	wrong map[attempt]time.Time
}

// retryPIN is when the same PIN may be tried again: somebody may have set it.
const retryPIN = time.Minute

var wrongPINs triedPINs //nolint:gochecknoglobals // the tries are counted by the token, for all of the process

func (m *triedPINs) add(a attempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.wrong, func(_ attempt, at time.Time) bool { return time.Since(at) > retryPIN })
	if m.wrong == nil {
		m.wrong = make(map[attempt]time.Time)
	}
	m.wrong[a] = time.Now()
}

func (m *triedPINs) recently(a attempt) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, was := m.wrong[a]
	return was && time.Since(at) <= retryPIN
}

func (l *connection) wrongPINError(err error) error {
	return newError(err, "Correct it in "+l.pinPlaces+" before you try again: after a few wrong ones the token locks itself.",
		"the PIN does not open the token (%v)", err)
}

// checkPINStatus finds what can be known before the PIN is tried. A service that is
// restarted again and again must not use up the last try.
func (l *connection) checkPINStatus(flags uint) error {
	switch {
	case flags&p11.CKF_USER_PIN_LOCKED != 0:
		return lockedPINError(nil)
	case flags&p11.CKF_USER_PIN_INITIALIZED == 0:
		return newError(nil, "Set one, with the program that came with the token.", "the token has no user PIN yet")
	case l.pin == "":
		return newError(nil, "Put it in "+l.pinPlaces+".", "the token wants a PIN, and none is given")
	case flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return newError(nil, "Log in once with the right PIN and the program that came with the token, which resets the count.",
			"one more wrong PIN would lock the token, so none is tried")
	}
	return nil
}

func lockedPINError(err error) error {
	return newError(err, "Unlock it with the PIN of the security officer.", "the token has locked its PIN, after too many wrong ones")
}

func newError(cause error, hint, format string, args ...any) error {
	return &Error{Message: fmt.Sprintf(format, args...), Hint: hint, Cause: cause}
}

// findKey gives the one private key that the URI means, with its public half.
func (l *connection) findKey() error {
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)}
	if l.uri.object != "" {
		template = append(template, p11.NewAttribute(p11.CKA_LABEL, l.uri.object))
	}
	if len(l.uri.id) > 0 {
		template = append(template, p11.NewAttribute(p11.CKA_ID, l.uri.id))
	}
	found, err := l.objects(template)
	switch {
	case err != nil:
		return newError(err, "See the manual of the token.", "the token does not list its keys: %v", err)
	case len(found) == 0:
		return newError(nil, "Correct object= or id= in the URI; pkcs11-tool --list-objects --type privkey --login shows what is there.", "no private key on the token matches the URI")
	case len(found) > 1:
		return newError(nil, "Add "+l.distinguishingIDs(found)+".", "%d private keys on the token match the URI", len(found))
	}
	l.key = found[0]
	return l.readKey()
}

// distinguishingIDs says what the URI lacks to name one key only.
func (l *connection) distinguishingIDs(keys []p11.ObjectHandle) string {
	var ids []string
	for _, key := range keys {
		if id := l.attribute(key, p11.CKA_ID); len(id) > 0 && len(l.uri.id) == 0 {
			ids = append(ids, "id=%"+strings.ReplaceAll(fmt.Sprintf("% X", id), " ", "%"))
		}
	}
	if len(ids) == 0 {
		return "object= or id=, whichever differs"
	}
	return "one of " + strings.Join(ids, ", ")
}

// maxObjects is how many matches are looked at.
const maxObjects = 16

func (l *connection) objects(template []*p11.Attribute) ([]p11.ObjectHandle, error) {
	if err := l.lib.FindObjectsInit(l.session, template); err != nil {
		return nil, err
	}
	found, _, err := l.lib.FindObjects(l.session, maxObjects)
	return found, errors.Join(err, l.lib.FindObjectsFinal(l.session))
}

// attribute is nil when the token does not tell.
func (l *connection) attribute(object p11.ObjectHandle, kind uint) []byte {
	got, err := l.lib.GetAttributeValue(l.session, object, []*p11.Attribute{p11.NewAttribute(kind, nil)})
	if err != nil || len(got) != 1 {
		return nil
	}
	return got[0].Value
}

// readKey reads what is known of the key. Its size is judged with the certificates.
func (l *connection) readKey() error {
	kind := p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_RSA).Value
	switch {
	case !bytes.Equal(l.attribute(l.key, p11.CKA_KEY_TYPE), kind):
		return newError(nil, "Name the RSA key of the seal.", "the private key on the token is not RSA, which iSHARE demands")
	case bytes.Equal(l.attribute(l.key, p11.CKA_SIGN), []byte{0}):
		return newError(nil, "Name the key of the seal.", "the private key on the token is not allowed to sign")
	}
	l.pinEach = bytes.Equal(l.attribute(l.key, p11.CKA_ALWAYS_AUTHENTICATE), []byte{1})
	l.public = l.publicHalf(l.key)
	if id := l.attribute(l.key, p11.CKA_ID); l.public == nil && len(id) > 0 { // then the public key object of the same id may tell
		found, err := l.objects([]*p11.Attribute{
			p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), p11.NewAttribute(p11.CKA_ID, id),
		})
		if err == nil && len(found) > 0 {
			l.public = l.publicHalf(found[0])
		}
	}
	if l.public == nil {
		return newError(nil, "Import the public key or set CKA_MODULUS, with the same CKA_ID as the private key.", "the token does not tell the public half of the private key")
	}
	return nil
}

// publicHalf reads modulus and exponent, which are no secret, of either half.
func (l *connection) publicHalf(object p11.ObjectHandle) *rsa.PublicKey {
	modulus := new(big.Int).SetBytes(l.attribute(object, p11.CKA_MODULUS))
	exponent := new(big.Int).SetBytes(l.attribute(object, p11.CKA_PUBLIC_EXPONENT))
	if modulus.Sign() == 0 || exponent.Sign() == 0 || exponent.BitLen() > 31 {
		return nil
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
}
