package keyfile

import (
	"path/filepath"
	"testing"
)

// A PIN in the URI is refused before anything else is done with the URI, and shown
// nowhere.
func TestPINInTheURI(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"pkcs11:token=t;object=o?module-path=/x.so&pin-value=geheimnis",
		"pkcs11:token=t;object=o;pin-value=geheimnis?module-path=/x.so",
	} {
		_, problems := ReadSeal(Files{Key: uri, Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...)), PasswordFrom: "the vault"}, now)
		wantProblem(t, problems, "holds a PIN (pin-value)", "in the vault", false)
		discreet(t, problems, "geheimnis")
	}
}

func TestPINSources(t *testing.T) {
	t.Parallel()
	uri := func(path string) string {
		return "pkcs11:token=t;object=o?module-path=/none.so&pin-source=file:" + filepath.ToSlash(path)
	}
	cases := []struct{ name, key, password, message, hint string }{
		{"twice", uri(place(t, "pin", []byte("geheim\n"))), "verborgen", "the PIN is given twice", "Remove one"},
		{"missing", uri(filepath.Join(t.TempDir(), "none")), "", "cannot be read", "Check the path"},
		{"empty", uri(place(t, "pin", []byte("\n"))), "", "the file is empty", "Write the secret into it"},
		{"huge", uri(place(t, "pin", make([]byte, maxSecret+1))), "", "over 4 KiB", "right file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, problems := ReadSeal(Files{Key: c.key, Password: c.password, Certificates: place(t, "chain.pem", certPEM(testPKI().chain()...))}, now)
			wantProblem(t, problems, c.message, c.hint, false)
			discreet(t, problems, c.password)
		})
	}
}

func TestHardwareIsNotForTLS(t *testing.T) {
	t.Parallel()
	_, problems := ReadTLS(Files{Key: "pkcs11:token=t;object=o?module-path=/x.so&pin-value=geheimnis"}, now)
	wantProblem(t, problems, "for the seal only", "file of a key for TLS", false)
	discreet(t, problems, "geheimnis")
}
