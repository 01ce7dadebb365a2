//go:build pkcs11 && cgo

// Package softhsm gives tests tokens in software: those of SoftHSM.
package softhsm

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/waybill-token/waybill/internal/testservice"
)

// PIN is that of every token.
const PIN = "73519-right"

// A Key is one to import into a token.
type Key struct {
	Token, Label, ID string
	Key              any // of [x509.MarshalPKCS8PrivateKey]
}

// Main is a TestMain that keeps the tokens in a folder of their own. SoftHSM reads the
// variable when it starts, for the whole process.
func Main(m *testing.M) {
	dir, err := os.MkdirTemp("", "waybill-hsm-")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf")); err != nil {
		panic(err)
	}
	m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
}

// Tokens returns a function that gives the path of SoftHSM's library. The tokens and keys are
// made once: what other processes add, SoftHSM sees only when it starts. The test is skipped
// where there is no SoftHSM.
func Tokens(tokens []string, keys func() []Key) func(t *testing.T) string {
	ready := sync.OnceValues(func() (string, error) {
		module, err := library()
		if err != nil {
			return "", err
		}
		return module, setUp(tokens, keys())
	})
	return func(t *testing.T) string {
		t.Helper()
		module, err := ready()
		if err != nil && !errors.Is(err, exec.ErrNotFound) {
			t.Fatal(err)
		}
		testservice.Need(t, err)
		return module
	}
}

func setUp(tokens []string, keys []Key) error {
	conf := os.Getenv("SOFTHSM2_CONF")
	dir := filepath.Join(filepath.Dir(conf), "tokens")
	err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nlog.level = ERROR\n"), 0o600))
	for _, label := range tokens {
		err = errors.Join(err, util("--init-token", "--free", "--label", label, "--so-pin", "so-pin", "--pin", PIN))
	}
	for _, k := range keys {
		der, invalid := x509.MarshalPKCS8PrivateKey(k.Key)
		file := filepath.Join(filepath.Dir(conf), k.Token+k.Label+k.ID)
		err = errors.Join(err, invalid,
			os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
			util("--import", file, "--token", k.Token, "--label", k.Label, "--id", k.ID, "--pin", PIN))
	}
	return err
}

func util(args ...string) error {
	out, err := exec.CommandContext(context.Background(), "softhsm2-util", args...).CombinedOutput() //nolint:gosec // arguments of tests
	if err != nil {
		return fmt.Errorf("softhsm2-util %v: %w: %s", args, err, out)
	}
	return nil
}

// library is where Debian, Fedora or Homebrew put it.
func library() (string, error) {
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
