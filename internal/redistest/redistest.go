//go:build unix

// Package redistest gives tests servers of Redis, which they can kill, pause and start again.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testservice"
)

// A Server is a process of redis-server with a folder and a port of its own, which it keeps when it is started again.
type Server struct {
	Port int

	tb   testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Start starts a server with options of redis-server's command line, such as "--appendonly", "yes". It writes nothing to the
// disk unless they say so. The test is skipped where there is no Redis.
func Start(tb testing.TB, options ...string) *Server {
	tb.Helper()
	s := newServer(tb)
	s.args = append([]string{"--port", strconv.Itoa(s.Port), "--dir", s.dir, "--bind", "127.0.0.1", "--save", ""}, options...)
	s.Restart()
	return s
}

// StartSentinel starts a sentinel of several. Two that have missed the primary for half a second have a replica take its place.
func StartSentinel(tb testing.TB, name string, primary *Server) *Server {
	tb.Helper()
	s := newServer(tb)
	conf := filepath.Join(s.dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %s 127.0.0.1 %d 2\nsentinel down-after-milliseconds %[3]s 500\nsentinel failover-timeout %[3]s 2000\n",
		s.Port, s.dir, name, primary.Port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	s.args = []string{conf, "--sentinel"}
	s.Restart()
	return s
}

func newServer(tb testing.TB) *Server {
	tb.Helper()
	testservice.Program(tb, "redis-server")
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()
	addr, _ := listener.Addr().(*net.TCPAddr)
	s := &Server{Port: addr.Port, tb: tb, dir: tb.TempDir()}
	tb.Cleanup(s.Kill)
	return s
}

// Addr is host and port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// URL is that of database 0.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Restart starts the server, which must not run, and waits until it answers.
func (s *Server) Restart() {
	s.tb.Helper()
	s.cmd = exec.Command("redis-server", s.args...) //nolint:gosec,noctx // it is ended by Kill
	log := new(bytes.Buffer)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait() // it is killed
		close(done)
	}(s.cmd)
	Until(s.tb, "redis-server answers", func() bool {
		select {
		case <-done:
			s.tb.Fatalf("redis-server: %s", log)
		default:
		}
		answer, err := s.command("PING")
		return err == nil && answer == "PONG" || strings.HasPrefix(answer, "NOAUTH")
	})
}

// Kill ends the server at once, as kill -9 does.
func (s *Server) Kill() { s.signal(syscall.SIGKILL, true) }

// Stop ends the server as a service manager does, so that it writes to the disk what it should.
func (s *Server) Stop() { s.signal(syscall.SIGTERM, true) }

// Pause stops the process where it stands. Connections stay open.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP, false) }

// Resume ends a pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT, false) }

func (s *Server) signal(sig syscall.Signal, ends bool) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig) // an error says that it has ended
	if ends {
		<-s.done
	}
}

// Do gives a command, and returns the answer as redis-cli prints it.
func (s *Server) Do(command ...string) string {
	s.tb.Helper()
	answer, err := s.command(command...)
	if err != nil {
		s.tb.Fatalf("redis-cli %q: %v: %s", command, err, answer)
	}
	return answer
}

func (s *Server) command(command ...string) (string, error) {
	out, err := exec.Command("redis-cli", append([]string{"-e", "-p", strconv.Itoa(s.Port)}, command...)...).CombinedOutput() //nolint:gosec,noctx // commands of tests
	return strings.TrimSpace(string(out)), err
}

// Until waits until something is so, for at most half a minute.
func Until(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	timeout := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-timeout:
			tb.Fatalf("it takes too long until %s", what)
		}
	}
}

// StartCluster starts a cluster of three primaries.
func StartCluster(tb testing.TB) []*Server {
	tb.Helper()
	args := []string{"--cluster", "create"}
	var servers []*Server
	for range 3 {
		s := Start(tb, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		servers = append(servers, s)
		args = append(args, s.Addr())
	}
	if out, err := exec.Command("redis-cli", append(args, "--cluster-yes")...).CombinedOutput(); err != nil { //nolint:gosec,noctx // commands of tests
		tb.Fatalf("%v: %s", err, out)
	}
	for _, s := range servers {
		Until(tb, "the cluster is whole", func() bool { return strings.Contains(s.Do("CLUSTER", "INFO"), "cluster_state:ok") })
	}
	return servers
}

// Another starts one more server for the same test.
func (s *Server) Another(options ...string) *Server {
	s.tb.Helper()
	return Start(s.tb, options...)
}

// UntilReplica waits until the server has the data of its primary.
func (s *Server) UntilReplica() {
	s.tb.Helper()
	Until(s.tb, "the replica has its data", func() bool { return s.Says("master_link_status:up") })
}

// Says tells whether something stands in INFO about replication, such as "role:master". It does not while the server
// changes its role, at which it cuts off who asks.
func (s *Server) Says(what string) bool {
	answer, err := s.command("INFO", "replication")
	return err == nil && strings.Contains(answer, what)
}
