package authority_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/authority"
)

func TestValid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"provider.example": true, "Provider.Example.": true, "provider.example:8443": true, "localhost:": true, "10.0.0.1:80": true,
		"[::1]": true, "[2001:db8::1]:443": true, "my_api-1:3000": true, "xn--bcher-kva.example": true, strings.Repeat("a", 253) + ":65535": true,
		"": false, ":80": false, "a/b": false, "a/": false, "user@a": false, "user:pw@a": false, "a?b": false, "a#b": false, `a\b`: false, "a b": false, "a,b": false,
		"a:80:90": false, "a:8o": false, "a:123456": false, "a:80/x": false, "a:+80": false, "[::1": false, "::1": false, "[10.0.0.1]": false, "[::1%25eth0]": false, "[::1%eth0]": false,
		"[::1]x": false, "[::1]:80/": false, "[]": false, "bücher.example": false, "a%2fb": false, "a;b": false, "a\x00": false, "a\r\nb": false, "a'b": false, "(a)": false, "*": false,
		strings.Repeat("a", 260): false,
	} {
		if got := authority.Valid(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host string
		url  url.URL
		good bool
	}{
		{"a", url.URL{Path: "/"}, true},
		{"", url.URL{Path: "/"}, true}, // HTTP/1.0
		{"a", url.URL{Scheme: "http", Host: "a", Path: "/"}, true},
		{"a/b", url.URL{Path: "/"}, false},
		{"u@a", url.URL{Path: "/"}, false},
		{"a", url.URL{Scheme: "http", Host: "a", User: url.User("u"), Path: "/"}, false},
		{"a", url.URL{Scheme: "http", Host: "b", Path: "/"}, false},
		{"", url.URL{Scheme: "http", Host: "b", Path: "/"}, false},
	} {
		if got := authority.Check(&http.Request{Host: c.host, URL: &c.url}); (got == "") != c.good {
			t.Errorf("%q %v: %q", c.host, &c.url, got)
		}
	}
}

// FuzzValid holds what is accepted to what a URL makes of it.
func FuzzValid(f *testing.F) {
	for _, seed := range []string{"a", "a:80", "[::1]:80", "u@a", "a/b", "a:80:90", "[::1%25x]", "a?b", "a#b", "A_b."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !authority.Valid(text) {
			return
		}
		u, err := url.Parse("http://" + text + "/path")
		if err != nil || u.Host != text || u.User != nil || u.Path != "/path" {
			t.Errorf("%q is accepted, and a URL with it is %v: %v", text, u, err)
		}
	})
}
