package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
)

// check finds what is wrong between keys.
func (c *Config) check() []Problem {
	var problems []Problem
	report := func(key, message, hint string) { problems = append(problems, c.Problem(key, message, hint)) }
	_, file := c.places["participants.file"]
	_, registry := c.places["participants.registry"]
	switch {
	case file && registry:
		report("participants.registry", "participants.file is given as well", "Remove one of them.")
	case !file && !registry:
		report("participants", "is required", "Add participants.file, or participants.registry.")
	case file && c.Trust.TrustedList:
		report("trust.trusted_list", "only a registry has a trusted list", "Give participants.registry, or remove this.")
	}
	if c.Participants.MaxStale < c.Participants.Cache {
		report("participants.max_stale", fmt.Sprintf("want no less than participants.cache, which is %s", c.Participants.Cache), "")
	}
	if c.Listen.Public == c.Listen.Internal && !strings.HasSuffix(string(c.Listen.Public), ":0") {
		report("listen.internal", "is the same as listen.public", "Give it an address that the public does not reach.")
	}
	if text := c.Listen.Secret.Reveal(); text != "" && !IsSecret(text) {
		problems = append(problems, c.SecretProblem(SecretWanted))
	}
	if keys := string(c.Tokens.Keys); keyfile.IsText(keys) && !accesstoken.IsKeySet(keys) {
		report("tokens.keys", "is a text that is no JWK Set: want one that begins with {", "Give what waybill keys add has written, or the name of its file.")
	}
	if c.StateWaitReplicas > 0 && (c.State.Memory() || c.State.URL.IsPostgres()) {
		report("state_wait_replicas", "only replicas of Redis or Valkey can be waited for",
			"Remove it. PostgreSQL has synchronous_standby_names for this.")
	}
	if c.Tokens.Lifetime%time.Second != 0 { // as expires_in is given (RFC 6749 section 5.1)
		report("tokens.lifetime", "want whole seconds", "")
	}
	if c.Tokens.Issuer == IssuerURL && c.Listen.URL.Host == "" {
		report("tokens.issuer", "url needs listen.url, the address by which clients reach this server",
			"Set listen.url to that address, without a path if a proxy passes none on; it is the issuer of the metadata, too.")
	}
	for i, r := range c.Routes { // of which package proxy checks the paths
		for _, value := range r.Scope {
			if _, known := c.Scopes[ScopeName(value)]; !known && value != ishare.ScopeISHARE {
				report(fmt.Sprintf("routes[%d].scope", i), fmt.Sprintf("no client can get the scope %q", value), "Add it to scopes.")
			}
		}
	}
	return problems
}

// minSecret is the least number of characters that cannot be guessed.
const minSecret = 16

// SecretProblem makes a problem of [Listen.Secret].
func (c *Config) SecretProblem(message string) Problem {
	return Problem{Position{File: "$" + envSecret}, "listen.internal", message, SecretHint}
}

// What is said of secrets of the internal listener.
const (
	SecretWanted = "want a secret of at least 16 printable ASCII characters, without blanks"
	SecretWeak   = "the secret is short, or of few different characters: it could be guessed"
	SecretHint   = "Make one with openssl rand -hex 32."
)

// IsSecret reports whether a header field can carry a text, and it is longer than what is guessed at once.
func IsSecret(text string) bool {
	unfit := func(r rune) bool { return r <= ' ' || r > '~' }
	return len(text) >= minSecret && !strings.ContainsFunc(text, unfit)
}

// IsWeakSecret finds a secret that cannot hold 128 random bits, or is of few different characters.
func IsWeakSecret(text string) bool {
	const shortest, fewest = 22, 8 // 22 characters of base64 hold 128 bits, and random hex digits as many are hardly ever so alike
	different := make(map[rune]bool)
	for _, r := range text {
		different[r] = true
	}
	return len(text) < shortest || len(different) < fewest
}

// Protect adds a route that puts an upstream behind tokens for every path that is not our own and
// that no other route takes. The error says what is wrong with the address.
func (c *Config) Protect(upstream string) error {
	route := Route{Path: "/", Scope: ishare.Scope{ishare.ScopeISHARE}}
	if err := route.Upstream.UnmarshalText([]byte(upstream)); err != nil {
		return err
	}
	c.Routes = append(slices.Clone(c.Routes), route)
	return nil
}
