package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/ishare"
)

// complete fills in defaults that depend on other keys.
func (c *Config) complete() {
	if c.Tokens.Keys == "" {
		c.Tokens.Keys = Path(filepath.Join(string(c.Data), "keys"))
	}
}

// check finds what is wrong between keys.
func (c *Config) check() []Problem {
	return slices.Concat(c.checkParticipants(), c.checkListeners(), c.checkSecret(), c.checkTokens(), c.checkRoutes())
}

func (c *Config) checkParticipants() []Problem {
	var problems []Problem
	_, file := c.places["participants.file"]
	_, registry := c.places["participants.registry"]
	switch {
	case file && registry:
		problems = append(problems, c.Problem("participants.registry", "participants.file is given as well", "Remove one of them."))
	case !file && !registry:
		problems = append(problems, c.Problem("participants", "is required", "Add participants.file, or participants.registry."))
	case file && c.Trust.TrustedList:
		problems = append(problems, c.Problem("trust.trusted_list", "only a registry has a trusted list", "Give participants.registry, or remove this."))
	}
	if c.Participants.MaxStale < c.Participants.Cache {
		problems = append(problems, c.Problem("participants.max_stale",
			fmt.Sprintf("want no less than participants.cache, which is %s", c.Participants.Cache), ""))
	}
	return problems
}

func (c *Config) checkListeners() []Problem {
	same := c.Listen.Public == c.Listen.Internal && !strings.HasSuffix(string(c.Listen.Public), ":0")
	if !same {
		return nil
	}
	return []Problem{c.Problem("listen.internal", "is the same as listen.public", "Give it an address that the public does not reach.")}
}

// minSecret is the least number of characters that cannot be guessed.
const minSecret = 16

func (c *Config) checkSecret() []Problem {
	if text := c.Listen.Secret.Reveal(); text != "" && !IsSecret(text) {
		return []Problem{c.SecretProblem(SecretWanted)}
	}
	return nil
}

// SecretProblem makes a problem of [Listen.Secret].
func (c *Config) SecretProblem(message string) Problem {
	return Problem{File: "$" + envSecret, Key: "listen.internal", Message: message, Hint: MendSecret}
}

// What is said of secrets of the internal listener.
const (
	SecretWanted = "want a secret of at least 16 printable ASCII characters, without blanks"
	SecretWeak   = "the secret is short, or of few different characters: it could be guessed"
	MendSecret   = "Make one with openssl rand -hex 32."
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

// checkTokens keeps to whole seconds because expires_in does (RFC 6749 section 5.1), and wants an
// address that is ours to name in tokens.
func (c *Config) checkTokens() []Problem {
	var problems []Problem
	if c.Tokens.Lifetime%time.Second != 0 {
		problems = append(problems, c.Problem("tokens.lifetime", "want whole seconds", ""))
	}
	if c.Tokens.Issuer == IssuerURL && c.Listen.URL.Host == "" {
		problems = append(problems, c.Problem("tokens.issuer", "url needs listen.url, the address by which clients reach this server",
			"Set listen.url to that address, without a path if a proxy passes none on; it is the issuer of the metadata, too."))
	}
	return problems
}

// checkRoutes leaves the paths to the proxy, which knows best what it cannot tell apart.
func (c *Config) checkRoutes() []Problem {
	var problems []Problem
	for i, r := range c.Routes {
		for _, value := range r.Scope {
			if _, known := c.Scopes[ScopeName(value)]; !known && value != ishare.ScopeISHARE {
				problems = append(problems, c.Problem(fmt.Sprintf("routes[%d].scope", i), fmt.Sprintf("no client can get the scope %q", value), "Add it to scopes."))
			}
		}
	}
	return problems
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
