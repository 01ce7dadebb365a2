package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/ishare"
)

// A Route puts an upstream behind tokens.
type Route struct {
	// Path is what the route takes: this path and every path below it, with or without a slash at its end. Of several
	// routes that take a path the longest does. It is compared with regard to case.
	Path string

	// Upstream is the base URL of the program behind us, http or https. The client's path is
	// put behind its path, whole; it has no query.
	Upstream *url.URL

	// Scope holds the values that a token must carry, all of them. Empty means that every
	// genuine token will do, and every token carries iSHARE.
	Scope ishare.Scope

	// Paths says which spellings of paths the route passes on.
	Paths Paths

	// Preflight lets CORS preflight requests through without a token: OPTIONS with Origin and
	// Access-Control-Request-Method, without Authorization and without a body. The upstream gets of their header only
	// Origin, Access-Control-Request-…, Accept and User-Agent, and the client the header of the answer, without its
	// body. They make no WebSocket, and at most 64 are under way, for ten seconds each.
	Preflight bool

	// PassToken gives the upstream the Authorization header as it came, once it is checked. Whoever
	// reads along there can use the token, wherever it is good.
	PassToken bool
}

// Paths says which spellings of paths a [Route] passes on.
type Paths uint8

const (
	// PathsAuto is [PathsOpaque] when all routes of the proxy have the same upstream, by host
	// and port, and make the same demand, so that no spelling avoids one; and [PathsExact] otherwise.
	PathsAuto Paths = iota

	// PathsExact passes on what can be read in one way only, as [Proxy] tells.
	PathsExact

	// PathsOpaque passes on in addition what begins with the route's path, readable in one way, and
	// goes on in any spelling that no program reads as leading out of it: without a segment of dots,
	// encoded or not, whichever of / \ ; ? # : a blank or control character ends it. At the root of an
	// upstream, where there is no way out, all spellings pass.
	//
	// A demand is made of Scope and Preflight. The route is refused when another one demands something else or more,
	// and has the same host and port as upstream or a path below this one's: that demand could be avoided by a
	// spelling. Two names of one machine are not known to be the same, but for those of loopback.
	PathsOpaque
)

var pathsWords = []string{"auto", "exact", "opaque"}

// String is auto, exact or opaque.
func (p Paths) String() string {
	if int(p) >= len(pathsWords) {
		return fmt.Sprintf("Paths(%d)", uint8(p))
	}
	return pathsWords[p]
}

// UnmarshalText reads what String gives.
func (p *Paths) UnmarshalText(text []byte) error {
	i, err := spelling.Choose(text, pathsWords...)
	if err == nil {
		*p = Paths(i)
	}
	return err
}

func (r Route) check() error {
	canonical, rejectReason := canonicalize(pathText(&url.URL{Path: r.Path}))
	switch {
	case rejectReason != "":
		return fmt.Errorf("path %q: %s", r.Path, rejectReason)
	case strings.ContainsAny(r.Path, "*{}"):
		return fmt.Errorf("path %q: a route takes everything below its path; leave the wildcard out", r.Path)
	case canonical.decoded != r.Path || strings.Contains(r.Path, "%"):
		return fmt.Errorf("path %q: want it without percent-encoding", r.Path)
	case r.Upstream == nil || r.Upstream.Host == "" || r.Upstream.Scheme != "http" && r.Upstream.Scheme != "https":
		return fmt.Errorf("path %s: want an upstream that is an http or https URL", r.Path)
	case r.Upstream.User != nil || r.Upstream.RawQuery != "" || r.Upstream.Fragment != "":
		return fmt.Errorf("path %s: want an upstream without user, query and fragment", r.Path)
	case r.Paths > PathsOpaque:
		return fmt.Errorf("path %s: there is no such value of Paths", r.Path)
	}
	return nil
}

// isRoot reports whether everything that the upstream has is the route's, so that no path leads out of it.
func (r Route) isRoot() bool {
	return strings.Trim(r.Path, "/") == "" && strings.Trim(r.Upstream.Path, "/") == ""
}

// demands reports whether a route demands of a request all that another does.
func (r Route) demands(other Route) bool {
	lacking := func(value string) bool { return !r.Scope.Has(value) }
	return !slices.ContainsFunc(other.Scope, lacking) && (!r.Preflight || other.Preflight)
}

// sameServer reports whether two upstreams may be one program, as far as their addresses tell. The
// scheme makes no difference: http on port 443 is not another program than https.
func sameServer(a, b *url.URL) bool { return serverOf(a) == serverOf(b) }

func serverOf(u *url.URL) string {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	switch {
	case loopback.Is(host), err == nil && ip.IsUnspecified(): // 0.0.0.0 reaches the machine itself
		host = "localhost"
	case err == nil:
		host = ip.Unmap().String()
	}
	port := "80"
	if number, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		port = strconv.FormatUint(number, 10)
	} else if u.Scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(host, port)
}

// ErrPaths is in the error of a route that cannot have opaque paths beside the others.
var ErrPaths = errors.New("its paths cannot be opaque")

// resolvePaths decides whether the paths of a route are exact or opaque, or why they cannot be opaque. The
// rule holds whatever an upstream does with a path: all that it could take the path for, by any
// reading, asks for no more than the route does.
func resolvePaths(r Route, all []Route) (Paths, error) {
	differs := func(other Route) bool {
		return other.Upstream == nil || !sameServer(r.Upstream, other.Upstream) || !r.demands(other) || !other.demands(r)
	}
	if r.Paths == PathsExact || r.Paths == PathsAuto && slices.ContainsFunc(all, differs) {
		return PathsExact, nil
	}
	for _, other := range all {
		if other.Upstream == nil || r.demands(other) {
			continue
		}
		below := covers(foldPath(strings.TrimSuffix(r.Path, "/")), foldPath(other.Path))
		if below || sameServer(r.Upstream, other.Upstream) {
			return PathsExact, fmt.Errorf("path %s: %w, for by a spelling one could avoid the demand of %s", r.Path, ErrPaths, other.Path)
		}
	}
	return PathsOpaque, nil
}

// A RouteError says why a route cannot be used, by itself or beside those before it.
type RouteError struct {
	Index int // in Routes of [Config]
	Err   error
}

// Error implements error.
func (e RouteError) Error() string { return fmt.Sprintf("route %d: %v", e.Index, e.Err) }

// Unwrap gives the reason.
func (e RouteError) Unwrap() error { return e.Err }

// RouteErrors are all routes of a [Config] that cannot be used.
type RouteErrors []RouteError

// Error tells all of them, a line each.
func (l RouteErrors) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// A routeEntry is where the requests for a path and for what lies below it go.
type routeEntry struct {
	path   string // without a slash at the end: empty for the root
	folded string // see foldPath
	route  Route
	proxy  *httputil.ReverseProxy // nil: the path is the server's own

	preflight  *httputil.ReverseProxy // for requests of strangers
	preflights chan struct{}          // holds one for each that is under way
}

func newRouteEntry(path string) *routeEntry {
	trimmed := strings.TrimSuffix(path, "/")
	return &routeEntry{path: trimmed, folded: foldPath(trimmed)}
}

// covers reports whether a path is the other one or lies below it.
func covers(above, path string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && (rest == "" || rest[0] == '/')
}

// mayCover reports whether some program could take a folded path for the other one, or for one below it: Rails serves
// /orders.json as /orders, and OData serves /orders(1) below it. A letter or digit behind it makes another word of it.
func mayCover(above, path string) bool {
	rest, ok := strings.CutPrefix(path, above)
	if !ok || rest == "" {
		return ok
	}
	c := rest[0]
	goesOn := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c >= utf8.RuneSelf
	return !goesOn
}

// A routeTable is sorted, the longest path first, before one is looked up.
type routeTable []*routeEntry

// add refuses an entry that some upstream could take for another, and a route to what is the server's own.
func (t *routeTable) add(e *routeEntry) error {
	for _, other := range *t {
		switch {
		case other.proxy == nil && e.proxy != nil && covers(other.folded, e.folded):
			return fmt.Errorf("path %s: the server itself answers there", e.route.Path)
		case isConfusable(e, other) || isConfusable(other, e):
			return fmt.Errorf("the paths %s/ and %s/ are the same, or would be if case made no difference", other.path, e.path)
		}
	}
	*t = append(*t, e)
	return nil
}

// isConfusable reports whether two entries are the same for some upstream, or one is below the other
// only for some. Part of the latter could never be reached: lookup would reject it.
func isConfusable(a, b *routeEntry) bool {
	return a.folded == b.folded || covers(a.folded, b.folded) != covers(a.path, b.path)
}

func (t routeTable) sort() {
	slices.SortStableFunc(t, func(a, b *routeEntry) int { return cmp.Compare(len(b.path), len(a.path)) })
}

// bypasses finds the routes by which the demands of others could be avoided.
func (t routeTable) bypasses(routes []Route) (refused RouteErrors) {
	for i, r := range routes {
		guarded := slices.IndexFunc(routes, func(other Route) bool { return t.leadsTo(r, other) })
		if guarded >= 0 {
			err := fmt.Errorf("path %s: it leads to what %s guards, and demands less", r.Path, routes[guarded].Path)
			refused = append(refused, RouteError{i, err})
		}
	}
	return refused
}

// leadsTo reports whether a request can go by one route to what another guards, because their upstreams are parts of
// one server: with / to http://h and /orders to http://h/internal, /internal/orders is what /orders guards.
func (t routeTable) leadsTo(by, guarded Route) bool {
	if !sameServer(by.Upstream, guarded.Upstream) || by.demands(guarded) {
		return false
	}
	base := foldPath(strings.TrimSuffix(by.Upstream.Path, "/"))
	target := foldPath(strings.TrimSuffix(guarded.Upstream.Path, "/") + strings.TrimSuffix(guarded.Path, "/"))
	if !covers(base, target) {
		return false
	}
	found := t.lookupFolded(strings.TrimPrefix(target, base))
	return found != nil && found.proxy != nil && found.route.Path == by.Path
}

const ambiguous = "the path is spelt so that it could be taken for another"

// lookup returns the entry of a path, nil when there is none, or says why the path is rejected. A path that
// would have another entry in another spelling is ambiguous: /ADMIN must not get by the route of /admin to
// an upstream that passes over case.
func (t routeTable) lookup(text string) (found *routeEntry, rejectReason string) {
	path, rejectReason := canonicalize(text)
	if rejectReason == "" {
		exact := t.first(func(e *routeEntry) bool { return covers(e.path, path.decoded) })
		if exact == t.lookupFolded(path.folded) && !t.isOtherWithoutFile(exact, path.folded) {
			return exact, ""
		}
		rejectReason = ambiguous
	}
	for _, e := range t {
		rest, ok := e.opaqueRest(text)
		if !ok {
			continue
		}
		if e.route.isRoot() {
			return e, ""
		}
		if rejectReason = rejectWayOut(rest); rejectReason == "" {
			return e, ""
		}
	}
	return nil, rejectReason
}

func (t routeTable) lookupFolded(path string) *routeEntry {
	return t.first(func(e *routeEntry) bool { return mayCover(e.folded, path) })
}

// isOtherWithoutFile reports whether the path would have another entry without one of its segments, which names a
// file: /index.php/orders is /orders for a program that hands all paths to one script. No segment is tried
// that no other entry lies beside or below.
func (t routeTable) isOtherWithoutFile(found *routeEntry, path string) bool {
	before := ""
	if found != nil {
		before = found.folded // which is the operator's own word for it, with whatever dots
	}
	isBelow := func(e *routeEntry) bool { return e.folded != before && covers(before, e.folded) }
	for len(before) < len(path) && t.first(isBelow) != nil {
		segment, rest, more := strings.Cut(path[len(before)+1:], "/")
		if more && strings.Contains(segment, ".") && t.lookupFolded(before+"/"+rest) != found {
			return true
		}
		before += "/" + segment
	}
	return false
}

// opaqueRest is what stands behind the entry's path, if its paths are opaque and the text begins with it.
func (e *routeEntry) opaqueRest(text string) (string, bool) {
	if e.route.Paths != PathsOpaque || !strings.HasPrefix(text, "/") {
		return "", false
	}
	end := 0
	for range strings.Count(e.path, "/") {
		end++
		if next := strings.IndexByte(text[end:], '/'); next >= 0 {
			end += next
		} else {
			end = len(text)
			break
		}
	}
	switch {
	case end == 0:
		return text, true
	case end > 3*len(e.path): // longer than with every character encoded
		return "", false
	}
	own, rejectReason := canonicalize(text[:end])
	return text[end:], rejectReason == "" && own.decoded == e.path
}

func (t routeTable) first(match func(*routeEntry) bool) *routeEntry {
	if i := slices.IndexFunc(t, match); i >= 0 {
		return t[i]
	}
	return nil
}
