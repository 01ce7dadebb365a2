package provider_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
)

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// problem is the one that is told of a field; empty when there is none. The provider must be ready all the same.
func (s *served) problem(t *testing.T, field string) string {
	t.Helper()
	r := s.Readiness()
	if !r.Ready {
		t.Errorf("it is not ready: %+v", r)
	}
	for _, p := range r.Problems {
		if text, ok := strings.CutPrefix(p, field+": "); ok {
			return text
		}
	}
	return ""
}

// A server whose data folder has gone serves on and says so, and takes no new configuration, with
// which all tokens would end.
func TestDataFolderIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, configuration(dir, true))
	token := s.token(t)
	data := filepath.Join(dir, "data")
	rename(t, data, data+".moved")
	s.Look(t.Context())
	if p := s.problem(t, "data"); p != "the folder "+data+" was removed: file does not exist" {
		t.Errorf("data: %q", p)
	}
	s.Look(t.Context()) // tells nothing again
	s.token(t)
	if !s.admits(t, token) {
		t.Error("a token from before is refused")
	}
	if err := s.Reload(t.Context(), configuration(dir, false)); err == nil || !strings.Contains(err.Error(), "Data: the folder "+data+" was removed") {
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
	if err := s.Reload(t.Context(), configuration(dir, false)); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	serve(t, configuration(dir, false)).token(t) // as everything was handed over
}

// Nothing is handed over into the folder of another server, and nothing in it is removed.
func TestDataFolderOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, configuration(dir, true))
	request := players().consumer.Request(isharetest.ProviderID)
	if a := s.send(t, request); a.AccessToken == "" {
		t.Fatalf("%+v", a)
	}
	token := s.token(t)
	data := filepath.Join(dir, "data")
	rename(t, data, data+".moved")
	other := serve(t, configuration(dir, true))
	s.Look(t.Context())
	if p := s.problem(t, "data"); p != "another folder has taken the place of "+data {
		t.Errorf("data: %q", p)
	}
	before := tree(t, data)
	if !s.admits(t, other.token(t)) || s.admits(t, token) {
		t.Error("the keys of the folder do not count")
	}
	if p := s.problem(t, "Tokens.Keys"); !strings.HasPrefix(p, filepath.Join(data, "keys")+": another folder has taken its place") {
		t.Errorf("Tokens.Keys: %q", p)
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
	if a := serve(t, configuration(dir, false)).send(t, request); a.RuleID() != "jti.replayed" {
		t.Errorf("an assertion that was used: %+v", a)
	}
}

// A revocation that cannot be kept is told, holds in this process, and is not written into the folder of another
// store. Once the folder is back, the next one is written with all of them.
func TestRevocationsOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := serve(t, configuration(dir, true))
	tokens := []string{s.token(t), s.token(t), s.token(t)}
	revoke := func(token string, want int) {
		t.Helper()
		if status, body := s.revoke(t, token); status != want {
			t.Errorf("status %d, %s", status, body)
		}
		if s.admits(t, token) {
			t.Error("the token is good")
		}
	}
	revoke(tokens[0], http.StatusOK)
	folder := filepath.Join(dir, "data", "revocations")
	rename(t, folder, folder+".moved")
	other := provider.Must(accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{Dir: folder, NoHistory: true}))(t)
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
	s = serve(t, configuration(dir, false))
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
	dir := t.TempDir()
	log := &transcript{}
	c := configuration(dir, true)
	c.Log = slog.New(slog.NewJSONHandler(log, nil))
	p := provider.Must(provider.New(c))(t)
	folder := filepath.Join(dir, "data", "replay")
	if err := os.Remove(filepath.Join(folder, "replay.lock")); err != nil {
		t.Fatal(err)
	}
	p.Look(t.Context())
	told, _ := log.problems(t, "data")
	want := "the lock " + filepath.Join(folder, "replay.lock") + " was removed, so that another process may use the folder"
	if len(told) != 1 || told[0]["reason"] != want {
		t.Errorf("the log: %v", told)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := p.Run(ended); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Run: %v", err)
	}
	if _, err := os.Stat(filepath.Join(folder, "replay.hand-over")); err == nil {
		t.Error("there is a hand-over")
	}
}
