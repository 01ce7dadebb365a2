package client

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/ishare"
)

// parseURL reads an address that assertions may be sent to. Its errors quote no
// more of the address than scheme and host: the rest may hold a password.
func parseURL(field, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, fmt.Errorf("client: %s is not an absolute URL such as https://provider.example", field)
	case u.User != nil:
		return nil, fmt.Errorf("client: %s holds credentials; the assertion is the only one that is sent", field)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("client: %s holds a query or a fragment; want scheme, host and path only", field)
	}
	if err := checkOrigin(u); err != nil {
		return nil, fmt.Errorf("client: %s: %w", field, err)
	}
	return u, nil
}

// checkOrigin admits https, and plain http to a loopback address, where nobody
// is on the way (RFC 6749 section 3.2, RFC 6750 section 5.3).
func checkOrigin(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && loopback.Is(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%s://%s is not https; plain http is accepted to a loopback address only", u.Scheme, u.Host)
}

func parseBase(s string) (*url.URL, error) {
	u, err := parseURL("Server", s)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(strings.TrimRight(u.Path, "/"), ishare.TokenPath) {
		return nil, errors.New("client: Server ends in " + ishare.TokenPath + ": set TokenEndpoint to it, or Server to what stands before")
	}
	return u, nil
}

func fixedPlace(base *url.URL) string { return base.JoinPath(ishare.TokenPath).String() }

// sameOrigin compares scheme, host and port (RFC 6454 section 5).
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
