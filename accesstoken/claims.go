package accesstoken

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/ishare"
)

// claimSet is the JSON of a token's claims (RFC 9068 section 2.2).
type claimSet struct {
	Issuer     string `json:"iss"`
	Subject    string `json:"sub"`
	Audience   string `json:"aud"`
	ClientID   string `json:"client_id"`
	Scope      string `json:"scope"`
	IssuedAt   int64  `json:"iat"`
	Expires    int64  `json:"exp"`
	ID         string `json:"jti"`
	Thumbprint string `json:"x5t#S256"`
}

// Iss is the claim iss: the URL of the issuer if the token states one, and else its party
// identifier.
func (c *Claims) Iss() string { return cmp.Or(c.IssuerURL, string(c.Issuer)) }

// isIssuerURL holds to RFC 8414 section 2, but for plain http, which serves behind a proxy and on
// a developer's machine. No party identifier has a slash, so that none is taken for a URL.
func isIssuerURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && !strings.ContainsAny(s, "?#")
}

// encode writes complete claims. What decodeClaims would refuse is refused
// here too, so that no token is given out that cannot be used.
func (c *Claims) encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if scope, err := ishare.ParseScope(c.Scope.String()); err != nil || !slices.Equal(scope, c.Scope) {
		return nil, errScope
	}
	thumbprint, err := decodeThumbprint(c.Thumbprint)
	if err != nil {
		return nil, err
	}
	return json.Marshal(claimSet{
		Issuer: c.Iss(), Subject: string(c.Party), Audience: string(c.Issuer),
		ClientID: string(c.Client), Scope: c.Scope.String(),
		IssuedAt: c.Issued.Unix(), Expires: c.Expires.Unix(), ID: c.ID,
		Thumbprint: base64.RawURLEncoding.EncodeToString(thumbprint),
	})
}

// decodeClaims reads the claims of an authentic token. Members that it does not
// know are ignored, as RFC 7519 section 4 wants, so that servers of two versions
// can share keys; a member that occurs twice is refused.
func decodeClaims(payload []byte) (*Claims, error) {
	var set claimSet
	if err := json.Unmarshal(payload, &set); err != nil {
		return nil, errors.New("the claims are not a JSON object of the right types")
	}
	issuerURL := ""
	if set.Audience != set.Issuer {
		if issuerURL = set.Issuer; !isIssuerURL(issuerURL) {
			return nil, errors.New("the audience is not the issuer")
		}
	}
	scope, err := ishare.ParseScope(set.Scope)
	if err != nil {
		return nil, errScope
	}
	thumbprint, err := strictBase64.DecodeString(set.Thumbprint)
	if err != nil || len(thumbprint) != sha256.Size {
		return nil, errThumbprint
	}
	c := &Claims{
		ID: set.ID, Issuer: ishare.PartyID(set.Audience), IssuerURL: issuerURL,
		Party: ishare.PartyID(set.Subject), Client: ishare.PartyID(set.ClientID),
		Scope: scope, Thumbprint: hex.EncodeToString(thumbprint),
		Issued: time.Unix(set.IssuedAt, 0).UTC(), Expires: time.Unix(set.Expires, 0).UTC(),
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

var (
	errParty      = errors.New("issuer, party or client is not a party identifier")
	errScope      = errors.New("the scope is empty or malformed")
	errThumbprint = errors.New("the certificate thumbprint is not a SHA-256")
)

// decodeThumbprint reads what [ishare.Thumbprint] writes.
func decodeThumbprint(text string) ([]byte, error) {
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != sha256.Size || hex.EncodeToString(sum) != text {
		return nil, errThumbprint
	}
	return sum, nil
}

// check is what is asked of the claims of every token, issued or accepted, besides the form of
// scope and thumbprint. Its errors are fixed sentences without any value.
func (c *Claims) check() error {
	for _, id := range [...]ishare.PartyID{c.Issuer, c.Party, c.Client} {
		if _, err := ishare.ParsePartyID(string(id)); err != nil {
			return errParty
		}
	}
	if c.ID == "" {
		return errors.New("the token id is empty")
	}
	// Keys are removed by the reckoning that no token outlives MaxLifetime.
	if life := c.Expires.Sub(c.Issued); life <= 0 || life > MaxLifetime {
		return errors.New("the lifetime is out of bounds")
	}
	return nil
}
