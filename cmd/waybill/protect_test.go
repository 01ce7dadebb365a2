package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A program is put behind tokens by one flag, and stays there when the configuration is
// read again.
func TestServeProtect(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Ishare-Party-Id"))
	}))
	t.Cleanup(program.Close)
	s := startServer(t, exec.Command("waybill", "serve", "--config", filepath.Join(dir, "waybill.yaml"), "--protect", program.URL), nil)
	client := clock{party: who.consumer}
	_, answer := client.served(t, s)
	judge := func(when string) {
		t.Helper()
		if status, _ := s.get(t, "/orders", ""); status != http.StatusUnauthorized {
			t.Errorf("%s, without a token: status %d", when, status)
		}
		if status, body := s.get(t, "/orders", answer.AccessToken); status != http.StatusOK || body != string(who.consumer.ID()) {
			t.Errorf("%s, with one: status %d, %q", when, status, body)
		}
	}
	judge("at first")
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.await(t, "it has reloaded", func() bool { return s.log.line("reloaded") != nil })
	judge("after a reload")
}

// The short form needs no file: the environment can say everything.
func TestServeFromTheEnvironment(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	cmd := exec.Command("waybill", "serve", "--protect", "http://127.0.0.1:1")
	cmd.Dir = dir
	s := startServer(t, cmd, []string{
		"WAYBILL_PARTY_ID=" + providerID, "WAYBILL_PARTY_KEY=provider-key.pem", "WAYBILL_PARTY_CERTIFICATES=provider.pem",
		"WAYBILL_LISTEN_PUBLIC=127.0.0.1:0", "WAYBILL_LISTEN_INTERNAL=127.0.0.1:0", "WAYBILL_PARTICIPANTS_FILE=parties.json",
		"WAYBILL_TRUST_ANCHORS=root.pem", "WAYBILL_TRUST_REVOCATION=off", "WAYBILL_POLICY_LEEWAY=2s",
	})
	_, answer := clock{party: who.consumer}.served(t, s)
	if status, body := s.get(t, "/orders", answer.AccessToken); status != http.StatusBadGateway {
		t.Errorf("status %d, %q", status, body)
	}
}

// get asks for a path of the public listener.
func (s *server) get(t *testing.T, path, token string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := (&http.Client{Timeout: longEnough}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}
