package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// leeway is short, since the tests wait for it.
const leeway = time.Second

const configuration = `
party: {id: "did:ishare:EU.NL.NTRNL-10000000", key: provider-key.pem, certificates: provider.pem}
listen: {public: "127.0.0.1:0", internal: "127.0.0.1:0"}
participants: {file: parties.json}
trust: {anchors: [root.pem], revocation: off}
data: data
policy: {leeway: 1s}
`

// A server is a process of waybill serve.
type server struct {
	url    string
	log    *transcript
	cmd    *exec.Cmd
	ended  chan struct{}
	result error // of the process, when it has ended
}

// A transcript is the standard error of a process. Nobody reads it while it is held.
type transcript struct {
	logtest.Buffer

	held sync.Mutex
}

func (l *transcript) Write(b []byte) (int, error) {
	l.held.Lock()
	defer l.held.Unlock()
	return l.Buffer.Write(b)
}

// line is the last line of the log with a message, or nil.
func (l *transcript) line(message string) []byte {
	var found []byte
	for line := range bytes.Lines([]byte(l.String())) {
		if bytes.Contains(line, []byte(`"msg":"`+message)) && bytes.HasSuffix(line, []byte("\n")) {
			found = line
		}
	}
	return found
}

// newProvider makes a folder for servers of the provider.
func newProvider(t *testing.T) (string, *cast) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no signals on Windows")
	}
	dir, who := newHome(t)
	write(t, filepath.Join(dir, "waybill.yaml"), configuration)
	return dir, who
}

// serve starts a process on the configuration in the folder. It is killed when the
// test ends.
func serve(t *testing.T, dir string, environ ...string) *server {
	t.Helper()
	return startServer(t, exec.Command("waybill", "serve", "--config", filepath.Join(dir, "waybill.yaml")), environ)
}

// startServer starts a process that serves.
func startServer(t *testing.T, cmd *exec.Cmd, environ []string) *server {
	t.Helper()
	s := &server{cmd: cmd, log: &transcript{}, ended: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), environ...)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.result = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		s.cmd.Process.Kill() // it may be gone
		<-s.ended
	})
	s.await(t, "it serves", func() bool { return s.log.line("serving") != nil })
	var err error
	if s.url, _, err = addresses(s.log.line("serving")); err != nil {
		t.Fatal(err)
	}
	return s
}

// await asks again and again until it is so.
func (s *server) await(t *testing.T, what string, so func() bool) {
	t.Helper()
	gone := false
	ok := await(func() bool {
		select {
		case <-s.ended:
			gone = true
			return true
		default:
			return so()
		}
	})
	if !ok || gone && !so() {
		t.Fatalf("waited in vain until %s; the log:\n%s", what, s.log)
	}
}

// stop has the process end as an operator does.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.wait(t)
	if s.result != nil {
		t.Errorf("it ended with %v; the log:\n%s", s.result, s.log)
	}
}

// kill ends the process as a crash does.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.wait(t)
}

func (s *server) wait(t *testing.T) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(longEnough):
		t.Fatalf("it does not end; the log:\n%s", s.log)
	}
}

// send makes a token request.
func (s *server) send(t *testing.T, r *isharetest.Request) *isharetest.Answer {
	t.Helper()
	a, err := r.Send(s.url)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A clock makes requests of a client, whose clock may run ahead.
type clock struct {
	party *isharetest.Party
	ahead time.Duration
}

// request makes a right request, as the client's clock has it.
func (c clock) request() *isharetest.Request {
	r := c.party.Request(providerID)
	now := time.Now().Add(c.ahead).Unix()
	r.Assertion.Payload.Set("iat", now)
	r.Assertion.Payload.Set("exp", now+30)
	return r
}

// served asks with new assertions until one gets a token, as a client does: it comes
// back when it is told to. Whoever is not served must be told so, and nothing else.
func (c clock) served(t *testing.T, s *server) (*isharetest.Request, *isharetest.Answer) {
	t.Helper()
	for late := time.After(longEnough); ; {
		r := c.request()
		a := s.send(t, r)
		if a.Status == http.StatusOK {
			return r, a
		}
		if err := unsure(a); err != nil {
			t.Fatal(err)
		}
		pause := time.NewTimer(retryAfter(a))
		select {
		case <-pause.C:
		case <-late:
			t.Fatalf("never served; the log:\n%s", s.log)
		}
	}
}

func retryAfter(a *isharetest.Answer) time.Duration {
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// unsure returns nil when the answer is the one of a server that cannot vouch yet. To
// come back takes no longer than the leeway, but for what is lost by whole seconds.
func unsure(a *isharetest.Answer) error {
	if wait := retryAfter(a); wait < time.Second || wait > leeway+2*time.Second {
		return errors.New("Retry-After: " + a.Header.Get("Retry-After"))
	}
	return a.Meets(rule.UnavailableState)
}

// refused fails the test if the server gives a token for what was used before. On a machine that
// is busy, some of it may be over by now.
func (s *server) refused(t *testing.T, used ...*isharetest.Request) {
	t.Helper()
	for _, r := range used {
		a := s.send(t, r)
		exp, _ := r.Assertion.Payload.Get("exp").(int64)
		over := a.RuleID() == rule.ClaimExp.ID && time.Now().Unix() > exp
		if a.AccessToken != "" || a.RuleID() != rule.JTIReplayed.ID && !over && unsure(a) != nil {
			t.Errorf("an assertion that was used before: %+v", a)
		}
	}
}

// genuine checks a token with the keys in a folder, as a server that has them does.
func genuine(t *testing.T, keys, token string) error {
	t.Helper()
	ring, err := accesstoken.OpenKeys(keys, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := accesstoken.New(accesstoken.Config{Party: providerID, Format: accesstoken.Opaque, Lifetime: time.Hour, Keys: ring})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := issuer.Check(t.Context(), token)
	if err == nil && claims.Party != consumerID {
		t.Errorf("the token is %s's", claims.Party)
	}
	return err
}

// After a clean stop nothing is forgotten, and nobody waits.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	right, early := clock{party: who.consumer}, clock{party: who.consumer, ahead: leeway}
	s := serve(t, dir)
	used, a := right.served(t, s)
	usedEarly, _ := early.served(t, s)
	s.refused(t, used, usedEarly)
	s.stop(t)

	s = serve(t, dir)
	for _, c := range []clock{right, early} {
		if a := s.send(t, c.request()); a.Meets(nil) != nil {
			t.Errorf("a new assertion: %+v", a)
		}
	}
	for _, r := range []*isharetest.Request{used, usedEarly} {
		if err := s.send(t, r).Meets(rule.JTIReplayed); err != nil {
			t.Errorf("an assertion that was used before: %v", err)
		}
	}
	if err := genuine(t, filepath.Join(dir, "data", "keys"), a.AccessToken); err != nil {
		t.Errorf("a token of before: %v", err)
	}
	if line := s.log.line("assertions issued before"); line != nil {
		t.Errorf("it has doubts: %s", line)
	}
}

// After kill -9, again and again and with whatever it leaves behind, no assertion is
// accepted twice, also not of a client whose clock runs ahead by all that is allowed;
// and when the leeway is over, service is as always.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	clocks := []clock{{party: who.consumer}, {party: who.consumer, ahead: leeway}}
	s := serve(t, dir)
	used := slowlyUsed(t, s, clocks)
	for _, lost := range []string{"", "replay/replay.life"} { // the latter by a power cut
		used = append(used, killedInUse(t, s, clocks)...)
		leave(t, filepath.Join(dir, "data"), lost)
		before := clocks[0].request()
		s = serve(t, dir)
		if err := unsure(s.send(t, before)); err != nil {
			t.Errorf("an assertion of before the start, after a crash: %v", err)
		}
		if s.log.line("assertions issued before") == nil {
			t.Errorf("it does not tell of its doubts:\n%s", s.log)
		}
		s.refused(t, used...)
		fresh := slowlyUsed(t, s, clocks)
		used = append(used, fresh...)
		s.refused(t, used...)
		if a := s.send(t, clocks[0].request()); a.Meets(nil) != nil {
			t.Errorf("after the leeway: %+v", a)
		}
	}
	s.stop(t)
}

// slowlyUsed uses an assertion of each client as soon as it is served.
func slowlyUsed(t *testing.T, s *server, clocks []clock) []*isharetest.Request {
	t.Helper()
	var used []*isharetest.Request
	for _, c := range clocks {
		r, _ := c.served(t, s)
		used = append(used, r)
	}
	return used
}

// killedInUse kills the server while clients use assertions, and returns those. Of the
// last ones nobody knows whether they were accepted.
func killedInUse(t *testing.T, s *server, clocks []clock) []*isharetest.Request {
	t.Helper()
	const enough = 20
	var mu sync.Mutex
	var used []*isharetest.Request
	full := make(chan struct{})
	var clients sync.WaitGroup
	for _, c := range clocks {
		clients.Go(func() {
			for {
				r := c.request()
				mu.Lock()
				used = append(used, r)
				if len(used) == enough {
					close(full)
				}
				mu.Unlock()
				if _, err := r.Send(s.url); err != nil {
					return
				}
			}
		})
	}
	<-full
	s.kill(t)
	clients.Wait()
	return used
}

// leave puts into the data folder what a crash at a bad moment, or a full disk, may
// leave, and takes out what it may take.
func leave(t *testing.T, data, lost string) {
	t.Helper()
	if lost != "" {
		if err := os.Remove(filepath.Join(data, filepath.FromSlash(lost))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"replay/replay.hand-over", "replay/replay.hand-over.new", "replay/replay.life.new", "keys/.new-ABCDEFGH"} {
		write(t, filepath.Join(data, filepath.FromSlash(name)), "waybill re")
	}
}

// Two servers with data of their own and one folder of keys, which they both find
// empty, vouch for each other's tokens.
func TestSharedKeys(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	var tokens sync.Map
	t.Run("servers", func(t *testing.T) {
		for _, data := range []string{"one", "two"} {
			t.Run(data, func(t *testing.T) {
				t.Parallel()
				s := serve(t, dir, "WAYBILL_DATA="+data, "WAYBILL_TOKENS_KEYS=shared")
				_, a := clock{party: who.consumer}.served(t, s)
				tokens.Store(data, a.AccessToken)
				s.stop(t)
			})
		}
	})
	for data, token := range tokens.Range {
		if err := genuine(t, filepath.Join(dir, "shared"), fmt.Sprint(token)); err != nil {
			t.Errorf("a token of server %s: %v", data, err)
		}
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprint(data), "keys")); err == nil {
			t.Errorf("server %s has keys of its own", data)
		}
	}
}

// A stop lets the request under way finish, and what that uses up is not forgotten.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	s := serve(t, dir)
	client := clock{party: who.consumer}
	client.served(t, s)
	r := client.request()
	form := r.Body()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(longEnough)); err != nil {
		t.Fatal(err)
	}
	// The server says 100 when its handler begins to read the body.
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: provider.example\r\nContent-Type: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		r.Path, isharetest.MediaType, len(form))
	answers := bufio.NewReader(conn)
	status := func() int {
		t.Helper()
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if got := status(); got != http.StatusContinue {
		t.Fatalf("status %d", got)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.await(t, "nobody else gets in", func() bool {
		other, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			other.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(conn, form); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != http.StatusOK {
		t.Errorf("the request under way: status %d", got)
	}
	s.wait(t)
	if s.result != nil {
		t.Errorf("it ended with %v; the log:\n%s", s.result, s.log)
	}
	if err := serve(t, dir).send(t, r).Meets(rule.JTIReplayed); err != nil {
		t.Errorf("the assertion of the request under way, after a restart: %v", err)
	}
}

// SIGHUP exchanges the configuration. A bad one changes nothing, and the log says
// why.
func TestHangup(t *testing.T) {
	t.Parallel()
	dir, who := newProvider(t)
	file := filepath.Join(dir, "waybill.yaml")
	s := serve(t, dir)
	client := clock{party: who.consumer}
	client.served(t, s)
	asks := func(scope string) string {
		r := client.request()
		r.Form.Set("scope", scope)
		return s.send(t, r).RuleID()
	}
	if id := asks("iSHARE orders"); id != rule.RequestScope.ID {
		t.Errorf("before: %q", id)
	}
	hangup := func(content, message string) string {
		t.Helper()
		write(t, file, content)
		before := strings.Count(s.log.String(), message)
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.await(t, message, func() bool { return strings.Count(s.log.String(), message) > before && s.log.line(message) != nil })
		return string(s.log.line(message))
	}
	const failed = "reload failed; the old configuration stays in use"
	hangup(configuration+"scopes: {orders: read orders}\n", "reloaded")
	s.await(t, "the new configuration is in use", func() bool { return asks("iSHARE orders") == "" })

	for content, want := range map[string][]string{
		"party: [\n":                     {"waybill.yaml:2:1"},
		configuration + "colour: blue\n": {"waybill.yaml:8:1", "colour", "unknown key"},
		strings.Replace(configuration, "parties.json", "nowhere.json", 1):                                                               {"participants.file", "nowhere.json"},
		strings.Replace(configuration, "leeway: 1s", "leeway: 3s", 1):                                                                   {"a restart is needed to change policy.leeway"},
		strings.NewReplacer("data: data", "data: elsewhere", `internal: "127.0.0.1:0`, `internal: "127.0.0.1:1`).Replace(configuration): {"restart", "data", "listen.internal"},
	} {
		line := hangup(content, failed)
		for _, part := range want {
			if !strings.Contains(line, part) {
				t.Errorf("%q is not in %s", part, line)
			}
		}
		if id := asks("iSHARE orders"); id != "" {
			t.Errorf("after a bad file: %q", id)
		}
		if _, metrics := get(t, s.internalURL(t)+"/metrics"); !strings.Contains(metrics, "\nwaybill_last_reload_successful 0\n") {
			t.Errorf("%q: no metric says that the reload failed", content)
		}
		hangup(configuration+"scopes: {orders: read orders}\n", "reloaded")
	}
	hangup(configuration, "reloaded")
	s.await(t, "the first configuration is in use", func() bool { return asks("iSHARE orders") == rule.RequestScope.ID })
	s.stop(t)
}

// SIGHUP is for reloading from the first moment on: it ends nothing.
func TestEarlyHangup(t *testing.T) {
	t.Parallel()
	dir, _ := newProvider(t)
	s := serve(t, dir)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.await(t, "it has reloaded", func() bool { return s.log.line("reloaded") != nil })
	s.stop(t)
}
