package daemon_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/datafolder"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
)

// ready is what /readyz says.
type ready struct {
	Ready    bool      `json:"ready"`
	Parties  int       `json:"parties"`
	Loaded   time.Time `json:"parties_loaded"`
	From     time.Time `json:"tokens_from"`
	Problems []string  `json:"problems"`
}

func (s *server) ready(t *testing.T) (int, ready) {
	t.Helper()
	status, _, body := get(t, plain(t), s.internal+"/readyz")
	var r ready
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return status, r
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	if status, _, body := get(t, plain(t), s.internal+"/livez"); status != http.StatusOK || string(body) != `{"live":true}` {
		t.Errorf("/livez: status %d, %s", status, body)
	}
	status, r := s.ready(t)
	if status != http.StatusOK || !r.Ready || r.Parties != len(everyone()) || r.Loaded.IsZero() || len(r.Problems) > 0 {
		t.Errorf("/readyz: status %d, %+v", status, r)
	}
}

// Until a server can vouch, it is sent no requests; it says for how long, and so does the log.
func TestHealthOfAFirstStart(t *testing.T) {
	t.Parallel()
	const leeway = 2 * time.Second
	before := time.Now()
	s := start(t, daemon.Options{}, parse(t, newHome(t), "WAYBILL_POLICY_LEEWAY="+leeway.String()))
	status, r := s.ready(t)
	if status != http.StatusServiceUnavailable || r.Ready || len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0], "state: tokens are given from ") {
		t.Errorf("/readyz: status %d, %+v", status, r)
	}
	if r.From.Before(before.Add(leeway)) || r.From.After(time.Now().Add(leeway+2*time.Second)) {
		t.Errorf("tokens from %s, and the server began after %s", r.From, before)
	}
	told := s.log.records(t, "assertions issued before this start get no token, as they may have been used; until tokens are given, /readyz is 503")
	if len(told) != 1 || told[0]["tokens_from"] == "" {
		t.Errorf("the log says %v", told)
	}
	s.eventually(t, "tokens", func() bool { status, r = s.ready(t); return status == http.StatusOK })
	if !r.Ready || !r.From.IsZero() || len(r.Problems) > 0 || time.Now().Before(before.Add(leeway)) {
		t.Errorf("/readyz: %+v", r)
	}
	s.token(t)
}

// A first start is none when anything is left of an earlier one.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	dir, keys := newHome(t), filepath.Join(t.TempDir(), "keys")
	cfg := parse(t, dir, "WAYBILL_TOKENS_KEYS="+keys)
	if err := os.MkdirAll(filepath.Join(dir, "data", "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := daemon.FirstStart(cfg); err != nil {
		t.Fatal(err)
	}
	if err := start(t, daemon.Options{NoHistory: true}, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{keys, filepath.Join(dir, "data", "replay"), filepath.Join(dir, "data", "revocations")} {
		if err := daemon.FirstStart(cfg); !errors.Is(err, datafolder.ErrServedBefore) {
			t.Errorf("with %s: %v", dir, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := daemon.FirstStart(cfg); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(dir, "data", "anything"), nil)
	if err := daemon.FirstStart(cfg); !errors.Is(err, datafolder.ErrServedBefore) {
		t.Errorf("with anything: %v", err)
	}
}

// A broken file of participants leaves the records of before in use, and shows.
func TestBrokenParticipantsShow(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	write(t, filepath.Join(dir, "parties.json"), []byte(`[{"id": "nobody"}]`))
	s.eventually(t, "a problem", func() bool {
		status, r := s.ready(t)
		return status == http.StatusOK && r.Ready && r.Parties == len(everyone()) &&
			len(r.Problems) == 1 && strings.Contains(r.Problems[0], "participants.file") && strings.Contains(r.Problems[0], "nobody")
	})
	s.token(t)
	writeParties(t, dir, players().provider)
	s.eventually(t, "no problem", func() bool {
		_, r := s.ready(t)
		return r.Parties == 1 && len(r.Problems) == 0
	})
	if a := s.send(t, players().consumer.Request(providerID)); a.RuleID() != "party.unknown" {
		t.Errorf("a consumer that was removed: %+v", a)
	}
}

// A stop waits for the request under way, tells the load balancer meanwhile, and
// what that request used up is handed over.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	cfg := parse(t, dir)
	s := start(t, daemon.Options{NoHistory: true}, cfg)
	request := players().consumer.Request(providerID)
	form := request.Body()
	conn := dial(t, s.PublicAddr())
	answers := bufio.NewReader(conn)
	// The server says 100 when its handler begins to read the body.
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: provider.example\r\nContent-Type: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		request.Path, isharetest.MediaType, len(form))
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusContinue {
		t.Fatalf("%v", answer)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	s.eventually(t, "draining", func() bool {
		status, r := s.ready(t)
		return status == http.StatusServiceUnavailable && !r.Ready && slices.Equal(r.Problems, []string{"listen.shutdown_delay: the server is stopping"})
	})
	if status, _, _ := get(t, plain(t), s.internal+"/livez"); status != http.StatusOK {
		t.Errorf("/livez while draining: status %d", status)
	}
	if _, err := io.WriteString(conn, form); err != nil {
		t.Fatal(err)
	}
	answer, err = http.ReadResponse(answers, nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("the request under way: %v, %v", answer, err)
	}
	answer.Body.Close()
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	again := start(t, daemon.Options{}, cfg)
	if a := again.send(t, request); a.RuleID() != "jti.replayed" {
		t.Errorf("the assertion of the request under way, after a restart: %+v", a)
	}
}

// foreign matches what goes on outside of this module, and in the test itself.
var foreign = regexp.MustCompile(`_test\.|testing\.`)

// ours lists the goroutines that run code of this module.
func ours(t *testing.T) []string {
	t.Helper()
	var b strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
		t.Fatal(err)
	}
	var found []string
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(stack, "waybill-token/waybill/") && !foreign.MatchString(stack) {
			found = append(found, stack)
		}
	}
	return found
}

// Not parallel: no other daemon runs meanwhile.
func TestStopLeavesNoGoroutine(t *testing.T) {
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	s.token(t)
	if err := s.Reload(t.Context(), parse(t, dir)); err != nil {
		t.Fatal(err)
	}
	s.token(t)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the goroutines to end", func() bool { return len(ours(t)) == 0 })
	if _, err := os.Stat(filepath.Join(dir, "data", "replay", "replay.hand-over")); err != nil {
		t.Errorf("no hand-over: %v", err)
	}
}

// What Open took it gives back when it fails, so that the next try finds it.
func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	dir := newHome(t)
	for _, environ := range []string{
		"WAYBILL_LISTEN_PUBLIC=" + s.PublicAddr().String(),
		"WAYBILL_LISTEN_INTERNAL=" + s.PublicAddr().String(),
		"WAYBILL_PARTICIPANTS_FILE=nowhere.json",
	} {
		if _, err := daemon.Open(t.Context(), parse(t, dir, environ), daemon.Options{Log: discard, NoHistory: true}); err == nil {
			t.Fatalf("%s: it starts", environ)
		}
	}
	// That the party is new is handed over too.
	start(t, daemon.Options{}, parse(t, dir)).token(t)
}

func TestDataFolderIsForOne(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	_, err := daemon.Open(t.Context(), parse(t, dir), daemon.Options{Log: discard})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), filepath.Join(dir, "data")) {
		t.Errorf("a second server in the folder: %v", err)
	}
	s.token(t)
}

// Servers with one folder of keys take each other's tokens, whatever else they
// have of their own.
func TestServersShareKeys(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"opaque", "jwt"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			environ := []string{"WAYBILL_TOKENS_KEYS=" + filepath.Join(t.TempDir(), "keys"), "WAYBILL_TOKENS_FORMAT=" + format}
			options := daemon.Options{NoHistory: true, Secured: secured}
			one, two := start(t, options, parse(t, newHome(t), environ...)), start(t, options, parse(t, newHome(t), environ...))
			stranger := start(t, options, parse(t, newHome(t), environ[1]))
			for _, issuer := range []*server{one, two} {
				token := "Bearer " + issuer.token(t)
				for checker, want := range map[*server]int{one: http.StatusOK, two: http.StatusOK, stranger: http.StatusUnauthorized} {
					if status, _, _ := get(t, plain(t), checker.url+"/who", "Authorization", token); status != want {
						t.Errorf("status %d, want %d", status, want)
					}
				}
			}
		})
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	invoices := players().consumer.Request(providerID)
	invoices.Form.Set("scope", "iSHARE invoices")
	if a := s.send(t, invoices); a.RuleID() != "request.scope" {
		t.Errorf("before: %+v", a)
	}
	if err := s.Reload(t.Context(), parse(t, dir, `WAYBILL_SCOPES={invoices: read invoices}`)); err != nil {
		t.Fatal(err)
	}
	if err := s.send(t, invoices).Meets(nil); err != nil {
		t.Error(err)
	}
	// What was used before a reload is used after it.
	if err := s.Reload(t.Context(), parse(t, dir)); err != nil {
		t.Fatal(err)
	}
	plainly := players().consumer.Request(providerID)
	plainly.Assertion.Payload.Set("jti", invoices.Assertion.Payload.Get("jti"))
	if a := s.send(t, plainly); a.RuleID() != "jti.replayed" {
		t.Errorf("a jti that was used before: %+v", a)
	}
}

// Records that cannot be read stop a reload, and those of before stay in use.
func TestReloadReadsTheParticipants(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	write(t, filepath.Join(dir, "parties.json"), []byte(`[{"id": "nobody"}]`))
	if err := s.Reload(t.Context(), parse(t, dir)); err == nil || !strings.Contains(err.Error(), "participants.file") {
		t.Errorf("bad records: %v", err)
	}
	s.token(t)
	writeParties(t, dir, players().provider)
	if err := s.Reload(t.Context(), parse(t, dir)); err != nil {
		t.Fatal(err)
	}
	if a := s.send(t, players().consumer.Request(providerID)); a.RuleID() != "party.unknown" {
		t.Errorf("a consumer that was removed: %+v", a)
	}
}

// What a running server cannot exchange is named, all of it, and nothing changes.
func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	writeCertificate(t, dir)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	changes := map[string][]string{
		"listen.public":   {"WAYBILL_LISTEN_PUBLIC=127.0.0.1:1"},
		"listen.internal": {"WAYBILL_LISTEN_INTERNAL=127.0.0.1:2"},
		"listen.tls":      withTLS,
		"data":            {"WAYBILL_DATA=elsewhere"},
		"policy.leeway":   {"WAYBILL_POLICY_LEEWAY=2s"},
	}
	var all []string
	for key, environ := range changes {
		all = append(all, environ...)
		err := s.Reload(t.Context(), parse(t, dir, append(environ, `WAYBILL_SCOPES={invoices: read invoices}`)...))
		if err == nil || !strings.HasSuffix(err.Error(), "restart is needed to change "+key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	err := s.Reload(t.Context(), parse(t, dir, all...))
	for key := range changes {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("all at once: %v", err)
		}
	}
	if err := s.Reload(t.Context(), parse(t, dir, "WAYBILL_PARTICIPANTS_FILE=nowhere.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	invoices := players().consumer.Request(providerID)
	invoices.Form.Set("scope", "iSHARE invoices")
	if a := s.send(t, invoices); a.RuleID() != "request.scope" {
		t.Errorf("afterwards: %+v", a)
	}
	s.token(t)
}

// A clock that has been set back over a restart is told by /readyz, with its end.
func TestReadinessTellsOfTheClock(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	synctest.Test(t, func(t *testing.T) { // a life that ended in another century
		time.Sleep(200 * 365 * 24 * time.Hour)
		m, err := replay.Open(replay.Config{Dir: filepath.Join(dir, "data", "replay"), Leeway: 10 * time.Second, NoHistory: true})
		if err == nil {
			err = m.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	s := start(t, daemon.Options{}, parse(t, dir))
	s.eventually(t, "a problem", func() bool {
		return strings.HasPrefix(s.problem(t, "clock"), "it is behind what it was before the start; until 2199-")
	})
}

// problem is the one that /readyz tells of a key; empty when there is none. The server must be ready all the same.
func (s *server) problem(t *testing.T, key string) string {
	t.Helper()
	status, r := s.ready(t)
	if status != http.StatusOK || !r.Ready {
		t.Errorf("/readyz: status %d, %+v", status, r)
	}
	for _, p := range r.Problems {
		if text, ok := strings.CutPrefix(p, key+": "); ok {
			return text
		}
	}
	return ""
}
