package proxy

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/waybill-token/waybill/accesstoken"
)

// The header fields that tell a program behind a proxy who calls. Their values come from a token that was checked, and
// need no quoting. Whatever else begins with X-Ishare-, in any spelling, is removed by [Proxy]; a name to come would
// otherwise be the client's to choose.
const (
	// HeaderClientID is the client_id that the caller used to get the token, which can be an alias.
	HeaderClientID = "X-Ishare-Client-Id"
	// HeaderPartyID is the caller's canonical party identifier. It is the one to decide by.
	HeaderPartyID = "X-Ishare-Party-Id"
	// HeaderScope is the scope of the token, its values separated by blanks.
	HeaderScope = "X-Ishare-Scope"
	// HeaderThumbprint is the SHA-256, in hex, of the certificate that the caller
	// authenticated with when it got the token.
	HeaderThumbprint = "X-Ishare-Certificate-Thumbprint"
)

// setIdentityHeaders says who calls. The names are in the canonical form, which saves a call to make them so, and the
// values have one allocation.
func setIdentityHeaders(h http.Header, c *accesstoken.Claims) {
	values := []string{string(c.Client), string(c.Party), c.Scope.String(), c.Thumbprint}
	h[HeaderClientID], h[HeaderPartyID] = values[0:1:1], values[1:2:2]
	h[HeaderScope], h[HeaderThumbprint] = values[2:3:3], values[3:4:4]
}

// stripIdentityHeaders removes what a client must not be able to tell the program behind us: who it is, where it comes
// from, and that it asks for another path or method than those we checked. Also the token goes: the program needs none,
// and could use it to act as the client elsewhere on this server.
func stripIdentityHeaders(h http.Header) {
	maps.DeleteFunc(h, func(name string, _ []string) bool { return isReservedHeader(foldName(name)) })
}

// isReservedHeader reports whether only we, or a proxy before the program, may send a field with this folded name.
func isReservedHeader(name string) bool {
	switch name {
	case "authorization",
		"http2-settings", // belongs to an upgrade to h2c, which is not let through
		"proxy",          // CGI makes HTTP_PROXY of it, which programs take for their own proxy
		// Where the client comes from, beside X-Forwarded-….
		"forwarded", "x-real-ip", "true-client-ip", "client-ip", "x-client-ip", "x-cluster-client-ip", "fastly-client-ip",
		"cf-connecting-ip", "cf-connecting-ipv6", "x-remote-ip", "x-remote-addr", "x-originating-ip", "x-forwarded",
		"x-scheme", "x-url-scheme", "front-end-https",
		// Who it is, as a server that authenticates says it.
		"remote-user", "remote-groups", "remote-email", "remote-name", "x-remote-user", "x-webauth-user",
		// Another path, host or method. SCRIPT_NAME and Daphne-Root-Path are cut off the path by gunicorn and Daphne.
		"x-rewrite-url", "x-override-url", "x-script-name", "script-name", "path-info", "daphne-root-path", "x-waws-unencoded-url",
		"x-host", "x-http-host-override",
		"x-http-method", "x-http-method-override", "x-method-override":
		return true
	}
	hasPrefix := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	return slices.Contains(sendfileHeaders, name) || slices.ContainsFunc(reservedPrefixes, hasPrefix)
}

var reservedPrefixes = []string{
	"x-ishare-",
	"x-forwarded-", "x-original-", "x-envoy-", // the path, the host, the address
	"client-cert", "x-client-cert", "x-client-verify", "x-client-dn", "ssl-client-", "x-ssl-", "x-arr-clientcert", "x-amzn-mtls-", "wl-proxy-", "-ws", // the certificate: RFC 9440, and before it; "$WS…" is WebSphere's
	"x-accel-", "x-sendfile-", // Rack::Sendfile takes X-Accel-Mapping and X-Sendfile-Type from requests
	"x-auth-request-", "x-authenticated-", "x-amzn-oidc-", "x-goog-iap-", "x-goog-authenticated-user-", "x-ms-client-principal", "x-ms-token-", // the user
}

// sendfileHeaders are the fields of an answer by which a program has a server before it send a file, or the answer of
// another address, as the body.
var sendfileHeaders = []string{
	"x-accel-redirect", "x-sendfile", "x-sendfile2", "x-lighttpd-send-file", "x-lighttpd-send-tempfile",
	"x-reproxy-url", "x-reproxy-file",
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
