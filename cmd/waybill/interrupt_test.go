package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/waybill-token/waybill/internal/logtest"
)

// interrupted starts a command in a folder and sends it the signal once it is at the point that reached waits for. It must end
// with the status of a no, and say so in one line.
func interrupted(t *testing.T, dir string, sig os.Signal, reached func(t *testing.T, stdin io.Writer), args ...string) {
	t.Helper()
	cmd := exec.Command("waybill", args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe() // which stays open
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone
		stdin.Close()
	})
	reached(t, stdin)
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- cmd.Wait() }()
	if !await(func() bool { return len(ended) > 0 }) {
		t.Fatalf("%q does not end at %v", args, sig)
	}
	<-ended
	if cmd.ProcessState.ExitCode() != statusNo || !strings.HasSuffix(said.String(), "error: interrupted\n") {
		t.Errorf("%q: %v, %q", args, cmd.ProcessState, said.String())
	}
}

// Every command ends at a signal, whatever it waits for.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no signals on Windows")
	}
	dir, _ := newHome(t)
	// Each command has a server of its own: one that ends may have asked again meanwhile.
	ask := func(sig os.Signal, command func(url string) []string) {
		arrived := make(chan struct{}, 10)
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			arrived <- struct{}{}
			<-r.Context().Done()
		}))
		defer server.Close()
		interrupted(t, dir, sig, func(*testing.T, io.Writer) { <-arrived }, command(server.URL)...)
	}
	// More than a pipe holds, so that it was read when it is written.
	read := func(t *testing.T, stdin io.Writer) {
		t.Helper()
		if _, err := stdin.Write(bytes.Repeat([]byte("a"), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	seal := []string{"--audience", providerID, "--client-id", consumerID, "--key", "consumer-key.pem", "--certificates", "consumer.pem"}
	ask(os.Interrupt, func(url string) []string { return append([]string{"token", "--server", url}, seal...) })
	ask(syscall.SIGTERM, func(url string) []string {
		return append([]string{"token", "--token-endpoint", url + "/token"}, seal...)
	})
	ask(os.Interrupt, func(url string) []string {
		return append([]string{"request", "GET", url, "--token-endpoint", url + "/token"}, seal...)
	})
	ask(os.Interrupt, func(url string) []string {
		return []string{"init", "--registry", url, "--out", "new.yaml", "--key", "consumer-key.pem", "--certificates", "consumer.pem"}
	})
	interrupted(t, dir, os.Interrupt, read, append([]string{"request", "POST", "http://127.0.0.1:1", "--data", "@-", "--token-endpoint", "http://127.0.0.1:1/token"}, seal...)...)
}

// Who waits for a slow server is told what for. This one answers once that was said.
func TestWaitingIsTold(t *testing.T) {
	t.Parallel()
	dir, _ := newHome(t)
	var said logtest.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := "waiting for an answer of " + r.Host + "\n"
		if r.URL.Path == "/token" {
			what = "waiting for a token of " + r.Host + "\n"
		}
		if !await(func() bool { return strings.Contains(said.String(), what) }) {
			t.Errorf("not said: %q", what)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"x","token_type":"Bearer","expires_in":60}`)
	}))
	t.Cleanup(server.Close)
	cmd := exec.Command("waybill", "request", "GET", server.URL, "--token-endpoint", server.URL+"/token",
		"--audience", providerID, "--client-id", consumerID, "--key", "consumer-key.pem", "--certificates", "consumer.pem")
	cmd.Dir, cmd.Stderr = dir, &said
	if err := cmd.Run(); err != nil {
		t.Errorf("%v, %s", err, said.String())
	}
}
