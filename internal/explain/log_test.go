package explain

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/rule"
)

// An event of either form of log is found, whatever stands before it, and shown as the walk up to the rule that refused.
func TestFromLog(t *testing.T) {
	t.Parallel()
	write := func(h func(*bytes.Buffer) slog.Handler) string {
		var b bytes.Buffer
		log := slog.New(h(&b))
		log.Info("token request", "outcome", "refused", "rule", "claim.aud", "cause", "claim.aud: aud is \"x\": it = wrong", "hint", "Set aud.", "correlation", "ABC", "client_id", "did:ishare:a")
		log.Warn("token request", "outcome", "unavailable", "rule", "unavailable.registry", "cause", "unavailable.registry: out of reach", "correlation", "DEF")
		log.Error("token request", "outcome", "failed", "rule", "internal", "cause", "disk full: no: space", "correlation", "JKL")
		log.Warn("something else", "correlation", "MNO")
		log.Warn("token request", "outcome", "refused", "rule", "claim.iss", "cause", "claim.iss: x", "correlation", "MNO")
		log.Warn("token request", "outcome", "refused", "rule", "of.another-version", "correlation", "GHI")
		return b.String()
	}
	for form, log := range map[string]string{
		"JSON": write(func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) }),
		"text": write(func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) }),
	} {
		for _, around := range []string{"%s", "Nov 30 08:00:00 host waybill[1]: %s", "host {a} x{y: %s", "json"} {
			var all []string
			for line := range strings.SplitSeq(strings.TrimSpace(log), "\n") {
				if around == "json" { // as journalctl -o json and Docker have it
					all = append(all, `{"MESSAGE":`+strconv.Quote(line)+`}`)
				} else {
					all = append(all, fmt.Sprintf(around, line))
				}
			}
			log := strings.Join(all, "\n")
			view, err := FromLog(strings.NewReader(log), "ABC")
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			if view.Verdict != Rejected || view.Rule != "claim.aud" || view.Sentence != `aud is "x": it = wrong` || view.Hint != "Set aud." || len(view.Rules) != len(rule.All()) {
				t.Errorf("%s: %+v", form, view)
			}
			want := assertion.Pass
			for _, r := range view.Rules {
				if r.ID == "claim.aud" {
					if r.Outcome != assertion.Fail {
						t.Errorf("%s: %+v", form, r)
					}
					want = assertion.Skipped
				} else if r.Outcome != want {
					t.Errorf("%s: %s is %s, want %s", form, r.ID, r.Outcome, want)
				}
			}
			if view, err = FromLog(strings.NewReader(log), "DEF"); err != nil || view.Verdict != Undecided || view.Rule != "unavailable.registry" || view.Hint == "" {
				t.Errorf("%s: %v, %+v", form, err, view)
			}
			if view, err = FromLog(strings.NewReader(log), "JKL"); err != nil || view.Verdict != Undecided || view.Sentence != "disk full: no: space" {
				t.Errorf("%s: %v, %+v", form, err, view)
			}
			if view, err = FromLog(strings.NewReader(log), "MNO"); err != nil || view.Rule != "claim.iss" {
				t.Errorf("%s: %v, %+v", form, err, view)
			}
			for id, want := range map[string]string{"GHI": "not known: another version", "AB": "no event with this id", "claim.aud": "no event"} {
				if _, err := FromLog(strings.NewReader(log), id); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %s: %v", form, id, err)
				}
			}
		}
	}
	if _, err := FromLog(strings.NewReader(strings.Repeat("x", 2*maxLine)), "A"); err == nil || errors.Is(err, ErrNotInLog) {
		t.Errorf("a line without end: %v", err)
	}
}

func TestReadToken(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"abc.def", " abc.def\n", `"abc.def"`, "Bearer abc.def", "Authorization: Bearer abc.def", `"Authorization: Bearer abc.def"`, "'Bearer abc.def',",
		`{"access_token":"abc.def","token_type":"Bearer"}`, "curl https://x -H 'Authorization: Bearer abc.def'", "$ curl -H 'authorization:bearer abc.def' https://x",
		"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abc.def\r\n\r\n", "abc.\r\n  def", littleEndian("abc.def"),
	} {
		if got, err := ReadToken(text); got != "abc.def" || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	const token = "eyJhbGciOiJkaXIifQ..AA.AA.AA"
	for _, text := range []string{
		"> " + token, "token=" + token, `const t = "` + token + `";`, "http GET https://x 'Authorization:Bearer " + token + "'",
		"me$ time curl -s -H 'Authorization: Bearer " + token + "' https://x | jq", "curl --oauth2-bearer " + token + " https://x",
	} {
		if got, err := ReadToken(text); got != token || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := ReadToken(" \n"); !errors.Is(err, ErrEmpty) {
		t.Errorf("%v", err)
	}
}

// FuzzFromLog: whatever stands in a log, and whatever somebody pastes as a token, it is read to an end.
func FuzzFromLog(f *testing.F) {
	for _, seed := range []string{`{"correlation":"A","rule":"claim.aud","cause":"claim.aud: b"}`, `correlation=A rule=claim.aud cause="a: \"b"`, "{", "a=\"", "curl -H", "Bearer"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if view, err := FromLog(strings.NewReader(text), "A"); err == nil {
			if err := view.WriteText(new(bytes.Buffer), true); err != nil {
				t.Error(err)
			}
		}
		if token, err := ReadToken(text); err == nil && (token == "" || strings.ContainsAny(token, " \n")) {
			t.Errorf("%q", token)
		}
	})
}
