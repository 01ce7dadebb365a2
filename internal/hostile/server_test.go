package hostile

import (
	"bufio"
	"context"
	"crypto/rsa"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

type rsaKey = *rsa.PrivateKey

// longEnough is the time that anything here may take on a machine that is busy.
const longEnough = 30 * time.Second

// A serverConfig says how to start a server.
type serverConfig struct {
	registry    string        // URL
	cache       time.Duration // of records; 0: five minutes
	listen      string        // more of the key listen, such as ", http2: true"
	more        string        // further lines of the configuration
	descriptors int           // limit; 0: as many as there may be
	text        string        // the whole configuration but the addresses, instead of the one of the data space
	tls         bool
}

// A server is a process of waybill serve, or several one after the other on the same folder and addresses.
type server struct {
	config serverConfig
	dir    string
	public string // address
	inner  string // address of the internal listener
	log    string // file

	cmd   *exec.Cmd
	ended chan error
	base  string // URL
}

// newServer writes the configuration, starts a process and waits until it gives tokens.
func newServer(t *testing.T, w world, c serverConfig) *server {
	t.Helper()
	s := &server{config: c, dir: t.TempDir(), public: freePort(), inner: freePort()}
	s.log = filepath.Join(s.dir, "log")
	s.base = "http://" + s.public
	if c.tls {
		s.base = "https://" + s.public
		writeTLS(t, s.dir)
		c.listen += ", tls: {certificate: tls.pem, key: tls-key.pem}"
	}
	text := configuration(w, c, s.public, s.inner) + c.more
	if c.text != "" {
		text = fmt.Sprintf("listen: {public: %q, internal: %q%s}\n", s.public, s.inner, c.listen) + c.text
	}
	if err := os.WriteFile(filepath.Join(s.dir, "waybill.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t, "--first-start")
	t.Cleanup(func() {
		s.cmd.Process.Kill() // it may be gone
		<-s.ended
		if t.Failed() {
			t.Logf("the log ends with:\n%s", tail(s.log, 40))
		}
	})
	return s
}

// start starts a process on what there is.
func (s *server) start(t *testing.T, flags ...string) {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	log := must(os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600))
	defer log.Close()
	from := must(log.Seek(0, 2))
	command := append([]string{file, "serve", "--config", filepath.Join(s.dir, "waybill.yaml")}, flags...)
	if s.config.descriptors > 0 { // the soft and the hard limit
		command = append([]string{"sh", "-c", "ulimit -n " + strconv.Itoa(s.config.descriptors) + ` && exec "$@"`, "sh"}, command...)
	}
	command = onCores(own(), command)
	s.cmd = exec.Command(command[0], command[1:]...)
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, cmd := make(chan error, 1), s.cmd
	s.ended = ended
	go func() {
		ended <- cmd.Wait()
		close(ended)
	}()
	await(t, "the server serves", func() bool {
		text := must(os.ReadFile(s.log))
		select {
		case err := <-ended:
			t.Fatalf("it ends: %v\n%s", err, text[from:])
		default:
		}
		return strings.Contains(string(text[from:]), `"msg":"serving"`)
	})
}

// stop has the process end as an operator does.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.finish(syscall.SIGTERM); err != nil {
		t.Errorf("the server ends with %v\n%s", err, tail(s.log, 20))
	}
}

// kill ends the process as a crash does.
func (s *server) kill() { s.finish(syscall.SIGKILL) }

func (s *server) finish(signal syscall.Signal) error {
	s.cmd.Process.Signal(signal)
	select {
	case err := <-s.ended:
		return err
	case <-time.After(longEnough):
		s.cmd.Process.Kill()
		<-s.ended
		return fmt.Errorf("it did not end within %s", longEnough)
	}
}

// hangup has the process read its configuration again.
func (s *server) hangup() { s.cmd.Process.Signal(syscall.SIGHUP) }

// living says whether the internal listener answers within two seconds.
func (s *server) living() error {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	r := must(http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.inner+"/livez", nil))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := client.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("/livez: %s", a.Status)
	}
	return nil
}

// figures are what a process holds.
type figures struct {
	memory, most int // KiB: resident, and the most since it was asked for last
	descriptors  int
	threads      int
	log          int64 // bytes
}

// measure reads what the kernel knows of the process.
func (s *server) measure(t *testing.T) figures {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	var f figures
	file, err := os.Open(proc + "status")
	if err != nil {
		t.Skipf("there is no %sstatus to read", proc)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch name {
		case "VmRSS":
			f.memory = n
		case "VmHWM":
			f.most = n
		case "Threads":
			f.threads = n
		}
	}
	f.descriptors = len(must(os.ReadDir(proc + "fd")))
	if info, err := os.Stat(s.log); err == nil {
		f.log = info.Size()
	}
	os.WriteFile(proc+"clear_refs", []byte("5"), 0) // VmHWM begins anew, see proc(5)
	return f
}

// goroutines ends the process with the signal at which Go tells them all, and counts them.
func (s *server) goroutines() int {
	before := len(must(os.ReadFile(s.log)))
	s.finish(syscall.SIGQUIT)
	return strings.Count(string(must(os.ReadFile(s.log))[before:]), "\ngoroutine ")
}

// await asks again and again until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for late := time.After(longEnough); !so(); {
		select {
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of a log without the requests that got a token, and without the goroutines that SIGQUIT tells.
func tail(file string, lines int) string {
	text, _ := os.ReadFile(file)
	said, _, _ := strings.Cut(string(text), "SIGQUIT: ")
	all := slices.DeleteFunc(strings.SplitAfter(said, "\n"), func(line string) bool { return strings.Contains(line, `"outcome":"issued"`) })
	for i, line := range all {
		all[i] = line[:min(len(line), 400)]
	}
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}

// dial connects, and gives up as a stranger does who gets no answer.
func dial(address string) (net.Conn, error) { return net.DialTimeout("tcp", address, 5*time.Second) }

// ready waits until the good client gets a token.
func (s *server) ready(t *testing.T, p part) {
	t.Helper()
	party, pool := p.World.Consumer.party(), connections(p.Roots)[1]
	var last string
	for late := time.After(longEnough); last != served; {
		last = told(exchange(pool, party.Request(p.World.Audience).HTTP(s.base)))
		select {
		case <-late:
			t.Fatalf("no token, but %s", last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
