package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// underWay begins a request that waits for its own body.
func underWay(t *testing.T, s *server, r *isharetest.Request) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(longEnough)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: provider.example\r\nContent-Type: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		r.Path, isharetest.MediaType, len(r.Body()))
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusContinue {
		t.Fatalf("status %d", answer.StatusCode)
	}
	return conn
}

// A second signal ends the program at once, whatever is under way. SIGHUP does nothing by then.
// What was used up is remembered all the same.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	s := serve(t, dir, "WAYBILL_LISTEN_SHUTDOWN_DELAY=5m", "WAYBILL_LISTEN_DRAIN=10m")
	client := clock{party: who.consumer}
	used, _ := client.served(t, s)
	underWay(t, s, client.request())
	signal := func(sig os.Signal) {
		t.Helper()
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGTERM)
	s.await(t, "it says that it is not ready", func() bool {
		status, _ := fetch(t, s.internalURL(t)+"/readyz")
		return status == http.StatusServiceUnavailable
	})
	signal(syscall.SIGHUP)
	if err := s.send(t, client.request()).Meets(nil); err != nil {
		t.Errorf("a request in the lame-duck time: %v", err)
	}
	signal(syscall.SIGINT)
	s.wait(t)
	if s.cmd.ProcessState.ExitCode() != statusNo {
		t.Errorf("it ended with %v; the log:\n%s", s.result, s.log)
	}
	s = serve(t, dir)
	if err := s.send(t, used).Meets(rule.JTIReplayed); err != nil {
		t.Errorf("an assertion that was used before: %v", err)
	}
	if err := s.send(t, client.request()).Meets(nil); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	s.stop(t)
}

// When nobody reads the log, requests are answered all the same, and after a stop all of it is there.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	s := serve(t, dir)
	client := clock{party: who.consumer}
	client.served(t, s)
	const requests = 300 // whose lines are more than a pipe holds
	s.log.held.Lock()
	for range requests {
		if err := s.send(t, client.request()).Meets(nil); err != nil {
			s.log.held.Unlock()
			t.Fatal(err)
		}
	}
	s.log.held.Unlock()
	s.stop(t)
	log := s.log.String()
	if n := strings.Count(log, `"outcome":"issued"`); n != requests+1 {
		t.Errorf("%d lines of %d", n, requests+1)
	}
	if last := strings.LastIndex(log, `"msg":"stopped"`); last < strings.LastIndex(log, `"msg":"token request"`) {
		t.Errorf("the log ends with\n%s", log[max(0, len(log)-1000):])
	}
}

// handOver opens the sockets as a service manager does, and gives what starts a server on them.
func handOver(t *testing.T, names string) (url string, command func(dir string) *exec.Cmd) {
	t.Helper()
	var files []*os.File
	for range strings.SplitSeq(names, ":") {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if url == "" {
			url = "http://" + l.Addr().String()
		}
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil { // the file is the socket as well
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return url, func(dir string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s exec waybill serve --config "$0"`, len(files), names),
			filepath.Join(dir, "waybill.yaml"))
		cmd.ExtraFiles = files
		return cmd
	}
}

// With sockets of a service manager, a restart refuses nobody: neither who connects anew each
// time, nor who keeps connections.
func TestRestartRefusesNobody(t *testing.T) {
	t.Parallel()
	dir, _ := newProvider(t)
	url, command := handOver(t, "public:internal")
	s := startServer(t, command(dir), nil)
	if s.url != url {
		t.Errorf("it listens on %s", s.url)
	}
	var done atomic.Bool
	var answered [2]atomic.Int64
	var clients sync.WaitGroup
	for i := range answered {
		clients.Go(func() {
			client := &http.Client{Timeout: longEnough, Transport: &http.Transport{DisableKeepAlives: i == 0}}
			defer client.CloseIdleConnections()
			for !done.Load() {
				answer, err := client.Get(url + "/openapi.json")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if err != nil || answer.StatusCode != http.StatusOK {
					t.Errorf("status %d, %v", answer.StatusCode, err)
				}
				answered[i].Add(1)
			}
		})
	}
	more := func() {
		t.Helper()
		before := [2]int64{answered[0].Load(), answered[1].Load()}
		s.await(t, "requests are answered", func() bool { return t.Failed() || answered[0].Load() > before[0]+5 && answered[1].Load() > before[1]+5 })
	}
	for range 3 {
		more()
		s.stop(t)
		s = startServer(t, command(dir), nil)
	}
	more()
	done.Store(true)
	clients.Wait()
	s.stop(t)
	if !strings.Contains(s.log.String(), `"key":"listen.public","configured":"127.0.0.1:0"`) {
		t.Errorf("it does not tell that the configuration has another address:\n%s", s.log)
	}
}

// Sockets that have other names, or are too few, are not guessed at.
func TestUnknownSockets(t *testing.T) {
	t.Parallel()
	dir, _ := newProvider(t)
	for names, want := range map[string]string{
		"waybill.socket": "want one of the names public, internal",
		"public:public":  "there are two of the name",
		"public:":        "want one of the names public, internal",
	} {
		_, command := handOver(t, names)
		out, err := command(dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v, %s", names, err, out)
		}
	}
}
