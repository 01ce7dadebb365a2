package daemon_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

// told puts problems into words.
func told(problems []config.Problem) string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// check is [daemon.Check] without the risks that the configuration of these tests takes.
func check(cfg *config.Config) *daemon.Preflight {
	c := daemon.Check(cfg)
	c.Warnings = slices.DeleteFunc(c.Warnings, func(w config.Problem) bool {
		return w.Key == "trust.revocation" && strings.HasPrefix(w.Message, "off: ") || w.Key == "trust.revocation_allow_private"
	})
	return c
}

// tree tells everything about a folder that a visitor could change.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := ""
		if !d.IsDir() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(b)
		}
		found[path] = fmt.Sprint(info.Mode(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A configuration that can be served has no problems, and being looked at changes
// nothing, before the first start and after.
func TestCheckLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	cfg := parse(t, dir, "WAYBILL_LISTEN_URL=https://provider.example")
	look := func() {
		t.Helper()
		before := tree(t, dir)
		c := check(cfg)
		if len(c.Problems) > 0 || len(c.Warnings) > 0 {
			t.Errorf("problems %v, warnings %v", c.Problems, c.Warnings)
		}
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	}
	look()
	if err := start(t, daemon.Options{}, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	look()
}

// A journal of revocations by which a start would refuse tokens is told before.
func TestCheckReadsTheJournal(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	cfg := parse(t, dir, "WAYBILL_LISTEN_URL=https://provider.example")
	s := start(t, daemon.Options{NoHistory: true}, cfg)
	token := s.token(t)
	if status, _, body := s.post(t, "/revoke", url.Values{"token": {token}}); status != http.StatusOK {
		t.Fatalf("status %d, %s", status, body)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(dir, "data", "revocations", "revocations")
	whole, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"as it was": whole, "cut": whole[:len(whole)-3], "missing": nil} {
		if err := os.Remove(journal); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			write(t, journal, content)
		}
		before := tree(t, dir)
		c := check(cfg)
		if want := !bytes.Equal(content, whole); len(c.Problems) > 0 || strings.Contains(told(c.Warnings), "a start would refuse all access tokens that were issued before it") != want {
			t.Errorf("%s: problems %v, warnings %v", name, c.Problems, c.Warnings)
		}
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", name, diff)
		}
		write(t, journal, whole)
	}
}

// Beside a running server, its next configuration can be checked.
func TestCheckBesideTheServer(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{}, parse(t, dir))
	addresses := []string{"WAYBILL_LISTEN_URL=https://provider.example", "WAYBILL_LISTEN_PUBLIC=" + s.PublicAddr().String(), "WAYBILL_LISTEN_INTERNAL=" + s.InternalAddr().String()}
	c := check(parse(t, dir, addresses...))
	if len(c.Problems) > 0 || len(c.Warnings) != 1 || !strings.Contains(told(c.Warnings), "a server is running with this folder") {
		t.Errorf("problems: %s\nwarnings: %s", told(c.Problems), told(c.Warnings))
	}
	c = check(parse(t, dir, append(addresses, "WAYBILL_DATA=elsewhere")...))
	if len(c.Problems) != 2 || !strings.Contains(told(c.Problems), "in use") {
		t.Errorf("with another folder: %s", told(c.Problems))
	}
}

// Keys that are due to be replaced are left to the server: a key that another account
// makes, such as root's, is one that the server cannot read.
func TestCheckMakesNoKey(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		if _, err := accesstoken.OpenKeys(filepath.Join(dir, "data", "keys"), discard); err != nil {
			t.Fatal(err)
		}
	})
	before := tree(t, dir)
	if c := check(parse(t, dir)); len(c.Problems) > 0 {
		t.Errorf("problems: %s", told(c.Problems))
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// A file from the future means that this machine's clock is behind.
func TestCheckClock(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	ahead := time.Now().Add(48 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "parties.json"), ahead, ahead); err != nil {
		t.Fatal(err)
	}
	c := check(parse(t, dir))
	if got := told(c.Problems); len(c.Problems) != 1 || !strings.Contains(got, "participants.file") || !strings.Contains(got, "clock is behind") || !strings.Contains(got, "NTP") {
		t.Errorf("problems: %s", got)
	}
}

// A key of access tokens that cannot be used stops a server, so check says so.
func TestCheckTokenKeys(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	cfg := parse(t, dir)
	if err := start(t, daemon.Options{}, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "data", "keys", "enc-000001.jwk"), []byte("{}"))
	c := check(cfg)
	if got := told(c.Problems); len(c.Problems) != 1 || !strings.Contains(got, "tokens.keys") || !strings.Contains(got, "enc-000001.jwk") {
		t.Errorf("problems: %s", got)
	}
}

// A record by which nobody could ever be admitted is a warning: the server starts with it.
func TestCheckReadsPartyRecords(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	path := filepath.Join(dir, "parties.json")
	records, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	odd := `,
		{"id": "did:ishare:EU.NL.NTRNL-10000009", "claim": []},
		{"id": "did:ishare:EU.NL.NTRNL-10000008", "claims": []}]`
	write(t, path, append(bytes.TrimSuffix(records, []byte("]")), odd...))
	c := check(parse(t, dir, "WAYBILL_LISTEN_URL=https://provider.example"))
	if len(c.Problems) > 0 || len(c.Warnings) != 2 {
		t.Fatalf("problems %s\nwarnings %s", told(c.Problems), told(c.Warnings))
	}
	for i, want := range []string{
		path + ":2: did:ishare:EU.NL.NTRNL-10000009: nobody can be admitted by this record: ",
		path + ":3: did:ishare:EU.NL.NTRNL-10000008: nobody can be admitted by this record: ",
	} {
		if w := c.Warnings[i]; w.Key != "participants.file" || !strings.HasPrefix(w.Message, want) {
			t.Errorf("%s, want %s", w, want)
		}
	}
	if !strings.Contains(c.Warnings[0].Message, "did you mean claims?") {
		t.Error(c.Warnings[0])
	}
}

// What takes a risk is told by check, and once by a server: at its start, or when a reload begins to take it.
func TestRisks(t *testing.T) {
	t.Parallel()
	dir, keys := newHome(t), t.TempDir()
	secret := "WAYBILL_LISTEN_INTERNAL_SECRET=" + strings.Repeat("s3cret", 5)
	for _, c := range []struct{ environ, key, message string }{
		{"WAYBILL_TRUST_REVOCATION=off", "trust.revocation", "off: nobody is asked"},
		{"WAYBILL_TRUST_REVOCATION=prefer", "trust.revocation", "prefer: whoever keeps"},
		{"WAYBILL_TRUST_REVOCATION_ALLOW_PRIVATE=true", "trust.revocation_allow_private", "on its own networks"},
		{"WAYBILL_POLICY_EXTRA_HEADER_PARAMETERS=allow", "policy.extra_header_parameters", "what iSHARE does not allow"},
		{"WAYBILL_LISTEN_PUBLIC=0.0.0.0:0", "listen.public", "without listen.tls"},
		{"WAYBILL_LISTEN_INTERNAL=0.0.0.0:0", "listen.internal", "whoever reaches it"},
		{"WAYBILL_TOKENS_KEYS=" + keys, "tokens.keys", "outside data"},
		{"WAYBILL_TOKENS_KEYS=data/elsewhere", "", ""},
		{"WAYBILL_STATE=redis://192.0.2.1", "state", "without TLS"},
		{"WAYBILL_STATE=postgres://192.0.2.1/waybill?sslmode=disable", "state", "without TLS"},
		{"WAYBILL_STATE=rediss://192.0.2.1", "", ""},
		{"WAYBILL_STATE=redis://127.0.0.1", "", ""},
		{"WAYBILL_LISTEN_PUBLIC=localhost:0", "", ""},
		{"WAYBILL_LISTEN_INTERNAL=0.0.0.0:0 " + secret, "", ""},
	} {
		t.Run(c.environ, func(t *testing.T) {
			t.Parallel()
			cfg := parse(t, dir, append([]string{"WAYBILL_TRUST_REVOCATION=require"}, strings.Fields(c.environ)...)...)
			found := daemon.Risks(cfg)
			if c.key == "" && len(found) > 0 || c.key != "" && (len(found) != 1 || found[0].Key != c.key || !strings.Contains(found[0].Message, c.message)) {
				t.Errorf("%s", told(found))
			}
		})
	}
	c := daemon.Check(parse(t, dir))
	if n := strings.Count(told(c.Warnings), "trust.revocation: off: "); n != 1 {
		t.Errorf("check tells it %d times: %s", n, told(c.Warnings))
	}
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	for _, environ := range [][]string{nil, {"WAYBILL_POLICY_EXTRA_HEADER_PARAMETERS=allow"}, {"WAYBILL_POLICY_EXTRA_HEADER_PARAMETERS=allow"}} {
		if err := s.Reload(t.Context(), parse(t, dir, environ...)); err != nil {
			t.Fatal(err)
		}
	}
	var logged []any
	for _, r := range s.log.records(t, "a setting takes a risk") {
		logged = append(logged, r["key"])
	}
	if diff := cmp.Diff([]any{"trust.revocation", "policy.extra_header_parameters"}, logged); diff != "" {
		t.Errorf("logged (-want +got):\n%s", diff)
	}
}

// A program behind a route that does not answer is a warning: it may be started later.
func TestCheckCallsUpstreams(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := check(parse(t, newHome(t), "WAYBILL_LISTEN_URL=https://provider.example",
		"WAYBILL_ROUTES=[{path: /here, upstream: 'http://"+l.Addr().String()+"'}, {path: /there, upstream: 'http://127.0.0.1:1'}]"))
	if len(c.Problems) > 0 || len(c.Warnings) != 1 || c.Warnings[0].Key != "routes[1].upstream" {
		t.Errorf("problems: %s\nwarnings: %s", told(c.Problems), told(c.Warnings))
	}
}
