package proxy

import (
	"cmp"
	"errors"
	"fmt"
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
	// Path is what the route takes: this path and every path below it, with or without a slash
	// at its end. Of several routes that take a path the longest does. It is compared with
	// regard to case.
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
	// Access-Control-Request-Method, without Authorization and without a body. The upstream gets of
	// their header only Origin, Access-Control-Request-…, Accept and User-Agent, and the client the
	// header of the answer, without its body. They make no WebSocket, and at most 64 are under way,
	// for ten seconds each.
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
	// A demand is made of Scope and Preflight. The route is refused when another one demands something
	// else or more, and has the same host and port as upstream or a path below this one's: that
	// demand could be avoided by a spelling. Two names of one machine are not known to be the same, but
	// for those of loopback.
	PathsOpaque
)

func pathsWords() []string { return []string{"auto", "exact", "opaque"} }

// String is auto, exact or opaque.
func (p Paths) String() string {
	if int(p) >= len(pathsWords()) {
		return fmt.Sprintf("Paths(%d)", uint8(p))
	}
	return pathsWords()[p]
}

// UnmarshalText reads what String gives.
func (p *Paths) UnmarshalText(text []byte) error {
	i, err := spelling.Choose(text, pathsWords()...)
	if err == nil {
		*p = Paths(i)
	}
	return err
}

func (r Route) check() error {
	reading, suspicion := readPath(pathText(&url.URL{Path: r.Path}))
	switch {
	case suspicion != "":
		return fmt.Errorf("path %q: %s", r.Path, suspicion)
	case strings.ContainsAny(r.Path, "*{}"):
		return fmt.Errorf("path %q: a route takes everything below its path; leave the wildcard out", r.Path)
	case reading.plain != r.Path || strings.Contains(r.Path, "%"):
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
func sameServer(a, b *url.URL) bool {
	return hostOf(a) == hostOf(b) && portOf(a) == portOf(b)
}

func hostOf(u *url.URL) string {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip, err := netip.ParseAddr(host)
	switch {
	case loopback.Is(host), err == nil && ip.IsUnspecified(): // 0.0.0.0 reaches the machine itself
		return "localhost"
	case err == nil:
		return ip.Unmap().String()
	}
	return host
}

func portOf(u *url.URL) string {
	switch port, err := strconv.ParseUint(u.Port(), 10, 16); {
	case err == nil:
		return strconv.FormatUint(port, 10)
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// ErrPaths is in the error of a route that cannot have opaque paths beside the others.
var ErrPaths = errors.New("its paths cannot be opaque")

// settlePaths decides whether the paths of a route are exact or opaque, or why they cannot be opaque. The
// rule holds whatever an upstream does with a path: all that it could take the path for, by any
// reading, asks for no more than the route does.
func settlePaths(r Route, all []Route) (Paths, error) {
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
		below := takes(loosen(strings.TrimSuffix(r.Path, "/")), loosen(other.Path))
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

// A place is somewhere that requests go: to an upstream, or to the server itself.
type place struct {
	path  string // without a slash at the end: empty for the root
	loose string
	route Route
	proxy *httputil.ReverseProxy // nil: the server's own

	preflight  *httputil.ReverseProxy // for requests of strangers
	preflights chan struct{}          // holds one for each that is under way
}

func newPlace(path string) *place {
	trimmed := strings.TrimSuffix(path, "/")
	return &place{path: trimmed, loose: loosen(trimmed)}
}

// takes reports whether a path is the place's or lies below it.
func takes(place, path string) bool {
	rest, ok := strings.CutPrefix(path, place)
	return ok && (rest == "" || rest[0] == '/')
}

// mayTake reports whether some program could have a place for a path, both without what it
// passes over: Rails serves /orders.json as /orders, and OData serves /orders(1) below it. A letter or
// digit behind it makes another word of it.
func mayTake(place, path string) bool {
	rest, ok := strings.CutPrefix(path, place)
	if !ok || rest == "" {
		return ok
	}
	c := rest[0]
	goesOn := 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c >= utf8.RuneSelf
	return !goesOn
}

// places are sorted, the longest first, before one is looked for.
type places []*place

// add refuses a place that some upstream could take for another, and a route to what is the
// server's own.
func (l *places) add(p *place) error {
	for _, other := range *l {
		switch {
		case other.proxy == nil && p.proxy != nil && takes(other.loose, p.loose):
			return fmt.Errorf("path %s: the server itself answers there", p.route.Path)
		case confusable(p, other) || confusable(other, p):
			return fmt.Errorf("the paths %s/ and %s/ are the same, or would be if case made no difference", other.path, p.path)
		}
	}
	*l = append(*l, p)
	return nil
}

// avoided finds the routes by which the demands of others could be avoided.
func (l places) avoided(routes []Route) (refused RouteErrors) {
	for i, r := range routes {
		for _, other := range routes {
			if l.reaches(r, other) {
				refused = append(refused, RouteError{i, fmt.Errorf("path %s: it leads to what %s guards, and demands less", r.Path, other.Path)})
				break
			}
		}
	}
	return refused
}

// reaches reports whether a request can go by one route to what another guards, because their upstreams
// are parts of one server: with / to http://h and /orders to http://h/internal, /internal/orders is what
// /orders guards.
func (l places) reaches(by, guarded Route) bool {
	if !sameServer(by.Upstream, guarded.Upstream) || by.demands(guarded) {
		return false
	}
	base := loosen(strings.TrimSuffix(by.Upstream.Path, "/"))
	target := loosen(strings.TrimSuffix(guarded.Upstream.Path, "/") + strings.TrimSuffix(guarded.Path, "/"))
	if !takes(base, target) {
		return false
	}
	found := l.loosely(strings.TrimPrefix(target, base))
	return found != nil && found.proxy != nil && found.route.Path == by.Path
}

func (l places) sort() {
	slices.SortStableFunc(l, func(a, b *place) int { return cmp.Compare(len(b.path), len(a.path)) })
}

// confusable reports whether two places are the same for some upstream, or one is below the other
// only for some. Part of the latter could never be reached: find would refuse it.
func confusable(a, b *place) bool {
	return a.loose == b.loose || takes(a.loose, b.loose) != takes(a.path, b.path)
}

const ambiguous = "the path is spelt so that it could be taken for another"

// find returns the place of a path, nil when there is none, or says why it is refused. A path that
// would have another place in another spelling is suspicious: /ADMIN must not get by the route of /admin to
// an upstream that passes over case.
func (l places) find(text string) (to *place, suspicion string) {
	r, suspicion := readPath(text)
	if suspicion == "" {
		strict := l.first(func(p *place) bool { return takes(p.path, r.plain) })
		if strict == l.loosely(r.loose) && !l.scripted(strict, r.loose) {
			return strict, ""
		}
		suspicion = ambiguous
	}
	for _, p := range l {
		below, ok := p.below(text)
		if !ok {
			continue
		}
		if p.route.isRoot() {
			return p, ""
		}
		if suspicion = readBelow(below); suspicion == "" {
			return p, ""
		}
	}
	return nil, suspicion
}

func (l places) loosely(path string) *place {
	return l.first(func(p *place) bool { return mayTake(p.loose, path) })
}

// scripted reports whether the path would have another place without one of its segments, which names a
// file: /index.php/orders is /orders for a program that hands all paths to one script. No segment is tried
// that no other place lies beside or below.
func (l places) scripted(found *place, path string) bool {
	before := ""
	if found != nil {
		before = found.loose // which is the operator's own word for it, with whatever dots
	}
	isBelow := func(p *place) bool { return p.loose != before && takes(before, p.loose) }
	for len(before) < len(path) && l.first(isBelow) != nil {
		segment, rest, more := strings.Cut(path[len(before)+1:], "/")
		if more && strings.Contains(segment, ".") && l.loosely(before+"/"+rest) != found {
			return true
		}
		before += "/" + segment
	}
	return false
}

// below is what stands behind the place's path, if its paths are opaque and the text begins with it.
func (p *place) below(text string) (string, bool) {
	if p.route.Paths != PathsOpaque || !strings.HasPrefix(text, "/") {
		return "", false
	}
	end := 0
	for range strings.Count(p.path, "/") {
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
	case end > 3*len(p.path): // longer than with every character encoded
		return "", false
	}
	own, suspicion := readPath(text[:end])
	return text[end:], suspicion == "" && own.plain == p.path
}

func (l places) first(match func(*place) bool) *place {
	if i := slices.IndexFunc(l, match); i >= 0 {
		return l[i]
	}
	return nil
}
