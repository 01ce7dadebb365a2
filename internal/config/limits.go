package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"github.com/waybill-token/waybill/internal/bucket"
)

// A Rate is how often something may happen. The zero Rate does not limit.
type Rate struct{ bucket.Rate }

// maxEvents is more than one server can answer in a second, and does not in an hour.
const maxEvents = 1_000_000

var rateForm = regexp.MustCompile(`^([1-9][0-9]{0,6})/([smh])(?: burst ([1-9][0-9]{0,6}))?$`)

// UnmarshalText reads a number for each second, minute or hour, and how many may come at once, which is the
// same number unless it is given.
func (r *Rate) UnmarshalText(text []byte) error {
	parts := rateForm.FindStringSubmatch(string(text))
	if parts == nil {
		return fmt.Errorf("want a rate such as 100/s, 600/m or 20/s burst 200, got %q", text)
	}
	period := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[parts[2]]
	events, _ := strconv.Atoi(parts[1])
	burst := events
	if parts[3] != "" {
		burst, _ = strconv.Atoi(parts[3])
	}
	if max(events, burst) > maxEvents {
		return fmt.Errorf("want a rate of at most %d, got %q", maxEvents, text)
	}
	r.Rate = bucket.Rate{Events: events, Period: period, Burst: burst}
	return nil
}

// A Network is an IP address, or those that begin alike.
type Network struct{ netip.Prefix }

// UnmarshalText reads an address, or a network in the notation of CIDR.
func (n *Network) UnmarshalText(text []byte) error {
	if a, err := netip.ParseAddr(string(text)); err == nil && a.Zone() == "" {
		a = a.Unmap()
		n.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(string(text))
	if err != nil || p.Addr().Is4In6() {
		return fmt.Errorf("want an IP address, or a network such as 10.0.0.0/8, got %q", text)
	}
	if p.Bits() == 0 {
		return fmt.Errorf("want the addresses of proxies, and %q are all there are", text)
	}
	if p != p.Masked() {
		return fmt.Errorf("want the network %s, or one address of it, got %q", p.Masked(), text)
	}
	n.Prefix = p
	return nil
}
