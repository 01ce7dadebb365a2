package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/trust"
)

// capabilities signs them for a try.
func (c *Preflight) capabilities() {
	if c.Config.Listen.URL.Host == "" {
		c.warn("listen.url", fmt.Sprintf("is absent, so our capabilities and metadata tell clients to come to %s", ownURL(c.Config, string(c.Config.Listen.Public))),
			"Set it to the address by which clients reach this server.")
	}
	if c.pair == nil || c.Config.Party.ID == "" {
		return // told elsewhere
	}
	tried := providerConfig(c.Config, string(c.Config.Listen.Public), nil)
	tried.Key, tried.Certificates = c.pair.Signer(), c.pair.Certificates
	c.add("capabilities", tried.CapabilitiesProblem(), "")
}

// internal looks at the secrets of that listener.
func (c *Preflight) internal() {
	if text := c.Config.Listen.Secret.Reveal(); text != "" && config.IsWeakSecret(text) {
		c.Warnings = append(c.Warnings, c.Config.SecretProblem(config.SecretWeak))
	}
	secrets, problems := callers(c.Config)
	c.Problems = append(c.Problems, problems...)
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if text := secrets[name]; config.IsSecret(text) && config.IsWeakSecret(text) {
			c.warn(callerKey(name), config.SecretWeak, config.MendSecret)
		}
	}
}

// revocation: clients often have their seals from the CA that ours is from.
func (c *Preflight) revocation() {
	anchors, err := loadAnchors(c.Config)
	if c.pair == nil || err != nil || c.Config.Trust.Revocation != revocation.Require {
		return
	}
	for _, certificate := range c.pair.Certificates {
		if _, anchored := anchors[trust.FingerprintOf(certificate)]; anchored {
			return
		}
		if err := revocation.CheckSources(certificate); err != nil {
			c.warn("trust.revocation", fmt.Sprintf("the certificate of %q, which our own chain holds, is one of which nobody can say whether it is revoked, and a client whose chain holds it gets no token: %v", certificate.Subject, err),
				cmp.Or(RevocationMend(err), "Ask its CA for an OCSP responder."))
		}
	}
}
