package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/waybill-token/waybill/accesstoken"
)

// Each path is what stands in the request line.
func TestSuspiciousPaths(t *testing.T) {
	for _, text := range []string{
		"/../admin", "/api/../admin", "/api/..", "/./admin", "/api/.", "/api/.../x", "/..../x",
		"/%2e%2e/admin", "/%2E%2E/admin", "/.%2e/admin", "/%2e./admin", "/api/%2e%2e%2fadmin", "/file%2etxt",
		"//admin", "/api//admin", "/api//", "///",
		"/api%2fadmin", "/api%2Fadmin", "/api/..%2fadmin", "/api/%2f/admin",
		`/api\admin`, `/api\..\admin`, "/api%5cadmin", "/api%5C..%5cadmin",
		"/api;x/admin", "/api/..;/admin", "/api/;/admin", "/api%3b/admin", "/api%3Bx=1/../admin",
		"/%252e%252e/admin", "/api%252fadmin", "/api%255cadmin", "/%25252e/admin", "/api%253bx", "/a%25253fb",
		"/%25252525252541", // over and over
		"/api%00", "/api%0a", "/api%0d%0aX-Ishare-Party-Id:%20x", "/api%09", "/api%7f", "/api%1f", "/api%2500",
		"/api%3fx", "/api%23x", "/api#x", "/admin%253f",
		"/%c0%ae%c0%ae/admin", "/%c0%af", "/%e0%80%ae", "/%ff", "/a%25ff", "/%f0%82%82%ac",
		// Segments of dots and blanks.
		"/public/..%20/admin", "/public/..%20x", "/public/%20..%C2%A0x", "/public/.%20./admin", "/public/%20../admin", "/public/..%20%20/admin", "/public/%20/admin", "/public/.%20", "/%20",
		"/public/..%2520/admin", "/public/.%252520./admin", "/public/..%C2%A0/admin", "/public/%E3%80%80../admin", "/public/..%E2%80%8B/admin", "/public/%C2%85/x",
		// What becomes a dot, slash, backslash, semicolon, question mark, number sign or percent sign.
		"/public/．．/admin", "/public/%EF%BC%8E%EF%BC%8E/admin", "/public/%25EF%25BC%258E./admin", "/public/․./admin", "/public/‥/admin", "/public/a…",
		"/public/..／admin", "/public/x%EF%BC%8Fadmin", "/public/x＼admin", "/public/x﹨admin", "/public/x；admin", "/public/x;admin", "/public/x\u037eadmin",
		"/public/%25u002e%25u002e/admin", "/%25U0061dmin", "/admin::$INDEX_ALLOCATION/x", "/secret.txt::$DATA", "/secret.txt:%24DATA",
		// What becomes a slash or backslash in an old code page of Windows.
		"/public/..%E2%88%95admin", "/public⁄admin", "/public%E2%88%96admin", "/public/x%C2%A5admin", "/public%25E2%2582%25A9admin",
		// A session of ASP.NET.
		"/(S(abc))/admin", "/(a(1)f(2))/admin", "/%28S%28abc%29%29/admin", "/public/x(X(1))",
		"/admin？x", "/admin＃x", "/％2e％2e/admin", "/public/℀",
	} {
		r, err := http.NewRequest(http.MethodGet, "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = url.ParseRequestURI(text); err != nil {
			continue // refused before it comes to us
		}
		if got, rejectReason := canonicalize(pathText(r.URL)); rejectReason == "" {
			t.Errorf("%s is taken for %q", text, got.decoded)
		}
	}
	for _, u := range []*url.URL{{}, {Opaque: "x"}, {Path: "*"}, {Path: "admin"}, {Path: "x", RawPath: "%78"}} {
		if got, rejectReason := canonicalize(pathText(u)); rejectReason == "" {
			t.Errorf("%+v is taken for %q", u, got.decoded)
		}
	}
}

func TestPlainPaths(t *testing.T) {
	for text, plain := range map[string]string{
		"/":                              "/",
		"/api/":                          "/api/",
		"/api/.well-known/x..y/a.b.":     "/api/.well-known/x..y/a.b.",
		"/a%20b":                         "/a b",
		"/%C3%A9t%C3%A9":                 "/été",
		"/été":                           "/été",
		"/%61dmin":                       "/admin",
		"/10%25":                         "/10%",
		"/10%25off":                      "/10%off",
		"/parties/did:web:x.nl%253A8443": "/parties/did:web:x.nl%3A8443",
		"/a:b@c!$&'()*+,=~-_":            "/a:b@c!$&'()*+,=~-_",
		"/%2A":                           "/*",
		"/~user":                         "/~user",
		"/a%20.b%20c":                    "/a .b c",
		"/訂單/½/Ｗｉｄｅ":                     "/訂單/½/Ｗｉｄｅ",
		"/Orders(1)/Line(no=(2))":        "/Orders(1)/Line(no=(2))",
	} {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			t.Fatal(err)
		}
		got, rejectReason := canonicalize(pathText(u))
		if rejectReason != "" || got.decoded != plain {
			t.Errorf("%s: %q, %s; want %q", text, got.decoded, rejectReason, plain)
		}
	}
}

// The routes of these tests, and a path of our own.
func someRoutes(tb testing.TB) routeTable {
	tb.Helper()
	l, err := tableOf("/", "/admin/", "/api/v1", "/api", "/connect/token")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func tableOf(paths ...string) (l routeTable, err error) {
	for _, path := range paths {
		err = errors.Join(err, l.add(newRouteEntry(path)))
	}
	l.sort()
	return l, err
}

func TestLookup(t *testing.T) {
	l := someRoutes(t)
	for text, want := range map[string]string{
		"/": "", "/x": "", "/administrator": "", "/admin": "/admin", "/admin/": "/admin", "/admin/x/y": "/admin",
		"/%61dmin": "/admin", "/api": "/api", "/api/": "/api", "/api/v1": "/api/v1", "/api/v10": "/api", "/api/v1/x": "/api/v1",
		"/connect/token": "/connect/token", "/connect": "",
		// What could be taken for another path.
		"/ADMIN": "!", "/Admin/x": "!", "/admin.": "!", "/admin./x": "!", "/admin%20/x": "!", "/admin%20.": "!", "/api/V1": "!",
		"/%2541dmin": "!", "/%2561dmin/x": "!", "/adm%C4%B1n": "!", // dotless i, whose capital is I
		"/ａdmin": "!", "/adm%E2%93%98n/x": "!", "/admin%C2%A0/x": "!", "/%20admin": "!", "/%E3%80%80admin%E2%80%8B": "!", "/ad%E2%80%8Cmin": "!", "/ad%C2%ADmin/x": "!",
		// What a program may serve as another path.
		"/admin.json": "!", "/admin(1)": "!", "/admin:batch": "!", "/admin+x": "!", "/admin!": "!", "/admin~/x": "!", "/Admin.xml/x": "!", "/api/v1.1/x": "!", "/connect/token.json": "!",
		"/admin.json/x": "!", "/x/admin.json": "", "/admin-x": "", "/admin_x": "", "/admin2": "", "/adminé": "", "/api.json": "!", "/api/v1(2)": "!", "/api/v2.json": "/api",
		"/index.php/admin": "!", "/index.php/ADMIN/x": "!", "/index.php/admin.json": "!", "/app.php/api/v1/x": "!", "/api/index.php/v1": "!", "/x.y/connect/token": "!", "/a.b/c.d/admin": "",
		"/x/index.php/admin": "", "/index.php/x": "", "/index.php/": "", "/index.php": "", "/api/index.php/x": "/api", "/api/v1/index.php/admin": "/api/v1", "/x.y/administrator": "",
		"/admin/X": "/admin", "/API2": "", "/ａdministrator": "",
	} {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			t.Fatal(err)
		}
		got := "!"
		switch p, rejectReason := l.lookup(pathText(u)); rejectReason {
		case "":
			got = p.path
		case ambiguous:
		default:
			t.Errorf("%s: %s", text, rejectReason)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// The dots of a route's own path are the operator's.
func TestFindWithDots(t *testing.T) {
	l, err := tableOf("/", "/v1.1", "/orders", "/orders.json", "/v1.1/orders/x")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"/v1.1/orders": "/v1.1", "/orders.json": "/orders.json", "/orders.json/x": "/orders.json", "/orders": "/orders", "/v1.1/x.y/orders/x": "!", "/v1.1.1": "!", "/orders.xml": "!",
	} {
		p, rejectReason := l.lookup(text)
		if got := cmp.Or(strings.Repeat("!", min(1, len(rejectReason))), p.name()); got != want {
			t.Errorf("%s: %q (%s), want %q", text, got, rejectReason, want)
		}
	}
}

func (e *routeEntry) name() string {
	if e == nil {
		return ""
	}
	return e.path
}

// Parts of one server under two paths: one must not lead to what the other guards.
func TestRoutesThatLeadToOthers(t *testing.T) {
	u := func(text string) *url.URL { return mustURL(t, text) }
	strict := []string{"orders"}
	for name, c := range map[string]struct {
		routes []Route
		want   []int
	}{
		"from the root":            {[]Route{{Path: "/", Upstream: u("http://h")}, {Path: "/orders", Upstream: u("http://h/internal"), Scope: strict}}, []int{0}},
		"in another order":         {[]Route{{Path: "/orders", Upstream: u("http://h/internal"), Scope: strict}, {Path: "/", Upstream: u("http://h:80/")}}, []int{1}},
		"the same place":           {[]Route{{Path: "/b/a", Upstream: u("http://h"), Scope: strict}, {Path: "/a", Upstream: u("http://h/b/")}}, []int{1}},
		"in other letters":         {[]Route{{Path: "/", Upstream: u("http://h/A")}, {Path: "/orders", Upstream: u("http://h/a/b"), Scope: strict}}, []int{0}},
		"by a path between":        {[]Route{{Path: "/", Upstream: u("http://h"), Scope: strict}, {Path: "/internal", Upstream: u("http://h")}, {Path: "/orders", Upstream: u("http://h/internal"), Scope: strict}}, []int{1}},
		"preflight":                {[]Route{{Path: "/", Upstream: u("http://h"), Preflight: true}, {Path: "/orders", Upstream: u("http://h/internal")}}, []int{0}},
		"the stricter one leads":   {[]Route{{Path: "/", Upstream: u("http://h"), Scope: strict}, {Path: "/orders", Upstream: u("http://h/internal")}}, nil},
		"a guarded path between":   {[]Route{{Path: "/", Upstream: u("http://h")}, {Path: "/internal", Upstream: u("http://h"), Scope: strict}, {Path: "/orders", Upstream: u("http://h/internal"), Scope: strict}}, nil},
		"another server":           {[]Route{{Path: "/", Upstream: u("http://h")}, {Path: "/orders", Upstream: u("http://i/internal"), Scope: strict}}, nil},
		"beside each other":        {[]Route{{Path: "/a", Upstream: u("http://h/x")}, {Path: "/b", Upstream: u("http://h/y"), Scope: strict}}, nil},
		"two parts":                {[]Route{{Path: "/", Upstream: u("http://h/x")}, {Path: "/orders", Upstream: u("http://h/y"), Scope: strict}}, nil},
		"one upstream":             {[]Route{{Path: "/", Upstream: u("http://h/x")}, {Path: "/orders", Upstream: u("http://h/x"), Scope: strict}}, nil},
		"a word that goes on":      {[]Route{{Path: "/", Upstream: u("http://h/int")}, {Path: "/orders", Upstream: u("http://h/internal"), Scope: strict}}, nil},
		"the path is the server's": {[]Route{{Path: "/", Upstream: u("http://h")}, {Path: "/token", Upstream: u("http://h/own"), Scope: strict}}, nil},
	} {
		_, err := New(Config{Checker: anyone{}, Log: slog.New(slog.DiscardHandler), Routes: c.routes, OwnPaths: []string{"/own"}})
		refused, _ := errors.AsType[RouteErrors](err)
		var got []int
		for _, e := range refused {
			got = append(got, e.Index)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v: %v", name, got, err)
		}
	}
}

func TestPlacesThatAreTheSame(t *testing.T) {
	for _, paths := range [][]string{{"/a", "/a"}, {"/a", "/a/"}, {"/a", "/A"}, {"/", ""}, {"/a.", "/a"}, {"/a", "/A/b"}, {"/a b", "/x", "/A B/c/d"}, {"/ａ/b/c", "/a"}} {
		if _, err := tableOf(paths...); err == nil {
			t.Errorf("%q are accepted", paths)
		}
	}
}

func TestBadRoutes(t *testing.T) {
	upstream := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	for name, r := range map[string]Route{
		"no path":          {Upstream: upstream},
		"relative path":    {Path: "api", Upstream: upstream},
		"dots":             {Path: "/api/../x", Upstream: upstream},
		"encoded":          {Path: "/a%20b", Upstream: upstream},
		"query":            {Path: "/a?b", Upstream: upstream},
		"semicolon":        {Path: "/a;b", Upstream: upstream},
		"wildcard":         {Path: "/orders/*", Upstream: upstream},
		"variable":         {Path: "/orders/{id}", Upstream: upstream},
		"dots and blanks":  {Path: "/a/. .", Upstream: upstream},
		"full-width slash": {Path: "/a／b", Upstream: upstream},
		"no upstream":      {Path: "/a"},
		"no host":          {Path: "/a", Upstream: &url.URL{Scheme: "http"}},
		"other scheme":     {Path: "/a", Upstream: &url.URL{Scheme: "ftp", Host: "x"}},
		"upstream's query": {Path: "/a", Upstream: &url.URL{Scheme: "http", Host: "x", RawQuery: "y"}},
		"password":         {Path: "/a", Upstream: &url.URL{Scheme: "http", Host: "x", User: url.User("u")}},
	} {
		if r.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, p := range []string{"/", "/api", "/api/", "/été", "/a b"} {
		if err := (Route{Path: p, Upstream: upstream}).check(); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestFoldName(t *testing.T) {
	for _, name := range []string{"X-Ishare-Party-Id", "x-ishare-party-id", "X_ISHARE_PARTY_ID", "X-Ishare_Party.Id", "X~ishare!party#id"} {
		if got := foldName(name); got != "x-ishare-party-id" || !isReservedHeader(got) {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, name := range []string{"X-Ishare", "X-Isharer-Id", "Ishare-Party-Id", "Accept", "X-Request-Id", "Cookie", "X-Forward"} {
		if isReservedHeader(foldName(name)) {
			t.Errorf("%s is removed", name)
		}
	}
}

// FuzzPath holds a path that is passed on to what a decoding, cleaning, case-folding upstream
// would make of it.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/", "/admin", "/ADMIN/x", "/api/%2e%2e/admin", "/api/..;/admin", "//admin", `/api\admin`, "/%252e%252e/admin",
		"/api%2fv1", "/%C3%A9", "/%c0%ae", "/admin%20", "/10%25", "*", "http://x/admin", "/a%", "/connect/token/",
		"/x/..%20/admin", "/x/%20.%2520./admin", "/．．／admin", "/%EF%BC%8E./admin", "/ａdmin", "/%E3%80%80admin",
	} {
		f.Add(seed)
	}
	l := someRoutes(f)
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			return
		}
		routed, rejectReason := l.lookup(pathText(u))
		if rejectReason != "" {
			return
		}
		for _, upstream := range upstreamReadings(u.EscapedPath()) {
			at := slices.IndexFunc(l, func(p *routeEntry) bool { return covers(p.folded, upstream) })
			if at < 0 || l[at] != routed {
				t.Fatalf("%q is routed to %q, and some upstream reads %q", text, routed.path, upstream)
			}
		}
	})
}

// upstreamReadings are ways in which programs read a path.
func upstreamReadings(text string) []string {
	var readings []string
	for range 5 {
		cut, _, _ := strings.Cut(text, ";")
		cut, _, _ = strings.Cut(cut, "?")
		for _, s := range []string{text, cut, strings.ReplaceAll(text, `\`, "/"), norm.NFKC.String(text), trimmed(text)} {
			folded := strings.TrimRight(strings.ToLower(strings.ToUpper(s)), ". ")
			readings = append(readings, path.Clean("/"+folded), path.Clean("/"+strings.ReplaceAll(folded, "./", "/")))
		}
		decoded, err := url.PathUnescape(text)
		if err != nil {
			break
		}
		text = decoded
	}
	return readings
}

// trimmed is for programs that trim each segment, and take two dots with a blank between for two dots.
func trimmed(text string) string {
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		segments[i] = strings.TrimSpace(segment)
		if strings.Trim(segment, ". ") == "" {
			segments[i] = strings.ReplaceAll(segment, " ", "")
		}
	}
	return strings.Join(segments, "/")
}

// What the upstream is sent is what was looked at.
func TestPathIsPassedOnAsItIs(t *testing.T) {
	var got string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }))
	defer upstream.Close()
	base, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := New(Config{
		Checker: anyone{}, Log: slog.New(slog.DiscardHandler), Routes: []Route{{Path: "/", Upstream: base}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"/", "/api/x?y=1&y=2", "/%61dmin", "/a%20b?", "/%C3%A9", "/10%25?x=%zz&;=a;b&c", "/a:b@c!$&'()*+,=", "/x?access_token=y#z", "/%2A", "/x?é\xff|\"",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://public.example/", nil)
		if r.URL, err = url.ParseRequestURI(text); err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer x")
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		if got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// What a URL may hold only encoded is encoded, once.
func TestPathIsEncodedAnew(t *testing.T) {
	for text, want := range map[string]string{`/a"b`: "/a%22b", "/a|b^c": "/a%7Cb%5Ec", "/é": "/%C3%A9", `/%61"%25`: "/%61%22%25", `/a%2Fb"`: "/a%2Fb%22"} {
		u, err := url.ParseRequestURI(text)
		if err != nil {
			t.Fatal(err)
		}
		in := &http.Request{Host: "x", URL: u, Header: http.Header{}}
		out := in.Clone(t.Context())
		rewrite(&httputil.ProxyRequest{In: in, Out: out}, Route{Upstream: &url.URL{Scheme: "http", Host: "y"}})
		if got := out.URL.RequestURI(); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

// anyone is a checker of tests about something else.
type anyone struct{}

func (anyone) Check(context.Context, string) (*accesstoken.Claims, error) {
	return &accesstoken.Claims{Party: "urn:a"}, nil
}
