package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/revocation"
)

// A risk is a setting that is right in some places and lets somebody in at others.
type risk struct {
	key           string
	taken         func(*config.Config) bool
	message, hint string
}

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
		"whoever reaches it can ask what an access token says, and revoke tokens",
		"Set WAYBILL_LISTEN_INTERNAL_SECRET or listen.internal_callers, or see that nobody else reaches it.",
	},
	{
		"state", func(c *config.Config) bool { return !c.State.Memory() && c.State.URL.CanBeRead() },
		"without TLS that proves who answers, whoever is on the way to the store can read its password and the hashes of used assertions, and answer in its place, so that assertions are good twice",
		"Begin the URL with rediss in place of redis, or give PostgreSQL sslmode=verify-full, or see that nobody else is on the way.",
	},
	{
		"tokens.keys", func(c *config.Config) bool { return c.State.Memory() && !folder(c).HasKeysWithin() },
		"the keys are outside data, so other servers may share it. They honour each other's access tokens, but each " +
			"remembers by itself which assertions were used and which access tokens are revoked: an assertion is good once at each of them, " +
			"and a revoked token is refused only where it was revoked",
		"Set state to a store that they share. Without one, send all requests to one server, with the others in reserve, and revoke at each. With one server only, leave it out.",
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
			taken = append(taken, cfg.Problem(r.key, r.message, r.hint))
		}
	}
	return taken
}

// logRisks logs the risks that were not there before.
func logRisks(ctx context.Context, log *slog.Logger, now, before []config.Problem) {
	for _, r := range now {
		if !slices.ContainsFunc(before, func(b config.Problem) bool { return b.Key == r.Key && b.Message == r.Message }) {
			log.WarnContext(ctx, "a setting takes a risk", slog.String("key", r.Key), slog.String("reason", r.Message), slog.String("mend", r.Hint))
		}
	}
}

// upstreamTimeout is how long an upstream is waited for.
const upstreamTimeout = 2 * time.Second

// upstreams calls the programs behind routes: without them every request gets 502. They may be
// started later.
func (c *Preflight) upstreams() {
	var group sync.WaitGroup
	faults := make([]error, len(c.Config.Routes))
	for i := range c.Config.Routes {
		u := &c.Config.Routes[i].Upstream
		if u.Host == "" {
			continue
		}
		group.Go(func() {
			port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
			dialer := net.Dialer{Timeout: upstreamTimeout}
			conn, err := dialer.DialContext(context.Background(), "tcp", net.JoinHostPort(u.Hostname(), port))
			if err == nil {
				err = conn.Close()
			}
			faults[i] = err
		})
	}
	group.Wait()
	for i, err := range faults {
		if err != nil {
			c.warn(fmt.Sprintf("routes[%d].upstream", i), "the program does not answer: "+err.Error(), "Start it, or correct the address.")
		}
	}
}
