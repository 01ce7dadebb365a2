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
	"os"
	"strings"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/waybill-token/waybill/internal/pkcs11/softhsm"
)

// pin is that of every token of these tests.
const pin = softhsm.PIN

func TestMain(m *testing.M) { softhsm.Main(m) }

// softHSM gives the path of SoftHSM's library, with the tokens in place.
var softHSM = softhsm.Tokens([]string{"waybill", "alone", "closed", "double", "double"}, func() []softhsm.Key {
	return []softhsm.Key{
		{Token: "waybill", Label: "seal", ID: "01", Key: sealKey()},
		{Token: "waybill", Label: "twin", ID: "02", Key: sealKey()},
		{Token: "waybill", Label: "twin", ID: "03", Key: newRSA(2048)},
		{Token: "waybill", Label: "small", ID: "04", Key: smallKey()},
		{Token: "waybill", Label: "odd", ID: "05", Key: newECDSA()},
		{Token: "waybill", Label: "other", ID: "06", Key: newRSA(2048)},
		{Token: "waybill", Label: "accepted", ID: "07", Key: AcceptedKey()},
		{Token: "alone", Label: "seal", ID: "01", Key: sealKey()},
		{Token: "closed", Label: "seal", ID: "01", Key: sealKey()},
		{Token: "closed", Label: "other", ID: "06", Key: smallKey()},
	}
})

// AcceptedKey is the key "accepted". The tests in package keyfile_test set it, which may import
// packages that import this one.
var AcceptedKey func() *rsa.PrivateKey

// SoftHSM, Place and CertPEM are for those tests.
var (
	SoftHSM = softHSM
	Place   = place
	CertPEM = certPEM
)

var smallKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(1024) })

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

func TestProblemsOfHardware(t *testing.T) {
	t.Parallel()
	module := softHSM(t)
	notALibrary := place(t, "x.so", []byte("hello"))
	cases := []struct{ name, where, module, password, message, hint string }{
		{name: "wrong PIN", where: "token=alone;object=seal", password: "80246-wrong", message: "the PIN does not open the token", hint: "Correct it in pin-source="},
		{name: "PIN of another length", where: "token=alone;object=seal", password: "802-w", message: "the PIN does not open the token", hint: "before you try again"},
		{name: "no PIN", where: "token=waybill;object=seal", message: "the token wants a PIN, and none is given", hint: "pin-source=file:"},
		{name: "missing module", where: "token=waybill;object=seal", module: "/nowhere/x.so", password: pin, message: "/nowhere/x.so cannot be loaded", hint: "Check module-path"},
		{name: "no module at all", where: "token=waybill;object=seal", module: notALibrary, password: pin, message: "cannot be loaded as a PKCS#11 library", hint: "Check module-path"},
		{name: "missing token", where: "token=nowhere;object=seal", password: pin, message: `no token matches the URI; the tokens that are there: "`, hint: "Correct token="},
		{name: "two tokens", where: "token=double;object=seal", password: pin, message: "2 tokens match the URI", hint: "Add serial="},
		{name: "missing key", where: "token=waybill;object=nothing", password: pin, message: "no private key on the token matches", hint: "Correct object="},
		{name: "two keys", where: "token=waybill;object=twin", password: pin, message: "2 private keys on the token match", hint: "Add one of id=%0"},
		{name: "not RSA", where: "token=waybill;object=odd", password: pin, message: "the private key on the token is not RSA", hint: "RSA key"},
		{name: "another key", where: "token=waybill;object=other", password: pin, message: "no certificate in the file belongs to the private key in pkcs11:token=waybill;object=other", hint: "made together"},
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
			wantProblem(t, problems, c.message, c.hint, false)
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

// A key that is refused for its certificates is not left open.
func TestRefusedHardwareKeyIsClosed(t *testing.T) {
	t.Parallel()
	other, problems := inToken(t, "token=waybill;object=seal") // keeps the library in use
	usable(t, other, problems)
	pair, problems := inToken(t, "token=closed;object=seal")
	usable(t, pair, problems)
	if !loggedIn(t, "closed") {
		t.Error("it signs without a login, so that this test shows nothing")
	}
	if err := pair.Close(); err != nil {
		t.Error(err)
	}
	for _, object := range []string{"other", "nothing"} {
		if pair, _ := inToken(t, "token=closed;object="+object); pair != nil || loggedIn(t, "closed") {
			t.Errorf("%s: pair %v, and it may still be logged in", object, pair)
		}
	}
}

// loggedIn reports whether this process holds a session that is logged in. The library must be
// in use.
func loggedIn(t *testing.T, token string) bool {
	t.Helper()
	lib := p11.New(softHSM(t))
	defer lib.Destroy()
	slots, err := lib.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		info, err := lib.GetTokenInfo(slot)
		if err != nil || info.Label != token {
			continue
		}
		session, err := lib.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		state, err := lib.GetSessionInfo(session)
		if err = errors.Join(err, lib.CloseSession(session)); err != nil {
			t.Fatal(err)
		}
		return state.State != p11.CKS_RW_PUBLIC_SESSION
	}
	t.Fatalf("there is no token %s", token)
	return false
}
