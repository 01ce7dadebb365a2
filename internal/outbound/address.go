package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

// ErrNotPublic is wrapped by the error of a call that was not made because of where the address leads.
var ErrNotPublic = errors.New("the address is not on a public network")

// refusePrivate is a net.Dialer's Control: it sees the address that a connection is about to be made to, after every
// name was resolved. A check of the name would be worth nothing, because whoever runs its zone answers one address to
// the check and another to the call.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	resolved, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotPublic, err)
	}
	if !isPublic(resolved.Addr()) {
		return fmt.Errorf("%w: %s", ErrNotPublic, resolved.Addr())
	}
	return nil
}

// refusePrivateHost judges the address that a proxy will be asked for. Where a name leads is for the proxy to see; what
// is refused here is what cannot lead to a public server: IP addresses that are not public, numbers in the other forms
// that resolvers take for IPv4 addresses (127.1, 0x7f000001), and names without a dot or in one of the domains below,
// which the resolver of a network may know.
func refusePrivateHost(u *url.URL) error {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if address, err := netip.ParseAddr(host); err == nil {
		if isPublic(address) {
			return nil
		}
		return fmt.Errorf("%w: %s", ErrNotPublic, address)
	}
	// localhost and test (RFC 6761), local (RFC 6762), home.arpa (RFC 8375), onion (RFC 7686), internal (reserved by
	// ICANN in 2024), the others that networks use within themselves (RFC 6762 appendix G), and svc, in which a
	// cluster of Kubernetes names its services.
	private := []string{
		"localhost", "test", "local", "home.arpa", "onion", "internal",
		"intranet", "private", "corp", "home", "lan", "svc",
	}
	top := host[strings.LastIndexByte(host, '.')+1:]
	if top == host || top == "" || top[0] >= '0' && top[0] <= '9' || slices.ContainsFunc(private, func(domain string) bool {
		return strings.HasSuffix("."+host, "."+domain)
	}) {
		return fmt.Errorf("%w: %.100q", ErrNotPublic, host)
	}
	return nil
}

// Networks that hold no public server (the IANA registries of special-purpose addresses, RFC 6890). IPv6 is public
// within 2000::/3 only, so that loopback, link-local, unique local and multicast addresses need no mention.
//
//nolint:gochecknoglobals // Go has no constants of this type; nothing changes them
var (
	specialIPv4 = prefixes(
		"0.0.0.0/8",       // this network, unspecified
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // carrier-grade NAT
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, metadata services of clouds
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, broadcast
	)
	publicIPv6  = prefixes("2000::/3")
	specialIPv6 = prefixes(
		"2001::/23",     // protocol assignments, Teredo
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: leads to an IPv4 address of the sender's choice
		"3fff::/20",     // documentation
	)
	// nat64 leads to the IPv4 address in its last 32 bits (RFC 6052 section 2.1).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(networks ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(networks))
	for i, network := range networks {
		list[i] = netip.MustParsePrefix(network)
	}
	return list
}

// isPublic reports whether a public server can have the address. An IPv6 address that stands for an IPv4 address is
// judged as that one, because a connection to the one is a connection to the other.
func isPublic(address netip.Addr) bool {
	address = address.WithZone("").Unmap()
	if nat64.Contains(address) {
		all := address.As16()
		address = netip.AddrFrom4([4]byte(all[12:]))
	}
	if address.Is4() {
		return !inAny(specialIPv4, address)
	}
	return inAny(publicIPv6, address) && !inAny(specialIPv6, address)
}

func inAny(networks []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(address) })
}
