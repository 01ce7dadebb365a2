//go:build unix

package daemon_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

// A reload that finds a pipe in the place of a file, to which nobody writes, is refused, and not waited for: no other could
// come behind it.
func TestReloadWithPipe(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	writeCertificate(t, dir)
	for _, name := range []string{"caller", "secret", "password"} {
		write(t, filepath.Join(dir, name), []byte(name+"-0123456789abcdefghijkl"))
	}
	file := filepath.Join(dir, "waybill.yaml")
	write(t, file, []byte(configuration))
	load := func() (*config.Config, error) {
		return config.Load(file, append([]string{
			"WAYBILL_LISTEN_INTERNAL_CALLERS={apisix: caller}", "WAYBILL_LISTEN_INTERNAL_SECRET_FILE=secret", "WAYBILL_PARTY_KEY_PASSWORD_FILE=password",
		}, withTLS...))
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, daemon.Options{NoHistory: true}, cfg)
	reload := func() error {
		cfg, err := load()
		if err == nil {
			err = s.Reload(t.Context(), cfg)
		}
		return err
	}
	for _, name := range []string{
		"waybill.yaml", "key.pem", "password", "chain.pem", "tls.pem", "tls-key.pem", "parties.json", "root.pem", "caller", "secret",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Rename(path, path+".kept"), syscall.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := reload(); err == nil {
			t.Errorf("with a pipe in the place of %s: %v", name, err)
		}
		if err := os.Rename(path+".kept", path); err != nil {
			t.Fatal(err)
		}
	}
	if err := reload(); err != nil {
		t.Errorf("with the files of before: %v", err)
	}
}
