package accesstoken

import (
	"bytes"
	"encoding/base64"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/ishare"
)

func inOwnLayout(tb testing.TB, set claimSet) []byte {
	tb.Helper()
	payload, err := set.appendJSON(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return payload
}

func exampleSet() claimSet {
	return claimSet{
		Issuer: "https://provider.example/", Subject: string(consumer), Audience: string(provider), ClientID: string(alias),
		Scope: "iSHARE orders", IssuedAt: 1764374400, Expires: 1764378000, ID: "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
		Thumbprint: base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
	}
}

// Every claim is a member, or tokens would be without it.
func TestMembersAreAllClaims(t *testing.T) {
	var set claimSet
	value := reflect.ValueOf(&set).Elem()
	if got := len(set.members()); got != value.NumField() {
		t.Fatalf("%d members of %d", got, value.NumField())
	}
	for i, m := range set.members() {
		field := value.Type().Field(i)
		if name := strings.Trim(m.before, `{,":`); name != field.Tag.Get("json") {
			t.Errorf("%s is written as %q", field.Name, name)
		}
		if at := value.Field(i).Addr().Interface(); at != any(m.text) && at != any(m.number) {
			t.Errorf("%s is not the value of %q", field.Name, m.before)
		}
	}
}

// What is issued is scanned: nothing that a token endpoint grants brings tokens onto the long way.
func TestIssuedClaimsAreScanned(t *testing.T) {
	keys := openKeys(t, filepath.Join(t.TempDir(), "keys"))
	for _, url := range []string{"", "https://provider.example/path"} {
		issuer, err := New(Config{Party: provider, IssuerURL: url, Lifetime: time.Hour, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		for _, scope := range []ishare.Scope{{"iSHARE"}, {"iSHARE", "orders"}, {"!#$%&'()*+,-./:;<=>?@[]^_`{|}~"}} {
			grant := grant()
			grant.Scope = scope
			token, _, err := issuer.Issue(t.Context(), grant)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := issuer.keys.set.Load().sealerOf(token).open(token)
			if err != nil {
				t.Fatal(err)
			}
			if set, ok := scanClaims(string(payload)); !ok || set.Scope != scope.String() {
				t.Errorf("%s: %+v, %v", payload, set, ok)
			}
		}
	}
}

// FuzzAppendJSON holds what is written against json.Marshal, and what is read again against what was written.
func FuzzAppendJSON(f *testing.F) {
	add := func(s claimSet) {
		f.Add(s.Issuer, s.Subject, s.Audience, s.ClientID, s.Scope, s.IssuedAt, s.Expires, s.ID, s.Thumbprint)
	}
	add(claimSet{})
	add(exampleSet())
	for _, odd := range []string{`"`, `\`, "\n", "\x00", "\x7f", "\u2028", "<&>", "é", "\xff", "\u0161\U0001F600"} {
		set := exampleSet()
		set.Issuer += odd
		add(set)
		set.Thumbprint = odd
		add(set)
	}
	for _, odd := range []int64{-1, 0, 9, 10, 999999999999999999, 1000000000000000000, math.MaxInt64, math.MinInt64} {
		set := exampleSet()
		set.IssuedAt, set.Expires = odd, -odd
		add(set)
	}
	f.Fuzz(func(t *testing.T, iss, sub, aud, client, scope string, iat, exp int64, jti, thumbprint string) {
		set := claimSet{iss, sub, aud, client, scope, iat, exp, jti, thumbprint}
		got, err := set.appendJSON(nil)
		want, wantErr := json.Marshal(set)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, %v; want %s, %v", got, err, want, wantErr)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s; want %s", got, want)
		}
		const most = 999999999999999999
		plain := !strings.ContainsFunc(iss+sub+aud+client+scope+jti+thumbprint, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r > '~' }) &&
			0 <= iat && iat <= most && 0 <= exp && exp <= most
		if again, ok := scanClaims(string(got)); ok != plain || ok && again != set {
			t.Errorf("%s is scanned to %+v, %v", got, again, ok)
		}
	})
}

// FuzzScanClaims: whatever is scanned, json.Unmarshal takes it, and for the same.
func FuzzScanClaims(f *testing.F) {
	own := string(inOwnLayout(f, exampleSet()))
	f.Add(own)
	for _, change := range [][2]string{
		{`}`, ``},
		{`}`, `}}`},
		{`}`, ` }`},
		{`}`, `,"acr":"high"}`},
		{`}`, `,"iss":"a:b"}`},
		{`{`, ` {`},
		{`{`, ``},
		{`,"sub"`, `, "sub"`},
		{`"sub"`, `"Sub"`},
		{`"sub":`, `"sub":null,"sub":`},
		{`"jti"`, `"\u006ati"`},
		{`orders`, `\u006frders`},
		{`orders`, "ord\xffers"},
		{`orders`, "ord\ners"},
		{`orders`, "órders"},
		{`orders`, `orders\`},
		{`"iSHARE orders"`, `["iSHARE"]`},
		{`1764374400`, `01764374400`},
		{`1764374400`, `-1`},
		{`1764374400`, `-0`},
		{`1764374400`, `0`},
		{`1764374400`, `00`},
		{`1764374400`, `1764374400.0`},
		{`1764374400`, `17643744e2`},
		{`1764374400`, `"1764374400"`},
		{`1764374400`, ``},
		{`1764374400`, `999999999999999999`},
		{`1764374400`, `9223372036854775807`},
		{`1764374400`, `18446744073709551616`},
	} {
		f.Add(strings.Replace(own, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		got, ok := scanClaims(payload)
		if !ok {
			return
		}
		var want claimSet
		if err := json.Unmarshal([]byte(payload), &want); err != nil || got != want {
			t.Errorf("%s is scanned to %+v; json.Unmarshal says %+v, %v", payload, got, want, err)
		}
		if again := string(inOwnLayout(t, got)); again != payload {
			t.Errorf("%s is scanned, and written as %s", payload, again)
		}
	})
}

// A check costs the claims, the text that they are parts of, the list of scope values, a thumbprint, and a buffer.
func TestCheckAllocatesLittle(t *testing.T) {
	issuer := freshIssuer(t, Opaque)
	token, _ := issue(t, issuer)
	// The race detector adds some, and never takes any away.
	if got := testing.AllocsPerRun(100, func() { accept(t, issuer, token) }); got > 5 && !raceEnabled {
		t.Errorf("%v allocations", got)
	}
}
