package problem_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/waybill-token/waybill/internal/problem"
)

func TestText(t *testing.T) {
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2ln"
	for _, test := range []struct{ name, body, want string }{
		{"empty", "", ""},
		{"blanks", " \r\n", ""},
		{"RFC 6749", `{"error":"invalid_client","error_description":"no such party"}`, "no such party; invalid_client"},
		{"three members", `{"code":400,"description":"Unknown client_id in request","message":"Bad Request"}`, "Unknown client_id in request; Bad Request"},
		{"nested", `{"error":{"code":"E17","message":"party not found"}}`, "party not found; E17"},
		{"info", `{"message":"Could not verify","info":{"reason":"subject"}}`, "Could not verify; subject"},
		{"list", `{"errors":[{"detail":"a"},{"detail":"b"},"c","d","e"]}`, "a; b; c; d"},
		{"RFC 9457", `{"type":"about:blank","title":"Bad Request","detail":"client_id is unknown"}`, "client_id is unknown; Bad Request"},
		{"text in JSON", `"Invalid client_assertion."`, "Invalid client_assertion."},
		{"other members", `{"access_token":"geheim","token":"geheim","session":{"message":"geheim"}}`, ""},
		{"the same twice", `{"message":"no","title":"no"}`, "no"},
		{"too deep", `{"error":{"error":{"error":{"error":{"message":"no"}}}}}`, ""},
		{"a name twice", `{"message":"a","message":"b"}`, ""},
		{"plain", "Certificate chain\n is not trusted.\n", "Certificate chain is not trusted."},
		{"HTML", "<html><head><title>502 Bad&nbsp;Gateway</title><style>p{}</style></head><body><script>x()</script><!-- c --><p>nginx &amp; co</body>", "502 Bad Gateway nginx & co"},
		{"HTML without an end", "<html>sorry<a href='", "sorry"},
		{"control characters", "a\x1b[31mb\u202ec\xff", "a?[31mb?c?"},
		{"JWT", "token " + jwt + " is bad", "token [removed] is bad"},
		{"long run", strings.Repeat("a", 200), "[removed]"},
		{"fingerprint", strings.Repeat("ab", 32), strings.Repeat("ab", 32)},
		{"long", strings.Repeat("no ", 1000), strings.Repeat("no ", 166) + "no…"},
	} {
		if got := problem.Text([]byte(test.body)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// What begins again and again and never ends is read once.
func TestMarkupWithoutEnd(t *testing.T) {
	for _, begin := range []string{"<script>", "<style>", "<!--", "<a b='"} {
		if got := problem.Text([]byte("<p>no " + strings.Repeat(begin+"x ", 1000))); got != "no" {
			t.Errorf("%s: %q", begin, got)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"", `{"error":{"message":"no"}}`, `["a",["b"]]`, "<html><p>a", "plain", `"\ud800"`, "<script>", "eyJhbGciOiJSUzI1NiJ9.e30.AA", "\xff\xfe"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := problem.Text(body)
		if n := utf8.RuneCountInString(got); n > 501 || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%d characters: %q", n, got)
		}
	})
}
