package accesstoken_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
)

// revokingFolder makes the test binary a process that revokes tokens until it is killed.
const revokingFolder = "WAYBILL_REVOCATION_TEST_FOLDER"

// TestRevokingProcess is the process that [TestKilled] kills.
func TestRevokingProcess(t *testing.T) {
	dir := os.Getenv(revokingFolder)
	if dir == "" {
		return // only a process that another test starts does this
	}
	m, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("%d-%d", os.Getpid(), i)
		if err := m.Revoke(t.Context(), accesstoken.TokenRevocation{TokenID: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(os.Stdout, "revoked", id); err != nil {
			return // the test that listened is gone
		}
	}
}

// Whatever was promised before a process was killed holds for its successor.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var promised []string
	for range 3 {
		promised = append(promised, killAfter(t, dir, 20)...)
		m := openRevocations(t, accesstoken.TokenRevocationConfig{Dir: dir, NoHistory: true})
		if err := m.RecoveryError(); err != nil {
			t.Errorf("doubt: %v", err)
		}
		for _, id := range promised {
			if !revokedIn(t, m, claimsOf(id, time.Now())) {
				t.Errorf("%s is good again", id)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter starts a process that revokes, kills it when it has promised some, and returns all
// that it promised.
func killAfter(t *testing.T, dir string, enough int) (promised []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), self, "-test.run=^TestRevokingProcess$")
	process.Env = append(os.Environ(), revokingFolder+"="+dir)
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var id string
		if _, err := fmt.Sscanf(lines.Text(), "revoked %s", &id); err != nil {
			t.Errorf("the process says %q", lines.Text())
			continue
		}
		if promised = append(promised, id); len(promised) == enough {
			process.Process.Kill()
		}
	}
	process.Wait() // it was killed, and says so
	if len(promised) < enough {
		t.Fatalf("the process promised %d", len(promised))
	}
	return promised
}
