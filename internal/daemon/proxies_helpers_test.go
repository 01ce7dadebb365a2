package daemon_test

import (
	"bufio"
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testservice"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// guardDocs is where the configurations of other people's proxies are shown.
const guardDocs = "../../docs/guard"

// The addresses in those configurations.
const (
	shownWaybill = "127.0.0.1:9090"
	shownPublic  = "127.0.0.1:8080"
	shownAPI     = "127.0.0.1:3000"
)

// A front is a reverse proxy of somebody else.
type front struct {
	program string
	files   []string // of guardDocs, the configuration first
	listens string   // how the configuration says where it listens
	ours    string   // the part of listens that the port stands behind

	// besides is what a test needs beside the files, by name; may be nil.
	besides func(dir string) map[string]string
	check   func(dir string) []string // arguments that check the configuration
	run     func(dir string) []string // arguments that run it in the foreground
}

func fronts() []front {
	return []front{
		{
			program: "nginx", files: []string{"nginx.conf"}, listens: "127.0.0.1:8000", ours: "127.0.0.1:",
			besides: nginxMain,
			check:   func(dir string) []string { return []string{"-t", "-p", dir, "-c", filepath.Join(dir, "main.conf")} },
			run:     func(dir string) []string { return []string{"-p", dir, "-c", filepath.Join(dir, "main.conf")} },
		},
		{
			program: "caddy", files: []string{"Caddyfile"}, listens: "http://:8000", ours: "http://:",
			besides: caddyMain,
			check:   func(dir string) []string { return caddyArguments("validate", dir) },
			run:     func(dir string) []string { return caddyArguments("run", dir) },
		},
		{
			program: "haproxy", files: []string{"haproxy.cfg", "waybill.lua"}, listens: "127.0.0.1:8000", ours: "127.0.0.1:",
			check: func(dir string) []string { return []string{"-c", "-f", filepath.Join(dir, "haproxy.cfg")} },
			run:   func(dir string) []string { return []string{"-db", "-f", filepath.Join(dir, "haproxy.cfg")} },
		},
	}
}

// nginxMain stands for /etc/nginx/nginx.conf, which includes ours, and keeps nginx in its folder.
func nginxMain(dir string) map[string]string {
	main := "daemon off;\nmaster_process off;\nerror_log stderr;\npid nginx.pid;\nevents {}\nhttp {\naccess_log off;\n"
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		main += fmt.Sprintf("%s_temp_path %s;\n", what, filepath.Join(dir, what))
	}
	return map[string]string{"main.conf": main + "include nginx.conf;\n}\n"}
}

// caddyMain keeps Caddy from listening on the one address that it is administered by.
func caddyMain(string) map[string]string {
	return map[string]string{"main": "{\n\tadmin off\n}\nimport Caddyfile\n"}
}

func caddyArguments(command, dir string) []string {
	return []string{command, "--adapter", "caddyfile", "--config", filepath.Join(dir, "main")}
}

// find gives the path of the program, or skips the test.
func (f front) find(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath(f.program)
	if err != nil { // Debian's users do not look where it puts servers
		path, err = exec.LookPath("/usr/sbin/" + f.program)
	}
	testservice.Need(t, err)
	return path
}

// A change is made to a file of guardDocs before the proxy sees it. The text to be replaced must
// stand there.
type change struct{ file, old, text string }

// install writes the files into a folder, with addresses and changes put in their place.
func (f front) install(t *testing.T, changes ...change) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range f.files {
		shown, err := os.ReadFile(filepath.Join(guardDocs, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(shown)
		for _, c := range changes {
			if c.file != name {
				continue
			}
			if !strings.Contains(text, c.old) {
				t.Fatalf("%s does not hold %q", name, c.old)
			}
			text = strings.ReplaceAll(text, c.old, c.text)
		}
		write(t, filepath.Join(dir, name), []byte(text))
	}
	if f.besides != nil {
		for name, text := range f.besides(dir) {
			write(t, filepath.Join(dir, name), []byte(text))
		}
	}
	return dir
}

// command makes one that keeps to its folder.
func (f front) command(t *testing.T, dir string, arguments []string, output io.Writer) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), f.find(t), arguments...)
	c.Dir = dir
	c.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	c.Stdout, c.Stderr = output, output
	return c
}

// A gate is a front that runs, with a daemon to ask and an API behind it.
type gate struct {
	*front

	waybill *server
	api     *api
	addr    string
	output  *transcript
}

// open runs everything until the test ends. The address of the internal listener is where the
// proxy asks, unless another is given.
func (f front) open(t *testing.T, s *server, asked string, changes ...change) *gate {
	t.Helper()
	f.find(t)
	g := &gate{front: &f, waybill: s, api: newAPI(t), addr: freeAddress(t), output: &transcript{}}
	_, port, err := net.SplitHostPort(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	main := f.files[0]
	dir := f.install(t, append([]change{
		{main, shownWaybill, asked},
		{main, shownPublic, s.PublicAddr().String()},
		{main, shownAPI, g.api.addr},
		{main, f.listens, f.ours + port},
	}, changes...)...)
	g.launch(t, dir)
	return g
}

// launch starts the proxy, waits until it listens, and ends it with the test.
func (g *gate) launch(t *testing.T, dir string) {
	t.Helper()
	c := g.command(t, dir, g.run(dir), g.output)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = c.Wait() // it is killed
		close(ended)
	}()
	t.Cleanup(func() {
		<-ended // killed when the context of the test was done
		if t.Failed() {
			t.Logf("%s says:\n%s", g.program, g.output)
		}
	})
	g.waybill.eventually(t, g.program, func() bool {
		select {
		case <-ended:
			t.Fatalf("%s has ended:\n%s", g.program, g.output)
		default:
		}
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// freeAddress is one where nobody listens. It is not one that a system gives to whoever does not
// care, since somebody else would get it before the proxy does.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", 12_000+rand.IntN(20_000))
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no address is free")
	return ""
}

// An api is a program that knows nothing of iSHARE, and remembers what it was asked.
type api struct {
	addr string

	mu   sync.Mutex
	seen []received
}

// A received request.
type received struct {
	*http.Request

	body string
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	a.addr = s.Listener.Addr().String()
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.seen = append(a.seen, received{r.Clone(r.Context()), string(body)})
	a.mu.Unlock()
	if r.Header.Get("Upgrade") != "" {
		shakeHands(w, r.Header.Get("Sec-WebSocket-Key"))
		return
	}
	_, _ = io.WriteString(w, "served")
}

// shakeHands opens a WebSocket (RFC 6455 section 4.2.2), and sends back what comes.
func shakeHands(w http.ResponseWriter, key string) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	_ = rw.Flush()
	_, _ = io.Copy(conn, rw)
}

// take gives what was asked since the last time.
func (a *api) take() []received {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// A question is a request to a gate, as it goes over the wire.
type question struct {
	line   string // the first line; GET /things HTTP/1.1 when it is empty
	fields []string
	body   string // with its framing
}

func (q question) first() string { return cmp.Or(q.line, "GET /things HTTP/1.1") }

// An answer to it, its body read.
type answer struct {
	*http.Response

	body string
}

// A wire is a connection of a client to a gate.
type wire struct {
	net.Conn

	answers *bufio.Reader
}

// dial connects until the test ends.
func (g *gate) dial(t *testing.T) wire {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(longEnough)); err != nil {
		t.Fatal(err)
	}
	return wire{conn, bufio.NewReader(conn)}
}

// ask sends a question over a connection of its own.
func (g *gate) ask(t *testing.T, q question) answer {
	t.Helper()
	w := g.dial(t)
	defer w.Close()
	return w.ask(t, q)
}

func (w wire) ask(t *testing.T, q question) answer {
	t.Helper()
	w.send(t, q)
	return w.receive(t, q)
}

func (w wire) send(t *testing.T, q question) {
	t.Helper()
	head := append([]string{q.first()}, q.fields...)
	if strings.HasSuffix(q.first(), "HTTP/1.1") {
		head = slices.Insert(head, 1, "Host: api.example.com")
	}
	if _, err := io.WriteString(w, strings.Join(head, "\r\n")+"\r\n\r\n"+q.body); err != nil {
		t.Fatal(err)
	}
}

// receive reads the answer to a question.
func (w wire) receive(t *testing.T, q question) answer {
	t.Helper()
	method, _, _ := strings.Cut(q.first(), " ")
	response, err := http.ReadResponse(w.answers, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", q.first(), err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return answer{Response: response}
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", q.first(), err)
	}
	return answer{response, string(body)}
}

func bearing(token string) string { return "Authorization: Bearer " + token }

// A caller is who asks for tokens, by an alias.
type caller struct {
	party *isharetest.Party
	alias ishare.PartyID
}

func (c caller) token(t *testing.T, s *server, scope string) string {
	t.Helper()
	r := c.party.Request(providerID)
	r.As(c.alias)
	r.Form.Set("scope", scope)
	a := s.send(t, r)
	if err := a.Meets(nil); err != nil {
		t.Fatal(err)
	}
	return a.AccessToken
}

// identity is what an API must be told of a caller.
func (c caller) identity(scope string) http.Header {
	return http.Header{
		proxy.HeaderClientID:   {string(c.alias)},
		proxy.HeaderPartyID:    {string(c.party.ID())},
		proxy.HeaderScope:      {scope},
		proxy.HeaderThumbprint: {ishare.Thumbprint(c.party.Certificates[0].Raw)},
	}
}

// callers are the players' consumer, and two more that can be locked out.
func callers() []caller {
	all := []caller{{players().consumer, "EU.EORI.NL000000001"}}
	for _, number := range []ishare.PartyID{"2", "3"} {
		id := "EU.EORI.NL00000000" + number
		all = append(all, caller{
			players().ca.Party("did:ishare:EU.NL.NTRNL-1000000"+number, "Some Consumer", isharetest.AlsoKnownAs(id)), id,
		})
	}
	return all
}

// startFor runs a daemon that knows the callers.
func startFor(t *testing.T, all []caller, environ ...string) *server {
	t.Helper()
	dir := newHome(t)
	parties := everyone()
	for _, c := range all[1:] {
		parties = append(parties, c.party)
	}
	writeParties(t, dir, parties...)
	return start(t, daemon.Options{NoHistory: true}, parse(t, dir, environ...))
}

// claimed are the header fields that a program might take for ours: CGI and its like see
// every other character than a letter or a digit as an underscore.
func claimed(h http.Header) http.Header {
	found := http.Header{}
	for name, values := range h {
		if strings.HasPrefix(odd.ReplaceAllString(strings.ToLower(name), "_"), "x_ishare") {
			found[name] = values
		}
	}
	return found
}

var odd = regexp.MustCompile(`[^0-9a-z]`)
