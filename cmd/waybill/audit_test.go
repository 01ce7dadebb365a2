package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waybill-token/waybill/internal/smalldisk"
	"github.com/waybill-token/waybill/rule"
)

// audited makes a folder for servers whose audit trail is required.
func audited(t *testing.T, trail string) (dir string, who *cast) {
	t.Helper()
	dir, who = newProvider(t)
	write(t, filepath.Join(dir, "waybill.yaml"), configuration+"audit: {file: "+trail+", required: true}\n")
	return dir, who
}

// verifyAudit verifies a trail with the program, and returns what it prints.
func verifyAudit(t *testing.T, path string) (said string, err error) {
	t.Helper()
	out, err := exec.Command("waybill", "audit", "verify", path).CombinedOutput()
	return string(out), err
}

// wantLines fails for each token that was given and has no line in the trail, by the X-Request-Id of its answer.
func wantLines(t *testing.T, path string, given map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for id := range given {
		if !bytes.Contains(text, []byte(`"correlation":"`+id+`"`)) {
			t.Errorf("the token of request %s has no line", id)
		}
	}
	if said, err := verifyAudit(t, path); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	text[len(text)/2] ^= 1
	write(t, path+".changed", string(text))
	if said, err := verifyAudit(t, path+".changed"); err == nil || !strings.Contains(said, "line ") {
		t.Errorf("one changed byte: %v: %s", err, said)
	}
}

// A server that is killed has given no token without a line in the trail, however often.
func TestAuditOutlivesKilling(t *testing.T) {
	dir, who := audited(t, "audit.jsonl")
	path := filepath.Join(dir, "audit.jsonl")
	given := map[string]bool{}
	for range 3 {
		s := serve(t, dir)
		clocks := []clock{{party: who.consumer}, {party: who.consumer}, {party: who.consumer}}
		clocks[0].served(t, s) // whose line is not asked for, as the others' are
		var mu sync.Mutex
		var clients sync.WaitGroup
		full, enough := make(chan struct{}), len(given)+30
		for _, c := range clocks {
			clients.Go(func() {
				for {
					a, err := c.request().Send(s.url)
					if err != nil {
						return
					}
					mu.Lock()
					if before := len(given); a.Status == http.StatusOK {
						if given[a.Header.Get("X-Request-Id")] = true; before < enough && len(given) == enough {
							close(full)
						}
					}
					mu.Unlock()
				}
			})
		}
		<-full
		s.kill(t)
		clients.Wait()
	}
	s := serve(t, dir) // which mends a torn line
	s.stop(t)
	wantLines(t, path, given)
	if len(given) < 90 {
		t.Errorf("%d tokens only", len(given))
	}
}

// With a full disk, nobody gets a token that the trail does not have, and /readyz says so. With room again, all is well.
func TestAuditOnAFullDisk(t *testing.T) {
	disk, grow := smalldisk.Mount(t)
	path := filepath.Join(disk, "audit.jsonl")
	dir, who := audited(t, path)
	s := serve(t, dir)
	c := clock{party: who.consumer}
	given := map[string]bool{}
	_, a := c.served(t, s)
	for range 1000 {
		if a.Status != http.StatusOK {
			break
		}
		given[a.Header.Get("X-Request-Id")] = true
		a = s.send(t, c.request())
	}
	if err := a.Meets(rule.UnavailableState); err != nil || a.AccessToken != "" {
		t.Fatalf("after %d tokens: %v", len(given), err)
	}
	_, internal, err := addresses(s.log.line("serving"))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := get(t, internal+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "audit.file: ") {
		t.Errorf("/readyz is %d: %s", status, body)
	}
	grow()
	_, a = c.served(t, s)
	given[a.Header.Get("X-Request-Id")] = true
	s.await(t, "it is ready", func() bool { status, _ := get(t, internal+"/readyz"); return status == http.StatusOK })
	s.stop(t)
	fmt.Fprintln(t.Output(), len(given), "tokens")
	wantLines(t, path, given)
}

// get is what is answered at a URL.
func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
