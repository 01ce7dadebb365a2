package explain

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
)

var update = flag.Bool("update", false, "write what is printed into the files that hold it")

// withNothing judges as for somebody who has nothing but the assertion.
func withNothing(t *testing.T) Options {
	t.Helper()
	e, err := assertion.NewExplainer(assertion.Config{}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Judge: func(ctx context.Context, r assertion.Request, at time.Time) (*provider.Explanation, error) {
			return &provider.Explanation{Report: e.ExplainRequest(ctx, r, at)}, nil
		},
		Give: map[string]string{
			assertion.NeedsAudience: "--audience", assertion.NeedsTrust: "--trust-anchor", assertion.NeedsParties: "--parties",
			assertion.NeedsRevocation: "--config", assertion.NeedsScopes: "--config",
		},
	}
}

// later is some time after the assertions in testdata were made.
var later = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// What people have in their hands when they are stuck, and what they read then: everything that is wrong, with its mend.
func TestWhatPeopleHave(t *testing.T) {
	t.Parallel()
	inputs, err := filepath.Glob("testdata/*.in")
	if err != nil || len(inputs) < 12 {
		t.Fatalf("%d inputs, %v", len(inputs), err)
	}
	for _, path := range inputs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		in, err := Read(string(text))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		o := withNothing(t)
		if at, why := judgedAt(in, time.Time{}, later); strings.Contains(why, "it was made, ") {
			o.At = at
		} else {
			o.At = later
		}
		view, err := Explain(t.Context(), in, o)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := view.WriteText(&got, false); err != nil {
			t.Fatal(err)
		}
		_, below, _ := strings.Cut(got.String(), "\n")
		for line := range strings.SplitSeq(below, "\n") {
			if n := len([]rune(line)); n > Width {
				t.Errorf("%s: a line of %d characters: %s", path, n, line)
			}
		}
		for _, r := range view.Rules {
			if r.Outcome == assertion.Fail && (r.Detail == "" || r.Hint == "") {
				t.Errorf("%s: %s fails without a word", path, r.ID)
			}
		}
		golden := strings.TrimSuffix(path, ".in") + ".txt"
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// What is shown can be handed on: whoever reads it can use no assertion that is in it.
func TestNoSignatureIsShown(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good.in")
	if err != nil {
		t.Fatal(err)
	}
	in, err := Read(string(text))
	if err != nil {
		t.Fatal(err)
	}
	view, err := Explain(t.Context(), in, withNothing(t))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(in.Assertion, ".")
	var page, shown bytes.Buffer
	object, err := json.Marshal(view)
	if err := errors.Join(err, view.WriteHTML(&page), view.WriteText(&shown, false)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.String(), parts[0]) {
		t.Error("the page lacks the header as it was sent")
	}
	for _, said := range []string{page.String(), shown.String(), string(object)} {
		if strings.Contains(said, parts[2][:40]) {
			t.Errorf("the signature is in %.200s", said)
		}
	}
}

// Text, JSON and HTML show the same, whatever a stranger wrote.
func TestFormsAgree(t *testing.T) {
	t.Parallel()
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	in, err := Read(part(`{"alg":"\u001b[2J<script>","typ":"\u202e","<b>":"x","`+strings.Repeat("name ", 30)+`":1}`) + "." + part(`{"iss":"<img src=x>\u0007","iat":1}`) + "." + part("x"))
	if err != nil {
		t.Fatal(err)
	}
	view, err := Explain(t.Context(), in, withNothing(t))
	if err != nil {
		t.Fatal(err)
	}
	var text, coloured, page bytes.Buffer
	inAnother, err := view.HTML()
	for _, err := range []error{err, view.WriteText(&text, false), view.WriteText(&coloured, true), view.WriteHTML(&page)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if bytes.ContainsAny(text.Bytes(), "\x1b\x07") || bytes.Contains(text.Bytes(), []byte("\u202e")) {
		t.Errorf("it steers a terminal: %q", text.String())
	}
	plainText := coloured.String()
	for _, colour := range []string{red, green, yellow, bold, plain} {
		plainText = strings.ReplaceAll(plainText, colour, "")
	}
	if plainText != text.String() {
		t.Errorf("colours change the text: %s", cmp.Diff(text.String(), plainText))
	}
	for _, html := range []string{page.String(), string(inAnother)} {
		if strings.Contains(html, "<script") || strings.Contains(html, "<img") || strings.Contains(html, "<b>") || strings.Contains(html, "http:") {
			t.Errorf("the page holds what a stranger wrote: %s", html)
		}
		for _, r := range view.Rules {
			if r.Outcome == assertion.Fail && (!strings.Contains(html, r.ID) || !strings.Contains(text.String(), "FAIL    "+r.ID+" ")) {
				t.Errorf("%s is missing", r.ID)
			}
		}
	}
	_, below, _ := strings.Cut(text.String(), "\n")
	for line := range strings.SplitSeq(below, "\n") {
		if n := len([]rune(line)); n > Width {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	if len(view.Rules) != len(rule.All()) {
		t.Errorf("%d rules", len(view.Rules))
	}
}

// What a status service said is told once.
func TestStatusOf(t *testing.T) {
	t.Parallel()
	got := statusOf(revocation.Status{Index: 1, Source: "CRL", Address: "http://x", Revoked: "is revoked since 2026"})
	if want := "x5c[1] CRL http://x: is revoked since 2026"; got != want {
		t.Errorf("%q", got)
	}
}
