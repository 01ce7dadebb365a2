//go:build unix

package daemon_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/isharetest"
)

const (
	reloaded = "reloaded"
	unusable = "changed files cannot be used; those of before stay in use"
)

// watched starts a server whose files are looked at when the test says so.
func watched(t *testing.T, cfg *config.Config) *server {
	t.Helper()
	s := start(t, daemon.Options{NoHistory: true}, cfg, (*daemon.Daemon).LookYourself)
	over := t.Context()
	go func() { // as waybill serve does
		for {
			select {
			case <-over.Done():
				return
			case change := <-s.Changes():
				cfg, err := change.Load()
				if err == nil {
					err = s.Reload(over, cfg)
				}
				change.Done(err)
			}
		}
	}()
	return s
}

// look looks at the files some times, and tells what was logged of them so far: how often they were
// reloaded and how often they could not be used.
func (s *server) look(t *testing.T, times int) (used, refused int) {
	t.Helper()
	for range times {
		s.Look(t.Context())
	}
	return len(s.log.records(t, reloaded)), len(s.log.records(t, unusable))
}

// wants compares what was logged.
func (s *server) wants(t *testing.T, what string, times, used, refused int) {
	t.Helper()
	if u, r := s.look(t, times); u != used || r != refused {
		t.Fatalf("%s: %d reloads and %d refusals were logged, want %d and %d:\n%s", what, u, r, used, refused, s.log)
	}
}

// save puts a key and its chain beside a home's, as key.new and chain.new.
func save(t *testing.T, dir string, p *isharetest.Party) {
	t.Helper()
	seal := testca.Identity{Key: p.Key, Chain: p.Certificates}
	if err := seal.Save(filepath.Join(dir, "key.new"), filepath.Join(dir, "chain.new")); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, dir, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		t.Fatal(err)
	}
}

// Every file that is read once is noticed when it changes, whichever way it does, and read when it has come to rest. What
// others look at by themselves is left to them.
func TestChangedFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	cfg, dir, keys := fullHome(t)
	s := watched(t, cfg)
	s.wants(t, "at the start", 3, 0, 0)
	count := 0
	for _, name := range []string{"key.pem", "chain.pem", "password", "secret", "caller", "tls.pem", "tls-key.pem", "root.pem"} {
		path := filepath.Join(dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for how, change := range map[string]func() error{
			"written to": func() error { return os.WriteFile(path, append(content, '\n'), 0o600) },
			"exchanged": func() error {
				return errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path))
			},
			"made a link": func() error {
				return errors.Join(os.WriteFile(path+".linked", content, 0o600), os.Remove(path), os.Symlink(path+".linked", path))
			},
			"made readable": func() error { return os.Chmod(path, 0o400) },
		} {
			if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, content, 0o600)); err != nil {
				t.Fatal(err)
			}
			count, _ = s.look(t, 2)
			if err := change(); err != nil {
				t.Fatal(err)
			}
			s.wants(t, name+", "+how+", once", 1, count, 0)
			count++
			s.wants(t, name+", "+how, 4, count, 0)
			last := s.log.records(t, reloaded)[count-1]
			if diff := cmp.Diff([]any{keys[name] + " (" + path + ")"}, last["changed"]); diff != "" {
				t.Errorf("%s, %s: (-want +got)\n%s", name, how, diff)
			}
		}
	}
	for _, name := range []string{"waybill.yaml", "parties.json"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), append(content, '\n'))
		s.wants(t, name, 3, count, 0)
	}
}

// Secrets that stand in files are those of the files: the watch reads them again, and no other part of the environment.
func TestChangedSecrets(t *testing.T) {
	t.Parallel()
	cfg, dir, _ := fullHome(t)
	s := watched(t, cfg)
	asks := func(user, secret string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.internal+"/introspect", strings.NewReader(url.Values{"token": {"x"}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", isharetest.MediaType)
		r.SetBasicAuth(user, secret)
		status, _, _ := exchange(t, plain(t), r)
		return status
	}
	const changed = "another-0123456789abcdefghijkl"
	for name, user := range map[string]string{"caller": "apisix", "secret": "anybody"} {
		old := name + "-0123456789abcdefghijkl"
		if before, after := asks(user, old), asks(user, name+changed); before != http.StatusOK || after != http.StatusUnauthorized {
			t.Fatalf("%s: before: %d with the old secret and %d with the new one", name, before, after)
		}
		write(t, filepath.Join(dir, name), []byte(name+changed))
		s.look(t, 2)
		if before, after := asks(user, old), asks(user, name+changed); before != http.StatusUnauthorized || after != http.StatusOK {
			t.Errorf("%s: after: %d with the old secret and %d with the new one; the log:\n%s", name, before, after, s.log)
		}
	}
	write(t, filepath.Join(dir, "secret"), []byte("short"))
	_, refused := s.look(t, 2)
	if status := asks("anybody", "secret"+changed); refused != 1 || status != http.StatusOK {
		t.Errorf("with a secret that is none, %d refusals were logged, and the one of before gets %d", refused, status)
	}
}

// A seal is renewed by two renames, in any order. In between the old one answers, and the log and /readyz say once why.
func TestRenewedSeal(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := watched(t, parse(t, dir))
	uses := func(p *isharetest.Party) bool {
		t.Helper()
		return slices.EqualFunc(s.Certificates(), p.Certificates, (*x509.Certificate).Equal)
	}
	before := players().provider
	for i, order := range [][2]string{{"key", "chain"}, {"chain", "key"}} {
		after := players().ca.Party(providerID, "Some Provider")
		save(t, dir, after)
		rename(t, dir, order[0]+".new", order[0]+".pem")
		s.wants(t, order[0]+" alone", 20, i, i+1)
		status, r := s.ready(t)
		if status != http.StatusOK || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "no certificate in the file belongs to the private key") {
			t.Errorf("%s alone: /readyz says %d, %v", order[0], status, r.Problems)
		}
		s.token(t)
		if !uses(before) {
			t.Errorf("%s alone: the old seal is not in use", order[0])
		}
		rename(t, dir, order[1]+".new", order[1]+".pem")
		s.wants(t, "both", 20, i+1, i+1)
		if status, r := s.ready(t); status != http.StatusOK || len(r.Problems) > 0 {
			t.Errorf("both: /readyz says %d, %v", status, r.Problems)
		}
		if !uses(after) {
			t.Error("the new seal is not in use")
		}
		s.token(t)
		before = after
	}
}

// Kubernetes exchanges all files of a volume at once, by the one link that their links go through.
func TestFilesOfAVolume(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	fill := func(version string, p *isharetest.Party) {
		t.Helper()
		volume := filepath.Join(dir, version)
		if err := os.Mkdir(volume, 0o700); err != nil {
			t.Fatal(err)
		}
		save(t, volume, p)
		next := filepath.Join(dir, "..data_tmp")
		if err := errors.Join(os.Symlink(version, next), os.Rename(next, filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	fill("..1", players().provider)
	for name, of := range map[string]string{"key.pem": "key.new", "chain.pem": "chain.new"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Remove(path), os.Symlink(filepath.Join("..data", of), path)); err != nil {
			t.Fatal(err)
		}
	}
	s := watched(t, parse(t, dir))
	s.wants(t, "at the start", 3, 0, 0)
	after := players().ca.Party(providerID, "Some Provider")
	fill("..2", after)
	s.wants(t, "after the exchange", 3, 1, 0)
	if !slices.EqualFunc(s.Certificates(), after.Certificates, (*x509.Certificate).Equal) {
		t.Error("the new seal is not in use")
	}
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	s.wants(t, "when the old version is gone", 3, 1, 0)
}

// A file that goes on changing is not read before it has come to rest, and there is one reload for all that changed.
func TestRestlessFiles(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := watched(t, parse(t, dir))
	root := players().ca.RootPEM()
	for i := range 10 {
		write(t, filepath.Join(dir, "root.pem"), append(slices.Clone(root), strings.Repeat("\n", i+1)...))
		s.wants(t, fmt.Sprintf("change %d", i), 1, 0, 0)
	}
	save(t, dir, players().provider)
	rename(t, dir, "key.new", "key.pem")
	rename(t, dir, "chain.new", "chain.pem")
	s.wants(t, "at rest", 5, 1, 0)
	if changed, _ := s.log.records(t, reloaded)[0]["changed"].([]any); len(changed) != 3 {
		t.Errorf("one reload is of %v", changed)
	}
}

// What is broken is told once for each cause, and tried again when it changes and after a while: the cause can lie elsewhere.
// When the files are again as they are in use, nothing is wrong.
func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	root := filepath.Join(dir, "root.pem")
	s := watched(t, parse(t, dir))
	again := func(what string, used, refused int) {
		t.Helper()
		for range 3 {
			s.RetryNow()
			s.wants(t, what, 2, used, refused)
		}
	}
	if err := os.Rename(root, root+".kept"); err != nil {
		t.Fatal(err)
	}
	s.wants(t, "gone", 5, 0, 1)
	again("gone", 0, 1)
	write(t, root, players().ca.RootPEM()[:200])
	s.wants(t, "cut off", 5, 0, 2)
	again("cut off", 0, 2)
	s.token(t)
	if err := os.Rename(root+".kept", root); err != nil {
		t.Fatal(err)
	}
	s.wants(t, "as before", 5, 0, 2)
	if _, r := s.ready(t); len(r.Problems) > 0 {
		t.Errorf("as before: /readyz says %v", r.Problems)
	}

	open := chmod(t, dir, func(m os.FileMode) os.FileMode { return m | 0o002 })
	write(t, root, append(players().ca.RootPEM(), '\n'))
	s.wants(t, "in a folder that everybody may change", 5, 0, 3)
	open()
	s.wants(t, "too early", 5, 0, 3)
	s.RetryNow()
	s.wants(t, "after a while", 2, 1, 3)
}

// A reload for another reason takes the files as they are, and leaves nothing for the watch to do.
func TestReloadBeforeTheWatch(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := watched(t, parse(t, dir))
	save(t, dir, players().ca.Party(providerID, "Some Provider"))
	rename(t, dir, "key.new", "key.pem")
	s.wants(t, "the key alone", 2, 0, 1)
	rename(t, dir, "chain.new", "chain.pem")
	if err := s.Reload(t.Context(), parse(t, dir)); err != nil {
		t.Fatal(err)
	}
	s.wants(t, "reloaded already", 5, 0, 1)
	if _, r := s.ready(t); len(r.Problems) > 0 {
		t.Errorf("/readyz says %v", r.Problems)
	}
}

// Reloads for all reasons at once are one after the other, and none undoes what another did.
func TestWatchBesideReloads(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := watched(t, parse(t, dir))
	var last *isharetest.Party
	var group sync.WaitGroup
	group.Go(func() {
		for range 10 {
			s.Look(t.Context())
		}
	})
	group.Go(func() {
		for range 10 {
			if err := s.Reload(t.Context(), parse(t, dir, "WAYBILL_SCOPES={invoices: read}")); err != nil && !strings.Contains(err.Error(), "belongs to the private key") {
				t.Error(err)
			}
		}
	})
	for range 2 {
		last = players().ca.Party(providerID, "Some Provider")
		save(t, dir, last)
		rename(t, dir, "key.new", "key.pem")
		rename(t, dir, "chain.new", "chain.pem")
	}
	group.Wait()
	s.look(t, 2)
	if !slices.EqualFunc(s.Certificates(), last.Certificates, (*x509.Certificate).Equal) {
		t.Errorf("the last seal is not in use; the log:\n%s", s.log)
	}
	if scope := s.Scopes(); !slices.Equal(scope, []string{"invoices"}) {
		t.Errorf("the scopes are %s", scope)
	}
}
