package assertion

import (
	"reflect"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/jws"
)

const plainClaims = `{"iss":"did:ishare:EU.NL.NTRNL-10000001","sub":"did:ishare:EU.NL.NTRNL-10000001","aud":"did:ishare:EU.NL.NTRNL-10000002","jti":"378a47c4-2822-4ca5-a49a-7e5a1cc7ea59","iat":1764374400,"exp":1764374430}`

// What the libraries of the field write is scanned, so that it costs what is promised.
func TestUsualClaimsAreScanned(t *testing.T) {
	for _, payload := range []string{
		plainClaims,
		strings.Replace(plainClaims, `}`, `,"nbf":1764374400}`, 1),
		`{"exp":1764374430,"iat":1764374400,"jti":"a/b","aud":"c:d","sub":"a:b","iss":"a:b"}`,
	} {
		if _, ok := scanClaims([]byte(payload)); !ok {
			t.Errorf("%s is not scanned", payload)
		}
	}
}

// FuzzScanClaims: whatever is scanned, the general decoder takes it, and for the same.
func FuzzScanClaims(f *testing.F) {
	f.Add(plainClaims)
	for _, change := range [][2]string{
		{`}`, ``},
		{`}`, `}}`},
		{`}`, `} `},
		{`}`, `,}`},
		{`}`, `,"nbf":0}`},
		{`}`, `,"acr":"high"}`},
		{`}`, `,"iss":"a:b"}`},
		{`}`, `,"":""}`},
		{`{`, ` {`},
		{`{`, `{,`},
		{`{`, `[`},
		{`,"sub"`, `, "sub"`},
		{`,"sub"`, `;"sub"`},
		{`"sub":`, `"sub" :`},
		{`"sub":`, `"sub": `},
		{`"sub":`, `"sub"`},
		{`"sub"`, `"Sub"`},
		{`"sub":`, `"iss":`},
		{`"sub":`, `"sub":null,"sub":`},
		{`"jti"`, `"\u006ati"`},
		{`378a`, `\u0033`},
		{`378a`, "\xff"},
		{`378a`, "\n"},
		{`378a`, "\x7f"},
		{`378a`, "é"},
		{`ea59"`, `ea59\"`},
		{`ea59"`, `ea59`},
		{`1764374400`, `01764374400`},
		{`1764374400`, `-1`},
		{`1764374400`, `0`},
		{`1764374400`, `1764374400.0`},
		{`1764374400`, `17643744e2`},
		{`1764374400`, `"1764374400"`},
		{`1764374400`, ``},
		{`1764374400`, `999999999999999999`},
		{`1764374400`, `9223372036854775807`},
		{`1764374400`, `true`},
		{`1764374400`, `[]`},
		{`"did:ishare:EU.NL.NTRNL-10000002"`, `["did:ishare:EU.NL.NTRNL-10000002"]`},
		{`"did:ishare:EU.NL.NTRNL-10000002"`, `{}`},
	} {
		f.Add(strings.Replace(plainClaims, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		got, ok := scanClaims([]byte(payload))
		if !ok {
			return
		}
		var want rawClaims
		if err := jws.UnmarshalObject([]byte(payload), &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is scanned to %+v; the decoder says %+v, %v", payload, got, want, err)
		}
	})
}
