package sandbox_test

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/sandbox"
)

// keys tells of every key and certificate below a folder: what it holds, since when,
// and who may read it.
func keys(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name := d.Name(); !strings.HasSuffix(name, ".pem") && !strings.HasSuffix(name, ".jwk") {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found[path] = fmt.Sprint(info.Mode(), info.ModTime(), string(read(t, path)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A data space that has just been made serves at once: nobody can have used an
// assertion to its provider before. When it starts again it makes no key, knows the
// tokens and the assertions of before, and serves at once too.
func TestStartsServeAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startIn(t, dir)
	used := first.ticket(t, maker(t, first.Consumer, first.Consumer.ChainFile))
	first.present(t.Context(), plain(), used).wants(t, "the very first request", "")
	token, err := first.client(t, first.Consumer, first.State().Provider).Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := keys(t, dir)
	first.stop()
	if _, err := os.Stat(filepath.Join(dir, "provider", "data", "replay", "replay.hand-over")); err != nil {
		t.Errorf("no hand-over: %v", err)
	}

	second := startIn(t, dir, func(c *sandbox.Config) {
		c.Progress = func(step string) { t.Errorf("the second start is %s", step) }
	})
	if diff := cmp.Diff(before, keys(t, dir)); diff != "" {
		t.Errorf("keys (-first +second start):\n%s", diff)
	}
	second.try(t, second.Consumer).wants(t, "the first request after a restart", "")
	second.present(t.Context(), plain(), used).wants(t, "an assertion that was used before", rule.JTIReplayed.ID)
	status, body := get(t, plain(), second.URL+"/me", http.Header{"Authorization": {"Bearer " + token.AccessToken}})
	if status != http.StatusOK || !strings.Contains(string(body), string(second.Consumer.ID)) {
		t.Errorf("a token of before: %d %s", status, body)
	}
}

// A provider that has lost its memory is no new one: its keys are old, and somebody
// may have used an assertion to it.
func TestLostMemoryIsNoNewProvider(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startIn(t, dir).stop()
	if err := os.RemoveAll(filepath.Join(dir, "provider", "data")); err != nil {
		t.Fatal(err)
	}
	s := startIn(t, dir)
	s.try(t, s.Consumer).wants(t, "the first request", rule.UnavailableState.ID)
}

// Nobody else on the machine can read what is in the folder.
func TestFolderIsPrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no modes on Windows")
	}
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	start := startIn(t, dir)
	start.try(t, start.Consumer)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		secret := d.IsDir() || strings.HasSuffix(path, "key.pem") || strings.HasSuffix(path, ".jwk")
		if err == nil && secret && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Whatever the address to listen on, the one that is told is for a client on this
// machine; the folder can be called by a relative name, too.
func TestListenAddresses(t *testing.T) {
	for _, listen := range []string{":0", "0.0.0.0:0", "[::]:0", "127.0.0.1:0", "localhost:0", "[::1]:0"} {
		t.Run(listen, func(t *testing.T) {
			if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", listen); err != nil {
				t.Skipf("not to be had here: %v", err)
			} else {
				l.Close()
			}
			t.Chdir(t.TempDir())
			s := startIn(t, "space", func(c *sandbox.Config) { c.Listen = listen })
			u, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			if ip := net.ParseIP(u.Hostname()); !ip.IsLoopback() || u.Port() == "0" {
				t.Errorf("URL %s", s.URL)
			}
			tokens := s.client(t, s.Consumer, s.State().Provider)
			if status, body := get(t, tokens.HTTPClient(), s.URL+"/me", nil); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

// What must be set is told by its name.
func TestSandboxNeedsAFolder(t *testing.T) {
	if _, err := sandbox.Open(t.Context(), sandbox.Config{}); err == nil || !strings.Contains(err.Error(), "Dir must be set") {
		t.Errorf("%v", err)
	}
}
