package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/shipped"
	"github.com/waybill-token/waybill/internal/testservice"
)

// A block is a fenced block of a page.
type block struct {
	page     string // from the root of the tree
	language string
	text     string
}

func (b block) String() string { return b.page + ": " + b.text }

// is says whether a block is meant by a folder, the name of its page, or that and the beginning of its text.
func (b block) is(name string) bool {
	switch {
	case strings.HasSuffix(name, "/"):
		return strings.HasPrefix(b.page, name)
	case strings.Contains(name, ": "):
		return strings.HasPrefix(b.String(), name)
	}
	return b.page == name
}

var fence = regexp.MustCompile("(?ms)^( *)```([a-z]*)\n(.*?)\n *```$")

// blocks are those of the README, of the page on installing and of all pages in docs.
func blocks(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, path := range files(t, ".md") {
		page, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		if page = filepath.ToSlash(page); page != "README.md" && page != "deploy/README.md" && !strings.HasPrefix(page, "docs/") {
			continue
		}
		text := read(t, path)
		for _, match := range fence.FindAllStringSubmatch(text, -1) {
			all = append(all, block{page, match[2], strings.ReplaceAll("\n"+match[3], "\n"+match[1], "\n")[1:]})
		}
		if n := len(regexp.MustCompile("(?m)^ *```").FindAllString(text, -1)); n != 2*len(fence.FindAllString(text, -1)) {
			t.Errorf("%s: %d fences, which are no blocks", page, n)
		}
	}
	return all
}

// isShell tells what is meant to be pasted into a shell.
func (b block) isShell() bool { return b.language == "sh" || b.language == "console" }

// Blocks can be pasted: no prompt stands before a command, and nothing that it prints behind it.
func TestBlocksCanBePasted(t *testing.T) {
	prompt := regexp.MustCompile(`(?m)^[$%>#] `)
	for _, b := range blocks(t) {
		if strings.HasPrefix(b.page, "docs/guard/") { // see elsewhere
			continue
		}
		if b.language == "console" || b.language == "sh" && !strings.HasPrefix(b.text, "#") && prompt.MatchString(b.text) {
			t.Errorf("%s: cannot be pasted", b)
		}
	}
}

// elsewhere says who runs blocks that [TestSnippets] does not: for a page, or a block of it, the file that does, and the words
// in that file by which it finds them.
func elsewhere() map[string][2]string {
	const e2e, clients, pack = ".ci/e2e", ".ci/clients", ".ci/package"
	return map[string][2]string{
		"README.md: ./waybill token --profile":        {e2e, "readme './waybill token'"},
		"README.md: ./waybill assertion --profile":    {e2e, "readme './waybill assertion'"},
		"README.md: ./waybill explain --audience":     {e2e, "readme './waybill explain --audience'"},
		"docs/quickstart-provider.md":                 {e2e, "block provider 3"},
		"docs/quickstart-consumer.md":                 {e2e, "block consumer 2"},
		"docs/clients/README.md: # The consumer of":   {clients, "same_as_shown"},
		"docs/clients/curl.md":                        {clients, "page_works"},
		"docs/clients/node.md":                        {clients, "page_works"},
		"docs/clients/python.md":                      {clients, "page_works"},
		"docs/clients/java.md":                        {clients, "page_works"},
		"docs/guard/":                                 {"internal/daemon/proxies_helpers_test.go", "../../docs/guard"},
		"deploy/README.md: sudo dpkg -i":              {pack, "page 1 first.deb"},
		"deploy/README.md: cd /etc/waybill":           {pack, "page 2"},
		"deploy/README.md: sudo systemctl enable":     {pack, "page 3"},
		"deploy/README.md: sudo sh -c":                {pack, "page 5"},
		"deploy/README.md: sudo systemd-run":          {pack, "page 6"},
		"deploy/README.md: go install github.com/go":  {pack, "deploy/build"},
		"docs/hsm.md: mkdir -m 700 softhsm softhsm/t": {"cmd/waybill/hsm_test.go", "docs/hsm.md"},
		"docs/configuration.md: waybill audit verify": {"cmd/waybill/audit_test.go", `"waybill", "audit", "verify"`},
	}
}

// notRun says why nobody runs a block.
func notRun() map[string]string {
	return map[string]string{
		"README.md: git clone":                                     "it takes the tree from the network; .ci/e2e runs the second line",
		"README.md: go test ./...":                                 "it is what runs this test",
		"README.md: go build -o waybill":                           "package shipped builds the program in the same way",
		"README.md: go install github.com":                         "it takes the release from the network",
		"deploy/README.md: docker":                                 "there is no engine on the machines of CI; .ci/package builds the image with buildah, and runs it",
		"deploy/README.md: kubectl create":                         "it takes a cluster; package deploy_test holds what it names against the manifests",
		"deploy/README.md: go install github.com/waybill":          "it takes the release from the network",
		"docs/clients/README.md: go build -o waybill":              "both lines are in the README as well",
		"docs/clients/csharp.md: . docs/clients":                   "no package of Debian has .NET; the page says that nobody runs it",
		"docs/hsm.md: CGO_ENABLED=1 go build":                      ".ci/run compiles the same with the race detector, for its tests",
		"docs/scaling.md: # on db1, as postgres":                   "it takes two machines; package pgtest makes its servers in the same way",
		"docs/keys.md: waybill keys add --keys keys.json\nkubectl": "it takes a cluster",
		"docs/operating.md: cat > /etc/letsencrypt/renewal-hooks":  "it takes certbot, which does the same with any program",
		"docs/operating.md: GOFIPS140=v1.0.0 go build":             "it compiles everything once more; .ci/run runs the tests in this mode",
	}
}

// TestSnippets does what the pages say, as a reader who pastes one block after the other: beside a sandbox, with a server of
// its own from the README's configuration. Only addresses are others, since ports may be taken.
func TestSnippets(t *testing.T) {
	testservice.Program(t, "sh")
	r := newReader(t)
	r.sandbox(t)
	r.tokens(t)
	r.stuck(t)
	r.keys(t)
	r.probe(t)
	r.bench(t)
	r.complete(t)
}

// A reader has a folder of its own with the program, and pastes into a shell.
type reader struct {
	all    []block
	pasted map[block]bool
	dir    string
	env    []string
	told   []string // what stands on a page, and what it is here, in turns
}

func newReader(t *testing.T) *reader {
	t.Helper()
	dir := t.TempDir()
	program, err := shipped.Program(dir)
	if err != nil {
		t.Fatal(err)
	}
	if here := filepath.Join(dir, "waybill"); program != here {
		if err := os.Symlink(program, here); err != nil {
			t.Fatal(err)
		}
	}
	r := &reader{all: blocks(t), pasted: map[block]bool{}, dir: dir}
	r.env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, "settings"), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	return r
}

// write makes a file that a page takes for granted.
func (r *reader) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}

// copied makes a file out of one that is there.
func (r *reader) copied(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(r.dir, from))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, to), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// means says what a text of the pages is here.
func (r *reader) means(there, here string) { r.told = append(r.told, there, here) }

// block finds one by its page and the beginning of its first line.
func (r *reader) block(t *testing.T, page, begins string) block {
	t.Helper()
	for _, b := range r.all {
		if b.page == page && b.isShell() && strings.HasPrefix(b.text, begins) {
			r.pasted[b] = true
			return b
		}
	}
	t.Fatalf("%s has no block that begins with %q", page, begins)
	return block{}
}

// here is the text of a block with what is another here. Pairs are texts of this block alone.
func (r *reader) here(text string, pairs ...string) string {
	return strings.NewReplacer(slices.Concat(pairs, r.told)...).Replace(text)
}

// paste runs a block, which must end with the status, and returns what it writes to standard output.
func (r *reader) paste(t *testing.T, status int, b block, pairs ...string) string {
	t.Helper()
	return r.run(t, status, r.here(b.text, pairs...))
}

// run runs a script.
func (r *reader) run(t *testing.T, status int, script string) string {
	t.Helper()
	var out, said bytes.Buffer
	shell := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
	shell.Dir, shell.Env, shell.Stdout, shell.Stderr = r.dir, r.env, &out, &said
	err := shell.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ok && exit.ExitCode() != status || err == nil && status != 0 {
		t.Fatalf("%v, want exit status %d\n%s\n%s%s", err, status, script, &out, &said)
	}
	return out.String()
}

// A running block is a server.
type running struct {
	cmd      *exec.Cmd
	out, log string // its files
}

// start runs a block whose last line is a server, until the test ends or it is stopped.
func (r *reader) start(t *testing.T, b block, pairs ...string) *running {
	t.Helper()
	script := r.here(b.text, pairs...)
	last := strings.LastIndexByte(script, '\n') + 1
	dir := t.TempDir()
	s := &running{out: filepath.Join(dir, "out"), log: filepath.Join(dir, "log")}
	out, err := os.Create(s.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-eu", "-c", script[:last]+"exec "+script[last:])
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = r.dir, r.env, out, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t) })
	return s
}

// stop is Ctrl-C.
func (s *running) stop(t *testing.T) {
	t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	s.cmd.Process.Signal(os.Interrupt)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", s.cmd, err)
	}
}

// says waits until a file matches, and returns the submatches.
func says(t *testing.T, file, expression string) []string {
	t.Helper()
	pattern := regexp.MustCompile(expression)
	var found []string
	var content []byte
	await(t, file, func() bool {
		content, _ = os.ReadFile(file)
		found = pattern.FindStringSubmatch(string(content))
		return found != nil
	}, &content)
	return found
}

// await asks again and again, for a minute.
func await(t *testing.T, what string, so func() bool, seen *[]byte) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); !so(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s:\n%s", what, *seen)
		}
	}
}

// sandbox starts the one of the README; other pages say the same.
func (r *reader) sandbox(t *testing.T) {
	t.Helper()
	b := r.block(t, "README.md", "./waybill sandbox")
	for _, page := range []string{"docs/console.md", "docs/probe.md"} {
		if other := r.block(t, page, "waybill sandbox"); "./"+other.text != b.text {
			t.Errorf("%s starts another sandbox than the README: %s", page, other.text)
		}
	}
	s := r.start(t, block{text: b.text + " --listen 127.0.0.1:0"})
	found := says(t, s.out, `ready: provider \S+ at (http[^ ,]+), registry (\S+) at (http\S+[0-9])`)
	r.means("http://127.0.0.1:8080", found[1])
	r.means("did:ishare:EU.NL.NTRNL-00000000", found[2])
	r.means("https://registry.example", found[3])
}

// serving reads where a server of the reader is.
func serving(t *testing.T, s *running) (public, internal string) {
	t.Helper()
	found := says(t, s.log, `"msg":"serving","public":"([^"]*)".*?"internal":"([^"]*)"`)
	return "http://" + found[1], "http://" + found[2]
}

// token waits for an access token of a server, and keeps it in token.txt.
func (r *reader) token(t *testing.T, server string) {
	t.Helper()
	var token, said []byte
	await(t, "no token", func() bool {
		var words bytes.Buffer
		ask := exec.CommandContext(t.Context(), "./waybill", "token", "--profile", "waybill-sandbox/consumer.yaml", "--server", server, "--audience", "did:ishare:EU.NL.NTRNL-10000000")
		ask.Dir, ask.Env, ask.Stderr = r.dir, r.env, &words
		var err error
		token, err = ask.Output()
		said = words.Bytes()
		return err == nil
	}, &said)
	r.write(t, "token.txt", strings.TrimSpace(string(token)))
}

// tokens asks for some, uses, explains and revokes them: the README, and docs/guarding.md.
func (r *reader) tokens(t *testing.T) {
	t.Helper()
	const guarding, askedPlainly = "docs/guarding.md", "curl --data-urlencode token@token.txt http://127.0.0.1:9090/introspect"
	for from, to := range map[string]string{"provider/key.pem": "party-key.pem", "provider/chain.pem": "party-chain.pem", "ca/root.pem": "root.pem"} {
		r.copied(t, "waybill-sandbox/"+from, to)
	}
	i := slices.IndexFunc(r.all, func(b block) bool { return b.page == "README.md" && b.language == "yaml" })
	r.write(t, "waybill.yaml", r.here(r.all[i].text))
	// Other servers may be on this machine, which is where the sandbox's status services are, too; and a start that nobody
	// has to wait for needs clocks that agree.
	plain := r.env
	defer func() { r.env = plain }()
	r.env = append(slices.Clip(plain), "WAYBILL_LISTEN_PUBLIC=127.0.0.1:0", "WAYBILL_LISTEN_INTERNAL=127.0.0.1:0",
		"WAYBILL_TRUST_REVOCATION_ALLOW_PRIVATE=true", "WAYBILL_POLICY_LEEWAY=0s")
	s := r.start(t, r.block(t, "README.md", "./waybill check --config waybill.yaml"))
	public, internal := serving(t, s)
	r.token(t, public)
	if said := r.paste(t, 0, r.block(t, "docs/troubleshooting.md", "waybill explain --token")); !strings.HasPrefix(said, "accepted") {
		t.Errorf("a token is explained as %s", said)
	}
	at := []string{"http://127.0.0.1:9090", internal, "curl ", "curl -sS --fail-with-body "}
	if said := r.paste(t, 0, r.block(t, guarding, askedPlainly), at...); !strings.Contains(said, `"active":true`) {
		t.Errorf("introspection says %s", said)
	}
	r.paste(t, 0, r.block(t, guarding, "curl --data-urlencode token@token.txt http://127.0.0.1:9090/revoke"), at...)
	if said := r.paste(t, 0, r.block(t, guarding, askedPlainly), at...); strings.TrimSpace(said) != `{"active":false}` {
		t.Errorf("introspection of a revoked token says %s", said)
	}
	r.refused(t, public, s.log)
	r.renewed(t, internal, s.log)
	s.stop(t)

	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, asked *http.Request) {
		fmt.Fprintf(w, "orders of %s", asked.Header.Get("X-Ishare-Party-Id"))
	}))
	t.Cleanup(program.Close)
	protect := r.block(t, "README.md", "./waybill serve --config waybill.yaml --protect")
	if other := r.block(t, guarding, "./waybill serve --config waybill.yaml --protect"); other.text != protect.text {
		t.Errorf("%s: another command than in the README", other)
	}
	r.write(t, "secret.txt", strings.Repeat("secret-", 4))
	r.env = append(r.env, "WAYBILL_LISTEN_INTERNAL_CALLERS={apisix: secret.txt}")
	s = r.start(t, protect, "http://127.0.0.1:3000", program.URL)
	public, internal = serving(t, s)
	var said []byte // a token of the second in which all of its party were revoked is revoked too
	await(t, "the program says", func() bool {
		r.token(t, public)
		said = []byte(r.run(t, 0, `curl -sS -H "Authorization: Bearer $(cat token.txt)" `+public+"/orders"))
		return string(said) == "orders of did:ishare:EU.NL.NTRNL-10000001"
	}, &said)
	at[1] = internal
	if said := r.paste(t, 0, r.block(t, guarding, "printf 'user = "), at...); strings.Count(said, `"active":true`) != 3 {
		t.Errorf("introspection in three ways says %s", said)
	}
	s.stop(t)
}

// renewed exchanges the seal of a server that runs: docs/operating.md.
func (r *reader) renewed(t *testing.T, internal, log string) {
	t.Helper()
	const page = "docs/operating.md"
	r.copied(t, "party-key.pem", "party-key.new.pem")
	r.copied(t, "party-chain.pem", "party-chain.new.pem")
	r.paste(t, 0, r.block(t, page, "WAYBILL_PARTY_KEY=party-key.new.pem"))
	r.paste(t, 0, r.block(t, page, "mv party-key.new.pem"))
	says(t, log, `"msg":"reloaded","changed":\["party.(key|certificates)`)
	var said []byte
	await(t, "/readyz says", func() bool {
		said = []byte(r.paste(t, 0, r.block(t, page, "curl -sS http://127.0.0.1:9090/readyz"), "http://127.0.0.1:9090", internal))
		return !strings.Contains(string(said), `"problems"`)
	}, &said)
}

// refused has the server's log hold a request that it refuses, and explains it: docs/troubleshooting.md.
func (r *reader) refused(t *testing.T, server, log string) {
	t.Helper()
	answer, err := http.PostForm(server+"/connect/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	id := answer.Header.Get("X-Request-Id")
	says(t, log, regexp.QuoteMeta(id))
	r.write(t, "journalctl", "#!/bin/sh\nexec cat '"+log+"'\n") // in place of the one of systemd
	said := r.paste(t, 1, r.block(t, "docs/troubleshooting.md", "journalctl -u waybill |"), "TJ2Q5ZHMNU3TZJ6WNVGSXU6CQZ", id)
	if !strings.Contains(said, "request.missing-parameter") {
		t.Errorf("the refused request is explained as %s", said)
	}
}

// stuck has an assertion explained: docs/troubleshooting.md.
func (r *reader) stuck(t *testing.T) {
	t.Helper()
	made := r.run(t, 0, "waybill assertion --profile waybill-sandbox/consumer.yaml")
	r.write(t, "assertion.jwt", strings.TrimSpace(made))
	r.write(t, "pbpaste", "#!/bin/sh\nexec cat assertion.jwt\n") // in place of the one of macOS
	said := r.paste(t, 0, r.block(t, "docs/troubleshooting.md", "waybill explain assertion.jwt"))
	if n := strings.Count(said, "claim.aud"); n < 2 {
		t.Errorf("the assertion is explained %d times: %s", n, said)
	}
	if page, err := os.ReadFile(filepath.Join(r.dir, "report.html")); err != nil || !bytes.Contains(page, []byte("claim.aud")) {
		t.Errorf("report.html: %v, %s", err, page)
	}
}

// keys replaces those of access tokens: docs/keys.md.
func (r *reader) keys(t *testing.T) {
	t.Helper()
	const page = "docs/keys.md"
	listed := r.paste(t, 0, r.block(t, page, "waybill keys add --keys keys.json\nwaybill keys list"))
	ids := regexp.MustCompile(`(?m)^(\w+) +(?:enc|sig) .*makes tokens$`).FindAllStringSubmatch(listed, -1)
	if len(ids) < 2 {
		t.Fatalf("keys list says %s", listed)
	}
	r.paste(t, 0, r.block(t, page, "waybill keys add --keys keys.json\nwaybill keys retire"), "STOLEN-ID", ids[0][1])
	jq := r.block(t, page, "jq ")
	if _, err := exec.LookPath("jq"); err != nil {
		if testservice.Required() {
			t.Error(err)
		}
		return
	}
	if said := r.paste(t, 0, jq); !strings.Contains(said, "makes tokens") {
		t.Errorf("the keys of a folder as a set: %s", said)
	}
}

// probe tests the sandbox, and makes a wrong assertion: docs/probe.md.
func (r *reader) probe(t *testing.T) {
	t.Helper()
	const page = "docs/probe.md"
	r.copied(t, "waybill-sandbox/consumer/key.pem", "key.pem")
	r.copied(t, "waybill-sandbox/consumer/chain.pem", "chain.pem")
	// One server for all, and no pauses: it is ours.
	quick := []string{"https://provider.example", "http://127.0.0.1:8080", "--report", "--pause 0s --only official --report"}
	b := r.block(t, page, "waybill probe --server https://provider.example")
	b.text = strings.NewReplacer(quick...).Replace(b.text)
	if said := r.paste(t, 0, b); !strings.Contains(said, " passed, 0 failed") {
		t.Errorf("probe says %s", said)
	}
	if said := r.paste(t, 0, r.block(t, page, "cat waybill-sandbox/suspended-consumer/key.pem")); !strings.Contains(said, " passed, 0 failed") {
		t.Errorf("probe with everything says %s", said)
	}
	if said := r.paste(t, 0, r.block(t, page, "waybill probe --list")); !strings.Contains(said, "claim.aud/") {
		t.Errorf("the cases are %s", said)
	}
	if said := r.paste(t, 0, r.block(t, page, "waybill assertion ")); strings.Count(said, ".") != 2 {
		t.Errorf("an assertion that breaks a rule: %s", said)
	}
}

// bench measures with fewer requests than a measurement takes: the README, and docs/performance.md.
func (r *reader) bench(t *testing.T) {
	t.Helper()
	b := r.block(t, "README.md", "./waybill bench --spawn --floor")
	if other := r.block(t, "docs/performance.md", "waybill bench --spawn --floor"); "./"+other.text != b.text {
		t.Errorf("%s: another command than in the README", other)
	}
	if said := r.run(t, 0, b.text+" --requests 100 --rounds 1"); !strings.Contains(said, "waybill serve beside floor") {
		t.Errorf("bench says %s", said)
	}
}

// complete fails unless every block for a shell is run by somebody, or told why not, and the lists hold nothing else.
func (r *reader) complete(t *testing.T) {
	t.Helper()
	for name, by := range elsewhere() {
		if !strings.Contains(read(t, filepath.Join(root, by[0])), by[1]) {
			t.Errorf("%s: %s does not say %q", name, by[0], by[1])
		}
	}
	names := slices.Concat(slices.Collect(maps.Keys(elsewhere())), slices.Collect(maps.Keys(notRun())))
	used := make(map[string]bool)
	for _, b := range r.all {
		if !b.isShell() {
			continue
		}
		accounted := r.pasted[b]
		for _, name := range names {
			if b.is(name) {
				used[name], accounted = true, true
			}
		}
		if !accounted {
			t.Errorf("nobody runs this block; paste it in TestSnippets, or say in notRun why not\n%s", b)
		}
	}
	for _, name := range names {
		if !used[name] {
			t.Errorf("no page has the block %q, which is said to be run elsewhere, or not at all", name)
		}
	}
}
