// Package forwarded finds out where a request comes from that was passed on by proxies.
package forwarded

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the addresses of trusted proxies.
type Proxies []netip.Prefix

// Attribute returns a handler that puts the address of the client into RemoteAddr, with port 0, where a
// request comes from one of the proxies, before next gets it. What somebody else writes into a request changes nothing.
func (p Proxies) Attribute(next http.Handler) http.Handler {
	if len(p) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			if client := p.Client(peer.Addr().Unmap(), r.Header); client != peer.Addr().Unmap() {
				r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Client is the address that a request comes from, as the proxies tell in Forwarded (RFC 7239) or
// X-Forwarded-For. Each proxy adds at the right where it got the request from: what stands to the left of the first address
// that is no proxy's was written by who has that address. Where a proxy tells nothing that can be read, or the two
// fields do not agree, the address is the proxy's, which at least is true.
func (p Proxies) Client(peer netip.Addr, h http.Header) netip.Addr {
	standard, other := h["Forwarded"], h["X-Forwarded-For"]
	switch {
	case len(standard) == 0:
		return p.originOf(peer, other, addressesOf)
	case len(other) == 0:
		return p.originOf(peer, standard, nodesOf)
	}
	// A proxy that sets one of them often passes on the other, as the client has sent it.
	client := p.originOf(peer, standard, nodesOf)
	if client != p.originOf(peer, other, addressesOf) {
		return peer
	}
	return client
}

// originOf goes from right to left, line by line: what somebody has sent cannot spoil the line that a proxy adds.
func (p Proxies) originOf(at netip.Addr, lines []string, read func(line string) []netip.Addr) netip.Addr {
	for _, line := range slices.Backward(lines) {
		for _, before := range slices.Backward(read(line)) {
			trusted := slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(at) })
			if !trusted || !before.IsValid() {
				return at
			}
			at = before
		}
	}
	return at
}

// addressesOf reads a line of X-Forwarded-For: addresses, with or without a port. One that cannot be read is the zero Addr.
func addressesOf(line string) []netip.Addr {
	var list []netip.Addr
	for text := range strings.SplitSeq(line, ",") {
		list = append(list, address(strings.Trim(text, " \t")))
	}
	return list
}

// address reads an IP address with or without a port, and with or without brackets if it is of version 6.
func address(text string) netip.Addr {
	with, err := netip.ParseAddrPort(text)
	a := with.Addr()
	bare, isBracketed := strings.CutPrefix(text, "[")
	switch {
	case err == nil:
	case isBracketed && strings.HasSuffix(bare, "]") && strings.Contains(bare, ":"):
		a, _ = netip.ParseAddr(strings.TrimSuffix(bare, "]"))
	case !isBracketed:
		a, _ = netip.ParseAddr(text)
	}
	if a.Zone() != "" {
		return netip.Addr{} // of a link that is not ours
	}
	return a.Unmap()
}

// nodesOf reads a line of Forwarded: the parameter "for" of each element (RFC 7239 section 4). An element
// that has none, or one that is no address, is the zero Addr; so is all of a line that is not of this form.
func nodesOf(line string) []netip.Addr {
	var list []netip.Addr
	for {
		node, rest, ok := element(line)
		if !ok {
			return []netip.Addr{{}}
		}
		list = append(list, node)
		if rest == "" {
			return list
		}
		line = rest[1:]
	}
}

// element reads up to a comma, or the end.
func element(text string) (node netip.Addr, rest string, ok bool) {
	seen := false
	for {
		text = strings.TrimLeft(text, " \t")
		end := strings.IndexAny(text, "=;,\"")
		if end < 0 || text[end] != '=' {
			return node, text, false
		}
		name := text[:end]
		value, after, read := value(text[end+1:])
		if !read {
			return node, text, false
		}
		if strings.EqualFold(name, "for") {
			if seen { // each parameter occurs once in an element
				return node, text, false
			}
			seen, node = true, address(value)
		}
		after = strings.TrimLeft(after, " \t")
		switch {
		case after == "", after[0] == ',':
			return node, after, true
		case after[0] != ';':
			return node, text, false
		}
		text = after[1:]
	}
}

// value reads a token or a quoted string (RFC 9110 sections 5.6.2 and 5.6.4).
func value(text string) (value, rest string, ok bool) {
	quoted, isQuoted := strings.CutPrefix(text, `"`)
	if !isQuoted {
		end := strings.IndexAny(text, " \t;,\"=")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], end > 0
	}
	var b strings.Builder
	for i := 0; i < len(quoted); i++ {
		switch quoted[i] {
		case '"':
			return b.String(), quoted[i+1:], true
		case '\\':
			i++
			if i == len(quoted) {
				return "", "", false
			}
		}
		b.WriteByte(quoted[i])
	}
	return "", "", false
}
