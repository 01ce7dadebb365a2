package daemon_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

// A reload changes how is logged, and a reload that fails does not.
func TestLevelChangesAtReload(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	var told []slog.Level
	options := daemon.Options{NoHistory: true, SetLog: func(c config.Log) { told = append(told, c.Level.Level) }}
	s := start(t, options, parse(t, home))
	for _, environ := range [][]string{{"WAYBILL_LOG_LEVEL=debug"}, {"WAYBILL_LOG_LEVEL=error", "WAYBILL_DATA=elsewhere"}, {"WAYBILL_LOG_LEVEL=warn"}} {
		_ = s.Reload(t.Context(), parse(t, home, environ...)) // the second is refused
	}
	if diff := cmp.Diff([]slog.Level{slog.LevelInfo, slog.LevelDebug, slog.LevelWarn}, told); diff != "" {
		t.Error(diff)
	}
}

// Each request that is let in has an event, refusals have a few, and there is nothing of it unless it is wanted.
func TestGuardedRequestsAreLogged(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, home))
	token := s.token(t)
	ask := func(url, token string) (int, http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Request-Id", "chosen by a stranger")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		status, header, _ := exchange(t, plain(t), r)
		return status, header
	}
	ask(s.url+"/who?hidden", token)
	ask(s.internal+"/auth", token)
	if lines := s.log.records(t, "guarded request"); len(lines) != 0 {
		t.Fatalf("nobody wants them: %v", lines)
	}
	if err := s.Reload(t.Context(), parse(t, home, "WAYBILL_LOG_GUARDED=true")); err != nil {
		t.Fatal(err)
	}
	party := string(players().consumer.ID())
	for _, c := range []struct {
		url, token     string
		route, outcome string
		status         int
	}{
		{url: s.url + "/who?hidden", token: token, route: "GET /who", outcome: "admitted", status: 200},
		{url: s.url + "/who?hidden", route: "GET /who", outcome: "no_token", status: 401},
		{url: s.internal + "/auth?scope=iSHARE", token: token, route: "/auth", outcome: "admitted", status: 200},
		{url: s.internal + "/auth?scope=orders", token: token, route: "/auth", outcome: "insufficient_scope", status: 403},
		{url: s.internal + "/envoy/hidden?hidden", token: token, route: "/auth", outcome: "admitted", status: 200},
		{url: s.internal + "/auth", token: "x" + token, route: "/auth", outcome: "invalid_token", status: 401},
		{url: s.url + "/capabilities", token: token, route: "/capabilities", outcome: "admitted", status: 200},
		{url: s.url + "/panic", token: token, route: "GET /panic", outcome: "admitted", status: 500},
	} {
		before := len(s.log.records(t, "guarded request"))
		status, header := ask(c.url, c.token)
		lines := s.log.records(t, "guarded request")
		if len(lines) != before+1 || status != c.status {
			t.Fatalf("%s: status %d, %d lines", c.url, status, len(lines)-before)
		}
		line := lines[before]
		want := map[string]any{"route": c.route, "outcome": c.outcome, "status": float64(c.status)}
		if c.outcome == "admitted" {
			want["party"], want["client_id"] = party, party
		}
		got := map[string]any{}
		for _, name := range []string{"route", "outcome", "status", "party", "client_id"} {
			if value, ok := line[name]; ok {
				got[name] = value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", c.url, diff)
		}
		tokenID, _ := line["token_id"].(string)
		took, _ := line["duration_ms"].(float64)
		if (tokenID != "") != (c.outcome == "admitted") || took <= 0 || line["remote"] == nil {
			t.Errorf("%s: %v", c.url, line)
		}
		if id := line["correlation"]; id == "" || id != header.Get("X-Request-Id") {
			t.Errorf("%s: the log has %v, the answer %v", c.url, id, header)
		}
	}
	for range 50 {
		ask(s.url+"/who", "")
	}
	if n := len(s.log.records(t, "guarded request")); n > 8+5 {
		t.Errorf("%d lines for what a stranger did", n)
	}
	if text := s.log.String(); strings.Contains(text, "hidden") || strings.Contains(text, "chosen by a stranger") || leaked(text, token[10:]) != "" {
		t.Error("the log holds what it must not")
	}
}
