package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/shipped"
)

// The program tells a service manager when it answers, around a reload, that it lives, and that it stops.
func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no service manager of this kind on Windows")
	}
	dir, _ := newHome(t)
	program, err := shipped.Program(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// heard reads messages until one has the line, and returns it. Signs of life may come at any time.
	heard := func(line string) string {
		t.Helper()
		for {
			message := make([]byte, 4096)
			if err := socket.SetReadDeadline(time.Now().Add(longEnough)); err != nil {
				t.Fatal(err)
			}
			n, err := socket.Read(message)
			if err != nil {
				t.Fatalf("not told %s: %v", line, err)
			}
			switch text := string(message[:n]); {
			case strings.HasPrefix(text, line):
				return text
			case text != "WATCHDOG=1":
				t.Fatalf("told %q before %s", text, line)
			}
		}
	}
	config := filepath.Join(dir, "waybill.yaml")
	write(t, config, configuration)
	log := &transcript{}
	cmd := exec.Command(program, "serve", "--config", config)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=200000")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()

	ready := heard("READY=1")
	if !await(func() bool { return log.line("serving") != nil }) { // lines of the log are not written at once
		t.Fatalf("it does not say that it is serving:\n%s", log)
	}
	_, internal, err := addresses(log.line("serving"))
	if err != nil {
		t.Fatal(err)
	}
	if address := strings.TrimPrefix(internal, "http://"); !strings.Contains(ready, "\nSTATUS=serving at 127.0.0.1:") || !strings.HasSuffix(ready, ", internally at "+address) {
		t.Errorf("ready: %q, but it is at %s", ready, address)
	}
	heard("WATCHDOG=1")
	reload := func(content, status string) {
		t.Helper()
		write(t, config, content)
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if said := heard("RELOADING=1\nMONOTONIC_USEC="); strings.HasPrefix(said, "RELOADING=1\nMONOTONIC_USEC=0\n") && runtime.GOOS == "linux" {
			t.Errorf("it is reloading at %q", said)
		}
		if said := heard("READY=1"); !strings.HasSuffix(said, status) {
			t.Errorf("behind a reload: %q", said)
		}
	}
	reload("party: {}\n", "; the last reload failed, see the log")
	reload(configuration, ", internally at "+strings.TrimPrefix(internal, "http://"))
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	heard("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err, log)
	}
}
