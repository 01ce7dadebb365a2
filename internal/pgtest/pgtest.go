//go:build linux

// Package pgtest runs real PostgreSQL servers for tests: one, or a primary with standbys, which a test kills, freezes
// and promotes as it likes. Servers of one machine get a folder each and listen on a UNIX socket in it, so that no port
// can be taken.
package pgtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/waybill-token/waybill/internal/testservice"
)

// patience is for what a server does in well under a second; only a broken one takes as long.
const patience = 60 * time.Second

// A Server is a PostgreSQL server. Its methods end the test when what they are for does not come about.
type Server struct {
	tb       testing.TB          // which has started it
	programs string              // the folder that they are in
	user     *syscall.Credential // who runs them; nil: the same as the test
	dir      string              // with the data and the socket
	settings []string            // name=value, for the command line
	run      *process            // nil while it is down
}

// A process is one run of a server.
type process struct {
	command *exec.Cmd
	exited  chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// Start makes an empty server with the settings, each "name=value", and stops it when the test ends.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s := newServer(tb, settings)
	// What initdb makes is not forced to the disk, which only matters if the power fails during the test.
	s.tool("initdb", "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	s.Restart()
	return s
}

// superuser is a role that initdb makes.
const superuser = "postgres"

// Standby starts a standby of s, which s knows by the name in synchronous_standby_names. It has what s had by then.
func (s *Server) Standby(name string, settings ...string) *Server {
	s.tb.Helper()
	standby := newServer(s.tb, settings)
	standby.tool("pg_basebackup", "-d", fmt.Sprintf("host=%s user=%s application_name=%s", s.dir, superuser, name),
		"-D", standby.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	standby.Restart()
	return standby
}

func newServer(tb testing.TB, settings []string) *Server {
	tb.Helper()
	programs := installed()
	if programs == "" {
		testservice.Need(tb, errors.New("PostgreSQL is not there"))
	}
	// Not below the test's own folder: its name may be too long for a socket.
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, programs: programs, dir: dir, settings: settings}
	tb.Cleanup(s.remove)
	if os.Geteuid() == 0 {
		s.user = unprivileged(tb)
		if err := os.Chown(dir, int(s.user.Uid), int(s.user.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// remove ends the server, if it runs, and takes away what it used: a killed one leaves a segment of shared memory.
func (s *Server) remove() {
	s.tb.Helper()
	if s.run != nil {
		s.signal(syscall.SIGCONT)
		_ = s.run.command.Process.Signal(syscall.SIGQUIT)
		s.wait()
	}
	if text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid")); err == nil {
		if lines := strings.Split(string(text), "\n"); len(lines) > 7 { // the seventh: a key, and the segment's id
			if fields := strings.Fields(lines[6]); len(fields) == 2 {
				id, _ := strconv.Atoi(fields[1])
				_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
			}
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.tb.Error(err)
	}
}

// installed is the folder with the programs of the newest PostgreSQL. Debian's users do not look there.
func installed() string {
	if paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(paths) > 0 {
		return filepath.Dir(slices.MaxFunc(paths, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) // 9 before 15
		}))
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return ""
	}
	return filepath.Dir(path)
}

// unprivileged is the user that Debian's package makes: PostgreSQL does not run as root.
func unprivileged(tb testing.TB) *syscall.Credential {
	tb.Helper()
	who, err := user.Lookup("postgres")
	if err != nil {
		tb.Fatalf("PostgreSQL does not run as root: %v", err)
	}
	uid, errUID := strconv.ParseUint(who.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(who.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		tb.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// command makes one that outlives the test's context, as cleaning up needs it.
func (s *Server) command(program string, arguments ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.programs, program), arguments...) //nolint:noctx,gosec // see above
	c.Dir = s.dir
	c.Env = []string{"LC_ALL=C", "TZ=UTC", "HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.user, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return c
}

// tool runs a program to its end.
func (s *Server) tool(program string, arguments ...string) {
	s.tb.Helper()
	if out, err := s.command(program, arguments...).CombinedOutput(); err != nil {
		s.tb.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Restart starts the server that was stopped or killed, and waits until it answers. Settings replace those of the start
// that have their names.
func (s *Server) Restart(settings ...string) {
	s.tb.Helper()
	s.settings = append(s.settings, settings...)
	arguments := []string{"-D", s.data(), "-k", s.dir}
	for _, setting := range slices.Concat([]string{"listen_addresses=", "wal_retrieve_retry_interval=100ms"}, s.settings) {
		arguments = append(arguments, "-c", setting)
	}
	p := &process{command: s.command("postgres", arguments...), exited: make(chan struct{})}
	stderr, err := p.command.StderrPipe()
	if err != nil {
		s.tb.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		s.tb.Fatal(err)
	}
	ready := make(chan struct{})
	go p.follow(stderr, ready)
	select {
	case <-ready:
		s.run = p
	case <-p.exited:
		s.tb.Fatalf("PostgreSQL does not start:\n%s", p.logged())
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		s.tb.Fatalf("PostgreSQL is not ready:\n%s", p.logged())
	}
}

// follow keeps the log, says when the server is ready, and waits for its end.
func (p *process) follow(stderr io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if ready != nil && strings.Contains(lines.Text(), "database system is ready to accept") {
			close(ready)
			ready = nil
		}
	}
	_ = p.command.Wait() // what it says of a killed server is no news
	close(p.exited)
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Log is what the server has logged since it was started last.
func (s *Server) Log() string { return s.run.logged() }

// Stop ends the server as an administrator does: open transactions are rolled back, everything else is on the disk.
func (s *Server) Stop() {
	s.tb.Helper()
	if err := s.run.command.Process.Signal(syscall.SIGINT); err != nil {
		s.tb.Fatal(err)
	}
	s.wait()
}

// Kill ends all processes of the server at once (SIGKILL).
func (s *Server) Kill() {
	s.tb.Helper()
	s.signal(syscall.SIGKILL)
	s.wait()
}

// Pause freezes all processes of the server: connections stay, and new ones are taken by the kernel, but nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume goes on after Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// signal reaches the server and the processes that it has started. It is frozen first, so that it starts no others.
func (s *Server) signal(number syscall.Signal) {
	pid := s.run.command.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for child := range strings.FieldsSeq(string(children)) {
		if id, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(id, number) // it may have ended by itself
		}
	}
	_ = syscall.Kill(pid, number)
}

func (s *Server) wait() {
	s.tb.Helper()
	select {
	case <-s.run.exited:
		s.run = nil
	case <-time.After(patience):
		s.tb.Fatalf("PostgreSQL does not end:\n%s", s.run.logged())
	}
}

// Promote makes a standby a primary.
func (s *Server) Promote() {
	s.tb.Helper()
	if got := s.SQL("SELECT pg_promote(true, 60)::text"); got != "true" {
		s.tb.Fatalf("the standby is not promoted:\n%s", s.Log())
	}
}

// SQL runs statements as the superuser, and returns the first field of the first row of the last one, if there is one.
func (s *Server) SQL(statements string) string {
	s.tb.Helper()
	got, err := s.TrySQL(statements)
	if err != nil {
		s.tb.Fatalf("%s: %v", statements, err)
	}
	return got
}

// TrySQL is SQL for statements that may fail. They have a minute.
func (s *Server) TrySQL(statements string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return "", err
	}
	results, err := conn.PgConn().Exec(ctx, statements).ReadAll()
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return "", err
	}
	if last := results[len(results)-1].Rows; len(last) > 0 {
		return string(last[0][0]), nil
	}
	return "", nil
}

// URL names the server for its superuser; with more of them, whichever is the primary.
func (s *Server) URL(others ...*Server) string { return s.URLAs(superuser, others...) }

// URLAs is URL for another role.
func (s *Server) URLAs(role string, others ...*Server) string {
	hosts := []string{s.dir}
	for _, other := range others {
		hosts = append(hosts, other.dir)
	}
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/postgres", RawQuery: url.Values{"host": {strings.Join(hosts, ",")}}.Encode()}
	return u.String()
}

// Socket is the path of the server's UNIX socket, for a proxy that cuts it off.
func (s *Server) Socket() string { return filepath.Join(s.dir, ".s.PGSQL.5432") }
