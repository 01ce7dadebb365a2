package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/revocation"
)

// A risk is a setting that is right in some places and lets somebody in at others.
type risk struct {
	key           string
	taken         func(*config.Config) bool
	message, mend string
}

const openInternal = "whoever reaches it can ask what an access token says, and revoke tokens"

var allRisks = []risk{ //nolint:gochecknoglobals // a table that nothing changes
	{
		"trust.revocation", func(c *config.Config) bool { return c.Trust.Revocation == revocation.ModeOff },
		"off: nobody is asked whether a certificate is revoked, so whoever stole a key is let in until the certificate expires",
		"Leave it out, or set it to require.",
	},
	{
		"trust.revocation", func(c *config.Config) bool { return c.Trust.Revocation == revocation.Prefer },
		"prefer: whoever keeps this server from its CAs is let in with a certificate that is revoked",
		"Leave it out, or set it to require.",
	},
	{
		"trust.revocation_allow_private", func(c *config.Config) bool { return c.Trust.RevocationAllowPrivate },
		"whoever gets a certificate issued can make this server call addresses on its own networks",
		"Leave it out, unless the OCSP responders or lists of your CA are on a network of your own.",
	},
	{
		"policy.extra_header_parameters", func(c *config.Config) bool { return c.Policy.ExtraHeaderParameters == config.ExtraHeadersAllow },
		"allow: assertions pass whose header holds what iSHARE does not allow",
		"Leave it out, unless clients of yours need it.",
	},
	{
		"listen.public", func(c *config.Config) bool { return c.Listen.TLS == nil && !onLoopback(c.Listen.Public) },
		"without listen.tls, whoever is on the way can read access tokens and use them",
		"Set listen.tls, or see that nobody but a proxy that ends TLS reaches it.",
	},
	{
		"listen.internal", func(c *config.Config) bool {
			return c.Listen.Secret.Reveal() == "" && c.Listen.InternalCallers == nil && !onLoopback(c.Listen.Internal)
		},
		openInternal,
		"Set WAYBILL_LISTEN_INTERNAL_SECRET or listen.internal_callers, or see that nobody else reaches it.",
	},
	{
		"tokens.keys", func(c *config.Config) bool { return !folder(c).HasKeysWithin() },
		"the folder is outside data, so other servers may share it. They honour each other's access tokens, but each " +
			"remembers by itself which assertions were used and which access tokens are revoked: an assertion is good once at each of them, " +
			"and a revoked token is refused only where it was revoked",
		"Send all requests to one server, with the others in reserve, and revoke at each. With one server only, leave it out.",
	},
}

func onLoopback(address config.Address) bool {
	host, _, err := net.SplitHostPort(string(address))
	return err == nil && loopback.Is(host)
}

// risks are those that the configuration takes.
func risks(cfg *config.Config) []config.Problem {
	var taken []config.Problem
	for _, r := range allRisks {
		if r.taken(cfg) {
			taken = append(taken, cfg.Problem(r.key, r.message, r.mend))
		}
	}
	return taken
}

// tellRisks logs the risks that are not among those that were told before.
func tellRisks(ctx context.Context, log *slog.Logger, found, told []config.Problem) {
	for _, r := range found {
		if !slices.ContainsFunc(told, func(t config.Problem) bool { return t.Key == r.Key && t.Message == r.Message }) {
			log.WarnContext(ctx, "a setting takes a risk", slog.String("key", r.Key), slog.String("reason", r.Message), slog.String("mend", r.Hint))
		}
	}
}

func (c *Preflight) risks() { c.Warnings = append(c.Warnings, risks(c.Config)...) }

// upstreamPatience is how long an upstream is waited for.
const upstreamPatience = 2 * time.Second

// upstreams calls the programs behind routes: without them every request gets 502. They may be
// started later.
func (c *Preflight) upstreams() {
	var group errgroup.Group
	faults := make([]error, len(c.Config.Routes))
	for i := range c.Config.Routes {
		if u := c.Config.Routes[i].Upstream; u.Host != "" {
			group.Go(func() error {
				faults[i] = reach(u.Hostname(), u.Port(), u.Scheme)
				return nil
			})
		}
	}
	_ = group.Wait() // of which no part fails
	for i, err := range faults {
		if err != nil {
			c.warn(fmt.Sprintf("routes[%d].upstream", i), "the program does not answer: "+err.Error(), "Start it, or correct the address.")
		}
	}
}

// reach connects, and says no more.
func reach(host, port, scheme string) error {
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	dialer := net.Dialer{Timeout: upstreamPatience}
	conn, err := dialer.DialContext(context.Background(), "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	return conn.Close()
}
