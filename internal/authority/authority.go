// Package authority checks the host that a request names.
package authority

import (
	"net/http"
	"net/netip"
	"strings"
)

// maxLength is that of a name in DNS, with a port.
const maxLength = 253 + len(":65535")

// Check says what is wrong with the host that a request names, by Host, :authority or an absolute
// request target, in a sentence for the client; empty when nothing is. Programs build addresses from it,
// and compare it: with a path or a user name in it, such an address would be that of another host.
// RFC 9112 section 3.2 and RFC 9113 section 8.3.1 allow a host with a port; an HTTP/1.0 request need not
// name one.
func Check(r *http.Request) (reason string) {
	switch u := r.URL; {
	case r.Host != "" && !Valid(r.Host):
		return "the host that is asked for is not a name or an address, with or without a port"
	case u.User != nil:
		return "the request target holds a user name"
	case u.Host != "" && u.Host != r.Host:
		return "the request target names another host than the request"
	}
	return ""
}

// Valid reports whether a text is a host with or without a port (RFC 3986 section 3.2), where the host
// is an IPv6 address in brackets, or consists of letters, digits, hyphens, dots and, as in the names of
// containers, underscores.
func Valid(text string) bool {
	if len(text) > maxLength {
		return false
	}
	if rest, ok := strings.CutPrefix(text, "["); ok {
		address, port, closed := strings.Cut(rest, "]")
		ip, err := netip.ParseAddr(address)
		return closed && err == nil && ip.Is6() && ip.Zone() == "" && isPort(port)
	}
	name, _, _ := strings.Cut(text, ":")
	isOther := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}
	return name != "" && !strings.ContainsFunc(name, isOther) && isPort(text[len(name):])
}

// isPort takes what stands behind a host: nothing, or a colon and up to five digits, none included.
func isPort(text string) bool {
	digits, ok := strings.CutPrefix(text, ":")
	return text == "" || ok && len(digits) <= 5 && strings.Trim(digits, "0123456789") == ""
}
