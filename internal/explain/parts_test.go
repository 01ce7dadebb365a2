package explain

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/rule"
)

// Whatever is taken apart, it ends, and what is shown can be shown.
func FuzzParts(f *testing.F) {
	for _, seed := range []string{
		"", ".", "..", "a.b.c", "eyJhbGciOiJSUzI1NiJ9.eyJpYXQiOjE3NjQ0ODc4NTYsImV4cCI6MTc2NDQ4Nzg4Nn0.AAAA",
		"eyJhbGciOiJub25lIiwiYWxnIjoxfQ==.eyJpYXQiOjFlNDAwfQ.", strings.Repeat(".", 100), "\xff.\xff.\xff", "eyJpYXQiOi0xZTk5fQ",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, compact string) {
		in := OfRequest(&http.Request{Method: http.MethodPost, URL: &url.URL{}}, []byte(url.Values{"client_assertion": {compact}}.Encode()))
		parts := partsOf(in)
		if len(parts) > maxParts {
			t.Errorf("%d parts", len(parts))
		}
		v := Unjudged()
		for i := range v.Rules {
			v.Rules[i].Outcome = assertion.Fail
		}
		if len(parts) == len(partNames) {
			v.saySent(parts[0].Encoded, parts[1].Encoded)
		}
		for _, p := range parts {
			if len(p.Decoded) > maxDecoded+utf8.UTFMax || strings.ContainsAny(p.Decoded+p.Encoded, "\x1b\x00\r") {
				t.Errorf("part %q", p.Decoded)
			}
		}
		for _, r := range v.Rules {
			if strings.ContainsAny(r.Sent, "\x1b\x00\r\n") || len(r.Sent) > (maxFields+1)*(maxValue+10)*utf8.UTFMax {
				t.Errorf("sent %q", r.Sent)
			}
		}
		if _, err := v.HTML(); err != nil {
			t.Error(err)
		}
	})
}

// A rule that fails says what was sent of what it is about.
func TestSent(t *testing.T) {
	t.Parallel()
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	in, err := Read(part(`{"alg":"none","kid":"1","typ":"JWT"}`) + "." + part(`{"iss":"x","iat":1,"exp":4000}`) + ".")
	if err != nil {
		t.Fatal(err)
	}
	view, err := Explain(t.Context(), in, withNothing(t))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"jwt.alg": `alg: "none"`, "jwt.x5c": "no x5c", "jwt.header-parameter": "alg, kid, typ", "claim.lifetime": "iat: 1, exp: 4000",
		"claim.iss": `iss: "x"`, "claim.jti": "no jti", "jwt.typ": "",
	}
	for _, r := range view.Rules {
		if sent, ok := want[r.ID]; ok && r.Sent != sent {
			t.Errorf("%s: %q, want %q", r.ID, r.Sent, sent)
		}
	}
}

// A server stops at the first rule that fails: what it did not ask did not hold, whatever was found out afterwards.
func TestDecided(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	judged := func() *View {
		v := Unjudged()
		for i := range v.Rules {
			v.Rules[i].Outcome = assertion.Pass
		}
		last := &v.Rules[len(v.Rules)-3]
		last.Outcome, last.Detail, last.Hint = assertion.Fail, "a sentence", "a mend"
		return v
	}
	outcomes := func(v *View) (all []assertion.Outcome) {
		for _, r := range v.Rules {
			all = append(all, r.Outcome)
		}
		return all
	}
	n := len(rule.All())
	i := slices.Index(rule.All(), rule.ClaimAud)

	v := judged()
	v.Decided(at, rule.ClaimAud, "aud is \x1b", "")
	want := slices.Repeat([]assertion.Outcome{assertion.Pass}, i)
	want = append(append(want, assertion.Fail), slices.Repeat([]assertion.Outcome{assertion.Skipped}, n-i-1)...)
	want[n-3] = assertion.Fail
	if got := outcomes(v); !slices.Equal(got, want) {
		t.Errorf("refused: %v", got)
	}
	if r := v.Rules[i]; v.Verdict != Rejected || v.Rule != r.ID || r.Detail != "aud is ?" || r.Hint != rule.ClaimAud.Hint || v.Hint != r.Hint || r.Spec == "" {
		t.Errorf("refused: %+v by %+v", v, r)
	}

	v = judged()
	v.Decided(at, rule.All()[n-3], "sent", "")
	if r := v.Rules[n-3]; r.Hint != "a mend" || v.Hint != "a mend" || r.Detail != "sent" {
		t.Errorf("the mend that fits is lost: %+v", r)
	}

	v = judged()
	v.Decided(at, nil, "", "")
	if got := outcomes(v); v.Verdict != Accepted || !slices.Equal(got, slices.Repeat([]assertion.Outcome{assertion.Pass}, n)) {
		t.Errorf("accepted: %v", got)
	}

	v = Unjudged()
	v.Decided(at, rule.UnavailableRegistry, "the registry is away", "")
	if got := outcomes(v); v.Verdict != Undecided || v.Rule != rule.UnavailableRegistry.ID || v.Hint == "" || slices.Contains(got, assertion.Pass) {
		t.Errorf("an outage: %+v", v)
	}
}
