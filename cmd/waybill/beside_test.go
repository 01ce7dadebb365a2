package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/redistest"
)

// checks runs waybill check on the configuration in a folder, and gives its status and all that it says.
func checks(t *testing.T, dir string, environ ...string) (status int, out, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("waybill", "check", "--config", filepath.Join(dir, "waybill.yaml"))
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), environ...), &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// Check works beside the server that runs with the same configuration, whatever keeps its state, and disturbs nothing. What is
// wrong with the next configuration is told all the same.
func TestCheckBesideTheServer(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string]func() []string{
		"memory": func() []string { return nil },
		"redis":  func() []string { return []string{"WAYBILL_STATE=" + redistest.Start(t).URL()} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, who := newProvider(t)
			s := serve(t, dir, environ()...)
			public, internal, err := addresses(s.log.line("serving"))
			if err != nil {
				t.Fatal(err)
			}
			client := clock{party: who.consumer}
			tokens := func() {
				s.await(t, "there are tokens", func() bool { return s.send(t, client.request()).Status == http.StatusOK })
			}
			tokens()
			running := slices.Concat(s.cmd.Env[len(os.Environ()):], []string{
				"WAYBILL_LISTEN_PUBLIC=" + strings.TrimPrefix(public, "http://"), "WAYBILL_LISTEN_INTERNAL=" + strings.TrimPrefix(internal, "http://"),
			})
			const beside = "a server is running with this folder"
			for range 2 {
				status, out, said := checks(t, dir, running...)
				if status != 0 || out != "" || strings.Count(said, beside) != 1 || !strings.HasSuffix(said, "no problems found\n") {
					t.Errorf("status %d\n%s%s", status, out, said)
				}
			}
			for want, changed := range map[string]string{
				"listen.public: ":  "WAYBILL_LISTEN_PUBLIC=203.0.113.1:80",
				"party.key: ":      "WAYBILL_PARTY_KEY=nowhere.pem",
				"trust.anchors[1]": "WAYBILL_TRUST_ANCHORS=root.pem,nowhere.pem",
			} {
				status, out, said := checks(t, dir, append(slices.Clip(running), changed)...)
				if status != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, want) || strings.Count(said, beside) != 1 {
					t.Errorf("%s: status %d\n%s%s", changed, status, out, said)
				}
			}
			tokens()
			s.stop(t)
			status, out, said := checks(t, dir, running...)
			if status != 0 || out != "" || strings.Contains(said, beside) {
				t.Errorf("without a server: status %d\n%s%s", status, out, said)
			}
		})
	}
}
