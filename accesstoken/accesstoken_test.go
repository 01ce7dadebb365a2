package accesstoken

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/ishare"
)

const (
	provider = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")
	consumer = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000001")
	alias    = ishare.PartyID("EU.EORI.NL000000001")
)

var formats = []Format{Opaque, JWT}

// grant is what a token endpoint asks a token for.
func grant() Claims {
	return Claims{
		Party: consumer, Client: alias, Scope: ishare.Scope{"iSHARE", "orders"},
		Thumbprint: ishare.Thumbprint([]byte("certificate")),
	}
}

func openKeys(tb testing.TB, dir string) *KeyRing {
	tb.Helper()
	keys, err := OpenKeys(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

func newIssuer(tb testing.TB, format Format, keys *KeyRing) *Issuer {
	tb.Helper()
	issuer, err := New(Config{Party: provider, Format: format, Lifetime: time.Hour, Keys: keys})
	if err != nil {
		tb.Fatal(err)
	}
	return issuer
}

// freshIssuer has a key folder of its own.
func freshIssuer(tb testing.TB, format Format) *Issuer {
	tb.Helper()
	return newIssuer(tb, format, openKeys(tb, filepath.Join(tb.TempDir(), "keys")))
}

func issue(tb testing.TB, i *Issuer) (string, Claims) {
	tb.Helper()
	token, c, err := i.Issue(tb.Context(), grant())
	if err != nil {
		tb.Fatal(err)
	}
	return token, c
}

// refuse checks that the token gets exactly this error, no claims, and no
// mention of itself.
func refuse(tb testing.TB, i *Issuer, token string, want error) {
	tb.Helper()
	c, err := i.Check(tb.Context(), token)
	if !errors.Is(err, want) || c != nil {
		tb.Fatalf("Check(%q) = %v, %v; want %v", token, c, err, want)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 3 && strings.Contains(err.Error(), part) {
			tb.Errorf("error %q holds a part of the token", err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(1500 * time.Millisecond) // so that there is a fraction to cut off
				issuer := freshIssuer(t, format)
				token, issued := issue(t, issuer)
				want := grant()
				want.ID, want.Issuer = issued.ID, provider
				want.Issued = time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC)
				want.Expires = want.Issued.Add(time.Hour)
				checked, err := issuer.Check(t.Context(), token)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, issued); diff != "" {
					t.Errorf("issued claims (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(want, *checked); diff != "" {
					t.Errorf("checked claims (-want +got):\n%s", diff)
				}
				if len(issued.ID) < 26 {
					t.Errorf("id %q has less than 128 bits", issued.ID)
				}
				if again, c := issue(t, issuer); again == token || c.ID == issued.ID {
					t.Error("two tokens are the same")
				}
			})
		})
	}
}

// What a token was issued in does not matter once the format is changed.
func TestCheckTakesBothFormats(t *testing.T) {
	keys := openKeys(t, filepath.Join(t.TempDir(), "keys"))
	for _, made := range formats {
		token, _ := issue(t, newIssuer(t, made, keys))
		for _, checking := range formats {
			if _, err := newIssuer(t, checking, keys).Check(t.Context(), token); err != nil {
				t.Errorf("%s token at %s server: %v", made, checking, err)
			}
		}
	}
}

func TestEmptyFormatIsOpaque(t *testing.T) {
	token, _ := issue(t, freshIssuer(t, ""))
	if n := strings.Count(token, "."); n != 4 {
		t.Errorf("token has %d dots, want the 4 of a JWE", n)
	}
}

func TestExpiry(t *testing.T) {
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				issuer := freshIssuer(t, format)
				token, c := issue(t, issuer)
				time.Sleep(time.Until(c.Expires) - time.Nanosecond)
				if _, err := issuer.Check(t.Context(), token); err != nil {
					t.Errorf("a nanosecond before the end: %v", err)
				}
				time.Sleep(time.Nanosecond)
				refuse(t, issuer, token, ErrExpired)
				if _, err := issuer.Check(t.Context(), token); errors.Is(err, ErrInvalid) {
					t.Error("an expired token is also called invalid")
				}
				refuse(t, issuer, token[:len(token)-1], ErrInvalid)
				refuse(t, issuer, flip(token, len(token)/2, 0), ErrInvalid)
			})
		})
	}
}

// Two parties may share a key folder; their tokens stay apart, also when expired.
func TestTokenOfAnotherParty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := openKeys(t, filepath.Join(t.TempDir(), "keys"))
		for _, format := range formats {
			theirs, err := New(Config{Party: consumer, Format: format, Lifetime: time.Hour, Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			token, _ := issue(t, theirs)
			refuse(t, newIssuer(t, format, keys), token, ErrInvalid)
			time.Sleep(2 * time.Hour)
			refuse(t, newIssuer(t, format, keys), token, ErrInvalid)
		}
	})
}

// A token that names its issuer by a URL is as good, before and after the setting changes, and
// only for the party that it is of.
func TestIssuerURL(t *testing.T) {
	keys := openKeys(t, filepath.Join(t.TempDir(), "keys"))
	with := func(party ishare.PartyID, url string, format Format) *Issuer {
		i, err := New(Config{Party: party, IssuerURL: url, Format: format, Lifetime: time.Hour, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	const url = "https://provider.example/ishare"
	for _, format := range formats {
		for _, issued := range []string{"", url, "http://127.0.0.1:8080"} {
			token, c := issue(t, with(provider, issued, format))
			want := string(provider)
			if issued != "" {
				want = issued
			}
			if c.Iss() != want || c.Issuer != provider {
				t.Errorf("%s: iss %s, audience %s, want %s", format, c.Iss(), c.Issuer, want)
			}
			for _, setting := range []string{"", url} {
				got, err := with(provider, setting, format).Check(t.Context(), token)
				if err != nil || cmp.Diff(*got, c) != "" {
					t.Errorf("%s from %q, checked with %q: %v, %v", format, issued, setting, got, err)
				}
			}
			refuse(t, with(consumer, url, format), token, ErrInvalid)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Party: provider, Lifetime: time.Hour, Keys: openKeys(t, filepath.Join(t.TempDir(), "keys"))}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*Config){
		"no party":               func(c *Config) { c.Party = "" },
		"a party that is none":   func(c *Config) { c.Party = "https://example.com/" },
		"unknown format":         func(c *Config) { c.Format = "JWT" },
		"no lifetime":            func(c *Config) { c.Lifetime = 0 },
		"negative lifetime":      func(c *Config) { c.Lifetime = -time.Hour },
		"lifetime too long":      func(c *Config) { c.Lifetime = MaxLifetime + time.Second },
		"half a second":          func(c *Config) { c.Lifetime = time.Hour + time.Second/2 },
		"issuer without a host":  func(c *Config) { c.IssuerURL = "https://" },
		"issuer of no scheme":    func(c *Config) { c.IssuerURL = "provider.example" },
		"issuer with a query":    func(c *Config) { c.IssuerURL = "https://provider.example/?a" },
		"issuer that is a party": func(c *Config) { c.IssuerURL = string(consumer) },
		"no keys":                func(c *Config) { c.Keys = nil },
		"keys not opened":        func(c *Config) { c.Keys = &KeyRing{} },
		"nothing":                func(c *Config) { *c = Config{} },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			c := good
			spoil(&c)
			if issuer, err := New(c); err == nil || issuer != nil {
				t.Errorf("New(%+v) = %v, %v; want an error", c, issuer, err)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	tests := map[string]func(*Claims){
		"id set":                   func(c *Claims) { c.ID = "mine" },
		"issuer set":               func(c *Claims) { c.Issuer = provider },
		"issuer's URL set":         func(c *Claims) { c.IssuerURL = "https://provider.example" },
		"time set":                 func(c *Claims) { c.Issued = time.Now() },
		"expiry set":               func(c *Claims) { c.Expires = time.Now().Add(time.Minute) },
		"no party":                 func(c *Claims) { c.Party = "" },
		"no client":                func(c *Claims) { c.Client = "" },
		"malformed client":         func(c *Claims) { c.Client = "a b:c" },
		"no scope":                 func(c *Claims) { c.Scope = nil },
		"a scope value of two":     func(c *Claims) { c.Scope = ishare.Scope{"iSHARE admin"} },
		"a scope value repeated":   func(c *Claims) { c.Scope = ishare.Scope{"iSHARE", "iSHARE"} },
		"no thumbprint":            func(c *Claims) { c.Thumbprint = "" },
		"thumbprint in upper case": func(c *Claims) { c.Thumbprint = strings.ToUpper(c.Thumbprint) },
		"thumbprint cut short":     func(c *Claims) { c.Thumbprint = c.Thumbprint[2:] },
		"token too long": func(c *Claims) {
			c.Scope = ishare.Scope{strings.Repeat("s", MaxLength)}
		},
	}
	issuer := freshIssuer(t, Opaque)
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			c := grant()
			spoil(&c)
			token, issued, err := issuer.Issue(t.Context(), c)
			if err == nil || token != "" || issued.ID != "" {
				t.Errorf("Issue = %q, %v, %v; want only an error", token, issued, err)
			}
			if errors.Is(err, ErrInvalid) || errors.Is(err, ErrExpired) {
				t.Errorf("%v: our own mistake looks like a stranger's", err)
			}
		})
	}
}

func TestIssueForNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if token, _, err := freshIssuer(t, Opaque).Issue(ctx, grant()); !errors.Is(err, context.Canceled) || token != "" {
		t.Errorf("Issue = %q, %v; want no token and context.Canceled", token, err)
	}
}

// The longest token that Issue makes is one that Check takes.
func TestLengthLimit(t *testing.T) {
	issuer := freshIssuer(t, Opaque)
	c := grant()
	longest := ""
	for n := 1; n < MaxLength; n += 7 {
		c.Scope = ishare.Scope{"iSHARE", strings.Repeat("s", n)}
		token, _, err := issuer.Issue(t.Context(), c)
		if err != nil {
			break
		}
		longest = token
	}
	if len(longest) < MaxLength-20 {
		t.Fatalf("the longest token has %d bytes, far below %d", len(longest), MaxLength)
	}
	if _, err := issuer.Check(t.Context(), longest); err != nil {
		t.Errorf("a token of %d bytes: %v", len(longest), err)
	}
}

// What resource servers of others read in a JWT is an interface: its header
// and its claims stay as they are.
func TestJWTAsOthersReadIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := freshIssuer(t, JWT)
		token, c := issue(t, issuer)
		parts := strings.Split(token, ".")
		sum := sha256.Sum256([]byte("certificate"))
		want := []map[string]any{
			{"alg": "ES256", "typ": "at+jwt", "kid": issuer.keys.set.Load().ages[signing][0].kid},
			{
				"iss": "did:ishare:EU.NL.NTRNL-10000000", "aud": "did:ishare:EU.NL.NTRNL-10000000",
				"sub": "did:ishare:EU.NL.NTRNL-10000001", "client_id": "EU.EORI.NL000000001",
				"scope": "iSHARE orders", "iat": 946684800., "exp": 946688400., "jti": c.ID,
				"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:]),
			},
		}
		for n, want := range want {
			data, err := base64.RawURLEncoding.DecodeString(parts[n])
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("part %d (-want +got):\n%s", n, diff)
			}
		}
	})
}

// An opaque token says nothing in the clear but how it is sealed.
func TestOpaqueSaysNothing(t *testing.T) {
	token, c := issue(t, freshIssuer(t, Opaque))
	for part := range strings.SplitSeq(token, ".") {
		data, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{string(c.Party), string(c.Client), c.ID, "iSHARE"} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%q can be read in the token", secret)
			}
		}
	}
}
