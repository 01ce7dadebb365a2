// Package loopback tells which hosts are the machine itself. What goes to them in
// plain http, nobody on a network can read.
package loopback

import (
	"net/netip"
	"strings"
)

// Is reports whether a host is the machine itself: a loopback address, or localhost in
// any case (RFC 6761 section 6.3). It takes the host as [net/url.URL.Hostname] gives it, and
// asks no name server.
func Is(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}
