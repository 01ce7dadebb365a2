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
