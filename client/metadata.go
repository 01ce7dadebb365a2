package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// metadataPath is put between host and path of a base URL (RFC 8414 section 3.1).
const metadataPath = "/.well-known/oauth-authorization-server"

// metadata is the part of RFC 8414 section 2 that is used. Other members are ignored.
type metadata struct {
	Issuer        string `json:"issuer"`
	TokenEndpoint string `json:"token_endpoint"`
}

func metadataURL(base *url.URL) string {
	place := *base
	place.Path, place.RawPath = metadataPath, ""
	return place.JoinPath(strings.Trim(base.EscapedPath(), "/")).String()
}

func fetchMetadata(ctx context.Context, c *Config, base *url.URL) (*metadata, error) {
	place := metadataURL(base)
	a, err := fetch(ctx, c.Transport, place)
	if err != nil {
		return nil, err
	}
	m, err := a.metadata(base)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return m, nil
}

// metadata reads the answer. An issuer other than the server that was asked is
// somebody else's metadata (RFC 8414 section 3.3); a slash at the end makes no other.
func (a *answer) metadata(base *url.URL) (*metadata, error) {
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d", a.status)
	}
	var m metadata
	if flaw := a.decode(&m); flaw != "" {
		return nil, errors.New(flaw)
	}
	if strings.TrimSuffix(m.Issuer, "/") != strings.TrimSuffix(base.String(), "/") {
		return nil, fmt.Errorf("the metadata are those of %q", clean(m.Issuer, "", 80))
	}
	if m.TokenEndpoint == "" {
		return nil, errors.New("the metadata name no token endpoint")
	}
	return &m, nil
}
