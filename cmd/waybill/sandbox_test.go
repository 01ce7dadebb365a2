package main

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/sandbox"
)

// startSandbox runs a sandbox in a folder.
func startSandbox(t *testing.T, dir string) *sandbox.Sandbox {
	t.Helper()
	s, err := sandbox.Open(t.Context(), sandbox.Config{
		Dir: dir, Listen: "127.0.0.1:0", CAKeyBits: 2048,
		Log: slog.New(slog.DiscardHandler), Progress: func(string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// commandLine carries out one, and returns what came out of it.
func commandLine(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(t.Context(), append([]string{"waybill"}, args...), func(string) string { return "" }, streams{strings.NewReader(""), &out, &err})
	return status, out.String(), err.String()
}

func TestSandboxSwitches(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data space")
	s := startSandbox(t, dir)
	for _, c := range []struct {
		args           string
		status         int
		stdout, stderr string // what it holds; empty: nothing
	}{
		{"show", 0, "consumer.standing               active    ", ""},
		{"set consumer.standing suspended", 0, "", "consumer.standing is suspended\n"},
		{"show", 0, "consumer.standing               suspended ", ""},
		{"set registry wrong-signature", 0, "", "registry is wrong-signature\n"},
		{"reset", 0, "", "every switch is as it was in the beginning\n"},
		{"show", 0, "consumer.standing               active    ", ""},
		{"set consumer.standing sleepy", 2, "", "error: the switch has no such position: consumer.standing can be active, "},
		{"set nothing sleepy", 2, "", "error: there is no such switch; there are registry, "},
		{"set consumer.standing", 2, "", "error: set takes a switch and a value"},
		{"set", 2, "", "error: set takes a switch and a value"},
		{"show everything", 2, "", `error: show takes no argument "everything"`},
		{"reset everything", 2, "", `error: reset takes no argument "everything"`},
		{"show --listen 127.0.0.1:0", 2, "", "error: flag provided but not defined"},
		{"nothing", 2, "", `error: sandbox takes no argument "nothing"`},
	} {
		status, stdout, stderr := commandLine(t, append([]string{"sandbox", "--dir", dir}, strings.Fields(c.args)...)...)
		if status != c.status || !strings.Contains(stdout, c.stdout) || !strings.HasPrefix(stderr, c.stderr) ||
			c.stdout == "" && stdout != "" || c.stderr == "" && stderr != "" {
			t.Errorf("sandbox %s: status %d, stdout %q, stderr %q; want %d, %q, %q", c.args, status, stdout, stderr, c.status, c.stdout, c.stderr)
		}
	}
	var state sandbox.State
	_, stdout, _ := commandLine(t, "sandbox", "show", "--dir", dir, "--json")
	if err := json.Unmarshal([]byte(stdout), &state); err != nil || state.Registry != s.State().Registry {
		t.Errorf("show --json: %v, %s", err, stdout)
	}
}

func TestSandboxThatDoesNotRun(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nowhere")
	for _, args := range []string{"show", "reset", "set consumer.standing suspended"} {
		status, stdout, stderr := commandLine(t, append([]string{"sandbox", "--dir", dir}, strings.Fields(args)...)...)
		if status != 1 || stdout != "" || !strings.Contains(stderr, "no sandbox is running there") || !strings.Contains(stderr, "hint: Start one: ") {
			t.Errorf("sandbox %s: status %d, stdout %q, stderr %q", args, status, stdout, stderr)
		}
	}
}
