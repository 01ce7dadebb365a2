package proxy

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

func mustURL(tb testing.TB, text string) *url.URL {
	tb.Helper()
	u, err := url.Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// routesOf are those of a proxy with the routes, and /connect/token as a path of its own.
func routesOf(tb testing.TB, routes ...Route) routeTable {
	tb.Helper()
	p, err := New(Config{Checker: anyone{}, Log: slog.New(slog.DiscardHandler), Routes: routes, OwnPaths: []string{"/connect/token"}})
	if err != nil {
		tb.Fatal(err)
	}
	return p.routes
}

// spellings are paths that programs read in different ways, each below /ngsi-ld by the letter.
var spellings = []string{
	"/ngsi-ld/v1/entities/urn%3Angsi-ld%3AX/attrs/https%3A%2F%2Furi.etsi.org%2Fngsi-ld%2Fname",
	"/ngsi-ld/v1/types/https%3A%2F%2Fexample.org%2Fschema%23Room",
	"/ngsi-ld/v1/entities/urn:ngsi-ld:Room:1/attrs/https%3a%2f%2fexample.org%2fname",
	"/ngsi-ld/a;b=1/c;d", "/ngsi-ld//x///y/", "/ngsi-ld/%2F", "/ngsi-ld/a%5Cb", "/ngsi-ld/x%3Fy%23z", "/ngsi-ld/%252F", "/ngsi-ld/a.b..c/.hid%2Eden", "/ngsi-ld/x%00", "/ngsi-ld/%20/x",
	"/ngsi-ld/%EF%BC%8Fx", "/%6Egsi-ld/x%2Fy", "/%6E%67%73%69%2D%6C%64/x%2Fy",
}

// ways out of /ngsi-ld, for some program.
var climbing = []string{
	"/ngsi-ld/../admin", "/ngsi-ld/..", "/ngsi-ld/./x", "/ngsi-ld/%2e%2e/admin", "/ngsi-ld/.%2E/admin", "/ngsi-ld/..%2Fadmin", "/ngsi-ld/x%2F..%2F..%2Fadmin", "/ngsi-ld/%252e%252e/admin",
	"/ngsi-ld/..%252Fadmin", "/ngsi-ld/%25252e%25252e%25252fadmin", "/ngsi-ld/..;/admin", "/ngsi-ld/..;x=1/admin", "/ngsi-ld/..%3Bx/admin", `/ngsi-ld/..\admin`, "/ngsi-ld/..%5Cadmin",
	"/ngsi-ld/x%5C..%5C..%5Cadmin", "/ngsi-ld/..%00/admin", "/ngsi-ld/..%00x", "/ngsi-ld/..%20/admin", "/ngsi-ld/..%20x", "/ngsi-ld/%20..%09x", "/ngsi-ld/.%20./admin", "/ngsi-ld/.%09./admin", "/ngsi-ld/.%0A./admin",
	"/ngsi-ld/..%C2%A0/admin", "/ngsi-ld/..%E2%80%8B/admin", "/ngsi-ld/．．/admin", "/ngsi-ld/%EF%BC%8E%EF%BC%8E%EF%BC%8Fadmin", "/ngsi-ld/‥/admin", "/ngsi-ld/..／admin", "/ngsi-ld/x＼..＼..＼admin",
	"/ngsi-ld/%25u002e%25u002e/admin", "/ngsi-ld/%c0%ae%c0%ae/admin", "/ngsi-ld/..%3Fx", "/ngsi-ld/..%23", "/ngsi-ld/..::$DATA/admin", "/ngsi-ld//../admin", "/ngsi-ld/%2F../admin", "/ngsi-ld/;/../admin",
	"/ngsi-ld/..%E2%88%95admin", "/ngsi-ld/..¥admin", "/ngsi-ld/x%E2%81%84..", "/ngsi-ld/(S(x))./(S(x))./admin", "/ngsi-ld/.%28s%28x))./admin",
	"/ngsi-ld/%2525252525252e", "/ngsi-ld%2F..%2Fadmin", "/ngsi-ld;/../admin", "/ngsi-ld/a%2F%2e%2e%2f%2e%2e", "/x/..%2Fngsi-ld/y",
}

// paths that are not below /ngsi-ld by the letter, and for some program are.
var elsewhere = []string{"//ngsi-ld/x%2Fy", "/%256Egsi-ld/x%2Fy", "/NGSI-LD/x%2Fy", "/ngsi%2Dld%2Fx", "/x;/ngsi-ld/y"}

// Which spellings pass where, and by which route.
func TestOpaquePaths(t *testing.T) {
	one, other := mustURL(t, "http://broker:1026"), mustURL(t, "http://shop:3000")
	for _, c := range []struct {
		name                        string
		routes                      []Route
		passes, elsewhere, climbers bool
	}{
		{"the only route", []Route{{Path: "/", Upstream: one}}, true, true, true},
		{"the only route, exact", []Route{{Path: "/", Upstream: one, Paths: PathsExact}}, false, false, false},
		{"the only route, below a path", []Route{{Path: "/ngsi-ld", Upstream: one}}, true, false, false},
		{"the only route, to a path of the upstream", []Route{{Path: "/", Upstream: mustURL(t, "http://broker/base/")}}, true, true, false},
		{"two routes with one demand", []Route{{Path: "/ngsi-ld", Upstream: one, Scope: []string{"a", "b"}}, {Path: "/x", Upstream: one, Scope: []string{"b", "a", "b"}}}, true, false, false},
		{"two demands", []Route{{Path: "/ngsi-ld", Upstream: one}, {Path: "/admin", Upstream: one, Scope: []string{"admin"}}}, false, false, false},
		{"two upstreams", []Route{{Path: "/ngsi-ld", Upstream: one}, {Path: "/admin", Upstream: other}}, false, false, false},
		{"two demands, opaque", []Route{{Path: "/ngsi-ld", Upstream: one, Paths: PathsOpaque}, {Path: "/admin", Upstream: other, Scope: []string{"admin"}}}, true, false, false},
		{"two demands above, opaque", []Route{{Path: "/ngsi-ld", Upstream: one, Paths: PathsOpaque}, {Path: "/", Upstream: other, Scope: []string{"admin"}}}, true, false, false},
		{"the stricter one is opaque", []Route{{Path: "/ngsi-ld", Upstream: one, Paths: PathsOpaque, Scope: []string{"a", "b"}}, {Path: "/x", Upstream: one, Scope: []string{"a"}}}, true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := routesOf(t, c.routes...)
			for list, want := range map[*[]string]bool{&spellings: c.passes, &elsewhere: c.elsewhere, &climbing: c.climbers} {
				for _, text := range *list {
					u, err := url.ParseRequestURI(text)
					if err != nil {
						t.Fatal(err)
					}
					entry, rejectReason := l.lookup(pathText(u))
					passed := rejectReason == "" && entry != nil && entry.proxy != nil
					if passed != want {
						t.Errorf("%s: passes %t (%s)", text, passed, rejectReason)
					}
					if passed && list != &elsewhere && entry.path != strings.TrimSuffix(c.routes[0].Path, "/") {
						t.Errorf("%s: by the route %q", text, entry.path)
					}
				}
			}
		})
	}
}

// A route must not be opaque beside one whose demand a spelling could avoid.
func TestRoutesThatCannotBeOpaque(t *testing.T) {
	u := func(text string) *url.URL { return mustURL(t, text) }
	for name, routes := range map[string][]Route{
		"same upstream":                  {{Path: "/a", Upstream: u("http://h:80/x"), Paths: PathsOpaque}, {Path: "/b", Upstream: u("http://h/y"), Scope: []string{"b"}}},
		"same upstream in other letters": {{Path: "/a", Upstream: u("http://h"), Paths: PathsOpaque}, {Path: "/b", Upstream: u("http://H.:080"), Scope: []string{"b"}}},
		"other scheme":                   {{Path: "/a", Upstream: u("http://h:443"), Paths: PathsOpaque}, {Path: "/b", Upstream: u("https://h"), Scope: []string{"b"}}},
		"names of loopback":              {{Path: "/a", Upstream: u("http://127.0.0.1:3000"), Paths: PathsOpaque}, {Path: "/b", Upstream: u("http://localhost:3000"), Scope: []string{"b"}}},
		"another name of loopback":       {{Path: "/a", Upstream: u("http://[::1]:3000"), Paths: PathsOpaque}, {Path: "/b", Upstream: u("http://0.0.0.0:3000"), Scope: []string{"b"}}},
		"an address within another":      {{Path: "/a", Upstream: u("http://10.0.0.1"), Paths: PathsOpaque}, {Path: "/b", Upstream: u("http://[::ffff:10.0.0.1]"), Scope: []string{"b"}}},
		"another demand":                 {{Path: "/a", Upstream: u("http://h"), Scope: []string{"a"}, Paths: PathsOpaque}, {Path: "/b", Upstream: u("http://h"), Scope: []string{"b"}}},
		"preflight":                      {{Path: "/a", Upstream: u("http://h"), Paths: PathsOpaque, Preflight: true}, {Path: "/b", Upstream: u("http://h")}},
		"below, elsewhere":               {{Path: "/a", Upstream: u("http://h"), Paths: PathsOpaque}, {Path: "/a/b", Upstream: u("http://i"), Scope: []string{"b"}}},
		"below the root":                 {{Path: "/", Upstream: u("http://h"), Paths: PathsOpaque}, {Path: "/a/b/", Upstream: u("http://i"), Scope: []string{"b"}}},
	} {
		c := Config{Checker: anyone{}, Log: slog.New(slog.DiscardHandler), Routes: routes}
		_, err := New(c)
		refused, _ := errors.AsType[RouteErrors](err)
		if len(refused) != 1 || refused[0].Index != 0 || !errors.Is(refused[0].Err, ErrPaths) {
			t.Errorf("%s: %v", name, err)
		}
		c.Routes[0].Paths = PathsAuto
		if p, err := New(c); err != nil || slices.ContainsFunc(p.routes, func(p *routeEntry) bool { return p.route.Paths == PathsOpaque }) {
			t.Errorf("%s: opaque by itself, or %v", name, err)
		}
	}
}

// What passes by an opaque route is sent as it came.
func TestOpaquePathIsPassedOnAsItIs(t *testing.T) {
	var got string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }))
	defer upstream.Close()
	for _, base := range []string{"", "/"} {
		p, err := New(Config{Checker: anyone{}, Log: slog.New(slog.DiscardHandler), Routes: []Route{{Path: "/", Upstream: mustURL(t, upstream.URL+base)}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range append(slices.Concat(spellings, climbing, elsewhere), "//x/y", "///", "/%", "/a[b]?c=%2F;&d", "/connect/token", "/connect%2Ftoken") {
			u, err := url.ParseRequestURI(text)
			if err != nil {
				continue
			}
			got = ""
			r := httptest.NewRequest(http.MethodGet, "http://public.example/", nil)
			r.URL = u
			r.Header.Set("Authorization", "Bearer x")
			p.ServeHTTP(httptest.NewRecorder(), r)
			want := pathText(u)
			if u.RawQuery != "" {
				want += "?" + u.RawQuery
			}
			if got != want || !strings.ContainsFunc(text, func(r rune) bool { return r > '~' || r == '\\' }) && got != text {
				t.Errorf("%s became %s", text, got)
			}
		}
	}
}

// FuzzOpaquePath holds a path that an opaque route passes on to what programs would make of it: none
// of them is led out of the route's path.
func FuzzOpaquePath(f *testing.F) {
	for _, seed := range slices.Concat(spellings, climbing, elsewhere) {
		f.Add(seed)
	}
	l := routesOf(f,
		Route{Path: "/ngsi-ld", Upstream: mustURL(f, "http://broker"), Paths: PathsOpaque},
		Route{Path: "/admin", Upstream: mustURL(f, "http://shop"), Scope: []string{"admin"}})
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			return
		}
		entry, rejectReason := l.lookup(pathText(u))
		if rejectReason != "" || entry == nil || entry.path != "/ngsi-ld" {
			return
		}
		for _, reading := range carelessReadings(pathText(u)) {
			plain, err := url.PathUnescape(reading) // who does not decode takes /%6Egsi-ld for another name, which is no way out
			if !covers("/ngsi-ld", reading) && (err != nil || !covers("/ngsi-ld", plain)) {
				t.Fatalf("%q passes, and some upstream reads %q", text, reading)
			}
		}
	})
}

// carelessReadings are ways in which programs read a path, decoding it again and again: each sees
// segments and ends of its own.
func carelessReadings(text string) []string {
	var readings []string
	for range 6 {
		for _, ends := range []string{"", "?#", "\x00", "\x00?#;", " \t\r\n"} {
			cut := text
			if i := strings.IndexAny(text, ends); i >= 0 {
				cut = text[:i]
			}
			for _, s := range []string{
				cut, norm.NFKC.String(cut), trimmed(cut), strings.ReplaceAll(cut, `\`, "/"), withoutParameters(cut), withoutParameters(strings.ReplaceAll(norm.NFKC.String(cut), `\`, "/")),
				strings.Map(func(r rune) rune {
					if isBlank(r) {
						return -1
					}
					return r
				}, cut),
			} {
				readings = append(readings, path.Clean("/"+s))
			}
		}
		decoded, err := url.PathUnescape(text)
		if err != nil {
			break
		}
		text = decoded
	}
	return readings
}

// withoutParameters cuts the path parameters off each segment, as servlets do.
func withoutParameters(text string) string {
	segments := strings.Split(text, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}
