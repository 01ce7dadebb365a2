//go:build pkcs11 && cgo

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// readsHardware: this is the build that does.
const readsHardware = true

// TestHardware runs the scripts with two seals in a token of SoftHSM: MODULE is its library, and
// PIN the token's.
func TestHardware(t *testing.T) {
	t.Parallel()
	module, err := softHSM()
	switch {
	case err == nil:
	case os.Getenv("WAYBILL_TEST_SERVICES") == "require":
		t.Fatalf("SoftHSM is not there, and WAYBILL_TEST_SERVICES=require demands it: %v", err)
	default:
		t.Skipf("SoftHSM is not there (%v); WAYBILL_TEST_SERVICES=require would make this a failure", err)
	}
	params := scripts("testdata/hsm")
	params.Setup = func(env *testscript.Env) error {
		env.Setenv("MODULE", module)
		env.Setenv("PIN", "73519-right")
		return errors.Join(setUp(env), fillToken(env))
	}
	testscript.Run(t, params)
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
