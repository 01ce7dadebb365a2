package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// internalURL is where the internal listener of a server answers.
func (s *server) internalURL(t *testing.T) string {
	t.Helper()
	_, internal, err := addresses(s.log.line("serving"))
	if err != nil {
		t.Fatal(err)
	}
	return internal
}

// fetch gets a page over a connection of its own.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: longEnough, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// More idle connections than there are descriptors shut nobody out, from neither listener.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	const descriptors = 256
	s := startServer(t, exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec waybill serve --config "$0"`, descriptors), filepath.Join(dir, "waybill.yaml")), nil)
	var started struct {
		Connections int `json:"connections"`
	}
	if err := json.Unmarshal(s.log.line("serving"), &started); err != nil || started.Connections <= 0 || started.Connections >= descriptors {
		t.Errorf("it takes %d connections: %v", started.Connections, err)
	}
	open := func() {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	for range started.Connections + descriptors {
		open()
	}
	s.await(t, "it is ready", func() bool { status, _ := fetch(t, s.internalURL(t)+"/readyz"); return status == http.StatusOK })
	for _, path := range []string{"/livez", "/readyz", "/livez"} {
		if status, body := fetch(t, s.internalURL(t)+path); status != http.StatusOK {
			t.Errorf("%s: status %d, %s", path, status, body)
		}
	}
	clock{party: who.consumer}.served(t, s)
	s.await(t, "it tells of the limit", func() bool { return s.log.line("connections are in trouble") != nil })
	s.await(t, "/readyz tells of it", func() bool {
		open()
		_, body := fetch(t, s.internalURL(t)+"/readyz")
		return strings.Contains(body, fmt.Sprintf("listen.public: %d connections are open", started.Connections))
	})
	s.stop(t)
}
