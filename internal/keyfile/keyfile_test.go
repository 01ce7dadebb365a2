package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/internal/keyforms"
	"github.com/waybill-token/waybill/internal/testservice"
	"github.com/waybill-token/waybill/jws"
)

// usable fails the test unless the pair is the test's seal with its whole chain, and
// the key signs.
func usable(t *testing.T, pair *Pair, problems Problems) {
	t.Helper()
	if pair == nil || len(problems) > 0 {
		t.Fatalf("pair %v, problems %v", pair, problems)
	}
	if !slices.EqualFunc(pair.Certificates, testPKI().chain(), (*x509.Certificate).Equal) {
		t.Errorf("the chain is not the one that was written: %d certificates", len(pair.Certificates))
	}
	digest := sha256.Sum256([]byte("text"))
	signature, err := pair.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(&sealKey().PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
}

func TestReadSealInEveryForm(t *testing.T) {
	t.Parallel()
	key, chain := keyPEM(sealKey()), certPEM(testPKI().chain()...)
	old := block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(sealKey()))
	der8, _ := x509.MarshalPKCS8PrivateKey(sealKey())
	crlf := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")) }
	cases := map[string]struct{ key, certs []byte }{
		"PKCS#8":                      {key, chain},
		"PKCS#1":                      {old, chain},
		"both in one file":            {append(slices.Clone(chain), key...), nil},
		"both in both":                {append(slices.Clone(key), chain...), append(slices.Clone(key), chain...)},
		"line ends of Windows":        {crlf(key), crlf(chain)},
		"byte order mark":             {append([]byte("\ufeff"), key...), append([]byte("\ufeff"), chain...)},
		"text around":                 {append([]byte("Bag Attributes\n    friendlyName: x\n"), key...), append([]byte("subject=CN = x\n"), chain...)},
		"DER key":                     {der8, chain},
		"old DER key":                 {x509.MarshalPKCS1PrivateKey(sealKey()), chain},
		"certificates beside a stray": {key, append(block("DH PARAMETERS", []byte{0x30, 0}), chain...)},
		"chain beside encrypted key":  {key, append(block("ENCRYPTED PRIVATE KEY", []byte{0x30, 0}), chain...)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := Files{Key: place(t, "party-key", c.key)}
			if c.certs != nil {
				files.Certificates = place(t, "party-chain", c.certs)
			}
			pair, problems := ReadSeal(files, now)
			usable(t, pair, problems)
		})
	}
}

func TestReadSealFromPKCS12(t *testing.T) {
	t.Parallel()
	chain := testPKI().chain()
	encoders := map[string]*pkcs12.Encoder{
		"Modern2023": pkcs12.Modern2023, "Modern2026": pkcs12.Modern2026, "LegacyDES": pkcs12.LegacyDES, "LegacyRC2": pkcs12.LegacyRC2,
	}
	for name, encoder := range encoders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, password := range []string{"correct horse", "", "pässwörd €"} {
				p12, err := encoder.Encode(sealKey(), chain[0], chain[1:], password)
				if err != nil {
					t.Fatal(err)
				}
				path := place(t, "party.p12", p12)
				pair, problems := ReadSeal(Files{Key: path, Password: password}, now)
				usable(t, pair, problems)
				pair, problems = ReadSeal(Files{Key: path, Certificates: path, Password: password}, now)
				usable(t, pair, problems)
			}
		})
	}
}

// PKCS#12 holds a set: any order is right, and the chain comes out leaf first.
func TestPKCS12InAnyOrder(t *testing.T) {
	t.Parallel()
	c := testPKI().chain()
	p12, err := pkcs12.Modern.Encode(sealKey(), c[3], []*x509.Certificate{c[1], c[0], c[2]}, "pw")
	if err != nil {
		t.Fatal(err)
	}
	pair, problems := ReadSeal(Files{Key: place(t, "party.pfx", p12), Password: "pw"}, now)
	usable(t, pair, problems)
}

// Certificates named besides PKCS#12 take the place of those in it.
func TestPKCS12WithSeparateChain(t *testing.T) {
	t.Parallel()
	p12, err := pkcs12.Modern.Encode(sealKey(), testPKI().seal, nil, "pw")
	if err != nil {
		t.Fatal(err)
	}
	files := Files{Key: place(t, "party.p12", p12), Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...)), Password: "pw"}
	pair, problems := ReadSeal(files, now)
	usable(t, pair, problems)
}

func TestReadSealFromOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := testservice.Program(t, "openssl")
	key := place(t, "key.pem", keyPEM(sealKey()))
	leaf := place(t, "leaf.pem", certPEM(testPKI().seal))
	issuers := place(t, "issuers.pem", certPEM(testPKI().chain()[1:]...))
	forms := map[string][]string{
		"default": nil,
		"legacy":  {"-legacy"},
		"3DES":    {"-descert"},
		"plain":   {"-keypbe", "NONE", "-certpbe", "NONE"},
	}
	for name, options := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "party.p12")
			args := append([]string{
				"pkcs12", "-export", "-inkey", key, "-in", leaf, "-certfile", issuers,
				"-name", "my seal", "-passout", "pass:pw", "-out", path,
			}, options...)
			if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			pair, problems := ReadSeal(Files{Key: path, Password: "pw"}, now)
			usable(t, pair, problems)
			if _, problems := ReadSeal(Files{Key: path, Password: "other"}, now); problems.Err() == nil {
				t.Error("a wrong password opened it")
			}
		})
	}
	t.Run("encrypted PEM", func(t *testing.T) {
		t.Parallel()
		for _, options := range [][]string{{"pkey", "-aes256"}, {"rsa", "-aes256", "-traditional"}, {"rsa", "-des3", "-traditional"}} {
			path := filepath.Join(t.TempDir(), "key.pem")
			args := append(slices.Clone(options), "-in", key, "-passout", "pass:pw", "-out", path)
			if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			chain := place(t, "chain.pem", certPEM(testPKI().chain()...))
			pair, problems := ReadSeal(Files{Key: path, Certificates: chain, Password: "pw"}, now)
			usable(t, pair, problems)
			_, problems = ReadSeal(Files{Key: path, Certificates: chain, Password: "Tr0ub4dor"}, now)
			wantProblem(t, problems, "the password does not open the private key", "Give the right password with it.", false)
			_, problems = ReadSeal(Files{Key: path, Certificates: chain}, now)
			wantProblem(t, problems, "the private key has a password, and none is given", "Give its password with it.", false)
			_, problems = ReadTLS(Files{Key: path, Certificates: chain}, now)
			wantProblem(t, problems, "the private key has a password, and none is given", "Take the password off", false)
		}
	})
}

// wantProblem fails the test unless there is exactly one problem, it says message and
// hint, and it is a warning if it should be.
func wantProblem(t *testing.T, problems Problems, message, hint string, warning bool) {
	t.Helper()
	if len(problems) != 1 {
		t.Fatalf("%d problems, want 1: %v", len(problems), problems)
	}
	p := problems[0]
	if !strings.Contains(p.Message, message) || !strings.Contains(p.Hint, hint) || p.Warning != warning {
		t.Errorf("problem %+v\nwant message %q, hint %q, warning %v", p, message, hint, warning)
	}
	if p.File == "" || !strings.HasSuffix(p.Hint, ".") {
		t.Errorf("the problem names no file or its hint is not a sentence: %+v", p)
	}
}

func TestProblemsOfFiles(t *testing.T) {
	t.Parallel()
	key, chain := keyPEM(sealKey()), certPEM(testPKI().chain()...)
	public, _ := x509.MarshalPKIXPublicKey(sealKey().Public())
	request, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, sealKey())
	p12, _ := pkcs12.Modern.Encode(sealKey(), testPKI().seal, testPKI().chain()[1:], "r1ght-one")
	unsealed, _ := pkcs12.Passwordless.EncodeTrustStore(testPKI().chain(), "")
	x25519, _ := ecdh.X25519().GenerateKey(rand.Reader)
	pss, _ := x509.MarshalPKCS8PrivateKey(sealKey())
	// The same key under the identifier of RSASSA-PSS, 1.2.840.113549.1.1.10.
	pss = bytes.Replace(pss, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10}, 1)
	cases := []struct {
		name          string
		key, certs    []byte
		password      string
		message, hint string
	}{
		{name: "public key", key: block("PUBLIC KEY", public), certs: chain, message: "holds a public key", hint: "BEGIN PRIVATE KEY"},
		{name: "signing request", key: block("CERTIFICATE REQUEST", request), certs: chain, message: "holds a certificate signing request", hint: "private key"},
		{name: "certificate as the key", key: chain, certs: chain, message: "no private key found: the file holds certificates only", hint: "private key"},
		{name: "key as the certificate", key: key, certs: key, message: "no certificate found: the file holds a private key only", hint: "BEGIN CERTIFICATE"},
		{name: "request as the certificate", key: key, certs: block("CERTIFICATE REQUEST", request), message: "no certificate found: the file holds a certificate signing request", hint: "trust service provider"},
		{name: "no certificates named", key: key, message: "no certificate found", hint: "Name the file of the certificates"},
		{name: "two keys", key: append(keyPEM(newRSA(1024)), keyPEM(newRSA(1024))...), certs: chain, message: "2 private keys, and none belongs to a certificate", hint: "Give the certificates"},
		{name: "SSH", key: block("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")), certs: chain, message: "SSH", hint: "seal"},
		{name: "without its BEGIN line", key: key[bytes.IndexByte(key, '\n')+1:], certs: chain, message: "the BEGIN line of PEM block 1 is missing", hint: "Copy the file again"},
		{name: "RSASSA-PSS", key: block("PRIVATE KEY", pss), certs: chain, message: "one for RSASSA-PSS, which is not supported", hint: "one for RSA."},
		{name: "cannot sign", key: keyPEM(x25519), certs: chain, message: "cannot sign", hint: "seal"},
		{name: "damaged key", key: block("PRIVATE KEY", []byte{0x30, 0}), certs: chain, message: "private key cannot be read", hint: "again"},
		{name: "damaged certificate", key: key, certs: append(certPEM(testPKI().seal), block("CERTIFICATE", []byte{0x30, 0})...), message: "certificate 2 is no certificate", hint: "again"},
		{name: "damaged block", key: key, certs: bytes.Replace(chain, []byte("-----END"), []byte("----END"), 1), message: "PEM block 1 has no END line", hint: "BEGIN line"},
		{name: "cut short", key: key[:len(key)/2], certs: chain, message: "PEM block 1 has no END line", hint: "Copy the file again"},
		{name: "trusted certificate", key: key, certs: block("TRUSTED CERTIFICATE", []byte{0x30, 0}), message: "TRUSTED CERTIFICATE", hint: "openssl x509"},
		{name: "empty", certs: chain, message: "the file holds nothing", hint: "PEM"},
		{name: "text", key: []byte("hello\n"), certs: chain, message: "neither PEM nor PKCS#12", hint: "PEM"},
		{name: "huge", key: make([]byte, keyforms.MaxSize+1), certs: chain, message: "over 1024 KiB", hint: "right file"},
		{name: "no password", key: p12, message: "has a password, and none is given", hint: "Set its password in the vault."},
		{name: "wrong password", key: p12, password: "Tr0ub4dor", message: "does not open", hint: "Set the right password in the vault."},
		{name: "PKCS#12 without a key", key: unsealed, message: "no private key found: the file holds certificates only", hint: "Give the private key"},
		{name: "PKCS#12 cut off", key: p12[:len(p12)-1], password: "r1ght-one", message: "cut off", hint: "binary"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := Files{Key: place(t, "party-key", c.key), Password: c.password, PasswordFrom: "the vault"}
			if c.certs != nil {
				files.Certificates = place(t, "party-chain", c.certs)
			}
			pair, problems := ReadSeal(files, now)
			if pair != nil {
				t.Error("a pair was made of it")
			}
			wantProblem(t, problems, c.message, c.hint, false)
			discreet(t, problems, c.password)
		})
	}
}

// TestDamagedTextIsNotShown: what is left of a key in a variable is not taken for a name, which would be shown.
func TestDamagedTextIsNotShown(t *testing.T) {
	t.Parallel()
	text := string(keyPEM(sealKey()))
	for name, value := range map[string]string{
		"without its BEGIN line": strings.SplitN(text, "\n", 2)[1],
		"cut off, on one line":   strings.ReplaceAll(strings.SplitN(text, "\n", 2)[1], "\n", "")[:1000],
		"percent-encoded":        url.PathEscape(text),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := ReadSeal(Files{Key: value, Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...))}, now)
			if problems.Err() == nil || problems[0].File != "the text of the key" {
				t.Errorf("%d problems, with the file of %d characters", len(problems), len(problems[0].File))
			}
			discreet(t, problems, "")
		})
	}
}

// discreet fails the test when problems show key material or the password.
func discreet(t *testing.T, problems Problems, password string) {
	t.Helper()
	text := fmt.Sprintf("%+v\n%v", problems, problems.Err())
	der, _ := x509.MarshalPKCS8PrivateKey(sealKey())
	secrets := []string{sealKey().D.String(), base64.StdEncoding.EncodeToString(der)[60:120]}
	if password != "" {
		secrets = append(secrets, password)
	}
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.pem")
	_, problems := ReadSeal(Files{Key: missing}, now)
	wantProblem(t, problems, "cannot be read", "Check the path", false)
	if !errors.Is(problems.Err(), fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", problems.Err())
	}
	if n := strings.Count(problems[0].Error(), missing); n != 1 {
		t.Errorf("the path is told %d times: %s", n, problems[0])
	}
	_, problems = ReadSeal(Files{Key: t.TempDir()}, now)
	wantProblem(t, problems, "cannot be read", "Check the path", false)
	_, problems = ReadSeal(Files{Key: missing, Certificates: missing + "2"}, now)
	if len(problems) != 2 {
		t.Errorf("problems %v, want one for each file", problems)
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	p := testPKI()
	c := p.chain()
	small, odd := newRSA(1024), newECDSA()
	expired, early := seal("Old Party"), seal("Early Party")
	expired.NotAfter = now.Add(-time.Hour)
	early.NotBefore = now.Add(time.Hour)
	ending := seal("Ending Party")
	ending.NotAfter = now.AddDate(0, 0, 29)
	encipher := seal("Enciphering Party")
	encipher.KeyUsage = x509.KeyUsageKeyEncipherment
	otherRoot := authority{}.ca("Other Root")
	namesake := p.sub.ca("Test Issuing CA") // the same name, another key
	above := func(leaf *x509.Certificate) []*x509.Certificate { return append([]*x509.Certificate{leaf}, c[1:]...) }
	issue := func(t *x509.Certificate) []*x509.Certificate { return above(p.issuing.issue(t, sealKey().Public())) }
	cases := []struct {
		name          string
		key           any
		certs         []*x509.Certificate
		message, hint string
		warning       bool
	}{
		{name: "another key", key: newRSA(2048), certs: c, message: "no certificate in the file belongs to the private key", hint: "made together"},
		{name: "small key", key: small, certs: above(p.issuing.issue(seal("Small"), small.Public())), message: "1024 bits; 2048 to 8192", hint: "2048 bits"},
		{name: "not RSA", key: odd, certs: above(p.issuing.issue(seal("Odd"), odd.Public())), message: `the key of "Odd" is ECDSA, not RSA`, hint: "RSA key of 2048 bits"},
		{name: "reversed", certs: []*x509.Certificate{c[3], c[2], c[1], c[0]}, message: "wrong order", hint: `4 ("Test Party"), 3 ("Test Issuing CA"), 2 ("Test Sub CA"), 1 ("Test Root").`},
		{name: "two exchanged", certs: []*x509.Certificate{c[0], c[2], c[1], c[3]}, message: "wrong order", hint: `1 ("Test Party"), 3 ("Test Issuing CA"), 2 ("Test Sub CA"), 4 ("Test Root").`},
		{name: "a stranger", certs: append(slices.Clone(c), otherRoot.cert), message: `number 5 ("Other Root")`, hint: "Remove it"},
		{name: "a namesake of the issuer", certs: []*x509.Certificate{c[0], namesake.cert, c[1], c[2], c[3]}, message: `number 2 ("Test Issuing CA")`, hint: "Remove it"},
		{name: "leaf only", certs: c[:1], message: `incomplete: it holds "Test Party" and not its issuer, "CN=Test Issuing CA,C=NL"`, hint: "up to the root"},
		{name: "no root", certs: c[:3], message: `ends with "Test Sub CA", whose issuer, "CN=Test Root,C=NL"`, hint: "up to the root", warning: true},
		{name: "expired", certs: issue(expired), message: `"Old Party" expired on 2026-06-01T11:00:00Z`, hint: "renew"},
		{name: "not yet valid", certs: issue(early), message: `"Early Party" is not valid before 2026-06-01T13:00:00Z`, hint: ""},
		{name: "ends soon", certs: issue(ending), message: `"Ending Party" expires on 2026-06-30 12:00:00 UTC`, hint: "Participant Registry", warning: true},
		{name: "not for signing", certs: issue(encipher), message: `the key usage of "Enciphering Party" has neither`, hint: "Use a seal"},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			key := any(sealKey())
			if test.key != nil {
				key = test.key
			}
			files := Files{Key: place(t, "key.pem", keyPEM(key)), Certificates: place(t, "chain.pem", certPEM(test.certs...))}
			pair, problems := ReadSeal(files, now)
			if (pair != nil) != test.warning {
				t.Errorf("pair %v; a warning alone must not take it away, anything else must", pair)
			}
			wantProblem(t, problems, test.message, test.hint, test.warning)
		})
	}
}

// What servers refuse, the maker is told before.
func TestSealWithoutKeyUsage(t *testing.T) {
	t.Parallel()
	leaf := testPKI().issuing.issue(template("Plain Party"), sealKey().Public())
	files := Files{Key: place(t, "key.pem", keyPEM(sealKey())), Certificates: place(t, "chain.pem", certPEM(leaf), certPEM(testPKI().chain()[1:]...))}
	_, problems := ReadSeal(files, now)
	wantProblem(t, problems, `"Plain Party" has no key usage`, "keyUsage", false)
}

// Renewing the CA's certificate is the CA's business, until it has expired.
func TestAuthorityThatEnds(t *testing.T) {
	t.Parallel()
	ca := template("Old CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage, ca.NotAfter = true, true, x509.KeyUsageCertSign, now.AddDate(0, 0, 1)
	key := newECDSA()
	issuing := authority{testPKI().root.issue(ca, key.Public()), key}
	leaf := issuing.issue(seal("Party"), sealKey().Public())
	files := Files{Key: place(t, "key.pem", keyPEM(sealKey())), Certificates: place(t, "chain.pem", certPEM(leaf, issuing.cert, testPKI().root.cert))}
	if _, problems := ReadSeal(files, now); len(problems) > 0 {
		t.Errorf("problems %v", problems)
	}
	_, problems := ReadSeal(files, now.AddDate(0, 0, 2))
	wantProblem(t, problems, `"Old CA" expired on`, "newer one", false)
}

func TestAuthorityIsNoSeal(t *testing.T) {
	t.Parallel()
	ca := template("Test RSA CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	cert := testPKI().root.issue(ca, sealKey().Public())
	files := Files{Key: place(t, "key.pem", keyPEM(sealKey())), Certificates: place(t, "chain.pem", certPEM(cert, testPKI().root.cert))}
	_, problems := ReadSeal(files, now)
	wantProblem(t, problems, `"Test RSA CA" is a CA`, "seal", false)
}

func TestChainLongerThanServersRead(t *testing.T) {
	t.Parallel()
	top := testPKI().root
	chain := []*x509.Certificate{top.cert}
	for i := range jws.MaxCertificates - 1 {
		top = top.ca(fmt.Sprintf("CA %d", i))
		chain = append([]*x509.Certificate{top.cert}, chain...)
	}
	leaf := top.issue(seal("Deep Party"), sealKey().Public())
	files := Files{Key: place(t, "key.pem", keyPEM(sealKey())), Certificates: place(t, "chain.pem", certPEM(leaf), certPEM(chain...))}
	_, problems := ReadSeal(files, now)
	wantProblem(t, problems, "11 certificates; servers accept at most 10", "Leave out", false)
}

// Nobody makes certificates with MD5 any more, crypto/x509 included: the algorithm is set by hand.
func TestWeakSignature(t *testing.T) {
	t.Parallel()
	weak := *testPKI().issuing.cert
	weak.SignatureAlgorithm = x509.MD5WithRSA
	if !issued(testPKI().sub.cert, &weak) {
		t.Error("a signature that is too weak to be checked breaks the chain as well, which hides what is wrong")
	}
	s := newInspection(sealKey(), []*x509.Certificate{testPKI().seal, &weak, testPKI().sub.cert, testPKI().root.cert}, false)
	s.certFile = "chain.pem"
	wantProblem(t, s.checkSeal(now), `"Test Issuing CA" is signed with MD5-RSA`, "", false)
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	small := newRSA(1024)
	old := seal("Old Small Party")
	old.NotAfter = now.Add(-time.Hour)
	old.KeyUsage = x509.KeyUsageKeyAgreement
	leaf := testPKI().issuing.issue(old, small.Public())
	c := testPKI().chain()
	files := Files{Key: place(t, "key.pem", keyPEM(small)), Certificates: place(t, "chain.pem", certPEM(c[3], c[1], leaf))}
	os.Chmod(files.Key, 0o644)
	pair, problems := ReadSeal(files, now)
	for _, want := range []string{"1024 bits", "wrong order", "number 1", "ends with", "expired", "key usage", "every account"} {
		if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.Message, want) }) {
			t.Errorf("no problem says %q", want)
		}
	}
	if pair != nil || problems.Err() == nil || strings.Contains(problems.Err().Error(), "every account") {
		t.Errorf("pair %v, error %v", pair, problems.Err())
	}
	if t.Failed() {
		for _, p := range problems {
			t.Log(p)
		}
	}
}

func TestKeyThatOthersMayRead(t *testing.T) {
	t.Parallel()
	files := Files{Key: place(t, "it's key.pem", keyPEM(sealKey())), Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...))}
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o400: false, 0o644: true, 0o604: true} {
		os.Chmod(files.Key, mode)
		os.Chmod(files.Certificates, 0o644) // which is nobody's secret
		pair, problems := ReadSeal(files, now)
		if pair == nil || (len(problems) > 0) != warned {
			t.Errorf("mode %o: pair %v, problems %v", mode, pair, problems)
		}
		if warned {
			wantProblem(t, problems, fmt.Sprintf("mode %04o", mode), `it'\''s key.pem'`, true)
		}
	}
}

func TestReadTLS(t *testing.T) {
	t.Parallel()
	ca := testPKI().root.ca("Web CA")
	server := template("www.example")
	server.DNSNames, server.KeyUsage = []string{"www.example"}, x509.KeyUsageDigitalSignature
	key := newECDSA()
	leaf := ca.issue(server, key.Public())
	files := Files{Key: place(t, "tls-key.pem", keyPEM(key)), Certificates: place(t, "tls.pem", certPEM(leaf, ca.cert))}
	pair, problems := ReadTLS(files, now)
	if pair == nil || len(problems) > 0 {
		t.Fatalf("pair %v, problems %v", pair, problems)
	}
	want, err := tls.LoadX509KeyPair(files.Certificates, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	got := pair.TLS()
	if !slices.EqualFunc(got.Certificate, want.Certificate, bytes.Equal) || !key.Equal(got.PrivateKey) || !got.Leaf.Equal(leaf) {
		t.Error("the pair is not the one that crypto/tls reads")
	}
	files.Key = place(t, "tls-key.pem", keyPEM(newECDSA()))
	_, problems = ReadTLS(files, now)
	wantProblem(t, problems, "belongs to the private key", "made together", false)
	if _, problems = ReadTLS(files, now.AddDate(2, 0, 0)); len(problems) < 2 || !strings.Contains(problems.Err().Error(), "expired") {
		t.Errorf("problems %v do not tell that it expired", problems)
	}
	files.Key = place(t, "tls-key.pem", keyPEM(key))
	_, problems = ReadTLS(files, leaf.NotAfter.Add(-time.Hour))
	wantProblem(t, problems, `"www.example" expires on`, "Renew the certificate, and put the new one in its place", true)
}

// The key's old form, SEC 1, is what `openssl ecparam -genkey` writes.
func TestReadTLSOldForm(t *testing.T) {
	t.Parallel()
	key := newECDSA()
	der, _ := x509.MarshalECPrivateKey(key)
	leaf := testPKI().root.issue(template("www.example"), key.Public())
	files := Files{Key: place(t, "tls.pem", block("EC PARAMETERS", []byte{6, 0}), block("EC PRIVATE KEY", der), certPEM(leaf))}
	if pair, problems := ReadTLS(files, now); pair == nil || len(problems) > 0 {
		t.Errorf("pair %v, problems %v", pair, problems)
	}
}

func TestPairHidesItsKey(t *testing.T) {
	t.Parallel()
	files := Files{Key: place(t, "key.pem", keyPEM(sealKey()), certPEM(testPKI().chain()...))}
	pair, _ := ReadSeal(files, now)
	text := fmt.Sprintf("%v %+v", pair, *pair)
	if strings.Contains(text, sealKey().D.String()) || strings.Contains(text, sealKey().Primes[0].String()) {
		t.Error("the key is shown")
	}
}

// FuzzSeal feeds the checks. Whatever they are fed, a pair that comes out has a key and a leaf
// that belong together, and every problem has a hint.
func FuzzSeal(f *testing.F) {
	web := newECDSA() // whose mutations are judged faster than those of RSA
	f.Add(append(keyPEM(web), certPEM(testPKI().root.issue(template("www.example"), web.Public()), testPKI().root.cert)...))
	f.Add(append(keyPEM(sealKey()), certPEM(testPKI().chain()...)...))
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Add(testPKI().seal.Raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &contents{Contents: keyforms.Read(data, keyforms.Source{}), path: "fuzz"}
		c.failures = c.faults(keyforms.Whole)
		certs, noCerts := c.chain(true)
		key, noKey := c.privateKey(certs, !c.Unordered)
		problems := slices.Concat(noKey, noCerts)
		if (key == nil) != (len(noKey) > 0) || (len(certs) == 0) != (len(noCerts) > 0) {
			t.Fatalf("key %v, certificates %v, problems %v", key, certs, problems)
		}
		if len(problems) == 0 {
			s := newInspection(key, certs, c.Unordered)
			problems = s.checkSeal(now)
			if Problems(problems).Err() == nil && !s.belongsToKey(s.chain[0]) {
				t.Error("key and leaf do not belong together")
			}
		}
		for _, p := range problems {
			if p.Message == "" || p.Hint == "" {
				t.Errorf("problem without message or hint: %+v", p)
			}
		}
	})
}
