//go:build unix

package daemon_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

// fullHome is a home with every file that a configuration can name, and a data folder with a past. It
// gives the configuration, and of each file by its path in the folder the key that names it.
func fullHome(t *testing.T) (cfg *config.Config, dir string, keys map[string]string) {
	t.Helper()
	dir = newHome(t)
	writeCertificate(t, dir)
	for _, name := range []string{"caller", "password", "secret"} {
		write(t, filepath.Join(dir, name), fmt.Appendf(nil, "%s-0123456789abcdefghijkl", name))
	}
	yaml := configuration + "capabilities: {}\n"
	write(t, filepath.Join(dir, "waybill.yaml"), []byte(yaml))
	environ := append([]string{
		"WAYBILL_LISTEN_URL=https://provider.example", "WAYBILL_LISTEN_INTERNAL_CALLERS={apisix: caller}",
		"WAYBILL_PARTY_KEY_PASSWORD_FILE=password", "WAYBILL_LISTEN_INTERNAL_SECRET_FILE=secret", "WAYBILL_AUDIT_FILE=audit.jsonl",
	}, withTLS...)
	cfg, err := config.Load(filepath.Join(dir, "waybill.yaml"), environ)
	if err != nil {
		t.Fatal(err)
	}
	if err := start(t, daemon.Options{}, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	return cfg, dir, map[string]string{
		"waybill.yaml": "", "key.pem": "party.key", "password": "party.key", "chain.pem": "party.certificates",
		"tls.pem": "listen.tls.certificate", "tls-key.pem": "listen.tls.key", "parties.json": "participants.file", "root.pem": "trust.anchors[0]",
		"caller": "listen.internal_callers.apisix", "secret": "listen.internal", "audit.jsonl": "audit.file",
		"data": "data", "data/keys": "tokens.keys", "data/keys/enc-000001.jwk": "tokens.keys",
		"data/replay": "data", "data/replay/replay.life": "data", "data/replay/replay.hand-over": "data", "data/replay/replay.lock": "data",
		"data/revocations": "data", "data/revocations/revocations": "data", "data/revocations/revocations.end": "data",
	}
}

// chmod changes a mode, and gives what takes it back.
func chmod(t *testing.T, path string, change func(os.FileMode) os.FileMode) (back func()) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	set := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	set(change(info.Mode()))
	return func() { set(info.Mode()) }
}

// What every account may change keeps a server from starting and from reloading, and check tells it,
// once and at its key. What every account may read of a secret is told by both.
func TestWhatOthersMayDo(t *testing.T) {
	t.Parallel()
	cfg, dir, keys := fullHome(t)
	for _, passed := range []string{dir, filepath.Dir(dir)} { // so that others come to what is in it
		chmod(t, passed, func(os.FileMode) os.FileMode { return 0o755 })
	}
	if c := check(cfg); len(c.Problems)+len(c.Warnings) > 0 {
		t.Fatalf("a sound folder: problems %s\nwarnings %s", told(c.Problems), told(c.Warnings))
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		path := filepath.Join(dir, name)
		back := chmod(t, path, func(m os.FileMode) os.FileMode { return m | 0o002 })
		c := check(cfg)
		if len(c.Problems) != 1 || c.Problems[0].Key != keys[name] || !strings.HasPrefix(c.Problems[0].Message, path+": every account of this machine may ") {
			t.Errorf("%s: problems: %s", name, told(c.Problems))
		}
		if d, err := daemon.Open(t.Context(), cfg, daemon.Options{Log: discard}); err == nil || err.Error() != c.Problems[0].String() {
			t.Errorf("%s: Open gives %v, %v", name, d, err)
		}
		back()
	}
	s := start(t, daemon.Options{}, cfg)
	if strings.Contains(s.log.String(), "others have access") {
		t.Errorf("a sound folder: %s", s.log)
	}
	for _, name := range []string{"key.pem", "tls-key.pem", "password", "secret", "caller"} {
		chmod(t, filepath.Join(dir, name), func(m os.FileMode) os.FileMode { return m | 0o004 })
	}
	if err := s.Reload(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	c := check(cfg)
	logged := s.log.records(t, "others have access to what the server relies on")
	if len(c.Problems) > 0 || len(c.Warnings) != 6 || len(logged) != 5 { // check tells besides that the server runs
		t.Errorf("problems: %s\nwarnings: %s\nlogged: %v", told(c.Problems), told(c.Warnings), logged)
	}
	chmod(t, filepath.Join(dir, "parties.json"), func(os.FileMode) os.FileMode { return 0o666 })
	if err := s.Reload(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "parties.json: every account") {
		t.Errorf("a reload with a file that everybody may change: %v", err)
	}
}

// A group that may write, and another account that owns, can have been meant.
func TestWhatSomeOthersMayDo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	cfg, dir, keys := fullHome(t)
	for _, name := range []string{"parties.json", "data/replay/replay.life", "key.pem", "waybill.yaml", "data/keys/enc-000001.jwk"} {
		if err := os.Chown(filepath.Join(dir, name), 54321, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"root.pem", "data"} {
		chmod(t, filepath.Join(dir, name), func(m os.FileMode) os.FileMode { return m | 0o020 })
	}
	c := check(cfg)
	if len(c.Problems) > 0 || len(c.Warnings) != 7 {
		t.Errorf("problems: %s\nwarnings: %s", told(c.Problems), told(c.Warnings))
	}
	for _, w := range c.Warnings {
		path, _, _ := strings.Cut(w.Message, ": ")
		name, err := filepath.Rel(dir, path)
		if err != nil || w.Key != keys[name] {
			t.Errorf("%s is at the key %q", name, w.Key)
		}
	}
	s := start(t, daemon.Options{}, cfg)
	if logged := s.log.records(t, "others have access to what the server relies on"); len(logged) != 7 {
		t.Errorf("logged: %v", logged)
	}
}

// However many files others may change, neither check nor the log tells of each.
func TestManyExposedAreSummedUp(t *testing.T) {
	t.Parallel()
	cfg, dir, _ := fullHome(t)
	folder := filepath.Join(dir, "data", "kept", "revocation")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		path := filepath.Join(folder, fmt.Sprintf("%064x", i))
		write(t, path, nil)
		chmod(t, path, func(os.FileMode) os.FileMode { return 0o666 })
	}
	c := check(cfg)
	if len(c.Problems) != 17 || !strings.HasSuffix(c.Problems[16].Message, "/data: and the like of 484 more in this folder") {
		t.Errorf("%d problems: %s", len(c.Problems), told(c.Problems))
	}
}
