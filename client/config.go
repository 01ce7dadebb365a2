package client

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// Config says which token endpoint to ask, and as whom. Every field that is not marked optional must be set.
type Config struct {
	// Server is the server's base URL, such as https://provider.example. The token endpoint is taken to be at
	// /connect/token below it, where iSHARE puts it. It need not be set when TokenEndpoint is.
	Server string
	// TokenEndpoint is the URL of the token endpoint, for a server that has it
	// in another place; see [Discover]. Optional.
	TokenEndpoint string
	// Audience is the server's party identifier: the aud of the assertions.
	Audience ishare.PartyID
	// ClientID is our own party identifier, as the Participant Registry knows it.
	ClientID ishare.PartyID
	// Key is the private key of our seal: RSA, in memory or in hardware. It signs one assertion at a time.
	Key crypto.Signer
	// Certificates is the chain of our seal, leaf first, up to and including a certificate that the server trusts.
	Certificates []*x509.Certificate
	// Algorithm is RS256 unless set. Servers of the 2.x framework accept nothing else. Optional.
	Algorithm jws.Algorithm
	// Scope is what to ask for: iSHARE unless set. Optional.
	Scope ishare.Scope
	// Transport carries the token requests, and the requests of [Client.HTTPClient]: one of [NewTransport] unless set.
	// It must not repeat a POST by itself. Optional.
	Transport http.RoundTripper
	// MaxRetryAfter bounds for how long the server's Retry-After keeps the client from asking again: a
	// minute unless set. Optional.
	MaxRetryAfter time.Duration
	// Hedge is how long a token request may hang until another one is made beside it, and so on: for a client whose
	// callers must not wait for a server that is well again. It is not done unless set. Optional.
	Hedge time.Duration
	// OnPause is told before a token request is repeated after a pause: why, and how long the pause is. It must return at
	// once. Optional.
	OnPause func(because error, pause time.Duration)
	// Log gets a line for each token, each repetition and each failure. Optional.
	Log *slog.Logger
}

func (c *Config) endpoint() (string, error) {
	if c.TokenEndpoint != "" {
		u, err := parseURL("TokenEndpoint", c.TokenEndpoint)
		if err != nil {
			return "", err
		}
		return u.String(), nil
	}
	base, err := c.base()
	if err != nil {
		return "", err
	}
	return base.JoinPath(ishare.TokenPath).String(), nil
}

func (c *Config) base() (*url.URL, error) {
	if c.Server == "" {
		return nil, errors.New("client: neither Server nor TokenEndpoint is set")
	}
	u, err := parseURL("Server", c.Server)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(strings.TrimRight(u.Path, "/"), ishare.TokenPath) {
		return nil, errors.New("client: Server ends in " + ishare.TokenPath + ": set TokenEndpoint to it, or Server to what stands before")
	}
	return u, nil
}

// checkSeal finds now what would otherwise fail every token request.
func (c *Config) checkSeal() error {
	if c.Algorithm != "" {
		if _, err := jws.ParseAlgorithm(string(c.Algorithm)); err != nil {
			return fmt.Errorf("client: Algorithm: %w", err)
		}
	}
	switch {
	case c.Key == nil:
		return errors.New("client: Key is not set")
	case len(c.Certificates) == 0:
		return errors.New("client: Certificates is empty")
	case len(c.Certificates) > jws.MaxCertificates:
		return fmt.Errorf("client: Certificates holds %d certificates, more than %d", len(c.Certificates), jws.MaxCertificates)
	}
	public, ok := c.Key.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("client: Key is of type %T; iSHARE asks for RSA", c.Key.Public())
	}
	if !public.Equal(c.Certificates[0].PublicKey) {
		return errors.New("client: Key does not belong to the first certificate; the leaf comes first")
	}
	return nil
}

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

// KeyFiles says where the private key of a seal and its certificates are. Each file may be PEM (also where its line
// breaks are lost or escaped, or in UTF-16), PKCS#12 in any of its encodings, PKCS#7, or DER.
type KeyFiles struct {
	// Key is the file of the private key, or the PEM text of it. PKCS#12 and PEM may hold the certificates too. Of
	// several keys the one counts that has certificates. In a program that is built with cgo and the tag pkcs11, it may
	// also be the PKCS#11 URI of a key in hardware (RFC 7512).
	Key string
	// Certificates is the file of the chain, leaf first, or the PEM text of it. In PKCS#12 and
	// PKCS#7, which know no order, it is found. Empty: it is in the key's.
	Certificates string
	// Password opens PKCS#12 and encrypted keys; it is the PIN of a key in hardware. Optional.
	Password string
}

// LoadKey reads a private key and its certificates, for Key and Certificates of [Config]. A program that has them by
// other means needs no LoadKey: any [crypto.Signer] with an RSA key will do.
//
// What would make servers refuse the assertions is an error now, by the same rules by which they judge (see
// [trust.Check]); so is a key that belongs to another certificate. The error tells everything that is wrong, a line
// each and with a mend, and holds neither key nor password.
//
// A key in hardware keeps a session with it, and is an [io.Closer].
func LoadKey(files KeyFiles) (crypto.Signer, []*x509.Certificate, error) {
	pair, problems := keyfile.ReadSeal(keyfile.Files{Key: files.Key, Certificates: files.Certificates, Password: files.Password}, time.Now())
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	return pair.Signer(), pair.Certificates, nil
}
