package assertion_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// newYear is when every world begins, in seconds.
const newYear = 946684800

// A sentence carries the value that was seen, and its hint mends this case.
var sentences = []struct {
	name           string
	change         func(d *draft)
	sentence, hint string // the beginning of the first, a part of the second
}{
	{"iss missing", without("iss"), "iss is missing", "Set iss to your party identifier"},
	{"iss of another", claims("iss", nobody), "iss is 'did:ishare:EU.NL.NTRNL-10000009', and client_id is 'did:ishare:EU.NL.NTRNL-10000001'", "the same text as client_id"},
	{"iss a number", claims("iss", 5), "iss is the number 5, not a string", "Set iss"},
	{"iss empty", claims("iss", ""), "iss is empty", "Set iss"},
	{"sub missing", without("sub"), "sub is missing", "Set sub"},
	{"sub of another", claims("sub", nobody), "sub is 'did:ishare:EU.NL.NTRNL-10000009', and iss is 'did:ishare:EU.NL.NTRNL-10000001'", "the same text as iss"},
	{"aud missing", without("aud"), "aud is missing", "Set aud to did:ishare:EU.NL.NTRNL-10000000, the party identifier of this server"},
	{"aud an array", claims("aud", []any{server, nobody, 3, "a", "b"}), "aud is an array, ['did:ishare:EU.NL.NTRNL-10000000', 'did:ishare:EU.NL.NTRNL-10000009', the number 3, ...]; it must be one string", "make an array even of one value"},
	{"aud a URL", claims("aud", "https://example.com/connect/token"), "aud is 'https://example.com/connect/token'; this server is did:ishare:EU.NL.NTRNL-10000000", "never by a URL"},
	{"aud null", claims("aud", nil), "aud is null, not a string", "Set aud to did:ishare:EU.NL.NTRNL-10000000"},
	{"aud an object", claims("aud", map[string]any{"id": server}), "aud is an object, not a string", "Set aud to"},
	{"jti missing", without("jti"), "jti is missing", "a UUID"},
	{"jti empty", claims("jti", ""), "jti is empty", "a UUID"},
	{"jti long", claims("jti", strings.Repeat("x", 300)), "jti has 300 bytes, more than 255", "it has 36 bytes"},
	{"iat text", claims("iat", "946684800"), "iat is the string '946684800', not a number of seconds", "without quotes"},
	{"iat true", claims("iat", true), "iat is true, not a number of seconds", "JSON number"},
	{"iat in milliseconds", claims("iat", newYear*1000, "exp", newYear*1000+30_000), "iat is in milliseconds (946684800000); it must be in seconds", "Divide by 1000"},
	{"iat negative", claims("iat", -1), "iat is negative: -1", "seconds since 1970"},
	{"iat ahead", claims("iat", newYear+60), "iat is 1m0s in the future: it says 2000-01-01T00:01:00Z, and here it is 2000-01-01T00:00:00Z", "NTP"},
	{"iat in local time", claims("iat", newYear+7203), "iat is 2h0m3s in the future", "Take the time in UTC"},
	{"exp missing", without("exp"), "exp is missing", "Set exp to a time in seconds"},
	{"exp past", claims("iat", newYear-90, "exp", newYear-60), "the assertion expired 1m0s ago: exp says 1999-12-31T23:59:00Z, and here it is 2000-01-01T00:00:00Z", "new assertion for every request"},
	{"an hour of life", claims("exp", newYear+3600), "exp is iat + 3600 seconds, and must be iat + 30", "whatever the library's default is"},
	{"half a second too little", claims("exp", newYear+29.5), "exp is iat + 29.5 seconds", "one reading of the clock"},
	{"nbf ahead", claims("nbf", newYear+60), "nbf is 1m0s in the future: it says", "Leave nbf out"},
	{"nbf text", claims("nbf", "now"), "nbf is the string 'now', not a number", "Leave nbf out"},

	{"alg missing", header("alg"), "alg is missing", "Sign with RSASSA-PKCS1-v1_5"},
	{"alg PS256", header("alg", "PS256"), "alg is 'PS256', not RS256", "another padding"},
	{"alg ES256", header("alg", "ES256"), "alg is 'ES256', not RS256", "elliptic curve"},
	{"alg HS256", header("alg", "HS256"), "alg is 'HS256', not RS256", "HMAC"},
	{"alg none", header("alg", "none"), "alg is 'none', not RS256", "not signed"},
	{"alg in small letters", header("alg", "rs256"), "alg is 'rs256', not RS256", "Write RS256 in capitals"},
	{"alg a number", header("alg", 256), "alg is not a string", "Sign with"},
	{"name in capitals", renamed("alg", "ALG"), "alg is missing; the header holds 'ALG', which is another name", "alg in small letters"},
	{"typ missing", header("typ"), "typ is missing", "some libraries leave it out"},
	{"typ of an access token", header("typ", "at+jwt"), "typ is 'at+jwt', not JWT", "type of an access token"},
	{"typ JOSE", header("typ", "JOSE"), "typ is 'JOSE', not JWT", "Set typ to JWT"},
	{"kid", header("kid", "1"), "the header holds kid besides alg, typ and x5c", "Leave kid out: libraries add it"},
	{"jku", header("jku", "https://example.com"), "the header holds jku besides alg, typ and x5c", "the first certificate of x5c"},
	{"a claim in the header", header("iat", newYear), "the header holds iat besides alg, typ and x5c", "into the payload"},
	{"many parameters", header("a", 1, "b", 1, "c", 1, "d", 1, "e", 1), "the header holds a and b and c and 2 more besides alg, typ and x5c", "Remove the parameter"},

	{"x5c missing", changedX5C(func([]string) any { return nil }), "x5c is missing", "Put the chain in x5c"},
	{"x5c one string", changedX5C(func(x5c []string) any { return x5c[0] }), "x5c is one string, not an array", "an array of strings, also of one certificate"},
	{"x5c empty", header("x5c", []string{}), "x5c is empty", "Put the chain in x5c"},
	{"x5c in base64url", firstEntry(func(der []byte) string { return base64.URLEncoding.EncodeToString(append(der, 0xfb, 0xff, 0xfe)) }), "x5c[0] is not standard base64 but base64url", "not base64url (RFC 7515 section 4.1.6)"},
	{"x5c in lines", firstEntry(func(der []byte) string {
		s := base64.StdEncoding.EncodeToString(der)
		return s[:64] + "\n" + s[64:]
	}), "x5c[0] is not standard base64: it holds line breaks or blanks", "to one, without line breaks"},
	{"x5c without padding", firstEntry(func([]byte) string { return "AAA" }), "x5c[0] is not standard base64: its padding, = at the end, is missing", "with padding"},
	{"x5c of PEM", firstEntry(pemOf), "x5c[0] is PEM text", "between the lines BEGIN and END"},
	{"x5c of base64 of PEM", firstEntry(func(der []byte) string { return base64.StdEncoding.EncodeToString([]byte(pemOf(der))) }), "x5c[0] is base64 of a PEM text", "between the lines BEGIN and END"},
	{"header not JSON", func(d *draft) { d.editHeader = append(d.editHeader, func(s string) string { return s + "}" }) }, "the header is not JSON: what stands at byte ", "one JSON object"},
	{"a name twice", func(d *draft) {
		d.editHeader = append(d.editHeader, func(s string) string { return strings.Replace(s, `{`, `{"alg":"none",`, 1) })
	}, "the header holds the name \"alg\" twice", "every name once"},
}

func without(name string) func(*draft) { return func(d *draft) { delete(d.payload, name) } }

// claims sets pairs of a name and a value.
func claims(pairs ...any) func(*draft) {
	return func(d *draft) { setPairs(d.payload, pairs) }
}

// header sets pairs, and takes a name without a value away.
func header(pairs ...any) func(*draft) {
	return func(d *draft) { setPairs(d.header, pairs) }
}

func setPairs(object map[string]any, pairs []any) {
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if i+1 == len(pairs) {
			delete(object, name)
			return
		}
		object[name] = pairs[i+1]
	}
}

func renamed(old, name string) func(*draft) {
	return func(d *draft) {
		d.editHeader = append(d.editHeader, func(s string) string { return strings.Replace(s, `"`+old+`"`, `"`+name+`"`, 1) })
	}
}

func changedX5C(change func([]string) any) func(*draft) {
	return func(d *draft) {
		d.editHeader = append(d.editHeader, func(s string) string {
			var h map[string]any
			var chain struct{ X5C []string }
			if json.Unmarshal([]byte(s), &h) != nil || json.Unmarshal([]byte(s), &chain) != nil {
				return s
			}
			if h["x5c"] = change(chain.X5C); h["x5c"] == nil {
				delete(h, "x5c")
			}
			b, _ := json.Marshal(h)
			return string(b)
		})
	}
}

func firstEntry(change func(der []byte) string) func(*draft) {
	return changedX5C(func(x5c []string) any {
		der, _ := base64.StdEncoding.DecodeString(x5c[0])
		x5c[0] = change(der)
		return x5c
	})
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestSentencesAndHints(t *testing.T) {
	for _, test := range sentences {
		within(t, func(t *testing.T, w *world) {
			d := newDraft()
			test.change(d)
			compact := d.compact(t, w)
			_, _, err := w.verifier(t).Verify(t.Context(), client, compact)
			rejection, ok := errors.AsType[*rule.Rejection](err)
			if !ok || !strings.HasPrefix(rejection.Sentence, test.sentence) || !strings.Contains(rejection.Hint, test.hint) {
				t.Errorf("%s: %v\n  hint %q\n  want %q\n  hint %q", test.name, err, rejection.Hint, test.sentence, test.hint)
				return
			}
			if r := w.verifier(t).Explain(t.Context(), compact, time.Now()); r.Rejection == nil || test.name != "iss of another" && r.Rejection.Hint != rejection.Hint {
				t.Errorf("%s: explained as %v", test.name, r.Rejection)
			}
		})
	}
}

// The compact form is taken apart before anything is known of it.
func TestSentencesOfTheCompactForm(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v, good := w.verifier(t), newDraft().compact(t, w)
		at := strings.LastIndex(good, ".")
		for _, test := range []struct{ compact, sentence, hint string }{
			{"token", "client_assertion is not a compact JWT: it has no dots, and so is one part", "header.payload.signature"},
			{"a.b.c.d.e", "client_assertion is not a compact JWT: it has 5 parts between dots instead of three", "not an encrypted one (JWE)"},
			{good[:at+1], "client_assertion is not a compact JWT: the signature is empty", "signed JWT"},
			{good + "\n", "client_assertion is not a compact JWT: the signature holds a line feed at its end", "ends with a line feed"},
			{good + "\r\n", "client_assertion is not a compact JWT: the signature holds a carriage return at its end", "ends with a line feed"},
			{good[:at-9] + "\n" + good[at-9:], "client_assertion is not a compact JWT: the payload holds a line feed at place ", "line breaks"},
			{" " + good, "client_assertion is not a compact JWT: the header holds a blank at place 1 of ", "blanks"},
			{good + "==", "client_assertion is not a compact JWT: the signature holds the character = at its end", "without padding"},
			{good[:at+9] + "+" + good[at+9:], "client_assertion is not a compact JWT: the signature holds the character + at place 9 of ", "- and _"},
			{`"` + good + `"`, "client_assertion is not a compact JWT: the signature holds the character \" at its end", "nothing before or behind"},
			{good[:len(good)-5], "client_assertion is not a compact JWT: the signature does not end where base64url can end", "whole"},
			{good[:at+1] + "AAAA", "the signature has 3 bytes, and one with the key of the first certificate of x5c has 256", "another key"},
		} {
			_, _, err := v.Verify(t.Context(), client, test.compact)
			rejection, ok := errors.AsType[*rule.Rejection](err)
			if !ok || !strings.HasPrefix(rejection.Sentence, test.sentence) || !strings.Contains(rejection.Hint, test.hint) {
				t.Errorf("%v\n  want %q\n  hint %q", err, test.sentence, test.hint)
			}
		}
	})
}

// What the record says of the client stands in the sentence, and what it says of the
// certificate.
func TestSentencesOfTheParty(t *testing.T) {
	for _, test := range []struct {
		name           string
		change         func(w *world)
		sentence, hint string
	}{
		{"unknown", func(w *world) { w.registry.records = nil }, "the client 'did:ishare:EU.NL.NTRNL-10000001' is not known", "typing mistake"},
		{"suspended", func(w *world) { w.claim(ishare.ClaimFrameworkCompliance).Status = "Suspended" }, "compliance is suspended", "registrar"},
		{"another certificate", func(w *world) { w.claim(ishare.ClaimX509Certificate).X5T = ishare.Thumbprint(nil) }, "the certificate is none of the 1 that are registered for the client (SHA-256 ", "Register the seal"},
		{"no certificate", func(w *world) { w.claim(ishare.ClaimX509Certificate).Type = "other" }, "no certificate is registered for the client; it signed with SHA-256 ", "Register the seal"},
		{"certificate suspended", func(w *world) { w.claim(ishare.ClaimX509Certificate).Status = "suspended" }, "the certificate is registered for the client, and its registration is suspended", "Register the seal"},
		{"certificate ended", func(w *world) { w.claim(ishare.ClaimX509Certificate).End = time.Now().Add(-time.Second) }, "the certificate is registered for the client, and its registration ended on 1999-12-31", "Register the seal"},
		{"role", func(w *world) { w.config.Roles = []string{"Judge"} }, "the client lacks the role Judge", "add the role Judge"},
	} {
		within(t, func(t *testing.T, w *world) {
			test.change(w)
			_, _, err := w.verifier(t).Verify(t.Context(), client, newDraft().compact(t, w))
			rejection, ok := errors.AsType[*rule.Rejection](err)
			if !ok || !strings.HasPrefix(rejection.Sentence, test.sentence) || !strings.Contains(rejection.Hint, test.hint) {
				t.Errorf("%s: %v\n  hint %q", test.name, err, rejection.Hint)
			}
		})
	}
}

// Whatever a stranger writes where: the answer is short, in the alphabet of RFC 6749
// section 5.2, and holds no JWT.
func TestSentencesQuoteLittle(t *testing.T) {
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"
	values := []any{
		map[string]any{jwt: jwt},
		strings.Repeat("A", 20_000), strings.Repeat("é", 5000), "\x00\x1b[31m\r\n\"\\", "\u202e\ufeff", jwt, "Bearer " + jwt,
		json.RawMessage(strings.Repeat("9", 10_000)),
		[]string{jwt, jwt, jwt, jwt, jwt},
		[]any{strings.Repeat("B", 9000), []int{1}},
	}
	for _, name := range []string{"iss", "sub", "aud", "jti", "iat", "exp", "nbf", "header alg", "header typ", "header x5c", "header kid"} {
		for i, value := range values {
			within(t, func(t *testing.T, w *world) {
				d := newDraft()
				if parameter, ok := strings.CutPrefix(name, "header "); ok {
					d.header[parameter] = value
				} else {
					d.payload[name] = value
				}
				_, _, err := w.verifier(t).Verify(t.Context(), client, d.compact(t, w))
				rejection, ok := errors.AsType[*rule.Rejection](err)
				if !ok {
					if name != "jti" { // most texts will do
						t.Errorf("%s, value %d: %v", name, i, err)
					}
					return
				}
				told := rejection.Description() + rejection.Hint
				if len(told) > 900 || strings.Contains(told, "eyJhbGci") || strings.ContainsFunc(rejection.Description(), notErrorRune) {
					t.Errorf("%s, value %d: %q", name, i, told)
				}
			})
		}
	}
	for _, name := range []string{strings.Repeat("n", 20_000), jwt, "\x00\"", "é"} {
		within(t, func(t *testing.T, w *world) {
			d := newDraft()
			d.header[name] = 1
			_, _, err := w.verifier(t).Verify(t.Context(), client, d.compact(t, w))
			rejection, ok := errors.AsType[*rule.Rejection](err)
			if !ok || len(rejection.Description()) > 500 || strings.Contains(fmt.Sprint(rejection), "eyJhbGci") || strings.ContainsFunc(rejection.Description(), notErrorRune) {
				t.Errorf("%.20q: %v", name, err)
			}
		})
	}
}

func notErrorRune(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }
