package client

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// tokenService is the framework-defined service that is the token endpoint itself.
const tokenService = "request-oauth-token"

// maxCapabilities bounds the answer in bytes: some hundred services.
const maxCapabilities = 1 << 20

// ErrNoEndpoint is wrapped by what [Discover] returns when it has learned nothing: the server is out of reach, or says
// nothing of a token endpoint that could be understood. Then the fixed place of iSHARE, /connect/token below the base
// URL, is the one to try.
var ErrNoEndpoint = errors.New("the server does not say where its token endpoint is")

// Discover asks the server's /capabilities where its token endpoint is. It uses
// Server, Audience and Transport of the configuration:
//
//	config.TokenEndpoint, err = client.Discover(ctx, config)
//
// Capabilities of iSHARE 3.0 and of 2.x are understood. The endpoint is that of the service request-oauth-token, or the
// one tokenEndpoint that the services name; services that are deprecated do not count. When they name several, the
// fixed place /connect/token is taken if it is one of them, and otherwise the error lists them. When they name none, it
// is the fixed place.
//
// A server without capabilities that can be read is asked for its metadata as an authorization server (RFC 8414), whose
// issuer must be Server. Without these too, the error wraps [ErrNoEndpoint]. One attempt is made of each, of at most
// ten seconds; at most 1 MiB is read.
//
// The signature of the capabilities is not verified, since that takes a Participant Registry, which takes a token. They
// are a hint, as good as the https connection to Server, and no better than what is served there. The endpoint must be
// https, or on a loopback address if Server is, and the capabilities must name Audience as their issuer.
//
// An endpoint that is named wrongly gets an assertion whose sole audience is Audience: no other server accepts it. It
// could still be passed on to Audience within its 30 seconds, by whoever got it, for a token in our name. So look at a
// host that you did not expect before you use it, or set TokenEndpoint by hand.
func Discover(ctx context.Context, c Config) (string, error) {
	base, err := c.base()
	if err != nil {
		return "", err
	}
	if _, err := ishare.ParsePartyID(string(c.Audience)); err != nil {
		return "", fmt.Errorf("client: Audience: %w", err)
	}
	if c.Transport == nil {
		own := NewTransport()
		defer own.CloseIdleConnections()
		c.Transport = own
	}
	address := base.JoinPath("capabilities").String()
	a, err := fetch(ctx, c.Transport, address)
	if err == nil {
		info, wrong := a.capabilities(c.Audience)
		if wrong == nil {
			return chooseEndpoint(info, base)
		}
		err = fmt.Errorf("%s: %w", address, wrong)
	}
	if errors.As(err, new(*outbound.UnreachableError)) {
		return "", fmt.Errorf("client: %w: %w", ErrNoEndpoint, err)
	}
	endpoint, noMetadata := fetchMetadata(ctx, &c, base)
	if noMetadata != nil {
		return "", fmt.Errorf("client: %w: %w; %w", ErrNoEndpoint, err, noMetadata)
	}
	return accept("the metadata", endpoint, base)
}

// fetch gets JSON from an address, whatever the status.
func fetch(ctx context.Context, transport http.RoundTripper, address string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "waybill")
	a, err := exchange(withoutRedirects(transport), request, maxCapabilities)
	if err != nil {
		return nil, unreachable(address, "", err)
	}
	return a, nil
}

// capabilities takes the answer apart down to the description of the services.
func (a *answer) capabilities(issuer ishare.PartyID) (info any, err error) {
	_, claims, err := a.capabilitiesToken()
	if err != nil {
		return nil, err
	}
	if claims.Iss != issuer {
		return nil, fmt.Errorf("the capabilities are those of %q, not of %s", clean(string(claims.Iss), "", 80), issuer)
	}
	if claims.Info3 != nil {
		return claims.Info3, nil
	}
	return claims.Info2, nil
}

// capabilitiesClaims have the names of 3.0 and of 2.x; the published example of 3.0 mixes them.
type capabilitiesClaims struct {
	Iss   ishare.PartyID `json:"iss"`
	Info3 any            `json:"capabilitiesInfo"`
	Info2 any            `json:"capabilities_info"`
}

// capabilitiesToken reads the token of the answer, whose signature is not verified.
func (a *answer) capabilitiesToken() (*jws.Token, *capabilitiesClaims, error) {
	if a.status != http.StatusOK {
		return nil, nil, fmt.Errorf("the server answered %d", a.status)
	}
	var body struct { // as above
		Token3 string `json:"capabilitiesToken"`
		Token2 string `json:"capabilities_token"`
	}
	if flaw := a.decode(&body); flaw != "" {
		return nil, nil, errors.New(flaw)
	}
	token, err := jws.Split(cmp.Or(body.Token3, body.Token2))
	if err != nil {
		return nil, nil, fmt.Errorf("capabilitiesToken: %w", err)
	}
	claims := new(capabilitiesClaims)
	if json.Unmarshal(token.Payload(), claims) != nil {
		return nil, nil, errors.New("the payload of capabilitiesToken is not one JSON object in UTF-8 with each name once")
	}
	return token, claims, nil
}

// An Identity is who a server says that it is.
type Identity struct {
	// ID is the issuer of its capabilities.
	ID ishare.PartyID
	// Certificates are those of the seal that has signed them, leaf first. Whether they are to be trusted, and whether the
	// seal is that of ID, is not judged.
	Certificates []*x509.Certificate
}

// Identify asks the /capabilities of the server at a base URL who it is, and verifies that the key of the certificates has
// signed the answer. A nil transport is one of [NewTransport]. One attempt is made, of at most ten seconds; at most 1 MiB is
// read.
//
// It is for a person who sets something up and knows whom to expect. Never make an identity the audience of assertions
// unseen: whoever runs a server could name another participant, and use the assertion there.
func Identify(ctx context.Context, server string, transport http.RoundTripper) (*Identity, error) {
	base, err := (&Config{Server: server}).base()
	if err != nil {
		return nil, err
	}
	if transport == nil {
		own := NewTransport()
		defer own.CloseIdleConnections()
		transport = own
	}
	address := base.JoinPath("capabilities").String()
	a, err := fetch(ctx, transport, address)
	if err != nil {
		return nil, err
	}
	identity, err := a.identity()
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", address, err)
	}
	return identity, nil
}

func (a *answer) identity() (*Identity, error) {
	token, claims, err := a.capabilitiesToken()
	if err != nil {
		return nil, err
	}
	id, err := ishare.ParsePartyID(string(claims.Iss))
	if err != nil {
		return nil, fmt.Errorf("the issuer of the capabilities: %w", err)
	}
	header, err := token.Header()
	if err != nil {
		return nil, fmt.Errorf("the header of the capabilities: %w", err)
	}
	name, _ := header.Text("alg")
	alg, err := jws.ParseAlgorithm(name)
	if err != nil {
		return nil, fmt.Errorf("the capabilities: %w", err)
	}
	certificates, err := header.Certificates(nil)
	if err != nil {
		return nil, fmt.Errorf("the certificates of the capabilities: %w", err)
	}
	key, ok := certificates[0].PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() > maxSealKey {
		return nil, fmt.Errorf("the capabilities are not signed with an RSA key of up to %d bits", maxSealKey)
	}
	if err := token.Verify(alg, jws.NewKey(key)); err != nil {
		return nil, fmt.Errorf("the capabilities: %w", err)
	}
	return &Identity{ID: id, Certificates: certificates}, nil
}

// maxSealKey is the longest key by which a signature is verified; longer ones cost much.
const maxSealKey = 8192

// namedEndpoints are the token endpoints that capabilities name. A server can name some ten thousand in
// what is read of its answer.
type namedEndpoints struct {
	service map[string]bool // of the service that is the token endpoint
	any     map[string]bool // of any service
}

// walk ends, because the decoder has bounded the depth.
func (f *namedEndpoints) walk(v any) {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			f.walk(element)
		}
	case map[string]any:
		if status, _ := v["status"].(string); strings.EqualFold(status, "deprecated") {
			return
		}
		if v["identifier"] == tokenService {
			collect(f.service, v, "endpointURL", "endpoint_url")
		}
		collect(f.any, v, "tokenEndpoint", "token_endpoint")
		for _, member := range v {
			f.walk(member)
		}
	}
}

// collect adds the texts that stand under the names.
func collect(set map[string]bool, object map[string]any, names ...string) {
	for _, name := range names {
		if s, ok := object[name].(string); ok && s != "" {
			set[s] = true
		}
	}
}

// chooseEndpoint looks at everything in the capabilities, as services stand at different depths in 2.x and 3.0.
func chooseEndpoint(info any, base *url.URL) (string, error) {
	named := namedEndpoints{map[string]bool{}, map[string]bool{}}
	named.walk(info)
	standard, candidates := base.JoinPath(ishare.TokenPath).String(), named.any
	if len(named.service) > 0 {
		candidates = named.service
	}
	if len(candidates) == 0 || candidates[standard] {
		return standard, nil
	}
	list := slices.Sorted(maps.Keys(candidates))
	if len(list) > 1 {
		return "", fmt.Errorf("client: the capabilities name several token endpoints, set TokenEndpoint to one: %s",
			clean(strings.Join(list, " "), "", 500))
	}
	return accept("the capabilities", list[0], base)
}

// accept holds a named endpoint to the rules for a configured one. A remote server
// cannot send assertions to a loopback address in plain http.
func accept(source, candidate string, base *url.URL) (string, error) {
	u, err := parseURL("the token endpoint in "+source, candidate)
	if err != nil {
		return "", err
	}
	if u.Scheme != "https" && !loopback.Is(base.Hostname()) {
		return "", fmt.Errorf("client: the token endpoint in %s is not https: %s", source, clean(u.Host, "", 80))
	}
	return u.String(), nil
}

// metadataPath is put between host and path of a base URL (RFC 8414 section 3.1).
const metadataPath = "/.well-known/oauth-authorization-server"

// fetchMetadata returns the token endpoint in the metadata. An issuer other than the server that was asked is
// somebody else's metadata (RFC 8414 section 3.3); a slash at the end makes no other.
func fetchMetadata(ctx context.Context, c *Config, base *url.URL) (string, error) {
	well := *base
	well.Path, well.RawPath = metadataPath, ""
	address := well.JoinPath(strings.Trim(base.EscapedPath(), "/")).String()
	a, err := fetch(ctx, c.Transport, address)
	if err != nil {
		return "", err
	}
	var m struct { // RFC 8414 section 2
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
	}
	var wrong string
	if a.status != http.StatusOK {
		wrong = fmt.Sprintf("the server answered %d", a.status)
	} else if flaw := a.decode(&m); flaw != "" {
		wrong = flaw
	} else if strings.TrimSuffix(m.Issuer, "/") != strings.TrimSuffix(base.String(), "/") {
		wrong = fmt.Sprintf("the metadata are those of %q", clean(m.Issuer, "", 80))
	} else if m.TokenEndpoint == "" {
		wrong = "the metadata name no token endpoint"
	}
	if wrong != "" {
		return "", fmt.Errorf("%s: %s", address, wrong)
	}
	return m.TokenEndpoint, nil
}
