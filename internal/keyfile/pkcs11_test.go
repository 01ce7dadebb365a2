//go:build pkcs11 && cgo

package keyfile

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

// pin is that of every token of these tests.
const pin = "73519-right"

// TestMain keeps the tokens of SoftHSM in a folder of its own. SoftHSM reads the
// variable when it starts, for the whole process.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "waybill-hsm-")
	if err != nil {
		panic(err)
	}
	os.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	m.Run()
	os.RemoveAll(dir)
}

// softHSM gives the path of SoftHSM's library, with the tokens in place. Most tests share
// the token waybill; who minds how often it is logged in to has one alone.
func softHSM(t *testing.T) string {
	t.Helper()
	module, err := tokens()
	switch {
	case err == nil:
		return module
	case !errors.Is(err, exec.ErrNotFound):
		t.Fatal(err)
	case os.Getenv("WAYBILL_TEST_SERVICES") == "require":
		t.Fatal("SoftHSM is not there, and WAYBILL_TEST_SERVICES=require demands it")
	default:
		t.Skip("SoftHSM is not there; WAYBILL_TEST_SERVICES=require would make this a failure")
	}
	return ""
}

// tokens are made once: what other processes add, SoftHSM sees only when it starts.
var tokens = sync.OnceValues(func() (string, error) {
	module, err := softHSMLibrary()
	if err != nil {
		return "", err
	}
	conf := os.Getenv("SOFTHSM2_CONF")
	dir := filepath.Join(filepath.Dir(conf), "tokens")
	err = errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nlog.level = ERROR\n"), 0o600))
	for _, label := range []string{"waybill", "bare", "alone", "closed", "collected", "lost", "mistaken", "double", "double"} {
		err = errors.Join(err, softHSMUtil("--init-token", "--free", "--label", label, "--so-pin", "so-pin", "--pin", pin))
	}
	keys := []struct {
		token, label, id string
		key              any
	}{
		{"waybill", "seal", "01", sealKey()},
		{"waybill", "twin", "02", sealKey()},
		{"waybill", "twin", "03", newRSA(2048)},
		{"waybill", "small", "04", smallKey()},
		{"waybill", "odd", "05", newECDSA()},
		{"waybill", "other", "06", newRSA(2048)},
		{"alone", "seal", "01", sealKey()},
		{"closed", "seal", "01", sealKey()},
		{"closed", "other", "06", smallKey()},
		{"collected", "seal", "01", sealKey()},
		{"lost", "seal", "01", sealKey()},
		{"mistaken", "seal", "01", sealKey()},
	}
	for _, k := range keys {
		file := filepath.Join(filepath.Dir(conf), k.token+k.label+k.id)
		err = errors.Join(err, os.WriteFile(file, keyPEM(k.key), 0o600),
			softHSMUtil("--import", file, "--token", k.token, "--label", k.label, "--id", k.id, "--pin", pin))
	}
	return module, err
})

var smallKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(1024) })

func softHSMUtil(args ...string) error {
	out, err := exec.Command("softhsm2-util", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("softhsm2-util %v: %w: %s", args, err, out)
	}
	return nil
}

// softHSMLibrary is where Debian, Fedora or Homebrew put it.
func softHSMLibrary() (string, error) {
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		return "", err
	}
	for _, pattern := range []string{"/usr/lib*/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("libsofthsm2.so: %w", exec.ErrNotFound)
}

// inToken reads the seal of the test with a key in hardware.
func inToken(t *testing.T, where string) (*Pair, Problems) {
	t.Helper()
	module := softHSM(t)
	pair, problems := ReadSeal(Files{
		Key: "pkcs11:" + where + "?module-path=" + module, Password: pin,
		Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...)),
	}, now)
	if pair != nil {
		t.Cleanup(func() { pair.Close() })
	}
	return pair, problems
}

func TestHardwareKeySigns(t *testing.T) {
	t.Parallel()
	for _, where := range []string{
		"token=waybill;object=seal", "token=waybill;id=%01", "token=waybill;object=twin;id=%02",
		"model=SoftHSM%20v2;manufacturer=SoftHSM%20project;token=waybill;object=seal;type=private",
	} {
		pair, problems := inToken(t, where)
		usable(t, pair, problems)
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
	slot, err := lib.find(&keyURI{token: "waybill"})
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
		pair, problems := inToken(t, where+";object=seal")
		usable(t, pair, problems)
	}
	_, problems := inToken(t, "token=bare;serial="+url.PathEscape(info.SerialNumber)+";object=seal")
	wantProblem(t, problems, "no token matches", "Correct token=", false)
}

func TestHardwareSignatures(t *testing.T) {
	t.Parallel()
	pair, problems := inToken(t, "token=waybill;object=seal")
	usable(t, pair, problems)
	sha2, sha3, sha5 := sha256.Sum256([]byte("x")), sha512.Sum384([]byte("x")), sha512.Sum512([]byte("x"))
	for hash, digest := range map[crypto.Hash][]byte{crypto.SHA256: sha2[:], crypto.SHA384: sha3[:], crypto.SHA512: sha5[:]} {
		signature, err := pair.Signer().Sign(rand.Reader, digest, hash)
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(&sealKey().PublicKey, hash, digest, signature); err != nil {
			t.Errorf("%v: %v", hash, err)
		}
	}
	for name, opts := range map[string]crypto.SignerOpts{
		"SHA-1": crypto.SHA1, "no hash": crypto.Hash(0), "PSS": &rsa.PSSOptions{Hash: crypto.SHA256}, "another length": crypto.SHA512,
	} {
		if _, err := pair.Signer().Sign(rand.Reader, sha2[:], opts); err == nil {
			t.Errorf("%s: it signs", name)
		}
	}
}

// An assertion signed in hardware is one that the verifier accepts.
func TestHardwareAssertionIsAccepted(t *testing.T) {
	t.Parallel()
	softHSM(t)
	ca := isharetest.NewCA()
	party := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	key := addKey(t, "accepted", party.Key, nil)
	chain := place(t, "chain.pem", certPEM(party.Certificates...))
	pair, problems := ReadSeal(Files{Key: key, Password: pin, Certificates: chain}, time.Now())
	if pair == nil {
		t.Fatal(problems)
	}
	defer pair.Close()
	maker := assertion.Maker{ClientID: party.ID(), Key: pair.Signer(), Certificates: pair.Certificates}
	compact, err := maker.Make(isharetest.ProviderID)
	if err != nil {
		t.Fatal(err)
	}
	client, _, err := newVerifier(t, ca, party).Verify(t.Context(), party.ID(), compact)
	if err != nil || client.ID() != party.ID() {
		t.Errorf("client %v, error %v", client, err)
	}
}

// addKey puts a key into the token bare, with attributes besides the usual ones or
// instead of them, and gives its URI.
func addKey(t *testing.T, label string, key *rsa.PrivateKey, special map[uint]any) string {
	t.Helper()
	uri := "pkcs11:token=bare;object=" + label + "?module-path=" + softHSM(t)
	parsed, err := parseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{uri: parsed, pin: pin}
	if l.lib, err = load(parsed.module); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close) // until then, the objects of the session are there
	slot, err := l.lib.find(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if l.session, err = l.lib.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
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

func keyTemplate(label string, key *rsa.PrivateKey, special map[uint]any) []*pkcs11.Attribute {
	values := map[uint]any{
		pkcs11.CKA_CLASS: pkcs11.CKO_PRIVATE_KEY, pkcs11.CKA_KEY_TYPE: pkcs11.CKK_RSA, pkcs11.CKA_LABEL: label,
		pkcs11.CKA_TOKEN: false, pkcs11.CKA_PRIVATE: true, pkcs11.CKA_SIGN: true, pkcs11.CKA_ID: []byte(label),
		pkcs11.CKA_MODULUS: key.N.Bytes(), pkcs11.CKA_PUBLIC_EXPONENT: []byte{1, 0, 1}, pkcs11.CKA_PRIVATE_EXPONENT: key.D.Bytes(),
		pkcs11.CKA_PRIME_1: key.Primes[0].Bytes(), pkcs11.CKA_PRIME_2: key.Primes[1].Bytes(),
		pkcs11.CKA_EXPONENT_1: key.Precomputed.Dp.Bytes(), pkcs11.CKA_EXPONENT_2: key.Precomputed.Dq.Bytes(),
		pkcs11.CKA_COEFFICIENT: key.Precomputed.Qinv.Bytes(),
	}
	maps.Copy(values, special)
	var template []*pkcs11.Attribute
	for kind, value := range values {
		if value == nil {
			continue
		}
		template = append(template, pkcs11.NewAttribute(kind, value))
	}
	return template
}

func newVerifier(t *testing.T, ca *isharetest.CA, party *isharetest.Party) *assertion.Verifier {
	t.Helper()
	validator, err := trust.New(ca.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	store, err := replay.Open(replay.Config{Leeway: 10 * time.Second, NoHistory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	verifier, err := assertion.NewVerifier(assertion.Config{
		Audience: []ishare.PartyID{isharetest.ProviderID}, Trust: validator, Parties: isharetest.NewList(party),
		Revocation: revocation.Off{}, Replay: store,
	})
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

func TestProblemsOfHardware(t *testing.T) {
	t.Parallel()
	module := softHSM(t)
	notALibrary := place(t, "x.so", []byte("hello"))
	cases := []struct{ name, where, module, password, message, mend string }{
		{name: "wrong PIN", where: "token=alone;object=seal", password: "80246-wrong", message: "the PIN does not open the token", mend: "Correct it in pin-source="},
		{name: "PIN of another length", where: "token=alone;object=seal", password: "802-w", message: "the PIN does not open the token", mend: "before you try again"},
		{name: "no PIN", where: "token=waybill;object=seal", message: "the token wants a PIN, and none is given", mend: "pin-source=file:"},
		{name: "missing module", where: "token=waybill;object=seal", module: "/nowhere/x.so", password: pin, message: "/nowhere/x.so cannot be loaded", mend: "Check module-path"},
		{name: "no module at all", where: "token=waybill;object=seal", module: notALibrary, password: pin, message: "cannot be loaded as a PKCS#11 library", mend: "Check module-path"},
		{name: "missing token", where: "token=nowhere;object=seal", password: pin, message: `no token matches the URI; the tokens that are there: "`, mend: "Correct token="},
		{name: "two tokens", where: "token=double;object=seal", password: pin, message: "2 tokens match the URI", mend: "Add serial="},
		{name: "missing key", where: "token=waybill;object=nothing", password: pin, message: "no private key on the token matches", mend: "Correct object="},
		{name: "two keys", where: "token=waybill;object=twin", password: pin, message: "2 private keys on the token match", mend: "Add one of id=%0"},
		{name: "not RSA", where: "token=waybill;object=odd", password: pin, message: "the private key on the token is not RSA", mend: "RSA key"},
		{name: "another key", where: "token=waybill;object=other", password: pin, message: "no certificate in the file belongs to the private key in pkcs11:token=waybill;object=other", mend: "made together"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.module == "" {
				c.module = module
			}
			pair, problems := ReadSeal(Files{
				Key: "pkcs11:" + c.where + "?module-path=" + c.module, Password: c.password,
				Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...)),
			}, now)
			if pair != nil {
				t.Error("a pair was made of it")
			}
			wantProblem(t, problems, c.message, c.mend, false)
			discreet(t, problems, c.password)
			if strings.Contains(problems.Err().Error(), `""`) {
				t.Errorf("%v names the slot that is free", problems)
			}
		})
	}
}

func TestSmallHardwareKey(t *testing.T) {
	t.Parallel()
	p := testPKI()
	chain := append([]*x509.Certificate{p.issuing.issue(seal("Small"), smallKey().Public())}, p.chain()[1:]...)
	_, problems := ReadSeal(Files{
		Key: "pkcs11:token=waybill;object=small?module-path=" + softHSM(t), Password: pin, Certificates: place(t, "chain.pem", certPEM(chain...)),
	}, now)
	wantProblem(t, problems, "1024 bits; 2048 to 8192", "2048 bits", false)
}

func TestHardwareWantsCertificates(t *testing.T) {
	t.Parallel()
	_, problems := ReadSeal(Files{Key: "pkcs11:token=waybill;object=seal?module-path=" + softHSM(t), Password: pin}, now)
	wantProblem(t, problems, "certificates are not taken from the token", "PEM file of the chain", false)
}

func TestPINFromFile(t *testing.T) {
	t.Parallel()
	file := place(t, "pin", []byte(pin+"\r\n"))
	files := Files{
		Key:          "pkcs11:token=waybill;object=seal?module-path=" + softHSM(t) + "&pin-source=file:" + file,
		Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...)),
	}
	pair, problems := ReadSeal(files, now)
	usable(t, pair, problems)
	pair.Close()
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	pair, problems = ReadSeal(files, now)
	wantProblem(t, problems, "every account of this machine can read the PIN", "chmod o=", true)
	if problems[0].File != file {
		t.Errorf("the problem is told of %s", problems[0].File)
	}
	pair.Close()
}

// Some seals want the PIN for each signature.
func TestPINForEachSignature(t *testing.T) {
	t.Parallel()
	softHSM(t)
	uri := addKey(t, "each", sealKey(), map[uint]any{pkcs11.CKA_ALWAYS_AUTHENTICATE: true})
	pair, problems := inToken(t, strings.TrimPrefix(strings.Split(uri, "?")[0], uriScheme))
	usable(t, pair, problems)
	usable(t, pair, problems)
}

func TestKeyThatMayNotSign(t *testing.T) {
	t.Parallel()
	softHSM(t)
	addKey(t, "decrypts", sealKey(), map[uint]any{pkcs11.CKA_SIGN: false})
	_, problems := inToken(t, "token=bare;object=decrypts")
	wantProblem(t, problems, "is not allowed to sign", "key of the seal", false)
}

// Where the private half does not tell modulus and exponent, the public half does.
func TestPublicHalf(t *testing.T) {
	t.Parallel()
	softHSM(t)
	addKey(t, "half", sealKey(), map[uint]any{pkcs11.CKA_PUBLIC_EXPONENT: nil})
	_, problems := inToken(t, "token=bare;object=half")
	wantProblem(t, problems, "does not tell the public half", "Import the public key", false)
	addKey(t, "half", sealKey(), map[uint]any{
		pkcs11.CKA_CLASS: pkcs11.CKO_PUBLIC_KEY, pkcs11.CKA_SIGN: nil, pkcs11.CKA_PRIVATE: false, pkcs11.CKA_PRIVATE_EXPONENT: nil,
		pkcs11.CKA_PRIME_1: nil, pkcs11.CKA_PRIME_2: nil, pkcs11.CKA_EXPONENT_1: nil, pkcs11.CKA_EXPONENT_2: nil, pkcs11.CKA_COEFFICIENT: nil,
	})
	pair, problems := inToken(t, "token=bare;object=half")
	if pair == nil || !sealKey().PublicKey.Equal(pair.Signer().Public()) { // with half a private key, SoftHSM does not sign
		t.Errorf("pair %v, problems %v", pair, problems)
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
	return info.State != pkcs11.CKS_RW_PUBLIC_SESSION
}

func openSession(t *testing.T, lib *library, token string) pkcs11.SessionHandle {
	t.Helper()
	slot, err := lib.find(&keyURI{token: token})
	if err != nil {
		t.Fatal(err)
	}
	session, err := lib.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func TestCloseLogsOut(t *testing.T) {
	t.Parallel()
	pair, problems := inToken(t, "token=closed;object=seal")
	usable(t, pair, problems)
	if !loggedIn(t, "closed") {
		t.Error("it signs without a login, so that this test shows nothing")
	}
	for range 2 {
		if err := pair.Close(); err != nil {
			t.Error(err)
		}
	}
	if loggedIn(t, "closed") {
		t.Error("closed, and still logged in")
	}
	digest := sha256.Sum256(nil)
	if _, err := pair.Signer().Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, errClosed) {
		t.Errorf("error %v, want %v", err, errClosed)
	}
	// What is refused is not left open.
	for _, object := range []string{"other", "nothing"} {
		if pair, _ := inToken(t, "token=closed;object="+object); pair != nil || loggedIn(t, "closed") {
			t.Errorf("%s: pair %v, and it may still be logged in", object, pair)
		}
	}
}

// A key that was forgotten does not keep its session for ever.
func TestForgottenKeyIsClosed(t *testing.T) {
	t.Parallel()
	func() {
		files := Files{
			Key: "pkcs11:token=collected;object=seal?module-path=" + softHSM(t), Password: pin,
			Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...)),
		}
		pair, problems := ReadSeal(files, now)
		usable(t, pair, problems)
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
	pair, problems := inToken(t, "token=lost;object=seal")
	usable(t, pair, problems)
	lib, err := load(softHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	defer lib.release()
	slot, err := lib.find(&keyURI{token: "lost"})
	if err != nil {
		t.Fatal(err)
	}
	lose := func() {
		if err := lib.CloseAllSessions(slot); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	usable(t, pair, problems)

	// The key that comes back is the one that was there.
	digest := sha256.Sum256(nil)
	second, problems := inToken(t, "token=lost;object=seal")
	usable(t, second, problems)
	replaceKey(t, lib, "lost", newRSA(2048))
	lose()
	for range 2 {
		if _, err = second.Signer().Sign(rand.Reader, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "another key than before") {
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
		_, err = pair.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
		if err == nil || !strings.Contains(err.Error(), "the PIN does not open the token") || strings.Contains(err.Error(), pin) {
			t.Errorf("error %v", err)
		}
	}
	setPIN("90817-new", pin)
	forgetPINs(t, lib, "lost")
	if _, err = pair.Signer().Sign(rand.Reader, digest[:], crypto.SHA256); err == nil {
		t.Error("the PIN was tried a second time")
	}
}

// forgetPINs makes as if no wrong PIN had been tried at the token.
func forgetPINs(t *testing.T, lib *library, token string) {
	t.Helper()
	slot, err := lib.find(&keyURI{token: token})
	if err != nil {
		t.Fatal(err)
	}
	info, err := lib.GetTokenInfo(slot)
	if err != nil {
		t.Fatal(err)
	}
	wrongPINs.mu.Lock()
	defer wrongPINs.mu.Unlock()
	maps.DeleteFunc(wrongPINs.wrong, func(a attempted, _ time.Time) bool { return a.serial == info.SerialNumber })
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
	files := Files{
		Key: "pkcs11:token=mistaken;object=seal?module-path=" + softHSM(t), Password: "80246-wrong",
		Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...)),
	}
	_, problems := ReadSeal(files, now)
	wantProblem(t, problems, "the PIN does not open the token", "Correct it", false)
	if err := lib.SetPIN(session, pin, "80246-wrong"); err != nil { // so that a second try would succeed
		t.Fatal(err)
	}
	_, problems = ReadSeal(files, now)
	wantProblem(t, problems, "the PIN does not open the token", "Correct it", false)
	forgetPINs(t, lib, "mistaken")
	pair, problems := ReadSeal(files, now)
	usable(t, pair, problems)
	pair.Close()
	if err := lib.SetPIN(session, "80246-wrong", pin); err != nil {
		t.Fatal(err)
	}
}

func TestWrongPINIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m memory
		a := attempted{serial: "1"}
		m.add(a)
		time.Sleep(retryPIN)
		if !m.recently(a) || m.recently(attempted{serial: "2"}) {
			t.Error("it remembers what was not, or forgets what was")
		}
		time.Sleep(time.Nanosecond)
		m.add(attempted{serial: "2"})
		if m.recently(a) || len(m.wrong) != 1 {
			t.Errorf("after a minute: %v", m.wrong)
		}
	})
}

// replaceKey puts another key into the place of the key seal.
func replaceKey(t *testing.T, lib *library, token string, key *rsa.PrivateKey) {
	t.Helper()
	l := &link{lib: lib, uri: &keyURI{object: "seal"}, session: openSession(t, lib, token)}
	defer lib.CloseSession(l.session)
	err := lib.Login(l.session, pkcs11.CKU_USER, pin)
	if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		t.Fatal(err)
	}
	if err := l.findKey(); err != nil {
		t.Fatal(err)
	}
	_, err = lib.CreateObject(l.session, keyTemplate("seal", key, map[uint]any{pkcs11.CKA_TOKEN: true}))
	if err = errors.Join(err, lib.DestroyObject(l.session, l.key)); err != nil {
		t.Fatal(err)
	}
}

func TestPINIsNotTriedInVain(t *testing.T) {
	t.Parallel()
	const ready = pkcs11.CKF_LOGIN_REQUIRED | pkcs11.CKF_USER_PIN_INITIALIZED
	for name, c := range map[string]struct {
		flags uint
		want  string
	}{
		"locked":        {ready | pkcs11.CKF_USER_PIN_LOCKED, "has locked its PIN"},
		"one try left":  {ready | pkcs11.CKF_USER_PIN_FINAL_TRY, "one more wrong PIN would lock the token"},
		"not yet there": {pkcs11.CKF_LOGIN_REQUIRED, "has no user PIN yet"},
	} {
		if err := pinTrouble(c.flags, pin); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := pinTrouble(ready|pkcs11.CKF_USER_PIN_COUNT_LOW, pin); err != nil {
		t.Error(err)
	}
}

// One key serves many goroutines.
func TestHardwareKeyIsShared(t *testing.T) {
	t.Parallel()
	pair, problems := inToken(t, "token=waybill;object=seal")
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() { usable(t, pair, problems) })
	}
	wait.Wait()
}
