package profile_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/profile"
)

const whole = `# a comment
server: https://provider.example/base/
token_endpoint: https://provider.example/other/token/
audience: did:ishare:EU.NL.NTRNL-10000000
client_id: EU.EORI.NL000000001
key: seal/my key.p12
key_password_file: /run/secrets/password
certificates: chain.pem
scope: iSHARE orders
alg: RS384
ca: ca.pem
`

func TestParse(t *testing.T) {
	t.Parallel()
	p, err := profile.Parse(filepath.Join("folder", "mine.yaml"), []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, key := range profile.Keys() {
		got[key] = filepath.ToSlash(p.Value(key))
	}
	want := map[string]string{
		"server": "https://provider.example/base", "token_endpoint": "https://provider.example/other/token/",
		"audience": "did:ishare:EU.NL.NTRNL-10000000", "client_id": "EU.EORI.NL000000001",
		"key": "folder/seal/my key.p12", "key_password_file": "/run/secrets/password", "certificates": "folder/chain.pem",
		"scope": "iSHARE orders", "alg": "RS384", "ca": "folder/ca.pem",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p.Value("password") != "" || p.Path != filepath.Join("folder", "mine.yaml") {
		t.Errorf("%+v", p)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\nkeys: a.pem\n":                      "mine.yaml:2:1: keys: unknown key. Did you mean key?",
		"audiense: x\n":                        "mine.yaml:1:1: audiense: unknown key. Did you mean audience?",
		"colour: blue\n":                       "mine.yaml:1:1: colour: unknown key",
		"server: http://provider.example\n":    "want https; plain http is for loopback addresses only",
		"server: [https://a.example]\n":        "want one value, got a list",
		"audience: https://a.example\n":        "mine.yaml:1:11: audience: not a party identifier",
		"alg: PS256\n":                         `"PS256" is not RS256, RS384 or RS512`,
		"\nkey_password: geheim\n":             "mine.yaml:2:1: key_password: a profile holds no password. Remove it; put the password into a file of its own, and name that with key_password_file.",
		"password: geheim\n":                   "a profile holds no password",
		"scope: orders\nscope: other\n":        "given twice",
		"key: '-----BEGIN PRIVATE KEY-----'\n": "a private key stands in the configuration",
		"alg: RS256\n---\nalg: RS384\n":        "want one YAML document",
		"[1]\n":                                "want keys with values, got a list",
	} {
		_, err := profile.Parse("mine.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// What is written is read again as it was, from wherever.
func TestFormat(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	values := []profile.Value{
		{Key: "server", Text: "http://127.0.0.1:8080"},
		{Key: "audience", Text: "did:ishare:EU.NL.NTRNL-10000000"},
		{Key: "key", Text: "a b #c: 'd'.pem"},
		{Key: "certificates", Text: "../elsewhere.pem"},
		{Key: "scope", Text: "iSHARE orders"},
	}
	path := filepath.Join("folder", "mine.yaml")
	text, err := profile.Format(path, "Mine.", values)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(path, text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for _, v := range values {
		want := v.Text
		if profile.IsFile(v.Key) {
			want, _ = filepath.Abs(v.Text)
		}
		if got := p.Value(v.Key); got != want {
			t.Errorf("%s: %q, want %q", v.Key, got, want)
		}
	}
	text, err = profile.Format("mine.yaml", "Mine.", []profile.Value{{Key: "ca", Text: filepath.Join(dir, "sub", "ca.pem")}, {Key: "key", Text: "pkcs11:token=x"}})
	if want := "# Mine.\nca: " + filepath.Join("sub", "ca.pem") + "\nkey: pkcs11:token=x\n"; err != nil || string(text) != want {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestLocate(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", filepath.FromSlash("/settings"))
	if runtime.GOOS != "linux" {
		t.Skip("XDG_CONFIG_HOME is of Linux")
	}
	for name, want := range map[string]string{
		"provider": "/settings/waybill/profiles/provider.yaml", "a.b-c_1": "/settings/waybill/profiles/a.b-c_1.yaml",
		"./provider": "./provider", "provider.yaml": "provider.yaml", "a.yml": "a.yml", "../x": "../x",
		"": "", "-x": "", ".x": "", "a b": "", "..": "", "a\x1b[2J": "", strings.Repeat("a", 65): "",
	} {
		got, err := profile.Locate(name)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestImplied(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("XDG_CONFIG_HOME is of Linux")
	}
	t.Chdir(t.TempDir())
	settings := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", settings)
	implied := func(want string) {
		t.Helper()
		if got, err := profile.Implied(); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	write := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	implied("")
	mine := filepath.Join(settings, "waybill", "profiles", "default.yaml")
	write(mine)
	implied(mine)
	write(profile.Local)
	implied(profile.Local)
	write(filepath.Join(settings, "waybill", "profiles", "b.yaml"))
	write(filepath.Join(settings, "waybill", "profiles", ".new-1.yaml"))
	if names, err := profile.Names(); err != nil || !cmp.Equal(names, []string{"b", "default"}) {
		t.Errorf("%q, %v", names, err)
	}
	// Whoever can write the file gets the assertions.
	if err := os.Chmod(profile.Local, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.Load(profile.Local); err == nil || !strings.Contains(err.Error(), "every account of this machine may change it") {
		t.Errorf("a profile that everybody can change: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(profile.Local, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.Implied(); err == nil || !strings.Contains(err.Error(), "belongs to another account") {
		t.Errorf("a profile of somebody else: %v", err)
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	if err := os.Remove(profile.Local); err != nil {
		t.Fatal(err)
	}
	implied("") // an account without a home
	if _, err := profile.Names(); err == nil {
		t.Error("profiles of an account without a home")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("server: &a https://a.example\naudience: *a\n"))
	f.Add([]byte("key: !!binary aGVs\n"))
	f.Add([]byte("{server: [[[[[[]]]]]]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := profile.Parse("mine.yaml", data)
		if err != nil {
			return
		}
		var values []profile.Value
		for _, key := range profile.Keys() {
			if text := p.Value(key); text != "" {
				values = append(values, profile.Value{Key: key, Text: text})
			}
		}
		text, err := profile.Format("mine.yaml", "Again.", values)
		if err != nil {
			t.Fatal(err)
		}
		again, err := profile.Parse("mine.yaml", text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		for _, v := range values {
			if got := again.Value(v.Key); got != v.Text && !profile.IsFile(v.Key) {
				t.Errorf("%s: %q, then %q", v.Key, v.Text, got)
			}
		}
	})
}
