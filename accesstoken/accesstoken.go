package accesstoken

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/waybill-token/waybill/internal/spelling"
	"github.com/waybill-token/waybill/ishare"
)

const (
	// MaxLifetime is the longest life of a token. Keys are kept for at least
	// as long as a token that they sealed can live, so this also bounds how
	// long a key is in use.
	MaxLifetime = 24 * time.Hour

	// MaxLength is the longest token that is issued or looked at, in bytes.
	// Ours have 500 to 700; proxies and servers commonly allow 8 KiB for all
	// headers together.
	MaxLength = 8 << 10
)

var (
	// ErrInvalid says that the text is not a token that we issued for
	// ourselves: malformed, sealed or signed with another key or in another
	// way, altered, or meant for another party.
	ErrInvalid = errors.New("access token is not valid")

	// ErrExpired says that the token is ours and unaltered, and that its time
	// is over.
	ErrExpired = errors.New("access token has expired")
)

// invalid gives ErrInvalid a reason. Reasons are fixed sentences: what a
// stranger sent never enters an error, and so never a log.
func invalid(reason string) error {
	return fmt.Errorf("%w: %s", ErrInvalid, reason)
}

// A Format is the form in which tokens are issued.
type Format string

const (
	// Opaque tokens are sealed: JWE with alg "dir" and enc "A256GCM".
	Opaque Format = "opaque"

	// JWT tokens are signed with ES256 and can be read by anyone: RFC 9068.
	JWT Format = "jwt"
)

// String is the format; Opaque when none is chosen.
func (f Format) String() string { return string(cmp.Or(f, Opaque)) }

// UnmarshalText reads one of the formats.
func (f *Format) UnmarshalText(text []byte) error {
	if _, err := spelling.Choose(text, string(Opaque), string(JWT)); err != nil {
		return err
	}
	*f = Format(text)
	return nil
}

// Claims is what a token says. The package documentation maps its fields to
// claims.
type Claims struct {
	ID         string         // random; set by Issue
	Issuer     ishare.PartyID // our own party identifier, the audience; set by Issue
	IssuerURL  string         // of the claim iss, unless that is Issuer too; set by Issue
	Party      ishare.PartyID // the client's canonical identifier
	Client     ishare.PartyID // the client_id that the client used
	Scope      ishare.Scope   // what was granted; at least one value
	Thumbprint string         // of the client's certificate, as [ishare.Thumbprint] gives it
	Issued     time.Time      // whole seconds; set by Issue
	Expires    time.Time      // whole seconds; the token is refused from this instant on; set by Issue
}

// Config says how tokens are issued and whose they are.
type Config struct {
	Party ishare.PartyID // our own identifier: audience of every token, and issuer unless IssuerURL is set

	// IssuerURL is the claim iss of the tokens that Issue makes, for programs that compare it with
	// the issuer of our metadata (RFC 9068 section 4, RFC 8414). Check accepts tokens with and without.
	IssuerURL string

	Format   Format        // what Issue makes; empty means Opaque
	Lifetime time.Duration // whole seconds, from 1 s to MaxLifetime
	Keys     *KeyRing      // from OpenKeys

	// Revoked is asked by Check about every token that is otherwise good. Nil means that
	// no token can be revoked.
	Revoked TokenRevocationChecker
}

// An Issuer issues and checks the tokens of one party. Make it with [New]. It is
// safe for concurrent use.
type Issuer struct {
	party    ishare.PartyID
	url      string
	use      use
	lifetime time.Duration
	keys     *KeyRing
	revoked  TokenRevocationChecker
}

// New makes an Issuer. Everything in c must be set, except IssuerURL, Format and Revoked.
func New(c Config) (*Issuer, error) {
	party, err := ishare.ParsePartyID(string(c.Party))
	if err != nil {
		return nil, fmt.Errorf("access tokens: own party: %w", err)
	}
	if c.IssuerURL != "" && !isIssuerURL(c.IssuerURL) {
		return nil, fmt.Errorf("access tokens: IssuerURL %q is not an http or https URL without a query or fragment", c.IssuerURL)
	}
	u := sealing
	switch c.Format {
	case Opaque, "":
	case JWT:
		u = signing
	default:
		return nil, fmt.Errorf("access tokens: token format %q is neither %q nor %q", string(c.Format), Opaque, JWT)
	}
	if c.Lifetime <= 0 || c.Lifetime > MaxLifetime || c.Lifetime%time.Second != 0 {
		return nil, fmt.Errorf("access tokens: lifetime %v is not whole seconds from 1s to %v", c.Lifetime, MaxLifetime)
	}
	if c.Keys == nil || c.Keys.set.Load() == nil {
		return nil, errors.New("access tokens: no keys")
	}
	return &Issuer{party: party, url: c.IssuerURL, use: u, lifetime: c.Lifetime, keys: c.Keys, revoked: c.Revoked}, nil
}

// Issue makes a token out of Party, Client, Scope and Thumbprint, all of which
// must be set; ID, Issuer, Issued and Expires must not. It returns the token
// and its complete claims. The lifetime counts from the beginning of the
// current second. Every error is ours: claims that nobody should have passed,
// no usable key, or a ctx that is done.
func (i *Issuer) Issue(ctx context.Context, c Claims) (token string, issued Claims, err error) {
	defer func() {
		if err != nil {
			token, issued, err = "", Claims{}, fmt.Errorf("issuing an access token: %w", err)
		}
	}()
	if err := ctx.Err(); err != nil {
		return "", Claims{}, err
	}
	if c.ID != "" || c.Issuer != "" || c.IssuerURL != "" || !c.Issued.IsZero() || !c.Expires.IsZero() {
		return "", Claims{}, errors.New("id, issuer and times are not the caller's to set")
	}
	now := time.Now()
	c.ID = rand.Text()
	c.Issuer, c.IssuerURL = i.party, i.url
	c.Issued = now.Truncate(time.Second).UTC()
	c.Expires = c.Issued.Add(i.lifetime)
	payload, err := c.encode()
	if err != nil {
		return "", Claims{}, err
	}
	key, err := i.keys.newest(i.use, now)
	if err != nil {
		return "", Claims{}, err
	}
	token, err = key.seal(payload)
	if err != nil {
		return "", Claims{}, err
	}
	if len(token) > MaxLength {
		return "", Claims{}, fmt.Errorf("the token has %d bytes, over %d", len(token), MaxLength)
	}
	return token, c, nil
}

// Check returns the claims of a token that we issued for ourselves, that has not
// expired and that was not revoked. Both formats are accepted. The clock is the one
// that issued the token, or a replica's, so expiry has no leeway: a token is refused
// from Expires on (RFC 7519 section 4.1.4).
//
// The errors are [ErrInvalid], [ErrRevoked], which wraps it, and [ErrExpired], the last two
// only for a token that is ours in every other respect; and any other error when Check
// could not decide: the key folder could not be read, or ctx was done, while looking for a
// key not yet known, or the store of revocations did not answer. No error contains any
// part of the token, and no claims come with an error.
func (i *Issuer) Check(ctx context.Context, token string) (*Claims, error) {
	c, err := i.read(ctx, token)
	if err == nil {
		err = expired(c, time.Now())
	}
	if err == nil {
		err = i.isRevoked(ctx, c) // last, as the only question that may be asked of others
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// read returns the claims of a token that is ours, whenever it was made.
func (i *Issuer) read(ctx context.Context, token string) (*Claims, error) {
	key := i.keys.set.Load().sealerOf(token)
	if key == nil || len(token) > MaxLength {
		ref, err := inspect(token)
		if err != nil {
			return nil, err
		}
		if key, err = i.keys.find(ctx, ref); err != nil {
			return nil, err
		}
	}
	payload, err := key.open(token)
	if err != nil {
		return nil, invalid("it was altered, or not made with the key it names")
	}
	c, err := decodeClaims(payload)
	if err != nil {
		return nil, invalid(err.Error())
	}
	// Parties that share a key folder do not accept each other's tokens. A URL is not compared: it
	// is ours by the key, and tokens outlive a change of our address.
	if c.Issuer != i.party {
		return nil, invalid("it is of another party")
	}
	return c, nil
}

func expired(c *Claims, at time.Time) error {
	if at.Before(c.Expires) {
		return nil
	}
	return ErrExpired
}

func (i *Issuer) isRevoked(ctx context.Context, c *Claims) error {
	if i.revoked == nil {
		return nil
	}
	revoked, err := i.revoked.Revoked(ctx, c)
	switch {
	case err != nil:
		return fmt.Errorf("looking for a revocation of an access token: %w", err)
	case revoked:
		return ErrRevoked
	}
	return nil
}
