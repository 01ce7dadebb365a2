//go:build pkcs11 && cgo

package pkcs11

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/waybill-token/waybill/internal/pkcs11/softhsm"
)

// pin is that of every token of these tests, and pinPlaces what hints say of where it is put.
const (
	pin       = softhsm.PIN
	pinPlaces = "pin-source=file:/path in the URI, or elsewhere"
)

func TestMain(m *testing.M) { softhsm.Main(m) }

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

var (
	sealKey  = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	smallKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(1024) })
)

// softHSM gives the path of SoftHSM's library, with the tokens in place. Most tests share
// the token waybill; who minds how often it is logged in to has one alone.
var softHSM = softhsm.Tokens([]string{"waybill", "bare", "closed", "collected", "lost", "mistaken"}, func() []softhsm.Key {
	return []softhsm.Key{
		{Token: "waybill", Label: "seal", ID: "01", Key: sealKey()},
		{Token: "closed", Label: "seal", ID: "01", Key: sealKey()},
		{Token: "closed", Label: "other", ID: "06", Key: smallKey()},
		{Token: "collected", Label: "seal", ID: "01", Key: sealKey()},
		{Token: "lost", Label: "seal", ID: "01", Key: sealKey()},
		{Token: "mistaken", Label: "seal", ID: "01", Key: sealKey()},
	}
})

// open opens a key in a token of SoftHSM, until the test ends.
func open(t *testing.T, where, pin string) (Key, error) {
	t.Helper()
	uri, err := ParseURI("pkcs11:" + where + "?module-path=" + softHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	key, err := Open(uri, pin, pinPlaces)
	if key != nil {
		t.Cleanup(func() { key.Close() })
	}
	return key, err
}

// usable checks that a key is there and makes signatures of sealKey.
func usable(t *testing.T, key Key, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(&sealKey().PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
}

// wantError checks what is said of a token, and what to do about it.
func wantError(t *testing.T, err error, message, hint string) {
	t.Helper()
	if said := (*Error)(nil); !errors.As(err, &said) || !strings.Contains(said.Message, message) || !strings.Contains(said.Hint, hint) {
		t.Errorf("error %+v, want %q with %q", err, message, hint)
	}
}

// A token may be named by its serial number and its slot too.
func TestHardwareKeyBySerialAndSlot(t *testing.T) {
	t.Parallel()
	lib, err := load(softHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	defer lib.release()
	slot, err := lib.findSlot(&URI{token: "waybill"})
	if err != nil {
		t.Fatal(err)
	}
	info, err := lib.GetTokenInfo(slot)
	if err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{
		"serial=" + url.PathEscape(info.SerialNumber), fmt.Sprintf("slot-id=%d", slot),
		fmt.Sprintf("slot-id=%d;serial=%s;token=waybill", slot, url.PathEscape(info.SerialNumber)),
	} {
		key, err := open(t, where+";object=seal", pin)
		usable(t, key, err)
	}
	_, err = open(t, "token=bare;serial="+url.PathEscape(info.SerialNumber)+";object=seal", pin)
	wantError(t, err, "no token matches", "Correct token=")
}

// addKey puts a key into the token bare, with attributes besides the usual ones or
// instead of them, and gives its URI.
func addKey(t *testing.T, label string, key *rsa.PrivateKey, special map[uint]any) string {
	t.Helper()
	uri := "pkcs11:token=bare;object=" + label + "?module-path=" + softHSM(t)
	parsed, err := ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	l := &connection{uri: parsed, pin: pin}
	if l.lib, err = load(parsed.module); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close) // until then, the objects of the session are there
	slot, err := l.lib.findSlot(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if l.session, err = l.lib.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION); err != nil {
		t.Fatal(err)
	}
	if err := l.login(slot); err != nil {
		t.Fatal(err)
	}
	if _, err := l.lib.CreateObject(l.session, keyTemplate(label, key, special)); err != nil {
		t.Fatal(err)
	}
	return uri
}

func keyTemplate(label string, key *rsa.PrivateKey, special map[uint]any) []*p11.Attribute {
	values := map[uint]any{
		p11.CKA_CLASS: p11.CKO_PRIVATE_KEY, p11.CKA_KEY_TYPE: p11.CKK_RSA, p11.CKA_LABEL: label,
		p11.CKA_TOKEN: false, p11.CKA_PRIVATE: true, p11.CKA_SIGN: true, p11.CKA_ID: []byte(label),
		p11.CKA_MODULUS: key.N.Bytes(), p11.CKA_PUBLIC_EXPONENT: []byte{1, 0, 1}, p11.CKA_PRIVATE_EXPONENT: key.D.Bytes(),
		p11.CKA_PRIME_1: key.Primes[0].Bytes(), p11.CKA_PRIME_2: key.Primes[1].Bytes(),
		p11.CKA_EXPONENT_1: key.Precomputed.Dp.Bytes(), p11.CKA_EXPONENT_2: key.Precomputed.Dq.Bytes(),
		p11.CKA_COEFFICIENT: key.Precomputed.Qinv.Bytes(),
	}
	maps.Copy(values, special)
	var template []*p11.Attribute
	for kind, value := range values {
		if value == nil {
			continue
		}
		template = append(template, p11.NewAttribute(kind, value))
	}
	return template
}

// Some seals want the PIN for each signature.
func TestPINForEachSignature(t *testing.T) {
	t.Parallel()
	softHSM(t)
	uri := addKey(t, "each", sealKey(), map[uint]any{p11.CKA_ALWAYS_AUTHENTICATE: true})
	key, err := open(t, strings.TrimPrefix(strings.Split(uri, "?")[0], uriScheme), pin)
	usable(t, key, err)
	usable(t, key, err)
}

func TestKeyThatMayNotSign(t *testing.T) {
	t.Parallel()
	softHSM(t)
	addKey(t, "decrypts", sealKey(), map[uint]any{p11.CKA_SIGN: false})
	_, err := open(t, "token=bare;object=decrypts", pin)
	wantError(t, err, "is not allowed to sign", "key of the seal")
}

// Where the private half does not tell modulus and exponent, the public half does.
func TestPublicHalf(t *testing.T) {
	t.Parallel()
	softHSM(t)
	addKey(t, "half", sealKey(), map[uint]any{p11.CKA_PUBLIC_EXPONENT: nil})
	_, err := open(t, "token=bare;object=half", pin)
	wantError(t, err, "does not tell the public half", "Import the public key")
	addKey(t, "half", sealKey(), map[uint]any{
		p11.CKA_CLASS: p11.CKO_PUBLIC_KEY, p11.CKA_SIGN: nil, p11.CKA_PRIVATE: false, p11.CKA_PRIVATE_EXPONENT: nil,
		p11.CKA_PRIME_1: nil, p11.CKA_PRIME_2: nil, p11.CKA_EXPONENT_1: nil, p11.CKA_EXPONENT_2: nil, p11.CKA_COEFFICIENT: nil,
	})
	key, err := open(t, "token=bare;object=half", pin)
	if err != nil || !sealKey().PublicKey.Equal(key.Public()) { // with half a private key, SoftHSM does not sign
		t.Errorf("key %v, error %v", key, err)
	}
}

// loggedIn reports whether this process holds a session that is logged in.
func loggedIn(t *testing.T, token string) bool {
	t.Helper()
	lib, err := load(softHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	defer lib.release()
	session := openSession(t, lib, token)
	info, err := lib.GetSessionInfo(session)
	if err = errors.Join(err, lib.CloseSession(session)); err != nil {
		t.Fatal(err)
	}
	return info.State != p11.CKS_RW_PUBLIC_SESSION
}

func openSession(t *testing.T, lib *library, token string) p11.SessionHandle {
	t.Helper()
	slot, err := lib.findSlot(&URI{token: token})
	if err != nil {
		t.Fatal(err)
	}
	session, err := lib.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func TestCloseLogsOut(t *testing.T) {
	t.Parallel()
	key, err := open(t, "token=closed;object=seal", pin)
	usable(t, key, err)
	if !loggedIn(t, "closed") {
		t.Error("it signs without a login, so that this test shows nothing")
	}
	for range 2 {
		if err := key.Close(); err != nil {
			t.Error(err)
		}
	}
	if loggedIn(t, "closed") {
		t.Error("closed, and still logged in")
	}
	digest := sha256.Sum256(nil)
	if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, errClosed) {
		t.Errorf("error %v, want %v", err, errClosed)
	}
	// What is refused is not left open.
	if key, err := open(t, "token=closed;object=nothing", pin); err == nil || loggedIn(t, "closed") {
		t.Errorf("key %v, and it may still be logged in", key)
	}
}

// A key that was forgotten does not keep its session for ever.
func TestForgottenKeyIsClosed(t *testing.T) {
	t.Parallel()
	func() {
		uri, err := ParseURI("pkcs11:token=collected;object=seal?module-path=" + softHSM(t))
		if err != nil {
			t.Fatal(err)
		}
		key, err := Open(uri, pin, pinPlaces)
		usable(t, key, err)
	}()
	for late := time.After(time.Minute); loggedIn(t, "collected"); runtime.GC() {
		select {
		case <-late:
			t.Fatal("the session is still there")
		default:
		}
	}
}

// A token in the network that is restarted forgets its sessions.
func TestLostSession(t *testing.T) {
	t.Parallel()
	key, err := open(t, "token=lost;object=seal", pin)
	usable(t, key, err)
	lib, err := load(softHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	defer lib.release()
	slot, err := lib.findSlot(&URI{token: "lost"})
	if err != nil {
		t.Fatal(err)
	}
	lose := func() {
		if err := lib.CloseAllSessions(slot); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	usable(t, key, err)

	// The key that comes back is the one that was there.
	digest := sha256.Sum256(nil)
	second, err := open(t, "token=lost;object=seal", pin)
	usable(t, second, err)
	replaceKey(t, lib, "lost", newRSA(2048))
	lose()
	for range 2 {
		if _, err = second.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "another key than before") {
			t.Errorf("error %v", err)
		}
	}
	replaceKey(t, lib, "lost", sealKey())

	// A PIN that is right no longer is tried once, and not again and again.
	setPIN := func(from, to string) {
		lose()
		session := openSession(t, lib, "lost")
		defer lib.CloseSession(session)
		if err := lib.SetPIN(session, from, to); err != nil {
			t.Fatal(err)
		}
	}
	setPIN(pin, "90817-new")
	for range 2 {
		_, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err == nil || !strings.Contains(err.Error(), "the PIN does not open the token") || strings.Contains(err.Error(), pin) {
			t.Errorf("error %v", err)
		}
	}
	setPIN("90817-new", pin)
	forgetPINs(t, lib, "lost")
	if _, err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil {
		t.Error("the PIN was tried a second time")
	}
}

// forgetPINs makes as if no wrong PIN had been tried at the token.
func forgetPINs(t *testing.T, lib *library, token string) {
	t.Helper()
	slot, err := lib.findSlot(&URI{token: token})
	if err != nil {
		t.Fatal(err)
	}
	info, err := lib.GetTokenInfo(slot)
	if err != nil {
		t.Fatal(err)
	}
	wrongPINs.mu.Lock()
	defer wrongPINs.mu.Unlock()
	maps.DeleteFunc(wrongPINs.wrong, func(a attempt, _ time.Time) bool { return a.serial == info.SerialNumber })
}

// One mistake does not use up several tries.
func TestWrongPINIsTriedOnce(t *testing.T) {
	t.Parallel()
	lib, err := load(softHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	defer lib.release()
	session := openSession(t, lib, "mistaken")
	defer lib.CloseSession(session)
	const where = "token=mistaken;object=seal"
	_, err = open(t, where, "80246-wrong")
	wantError(t, err, "the PIN does not open the token", "Correct it")
	if err := lib.SetPIN(session, pin, "80246-wrong"); err != nil { // so that a second try would succeed
		t.Fatal(err)
	}
	_, err = open(t, where, "80246-wrong")
	wantError(t, err, "the PIN does not open the token", "Correct it")
	forgetPINs(t, lib, "mistaken")
	key, err := open(t, where, "80246-wrong")
	usable(t, key, err)
	key.Close()
	if err := lib.SetPIN(session, "80246-wrong", pin); err != nil {
		t.Fatal(err)
	}
}

func TestWrongPINIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m triedPINs
		a := attempt{serial: "1"}
		m.add(a)
		time.Sleep(retryPIN)
		if !m.recently(a) || m.recently(attempt{serial: "2"}) {
			t.Error("it remembers what was not, or forgets what was")
		}
		time.Sleep(time.Nanosecond)
		m.add(attempt{serial: "2"})
		if m.recently(a) || len(m.wrong) != 1 {
			t.Errorf("after a minute: %v", m.wrong)
		}
	})
}

// replaceKey puts another key into the place of the key seal.
func replaceKey(t *testing.T, lib *library, token string, key *rsa.PrivateKey) {
	t.Helper()
	l := &connection{lib: lib, uri: &URI{object: "seal"}, session: openSession(t, lib, token)}
	defer lib.CloseSession(l.session)
	err := lib.Login(l.session, p11.CKU_USER, pin)
	if err != nil && !errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)) {
		t.Fatal(err)
	}
	if err := l.findKey(); err != nil {
		t.Fatal(err)
	}
	_, err = lib.CreateObject(l.session, keyTemplate("seal", key, map[uint]any{p11.CKA_TOKEN: true}))
	if err = errors.Join(err, lib.DestroyObject(l.session, l.key)); err != nil {
		t.Fatal(err)
	}
}

func TestPINIsNotTriedInVain(t *testing.T) {
	t.Parallel()
	const ready = p11.CKF_LOGIN_REQUIRED | p11.CKF_USER_PIN_INITIALIZED
	for name, c := range map[string]struct {
		flags uint
		want  string
	}{
		"locked":        {ready | p11.CKF_USER_PIN_LOCKED, "has locked its PIN"},
		"one try left":  {ready | p11.CKF_USER_PIN_FINAL_TRY, "one more wrong PIN would lock the token"},
		"not yet there": {p11.CKF_LOGIN_REQUIRED, "has no user PIN yet"},
	} {
		if err := (&connection{pin: pin}).checkPINStatus(c.flags); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := (&connection{pin: pin}).checkPINStatus(ready | p11.CKF_USER_PIN_COUNT_LOW); err != nil {
		t.Error(err)
	}
}
