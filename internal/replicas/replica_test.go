//go:build linux

package replicas

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// A replica is a process of waybill serve, or several one after the other on the same data, each on new ports.
type replica struct {
	t       *testing.T
	environ []string

	public, internal atomic.Pointer[string] // addresses

	cmd   *exec.Cmd
	ended chan struct{}
	log   [40]string // the last lines but those on requests, once it has ended
	lines int
}

// start starts servers with data folders of their own, and with one folder of keys, which they find empty.
func start(t *testing.T, n int, environ ...string) []*replica {
	t.Helper()
	_, err := client()
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	replicas := make([]*replica, n)
	for i := range replicas {
		r := &replica{t: t, environ: append([]string{"WAYBILL_DATA=" + t.TempDir(), "WAYBILL_TOKENS_KEYS=" + keys}, environ...)}
		replicas[i] = r
		t.Cleanup(func() {
			r.kill()
			for j := range r.log {
				if line := r.log[(r.lines+j)%len(r.log)]; t.Failed() && line != "" {
					t.Logf("replica %d: %.400s", i, line)
				}
			}
		})
		r.start()
	}
	return replicas
}

// start starts a process, and waits until it listens.
func (r *replica) start() {
	r.t.Helper()
	file, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	r.cmd = exec.Command(file, "serve", "--config", filepath.Join(scratch, "waybill.yaml"))
	r.cmd.Env = append(os.Environ(), r.environ...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := r.cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.ended = make(chan struct{})
	serving := make(chan struct{})
	go r.follow(log, serving)
	select {
	case <-serving:
	case <-r.ended:
		r.t.Fatal("a server ends at its start")
	case <-time.After(longEnough):
		r.t.Fatal("a server does not serve")
	}
}

// follow reads the log and waits for the end.
func (r *replica) follow(log io.Reader, serving chan struct{}) {
	defer close(r.ended)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if bytes.Contains(lines.Bytes(), []byte(`"msg":"token request"`)) {
			continue
		}
		r.log[r.lines%len(r.log)] = lines.Text()
		r.lines++
		var said struct {
			Message  string `json:"msg"`
			Public   string `json:"public"`
			Internal string `json:"internal"`
		}
		if json.Unmarshal(lines.Bytes(), &said) == nil && said.Message == "serving" {
			r.public.Store(&said.Public)
			r.internal.Store(&said.Internal)
			close(serving)
		}
	}
	_ = r.cmd.Wait() // it is killed
}

// kill ends the process as a crash does.
func (r *replica) kill() {
	if r.cmd != nil && r.cmd.Process != nil {
		_ = r.cmd.Process.Kill() // it may be gone
		<-r.ended
	}
}

// signal reaches the process.
func (r *replica) signal(number os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(number); err != nil {
		r.t.Fatal(err)
	}
}

// operator is who asks the internal listeners.
var operator = &http.Client{Timeout: longEnough}

// admits says whether forward-auth takes a token, or the status with which it does not.
func (r *replica) admits(token string) (bool, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+*r.internal.Load()+"/auth", nil)
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	status, err := status(operator.Do(request))
	if err == nil && status != http.StatusOK && status != http.StatusUnauthorized {
		err = fmt.Errorf("/auth: status %d", status)
	}
	return status == http.StatusOK, err
}

// revoke withdraws a token.
func (r *replica) revoke(token string) {
	r.t.Helper()
	status, err := status(operator.PostForm("http://"+*r.internal.Load()+"/revoke", url.Values{"token": {token}}))
	if err != nil || status != http.StatusOK {
		r.t.Fatalf("/revoke: status %d, %v", status, err)
	}
}

func status(answer *http.Response, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}
