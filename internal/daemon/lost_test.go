package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/daemon"
)

// problems are the lines of the log about a key, of beginnings and of ends.
func (t *transcript) problems(tb testing.TB, key string) (found, over []map[string]any) {
	tb.Helper()
	other := func(record map[string]any) bool { return record["key"] != key }
	return slices.DeleteFunc(t.records(tb, "a problem was found"), other), slices.DeleteFunc(t.records(tb, "a problem is over"), other)
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
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

// A server whose data folder has gone serves on and says so, and takes no new configuration, with
// which all tokens would end.
func TestDataFolderIsGone(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, dir))
	token := "Bearer " + s.token(t)
	data := filepath.Join(dir, "data")
	rename(t, data, data+".moved")
	s.eventually(t, "a problem", func() bool { return s.problem(t, "data") == "the folder "+data+" was removed: file does not exist" })
	s.Look(t.Context()) // tells nothing again
	s.token(t)
	if status, _, _ := get(t, plain(t), s.url+"/who", "Authorization", token); status != http.StatusOK {
		t.Errorf("a token from before: status %d", status)
	}
	if err := s.Reload(t.Context(), parse(t, dir)); err == nil || !strings.Contains(err.Error(), "data: the folder "+data+" was removed") {
		t.Errorf("a reload: %v", err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("it was made again")
	}
	rename(t, data+".moved", data)
	s.Look(t.Context())
	if p := s.problem(t, "data"); p != "" {
		t.Errorf("it is back: %s", p)
	}
	if lost, back := s.log.problems(t, "data"); len(lost) != 1 || len(back) != 1 {
		t.Errorf("the log: %v, %v", lost, back)
	}
	if err := s.Reload(t.Context(), parse(t, dir)); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	start(t, daemon.Options{}, parse(t, dir)).token(t) // as everything was handed over
}

// Nothing is handed over into the folder of another server, and nothing in it is removed.
func TestDataFolderOfAnother(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, dir))
	request := players().consumer.Request(providerID)
	if a := s.send(t, request); a.AccessToken == "" {
		t.Fatalf("%+v", a)
	}
	token := s.token(t)
	data := filepath.Join(dir, "data")
	rename(t, data, data+".moved")
	other := start(t, daemon.Options{NoHistory: true}, parse(t, dir))
	s.Look(t.Context())
	if p := s.problem(t, "data"); p != "another folder has taken the place of "+data {
		t.Errorf("data: %q", p)
	}
	before := tree(t, data)
	if !s.admits(t, other.token(t)) || s.admits(t, token) {
		t.Error("the keys of the folder do not count")
	}
	if p := s.problem(t, "tokens.keys"); !strings.HasPrefix(p, filepath.Join(data, "keys")+": another folder has taken its place") {
		t.Errorf("tokens.keys: %q", p)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if after := tree(t, data); len(before) != len(after) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
	other.token(t)
	if err := other.stop(); err != nil {
		t.Error(err)
	}
	// The folder that was opened has what was used.
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	rename(t, data+".moved", data)
	if a := start(t, daemon.Options{}, parse(t, dir)).send(t, request); a.RuleID() != "jti.replayed" {
		t.Errorf("an assertion that was used: %+v", a)
	}
}

// A revocation that cannot be kept is told, holds in this process, and is not written into the folder of another
// store. Once the folder is back, the next one is written with all of them.
func TestRevocationsOfAnother(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, dir))
	tokens := []string{s.token(t), s.token(t), s.token(t)}
	revoke := func(token string, want int) {
		t.Helper()
		if status, _, body := s.post(t, "/revoke", url.Values{"token": {token}}); status != want {
			t.Errorf("status %d, %s", status, body)
		}
		if s.admits(t, token) {
			t.Error("the token is good")
		}
	}
	revoke(tokens[0], http.StatusOK)
	folder := filepath.Join(dir, "data", "revocations")
	rename(t, folder, folder+".moved")
	other := daemon.Must(accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: folder, NoHistory: true}))(t)
	before := tree(t, folder)
	s.Look(t.Context())
	if p := s.problem(t, "data"); p != "another folder has taken the place of "+folder {
		t.Errorf("data: %q", p)
	}
	revoke(tokens[1], http.StatusServiceUnavailable)
	if after := tree(t, folder); !maps.Equal(before, after) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
	if err := errors.Join(other.Close(), os.RemoveAll(folder)); err != nil {
		t.Fatal(err)
	}
	rename(t, folder+".moved", folder)
	s.Look(t.Context())
	if p := s.problem(t, "data"); p != "" {
		t.Errorf("it is back: %s", p)
	}
	revoke(tokens[2], http.StatusOK)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	s = start(t, daemon.Options{Secured: secured}, parse(t, dir))
	for i, token := range tokens {
		if s.admits(t, token) {
			t.Errorf("after a restart token %d is good", i)
		}
	}
	if p := s.problem(t, "state"); p != "" || !s.admits(t, s.token(t)) {
		t.Errorf("after a restart: %s", p)
	}
}

// Without its lock a folder can be that of two servers. The one that lost it leaves nothing there.
func TestLockIsGone(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	log := &transcript{}
	d := daemon.Must(daemon.Open(t.Context(), parse(t, dir), daemon.Options{NoHistory: true, Log: slog.New(slog.NewJSONHandler(log, nil))}))(t)
	folder := filepath.Join(dir, "data", "replay")
	if err := os.Remove(filepath.Join(folder, "replay.lock")); err != nil {
		t.Fatal(err)
	}
	d.Look(t.Context())
	told, _ := log.problems(t, "data")
	want := "the lock " + filepath.Join(folder, "replay.lock") + " was removed, so that another process may use the folder"
	if len(told) != 1 || told[0]["reason"] != want {
		t.Errorf("the log: %v", told)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := d.Run(ended); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Run: %v", err)
	}
	if _, err := os.Stat(filepath.Join(folder, "replay.hand-over")); err == nil {
		t.Error("there is a hand-over")
	}
}
