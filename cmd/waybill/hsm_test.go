//go:build pkcs11 && cgo

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waybill-token/waybill/internal/testservice"
)

// readsHardware: this is the build that does.
const readsHardware = true

// TestHardware runs the scripts with two seals in a token of SoftHSM: MODULE is its library, and
// PIN the token's.
func TestHardware(t *testing.T) {
	t.Parallel()
	module := requireSoftHSM(t)
	params := scripts("testdata/hsm")
	params.Setup = func(env *testscript.Env) error {
		env.Setenv("MODULE", module)
		env.Setenv("PIN", "73519-right")
		return errors.Join(setUp(env), fillToken(env))
	}
	testscript.Run(t, params)
}

// TestHardwarePage pastes what docs/hsm.md says to try, beside a sandbox.
func TestHardwarePage(t *testing.T) {
	t.Parallel()
	module := requireSoftHSM(t)
	page, err := os.ReadFile("../../docs/hsm.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n```sh\nmkdir ")
	text, _, found := strings.Cut(text, "\n```\n")
	if !found {
		t.Fatal("docs/hsm.md has nothing to try")
	}
	dir := t.TempDir()
	startSandbox(t, filepath.Join(dir, "waybill-sandbox"))
	program, err := exec.LookPath("waybill")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(dir, "waybill")); err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("sh", "-eu", "-c", "mkdir "+strings.ReplaceAll(text, "/usr/lib/softhsm/libsofthsm2.so", module))
	shell.Dir = dir
	if said, err := shell.CombinedOutput(); err != nil || !strings.Contains(string(said), "\naccepted") {
		t.Errorf("%v: %s", err, said)
	}
}

// requireSoftHSM is the library of SoftHSM.
func requireSoftHSM(t *testing.T) string {
	t.Helper()
	module, err := softHSM()
	testservice.Need(t, err)
	return module
}

// softHSM is where the library is on Debian and Fedora.
func softHSM() (string, error) {
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		return "", err
	}
	for _, pattern := range []string{"/usr/lib*/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so"} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("libsofthsm2.so: %w", exec.ErrNotFound)
}

// fillToken makes the token waybill with the keys provider and consumer.
func fillToken(env *testscript.Env) error {
	conf, dir := filepath.Join(env.WorkDir, "softhsm2.conf"), filepath.Join(env.WorkDir, "tokens")
	env.Setenv("SOFTHSM2_CONF", conf)
	err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\n"), 0o600))
	pin := env.Getenv("PIN")
	for _, args := range [][]string{
		{"--init-token", "--free", "--label", "waybill", "--so-pin", "so-pin"},
		{"--import", "provider-key.pem", "--token", "waybill", "--label", "provider", "--id", "01"},
		{"--import", "consumer-key.pem", "--token", "waybill", "--label", "consumer", "--id", "02"},
	} {
		util := exec.Command("softhsm2-util", slices.Concat(args, []string{"--pin", pin})...)
		util.Dir, util.Env = env.WorkDir, env.Vars
		if out, failed := util.CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w: %s", util, failed, out))
		}
	}
	return err
}
