package daemon_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/daemon"
)

// newKeySet makes a key set for several servers.
func newKeySet(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.json")
	if _, err := accesstoken.AddKeys(path, 0); err != nil {
		t.Fatal(err)
	}
	return path
}

// Two servers that share no folder take each other's tokens: one has the key set as a file, the other as text. Neither makes a
// folder of keys, and a first start with a key set is one.
func TestKeySetOfSeveralServers(t *testing.T) {
	t.Parallel()
	path := newKeySet(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var servers []*server
	for _, keys := range []string{path, string(text)} {
		dir := newHome(t)
		cfg := parse(t, dir, "WAYBILL_TOKENS_KEYS="+keys)
		if err := daemon.FirstStart(cfg); err != nil {
			t.Error(err)
		}
		if found := daemon.Risks(cfg); !strings.Contains(told(found), "tokens.keys: the keys are outside data") {
			t.Errorf("risks: %s", told(found))
		}
		s := start(t, daemon.Options{NoHistory: true, Secured: secured}, cfg)
		if err := s.Reload(t.Context(), cfg); err != nil {
			t.Error(err)
		}
		if p := s.problem(t, "tokens.keys"); p != "" {
			t.Errorf("a problem: %s", p)
		}
		if _, err := os.Stat(filepath.Join(dir, "data", "keys")); err == nil {
			t.Error("the server has made a folder of keys")
		}
		servers = append(servers, s)
	}
	for i, s := range servers {
		if !servers[1-i].admits(t, s.token(t)) {
			t.Errorf("a token of server %d is refused by the other", i)
		}
	}
	// A key that is added is published before it signs, as soon as the server has read the file: a token with a key that it does
	// not know makes it read.
	list, err := accesstoken.AddKeys(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	foreign := start(t, daemon.Options{NoHistory: true}, parse(t, newHome(t))).token(t)
	servers[0].eventually(t, "the new key in the JWK Set", func() bool {
		if status, _, body := get(t, plain(t), servers[0].url+"/capabilities", "Authorization", "Bearer "+foreign); status != http.StatusUnauthorized {
			t.Fatalf("a token of another party's: status %d, %s", status, body)
		}
		_, _, body := get(t, plain(t), servers[0].url+"/.well-known/jwks.json")
		return strings.Contains(string(body), list[len(list)-1].ID)
	})
	for i, s := range servers {
		if !servers[1-i].admits(t, s.token(t)) {
			t.Errorf("a token of server %d is refused by the other, which has another set", i)
		}
	}
	for _, s := range servers {
		if strings.Contains(s.log.String(), `\"k\"`) || strings.Contains(s.log.String(), `"k":`) {
			t.Error("the log holds keys")
		}
	}
}

// A key set that cannot be used stops a start, and a reload changes nothing; while a server runs it is a problem, of which nobody
// notices but those who show a token with another key.
func TestKeySetThatIsWrong(t *testing.T) {
	t.Parallel()
	dir, path := newHome(t), newKeySet(t)
	cfg := parse(t, dir, "WAYBILL_TOKENS_KEYS="+path)
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, cfg)
	token := s.token(t)
	other := start(t, daemon.Options{NoHistory: true}, parse(t, newHome(t))).token(t)
	write(t, path, []byte(`{"keys":[]}`))
	if status, _, body := get(t, plain(t), s.url+"/capabilities", "Authorization", "Bearer "+other); status != http.StatusServiceUnavailable {
		t.Errorf("a token whose key is not known: status %d, %s", status, body)
	}
	if p := s.problem(t, "tokens.keys"); p != path+`: holds no key with use "enc" (mend: waybill keys add --keys '`+path+`'; of a Kubernetes Secret or a variable, with the file that it was made of)` {
		t.Errorf("problem: %q", p)
	}
	if !s.admits(t, token) || !s.admits(t, s.token(t)) {
		t.Error("the keys of before do not go on")
	}
	if err := s.Reload(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "holds no key") {
		t.Errorf("a reload: %v", err)
	}
	if c := check(cfg); !strings.Contains(told(c.Problems), "tokens.keys: "+path+": holds no key") {
		t.Errorf("check: %s", told(c.Problems))
	}
	if _, err := daemon.Open(t.Context(), parse(t, newHome(t), "WAYBILL_TOKENS_KEYS="+path), daemon.Options{Log: discard}); err == nil || !strings.Contains(err.Error(), "holds no key") {
		t.Errorf("Open: %v", err)
	}
}

// Check tells in time that a key grows old, and who else can read the file.
func TestCheckKeySet(t *testing.T) {
	t.Parallel()
	dir, path := newHome(t), filepath.Join(t.TempDir(), "keys.json")
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		if _, err := accesstoken.AddKeys(path, 0); err != nil {
			t.Fatal(err)
		}
	})
	cfg := parse(t, dir, "WAYBILL_TOKENS_KEYS="+path)
	c := check(cfg)
	if got := told(c.Warnings); len(c.Problems) > 0 || !strings.Contains(got, "was not made within the last 30 days, but at 2000-01-01T00:00:00Z (mend: waybill keys add --keys '"+path+"'") {
		t.Errorf("problems: %s\nwarnings: %s", told(c.Problems), got)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := told(check(cfg).Problems); !strings.Contains(got, "tokens.keys: "+path+": mode 0644 lets others read") {
		t.Errorf("readable by every account: %s", got)
	}
}
