package probe_test

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/testservice"
	"github.com/waybill-token/waybill/probe"
)

// startForeign starts npm's oidc-provider, which knows the consumer's key, and returns its base URL.
func startForeign(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		testservice.Program(t, program)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/foreign")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	if said, err := install.CombinedOutput(); err != nil {
		testservice.Need(t, fmt.Errorf("oidc-provider cannot be installed: %w\n%s", err, said))
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(players().consumer.Key.Public()))})
	server := exec.CommandContext(t.Context(), "node", "server.js")
	server.Dir = dir
	server.Env = append(os.Environ(), "CLIENT_ID="+string(consumerID), "CLIENT_KEY="+string(key), "AUDIENCE="+string(audience))
	var problems strings.Builder
	server.Stderr = &problems
	out := must(server.StdoutPipe())
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Wait() }) // it is killed with the context
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the server did not start: %s", problems.String())
	}
	return lines.Text()
}

// TestForeignServer: a server that authenticates clients well, and as OpenID Connect does, gets a report that says so.
func TestForeignServer(t *testing.T) {
	config := players().everything(startForeign(t), "")
	report := run(t, config)
	for name, want := range map[string]probe.Outcome{
		probe.RightCase:                         probe.Accepted,
		"right/RS512":                           probe.Accepted,
		"jwt.alg/none":                          probe.Refused,
		"jwt.alg/HS256":                         probe.Refused,
		"jwt.signature/another-key":             probe.Refused,
		"claim.exp/in-the-past":                 probe.Refused,
		"claim.aud/another-party":               probe.Refused,
		"jti.replayed/same-assertion":           probe.Refused,
		"jti.replayed/at-once":                  probe.Refused,
		"request.duplicate-parameter/client_id": probe.Refused,
		"answer/no-refresh-token":               probe.AsItMustBe,
		// What iSHARE asks for besides:
		"jwt.x5c/missing":            probe.GaveToken,
		"jwt.typ/missing":            probe.GaveToken,
		"jwt.alg/PS256":              probe.GaveToken,
		"claim.aud/array-of-two":     probe.GaveToken,
		"claim.lifetime/an-hour":     probe.GaveToken,
		"chain.untrusted/another-CA": probe.Refused,
	} {
		if r := result(t, report, name); r.Outcome != want {
			t.Errorf("%s: %s, want %s: %s%s", name, r.Outcome, want, r.Came, r.Reason)
		}
	}
	if report.Good() {
		t.Error("it is said to be an iSHARE server")
	}
	t.Log(report.Summary())
}
