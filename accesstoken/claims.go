package accesstoken

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/plainjson"
	"github.com/waybill-token/waybill/ishare"
)

// thumbprintLength is that of a SHA-256 in base64url.
const thumbprintLength = 43

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

// A member is one claim in the layout that every token of ours has: what stands before its value, and the value.
type member struct {
	before string
	text   *string
	number *int64 // nil: it is a text
}

func (s *claimSet) members() [9]member {
	return [...]member{
		{`{"iss":`, &s.Issuer, nil},
		{`,"sub":`, &s.Subject, nil},
		{`,"aud":`, &s.Audience, nil},
		{`,"client_id":`, &s.ClientID, nil},
		{`,"scope":`, &s.Scope, nil},
		{`,"iat":`, nil, &s.IssuedAt},
		{`,"exp":`, nil, &s.Expires},
		{`,"jti":`, &s.ID, nil},
		{`,"x5t#S256":`, &s.Thumbprint, nil},
	}
}

// appendJSON writes what json.Marshal does.
func (s *claimSet) appendJSON(b []byte) (_ []byte, err error) {
	for _, m := range s.members() {
		b = append(b, m.before...)
		if m.number != nil {
			b = strconv.AppendInt(b, *m.number, 10)
		} else if b, err = jsontext.AppendQuote(b, *m.text); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// scanClaims reads what appendJSON writes, at a fraction of the cost of json.Unmarshal, and to the same claims. It is not
// ok with any other text, nor with one that has escapes or characters beyond ASCII.
func scanClaims(payload string) (set claimSet, ok bool) {
	rest := payload
	for _, m := range set.members() {
		if rest, ok = strings.CutPrefix(rest, m.before); !ok {
			return claimSet{}, false
		}
		if m.number != nil {
			*m.number, rest, ok = plainjson.Number(rest)
		} else {
			*m.text, rest, ok = plainjson.Text(rest)
		}
		if !ok {
			return claimSet{}, false
		}
	}
	return set, rest == "}"
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
	scope := c.Scope.String()
	if parsed, err := ishare.ParseScope(scope); err != nil || !slices.Equal(parsed, c.Scope) {
		return nil, errScope
	}
	thumbprint, err := decodeThumbprint(c.Thumbprint)
	if err != nil {
		return nil, err
	}
	var encoded [thumbprintLength]byte
	base64.RawURLEncoding.Encode(encoded[:], thumbprint[:])
	set := claimSet{
		Issuer: c.Iss(), Subject: string(c.Party), Audience: string(c.Issuer),
		ClientID: string(c.Client), Scope: scope,
		IssuedAt: c.Issued.Unix(), Expires: c.Expires.Unix(), ID: c.ID,
		Thumbprint: string(encoded[:]),
	}
	return set.appendJSON(make([]byte, 0, 512))
}

// decodeClaims reads the claims of an authentic token. Members that it does not
// know are ignored, as RFC 7519 section 4 wants, so that servers of two versions
// can share keys; a member that occurs twice is refused.
func decodeClaims(payload []byte) (*Claims, error) {
	set, ok := scanClaims(string(payload))
	if !ok {
		var general claimSet
		if err := json.Unmarshal(payload, &general); err != nil {
			return nil, errors.New("the claims are not a JSON object of the right types")
		}
		set = general
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
	var thumbprint [sha256.Size]byte
	if len(set.Thumbprint) != thumbprintLength {
		return nil, errThumbprint
	}
	if n, err := strictBase64.Decode(thumbprint[:], []byte(set.Thumbprint)); err != nil || n != len(thumbprint) {
		return nil, errThumbprint
	}
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], thumbprint[:])
	c := &Claims{
		ID: set.ID, Issuer: ishare.PartyID(set.Audience), IssuerURL: issuerURL,
		Party: ishare.PartyID(set.Subject), Client: ishare.PartyID(set.ClientID),
		Scope: scope, Thumbprint: string(digits[:]),
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
func decodeThumbprint(text string) (sum [sha256.Size]byte, err error) {
	if len(text) != 2*len(sum) || strings.ContainsAny(text, "ABCDEF") {
		return sum, errThumbprint
	}
	if _, err := hex.Decode(sum[:], []byte(text)); err != nil {
		return sum, errThumbprint
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
