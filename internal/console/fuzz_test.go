package console

import (
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Whatever is taken apart, it ends, and what is shown can be shown.
func FuzzJWTView(f *testing.F) {
	for _, seed := range []string{
		"", ".", "..", "a.b.c", "eyJhbGciOiJSUzI1NiJ9.eyJpYXQiOjE3NjQ0ODc4NTYsImV4cCI6MTc2NDQ4Nzg4Nn0.AAAA",
		"eyJhbGciOiJub25lIiwiYWxnIjoxfQ==.eyJpYXQiOjFlNDAwfQ.", strings.Repeat(".", 100), "\xff.\xff.\xff", "eyJpYXQiOi0xZTk5fQ",
	} {
		f.Add(seed)
	}
	now := time.Unix(1764487856, 0)
	f.Fuzz(func(t *testing.T, compact string) {
		v := newJWTView(compact, nil, now)
		if len(v.Parts) > maxParts {
			t.Errorf("%d parts", len(v.Parts))
		}
		for _, p := range v.Parts {
			if len(p.Decoded) > maxDecoded+utf8.UTFMax || strings.ContainsAny(p.Decoded, "\x1b\x00\r") {
				t.Errorf("part %q", p.Decoded)
			}
		}
		for _, said := range sentParts(compact) {
			if strings.ContainsAny(said, "\x1b\x00\r\n") {
				t.Errorf("sent %q", said)
			}
		}
	})
}

// A form is a draft, or it is said what is wrong.
func FuzzDraft(f *testing.F) {
	f.Add("header-name=alg&header-value=1&claim-name=&claim-value=")
	f.Add("header-name=a&header-name=b&header-value=")
	f.Add("claim-value=1")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		if d, problem := draftOf(form); problem == "" && (len(d.Header) > maxFields+spare || len(d.Claims) > maxFields+spare) {
			t.Errorf("%d and %d fields", len(d.Header), len(d.Claims))
		}
	})
}
