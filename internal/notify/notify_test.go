package notify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listen is a service manager's socket: its name, and what comes there.
func listen(t *testing.T, name string) (string, *net.UnixConn) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no datagrams between processes on Windows")
	}
	if !strings.HasPrefix(name, "@") {
		name = filepath.Join(t.TempDir(), name)
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return name, socket
}

// heard is the next message.
func heard(t *testing.T, socket *net.UnixConn) string {
	t.Helper()
	if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 4096)
	n, err := socket.Read(message)
	if err != nil {
		t.Fatal(err)
	}
	return string(message[:n])
}

// manager is the one that the variables name.
func manager(t *testing.T, socket, interval, pid string) *Manager {
	t.Helper()
	for name, value := range map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": interval, "WATCHDOG_PID": pid} {
		t.Setenv(name, value)
	}
	m, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if value, set := os.LookupEnv(name); set {
			t.Errorf("%s=%s is left for others", name, value)
		}
	}
	return m
}

// All that is told, over a socket with a path and over an abstract one.
func TestWhatIsTold(t *testing.T) {
	names := []string{"socket"}
	if runtime.GOOS == "linux" {
		names = append(names, "@waybill-notify-test-"+strconv.Itoa(os.Getpid()))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			name, socket := listen(t, name)
			m := manager(t, name, "", "")
			before := monotonic().Microseconds()
			m.Ready("serving")
			m.Reloading()
			m.Ready("a status\nMAINPID=1")
			m.Stopping("stopping")
			if got := heard(t, socket); got != "READY=1\nSTATUS=serving" {
				t.Errorf("at the start it is told %q", got)
			}
			reloading := heard(t, socket)
			found := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=([0-9]+)\nSTATUS=[^\n]+$`).FindStringSubmatch(reloading)
			if found == nil {
				t.Fatalf("at a reload it is told %q", reloading)
			}
			if at, err := strconv.ParseInt(found[1], 10, 64); err != nil || at < before || at > monotonic().Microseconds() {
				t.Errorf("the reload is at %s, which is not between %d and now", found[1], before)
			}
			if got := heard(t, socket); got != "READY=1\nSTATUS=a status MAINPID=1" {
				t.Errorf("behind a reload it is told %q", got)
			}
			if got := heard(t, socket); got != "STOPPING=1\nSTATUS=stopping" {
				t.Errorf("at the end it is told %q", got)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Without a manager nothing happens.
func TestNobodyWantsToKnow(t *testing.T) {
	m := manager(t, "", "1000000", "")
	if m != nil {
		t.Fatalf("there is a manager: %v", m)
	}
	m.Ready("serving")
	m.Reloading()
	m.Stopping("stopping")
	m.Watch(t.Context(), func(context.Context) error { t.Error("asked whether it is alive"); return nil })
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// What cannot be meant is an error, so that nobody waits for what never comes.
func TestWrongVariables(t *testing.T) {
	socket, _ := listen(t, "socket")
	for name, variables := range map[string][2]string{
		"relative":         {"socket", ""},
		"a machine":        {"vsock:2:1234", ""},
		"nobody is there":  {filepath.Join(t.TempDir(), "none"), ""},
		"no number":        {socket, "soon"},
		"never":            {socket, "0"},
		"back":             {socket, "-1"},
		"more than a day":  {socket, "9000000000000000000"},
		"more than fits":   {socket, "99999999999999999999"},
		"a number of more": {socket, "1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", variables[0])
			t.Setenv("WATCHDOG_USEC", variables[1])
			t.Setenv("WATCHDOG_PID", "")
			if m, err := FromEnvironment(); err == nil {
				t.Errorf("taken: %v", m)
			}
		})
	}
}

// Signs of life come for as long as there is life, and never for another process.
func TestWatchdog(t *testing.T) {
	name, socket := listen(t, "socket")
	m := manager(t, name, "20000", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	ended, asked := make(chan struct{}), 0
	go func() {
		defer close(ended)
		m.Watch(ctx, func(within context.Context) error {
			if _, bounded := within.Deadline(); !bounded {
				t.Error("nothing bounds the question")
			}
			asked++
			switch asked {
			case 1, 3:
				return errors.New("nobody answers")
			case 5:
				cancel()
			}
			return nil
		})
	}()
	<-ended
	for range 3 { // of the second, fourth and fifth
		if got := heard(t, socket); got != "WATCHDOG=1" {
			t.Errorf("it is told %q", got)
		}
	}
	m.Ready("the end")
	if got := heard(t, socket); !strings.HasPrefix(got, "READY=1") {
		t.Errorf("a sign of life too many: %q", got)
	}
	other := manager(t, name, "20000", strconv.Itoa(os.Getpid()+1))
	other.Watch(t.Context(), func(context.Context) error { t.Error("asked for another process"); return nil })
}

// A manager that does not read, or is gone, holds nobody up for long.
func TestManagerDoesNotListen(t *testing.T) {
	name, socket := listen(t, "socket")
	m := manager(t, name, "", "")
	for full := false; !full; {
		if err := m.socket.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := m.socket.Write([]byte("READY=1"))
		full = errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !full {
			t.Fatal(err)
		}
	}
	m.Ready("nobody reads this") // and it ends
	m.Stopping(strings.Repeat("x", 1<<20))
	socket.Close()
	m.Ready("alone")
}
