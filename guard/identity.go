package guard

import (
	"net/http"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
)

// The header fields that tell a program behind a proxy who calls. Their values come from
// a token that was checked, and need no quoting. Whatever else begins with X-Ishare-, in
// any spelling, is removed by [Proxy]; a name to come would otherwise be the client's to
// choose.
const (
	// HeaderClientID is the client_id that the caller used to get the token, which can be
	// an alias.
	HeaderClientID = "X-Ishare-Client-Id"
	// HeaderPartyID is the caller's canonical party identifier. It is the one to decide by.
	HeaderPartyID = "X-Ishare-Party-Id"
	// HeaderScope is the scope of the token, its values separated by blanks.
	HeaderScope = "X-Ishare-Scope"
	// HeaderThumbprint is the SHA-256, in hex, of the certificate that the caller
	// authenticated with when it got the token.
	HeaderThumbprint = "X-Ishare-Certificate-Thumbprint"
)

// identify tells who calls. The names are in the canonical form, which saves a call to
// make them so.
func identify(h http.Header, c *accesstoken.Claims) {
	h[HeaderClientID] = []string{string(c.Client)}
	h[HeaderPartyID] = []string{string(c.Party)}
	h[HeaderScope] = []string{c.Scope.String()}
	h[HeaderThumbprint] = []string{c.Thumbprint}
}

// scrub removes what a client must not be able to tell the program behind us: who it is,
// where it comes from, and that it asks for another path than the one we looked at. Also the
// token goes: the program needs none, and could use it to act as the client elsewhere on
// this server.
func scrub(h http.Header) {
	for name := range h {
		if isOurs(foldName(name)) {
			delete(h, name)
		}
	}
}

// isOurs judges a folded name.
func isOurs(name string) bool {
	switch name {
	case "authorization",
		"forwarded", "x-real-ip", // beside X-Forwarded-…
		"x-original-url", "x-rewrite-url", // with some frameworks, these are the path
		"http2-settings": // belongs to an upgrade to h2c, which is not let through
		return true
	}
	return strings.HasPrefix(name, "x-ishare-") || strings.HasPrefix(name, "x-forwarded-")
}

// foldName gives the form in which spellings of one name are the same. Programs behind
// CGI, FastCGI and WSGI see every other character than a letter or a digit as an
// underscore, so that X_Ishare_Party_Id would reach them as X-Ishare-Party-Id.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return '-'
	}, name)
}
