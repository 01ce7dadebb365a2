package guard

import (
	"cmp"
	"errors"
	"fmt"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"

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
}

func (r Route) check() error {
	reading, suspicion := readPath(&url.URL{Path: r.Path})
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
	}
	return nil
}

// A RouteError says why a route cannot be used, by itself or beside those before it.
type RouteError struct {
	Index int // in Routes of [ProxyConfig]
	Err   error
}

// Error implements error.
func (e RouteError) Error() string { return fmt.Sprintf("route %d: %v", e.Index, e.Err) }

// Unwrap gives the reason.
func (e RouteError) Unwrap() error { return e.Err }

// RouteErrors are all routes of a [ProxyConfig] that cannot be used.
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

func (l places) sort() {
	slices.SortStableFunc(l, func(a, b *place) int { return cmp.Compare(len(b.path), len(a.path)) })
}

// confusable reports whether two places are the same for some upstream, or one is below the other
// only for some. Part of the latter could never be reached: find would refuse it.
func confusable(a, b *place) bool {
	return a.loose == b.loose || takes(a.loose, b.loose) != takes(a.path, b.path)
}

var errAmbiguous = errors.New("the path is spelt so that it could be taken for another")

// find returns the place of a path, nil when there is none. A path that would have another place
// in another spelling is refused: /ADMIN must not get by the route of /admin to an upstream
// that passes over case.
func (l places) find(r reading) (*place, error) {
	strict := l.first(func(p *place) bool { return takes(p.path, r.plain) })
	loose := l.first(func(p *place) bool { return takes(p.loose, r.loose) })
	if strict != loose {
		return nil, errAmbiguous
	}
	return strict, nil
}

func (l places) first(match func(*place) bool) *place {
	if i := slices.IndexFunc(l, match); i >= 0 {
		return l[i]
	}
	return nil
}
