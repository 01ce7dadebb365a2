package assertion_test

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/rule"
)

func TestVerifyAccepts(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v, d := w.verifier(t), newDraft()
		compact := d.compact(t, w)
		c, seen, err := v.Verify(t.Context(), client, compact)
		if err != nil {
			t.Fatal(err)
		}
		thumbprint := ishare.Thumbprint(w.seal.Certificate().Raw)
		if c.Party() != w.registry.records[client] || c.ID() != client || c.Thumbprint() != thumbprint {
			t.Errorf("client %q with %s", c.ID(), c.Thumbprint())
		}
		if seen.Issuer != string(client) || seen.Thumbprint != thumbprint || len(seen.JTIHash) != 16 {
			t.Errorf("sighting %+v", seen)
		}
		if got := w.asked(); got != (asked{1, 1, 1}) {
			t.Errorf("asked %+v, want each once", got)
		}
		if w.revocation.seen.Thumbprint() != thumbprint || len(w.revocation.seen.Certificates()) != 4 {
			t.Error("revocation was asked about another chain")
		}
		jti, _ := d.payload["jti"].(string)
		want := replay.Pair{Issuer: client, JTI: jti, IssuedAt: time.Now(), Until: time.Now().Add(30*time.Second + leeway)}
		if diff := gocmp.Diff(want, w.memory.last); diff != "" {
			t.Errorf("pair (-want +got):\n%s", diff)
		}
		checkRefused(t, v, compact, rule.JTIReplayed)
	})
}

func TestVerifyEachAlgorithm(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		for name, hash := range map[string]crypto.Hash{"RS256": crypto.SHA256, "RS384": crypto.SHA384, "RS512": crypto.SHA512} {
			d := newDraft()
			d.header["alg"], d.hash = name, hash
			checkAccepted(t, w.verifier(t), d.compact(t, w))
		}
	})
}

func TestAliases(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		d := newDraft()
		d.payload["iss"], d.payload["sub"], d.payload["aud"] = clientAlias, clientAlias, serverAlias
		c, _, err := v.Verify(t.Context(), clientAlias, d.compact(t, w))
		if err != nil {
			t.Fatal(err)
		}
		if c.ID() != clientAlias || c.Party().ID != client {
			t.Errorf("client %q, party %q", c.ID(), c.Party().ID)
		}
		if w.memory.last.Issuer != clientAlias {
			t.Errorf("replay is remembered for %q", w.memory.last.Issuer)
		}
		checkRefused(t, v, d.compact(t, w), rule.ClaimIss) // client_id is the canonical one here

		d = newDraft()
		d.payload["sub"] = clientAlias
		checkRefused(t, v, d.compact(t, w), rule.ClaimSub)
	})
}

// A caller that forgets to look at client_id lets nobody in by it.
func TestEmptyClientID(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.registry.records[""] = w.registry.records[client]
		d := newDraft()
		d.payload["iss"], d.payload["sub"] = "", ""
		if c, _, err := w.verifier(t).Verify(t.Context(), "", d.compact(t, w)); ruleOf(err) != rule.ClaimIss || c != nil {
			t.Errorf("%v, want claim.iss", err)
		}
	})
}

func TestRolesAndDataspaces(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		const dataspace = "did:ishare:EU.NL.NTRNL-20000000"
		w.config.Roles, w.config.Dataspaces = []string{"ServiceConsumer"}, []string{dataspace}
		checkAccepted(t, w.verifier(t), newDraft().compact(t, w))
		w.config.Roles = []string{"ServiceConsumer", "ServiceProvider"}
		checkRefused(t, w.verifier(t), newDraft().compact(t, w), rule.PartyPolicy)
		w.config.Roles, w.config.Dataspaces = nil, []string{dataspace, "did:ishare:EU.NL.NTRNL-20000001"}
		checkRefused(t, w.verifier(t), newDraft().compact(t, w), rule.PartyPolicy)
		w.config.Dataspaces = []string{dataspace}
		w.claim(ishare.ClaimDataspaceMembership).Status = "revoked"
		checkRefused(t, w.verifier(t), newDraft().compact(t, w), rule.PartyPolicy)
	})
}

// A breach breaks one rule, and can be put together with breaches of others.
type breach struct {
	rule  *rule.Rule
	apply func(t *testing.T, w *world, d *draft)
}

func breaches() []breach {
	return []breach{
		{rule.JWTCompact, func(_ *testing.T, _ *world, d *draft) { d.editCompact = append(d.editCompact, add("=")) }},
		{rule.JWTHeader, func(_ *testing.T, _ *world, d *draft) { d.editHeader = append(d.editHeader, add("{}")) }},
		{rule.JWTAlg, set("header", "alg", "PS256")},
		{rule.JWTTyp, set("header", "typ", "JOSE")},
		{rule.JWTHeaderParameter, set("header", "kid", "1")},
		{rule.JWTX5C, set("header", "x5c", "not an array")},
		{rule.JWTPayload, func(_ *testing.T, _ *world, d *draft) { d.editPayload = append(d.editPayload, add("{}")) }},
		{rule.ClaimIss, set("payload", "iss", nil)},
		{rule.ClaimSub, set("payload", "sub", "did:ishare:EU.NL.NTRNL-10000002")},
		{rule.ClaimAud, set("payload", "aud", []ishare.PartyID{server})},
		{rule.ClaimJTI, set("payload", "jti", "")},
		{rule.ClaimIat, set("payload", "iat", "now")},
		{rule.ClaimExp, func(_ *testing.T, _ *world, d *draft) {
			now := time.Now().Unix()
			d.payload["exp"] = now - 100
			if _, ok := d.payload["iat"].(int64); ok {
				d.payload["iat"] = now - 130
			}
		}},
		{rule.ClaimLifetime, func(_ *testing.T, _ *world, d *draft) {
			exp, _ := d.payload["exp"].(int64)
			d.payload["exp"] = exp + 1
		}},
		{rule.ClaimNbf, set("payload", "nbf", "now")},
		{rule.CertificateKey, func(t *testing.T, _ *world, d *draft) {
			key, err := testca.NewOddKey(1024, 65537)
			if err != nil {
				t.Fatal(err)
			}
			d.own, d.seal.Key = true, key
		}},
		{rule.CertificateValidity, onSeal(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		{rule.CertificateUsage, onSeal(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
		{rule.ChainOrder, func(_ *testing.T, _ *world, d *draft) {
			d.editChain = append(d.editChain, func(chain []*x509.Certificate) []*x509.Certificate { return slices.Delete(chain, 1, 2) })
		}},
		{rule.ChainIssuer, onSeal(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}})
		})},
		{rule.ChainUntrusted, func(t *testing.T, w *world, _ *draft) {
			w.config.Trust = w.trusting(t, newCA(t).Authority(testca.Root).Certificate())
		}},
		{rule.JWTSignature, func(_ *testing.T, w *world, d *draft) { d.signer = w.ca.Authority(testca.Issuing).Key }},
		{rule.PartyUnknown, func(_ *testing.T, w *world, _ *draft) {
			w.registry.empty, w.registry.err = false, ishare.ErrUnknownParty
		}},
		{rule.PartyNotActive, func(_ *testing.T, w *world, _ *draft) { w.claim(ishare.ClaimFrameworkCompliance).Status = "suspended" }},
		{rule.PartyCertificate, func(_ *testing.T, w *world, d *draft) {
			d.unregistered = true
			w.claim(ishare.ClaimX509Certificate).X5T = strings.Repeat("0", 64)
		}},
		{rule.PartyPolicy, func(_ *testing.T, w *world, _ *draft) { w.config.Roles = []string{"ServiceProvider"} }},
		{rule.CertificateRevoked, func(_ *testing.T, w *world, _ *draft) { w.revocation.err = rule.CertificateRevoked.Reject() }},
		{rule.JTIReplayed, func(t *testing.T, w *world, d *draft) {
			jti, _ := d.payload["jti"].(string)
			if jti == "" {
				return
			}
			w.memory.store.Use(t.Context(), replay.Pair{Issuer: client, JTI: jti, IssuedAt: time.Now(), Until: time.Now().Add(time.Minute)})
		}},
	}
}

func newCA(tb testing.TB) *testca.CA {
	tb.Helper()
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

func add(s string) func(string) string { return func(text string) string { return text + s } }

func set(part, name string, value any) func(*testing.T, *world, *draft) {
	return func(_ *testing.T, _ *world, d *draft) {
		if part == "header" {
			d.header[name] = value
		} else {
			d.payload[name] = value
		}
	}
}

func onSeal(f func(*x509.Certificate)) func(*testing.T, *world, *draft) {
	return func(_ *testing.T, _ *world, d *draft) { d.onSeal(f) }
}

func order(reason *rule.Rule) int { return slices.Index(rule.All(), reason) }

// Each breach but no other, in the cold and with the header of a good assertion in
// the cache: the right rule, nothing asked too early, and no jti burnt.
func TestEachRule(t *testing.T) {
	for _, b := range breaches() {
		t.Run(b.rule.ID, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				good, warm := newDraft(), newDraft()
				before := w.verifier(t)
				checkAccepted(t, before, warm.compact(t, w))
				headers := before.Remembered()
				counted := w.asked()

				d := newDraft()
				d.payload["jti"] = good.payload["jti"]
				b.apply(t, w, d)
				compact := d.compact(t, w)
				if b.rule != rule.ChainUntrusted && b.rule != rule.PartyPolicy { // those are of the configuration
					checkRefused(t, before, compact, b.rule)
					checkAsked(t, w, counted, b.rule)
					if order(b.rule) <= order(rule.JWTSignature) && before.Remembered() != headers {
						t.Error("a header is remembered whose signer proved nothing")
					}
				}
				counted = w.asked()
				cold := w.verifier(t)
				checkRefused(t, cold, compact, b.rule)
				checkAsked(t, w, counted, b.rule)
				checkExplained(t, cold, compact, b.rule)

				if b.rule == rule.JTIReplayed {
					return
				}
				// All is well again: the jti is good.
				w.registry.err, w.revocation.err, w.config.Roles = nil, nil, nil
				w.config.Trust = w.trusting(t, w.ca.Authority(testca.Root).Certificate())
				w.register(w.seal)
				checkAccepted(t, w.verifier(t), good.compact(t, w))
			})
		})
	}
}

// checkAsked asserts that nobody was asked whose rule comes after the one that failed.
func checkAsked(t *testing.T, w *world, before asked, failed *rule.Rule) {
	t.Helper()
	upTo := func(reason *rule.Rule) int { return max(0, min(1, 1+cmp.Compare(order(failed), order(reason)))) }
	got := w.asked()
	want := asked{
		registry:   before.registry + upTo(rule.PartyUnknown),
		revocation: before.revocation + upTo(rule.CertificateRevoked),
		memory:     before.memory + upTo(rule.JTIReplayed),
	}
	if got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
}

// checkExplained asserts that an explanation names the same rule, apart from replay.
func checkExplained(t *testing.T, v *assertion.Verifier, compact string, reason *rule.Rule) {
	t.Helper()
	r := v.Explain(t.Context(), compact, time.Now())
	if reason == rule.JTIReplayed {
		if !r.Accepted || r.Rejection != nil {
			t.Errorf("explained as %v, and replay is not judged", r.Rejection)
		}
		return
	}
	if r.Accepted || r.Rejection == nil || r.Rejection.Rule != reason {
		t.Errorf("explained as %v, want %s", r.Rejection, reason.ID)
	}
}

// Of two breaches, the one that is earlier in the catalogue is named.
func TestEarlierRuleWins(t *testing.T) {
	all := breaches()
	if !slices.IsSortedFunc(all, func(a, b breach) int { return order(a.rule) - order(b.rule) }) {
		t.Fatal("the breaches do not stand in the order of the catalogue")
	}
	for i, first := range all {
		t.Run(first.rule.ID, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				config := w.config
				for _, second := range all[i+1:] {
					w.config = config
					w.registry.err, w.revocation.err = nil, nil
					w.register(w.seal)
					d, counted := newDraft(), w.asked()
					first.apply(t, w, d)
					second.apply(t, w, d)
					compact := d.compact(t, w)
					v := w.verifier(t)
					c, _, err := v.Verify(t.Context(), client, compact)
					if got := ruleOf(err); got != first.rule || c != nil {
						t.Errorf("with %s: %v, want %s", second.rule.ID, err, first.rule.ID)
					}
					checkAsked(t, w, counted, first.rule)
					checkExplained(t, v, compact, first.rule)
				}
			})
		})
	}
}

// Every rule that judges an assertion has its breach.
func TestBreachesCoverTheCatalogue(t *testing.T) {
	covered := map[*rule.Rule]bool{}
	for _, b := range breaches() {
		covered[b.rule] = true
	}
	for _, reason := range rule.All() {
		if covered[reason] == strings.HasPrefix(reason.ID, "request.") {
			t.Errorf("%s: covered is %t", reason.ID, covered[reason])
		}
	}
}

func TestHeaderRules(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		strict := w.verifier(t)
		w.config.AllowExtraHeader = true
		lenient := w.verifier(t)
		for _, typ := range []any{"jwt", "Jwt", "JWT"} {
			d := newDraft()
			d.header["typ"] = typ
			checkAccepted(t, strict, d.compact(t, w))
		}
		for _, typ := range []any{nil, "", "JOSE", "at+jwt", "application/jwt", "JWT ", []string{"JWT"}, 1} {
			d := newDraft()
			d.header["typ"] = typ
			checkRefused(t, lenient, d.compact(t, w), rule.JWTTyp)
		}
		for _, alg := range []any{nil, "", "none", "rs256", "HS256", "PS256", "ES256", []string{"RS256"}, 256} {
			d := newDraft()
			d.header["alg"] = alg
			checkRefused(t, lenient, d.compact(t, w), rule.JWTAlg)
		}
		for _, name := range []string{"kid", "x5t", "x5t#S256", "cty", "iss", "ALG", "X5C", "Crit", "", "\u212aid"} {
			d := newDraft()
			d.header[name] = "1"
			checkRefused(t, strict, d.compact(t, w), rule.JWTHeaderParameter)
			checkAccepted(t, lenient, d.compact(t, w))
		}
		for name, value := range map[string]any{
			"crit": []string{"exp"}, "jwk": map[string]string{"kty": "RSA"}, "jku": "https://example.com/jwks", "x5u": "https://example.com/pem", "b64": true,
		} {
			for _, value := range []any{value, nil, ""} {
				d := newDraft()
				d.header[name] = value
				d.header["a"], d.header["zzz"] = "before and after it", "in the alphabet"
				checkRefused(t, lenient, d.compact(t, w), rule.JWTHeaderParameter)
			}
		}
	})
}

func TestPayloadIsStrict(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		for name, edit := range map[string]func(string) string{
			"duplicate, the same":   func(s string) string { return strings.Replace(s, "{", `{"iss":"`+string(client)+`",`, 1) },
			"duplicate, another":    func(s string) string { return strings.Replace(s, "{", `{"iss":"`+string(nobody)+`",`, 1) },
			"duplicate, escaped":    func(s string) string { return strings.Replace(s, "{", `{"i\u0073s":"`+string(nobody)+`",`, 1) },
			"duplicate of no claim": func(s string) string { return strings.Replace(s, "{", `{"x":1,"x":1,`, 1) },
			"duplicate far inside":  func(s string) string { return strings.Replace(s, "{", `{"x":[{"y":{"z":1,"z":1}}],`, 1) },
			"invalid UTF-8":         func(s string) string { return strings.Replace(s, "{", "{\"x\":\"\xff\",", 1) },
			"half a surrogate":      func(s string) string { return strings.Replace(s, "{", `{"x":"\ud800",`, 1) },
			"array around":          func(s string) string { return "[" + s + "]" },
			"string around":         func(string) string { return `"claims"` },
			"null":                  func(string) string { return "null" },
			"byte order mark":       func(s string) string { return "\ufeff" + s },
			"NUL behind":            add("\x00"),
			"something behind":      add("1"),
			"another object behind": add(`{"iss":1}`),
			"cut off":               func(s string) string { return s[:len(s)-1] },
			"comma at the end":      func(s string) string { return s[:len(s)-1] + ",}" },
			"nested without an end": func(s string) string { return strings.Replace(s, "{", `{"x":`+strings.Repeat("[", 60000)+",", 1) },
			"nested thousand times": func(s string) string {
				return strings.Replace(s, "{", `{"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+",", 1)
			},
			"form in place of object": func(string) string { return "iss=a&sub=a" },
		} {
			d := newDraft()
			d.editPayload = []func(string) string{edit}
			c, _, err := v.Verify(t.Context(), client, d.compact(t, w))
			if ruleOf(err) != rule.JWTPayload || c != nil {
				t.Errorf("%s: %v, want jwt.payload", name, err)
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
			}
		}
		for name, edit := range map[string]func(string) string{
			"blanks around":   func(s string) string { return " \r\n\t" + s + "\n" },
			"unknown members": func(s string) string { return strings.Replace(s, "{", `{"x":[{"y":{"z":1e999}}],"":null,`, 1) },
			"members in upper case": func(s string) string {
				return strings.Replace(s, "{", `{"ISS":"x","Sub":"x","AUD":[],"JTI":0,"NBF":1e10,`, 1)
			},
			"long s for s": func(s string) string { return strings.Replace(s, "{", `{"i\u017f\u017f":"x","\u017fub":"x",`, 1) },
			"escaped names and values": func(s string) string {
				return strings.Replace(strings.Replace(s, `"iss":"did`, `"\u0069ss":"\u0064id`, 1), `"aud":"d`, `"aud":"\u0064`, 1)
			},
		} {
			d := newDraft()
			d.editPayload = []func(string) string{edit}
			if _, _, err := v.Verify(t.Context(), client, d.compact(t, w)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestClaimForms(t *testing.T) {
	long := strings.Repeat("x", 255)
	for _, test := range []struct {
		claim string
		value any
		rule  *rule.Rule // nil: accepted
	}{
		{"iss", nil, rule.ClaimIss},
		{"iss", "", rule.ClaimIss},
		{"iss", 1, rule.ClaimIss},
		{"iss", []ishare.PartyID{client}, rule.ClaimIss},
		{"iss", nobody, rule.ClaimIss},
		{"iss", client + " ", rule.ClaimIss},
		{"iss", client + "\x00", rule.ClaimIss},
		{"iss", strings.ToLower(string(client)), rule.ClaimIss},
		{"iss", map[string]any{}, rule.ClaimIss},
		{"sub", nil, rule.ClaimSub},
		{"sub", "", rule.ClaimSub},
		{"sub", true, rule.ClaimSub},
		{"sub", server, rule.ClaimSub},
		{"sub", []ishare.PartyID{client}, rule.ClaimSub},
		{"sub", strings.ToUpper(string(client)), rule.ClaimSub},
		{"aud", server, nil},
		{"aud", serverAlias, nil},
		{"aud", nil, rule.ClaimAud},
		{"aud", "", rule.ClaimAud},
		{"aud", 0, rule.ClaimAud},
		{"aud", []ishare.PartyID{}, rule.ClaimAud},
		{"aud", []ishare.PartyID{server}, rule.ClaimAud},
		{"aud", []ishare.PartyID{server, serverAlias}, rule.ClaimAud},
		{"aud", map[string]any{"id": server}, rule.ClaimAud},
		{"aud", server + " " + serverAlias, rule.ClaimAud},
		{"aud", server + "\n", rule.ClaimAud},
		{"aud", strings.ToLower(string(server)), rule.ClaimAud},
		{"aud", "https://server.example/connect/token", rule.ClaimAud},
		{"aud", client, rule.ClaimAud},
		{"aud", string(server)[:len(server)-1], rule.ClaimAud},
		{"aud", strings.Repeat("x", 10000), rule.ClaimAud},
		{"jti", long, nil},
		{"jti", " ", nil},
		{"jti", "not a UUID", nil},
		{"jti", "\x00", nil},
		{"jti", strings.Repeat("é", 127) + "x", nil},
		{"jti", strings.Repeat("é", 128), rule.ClaimJTI},
		{"jti", long + "x", rule.ClaimJTI},
		{"jti", nil, rule.ClaimJTI},
		{"jti", "", rule.ClaimJTI},
		{"jti", 1234, rule.ClaimJTI},
		{"jti", []string{"a"}, rule.ClaimJTI},
		{"nbf", nil, rule.ClaimNbf},
		{"nbf", "0", rule.ClaimNbf},
		{"nbf", true, rule.ClaimNbf},
		{"nbf", 0, nil},
		{"nbf", json.RawMessage("-0.0"), nil},
		{"nbf", -1, rule.ClaimNbf},
		{"nbf", json.RawMessage("1e400"), rule.ClaimNbf},
		{"nbf", json.RawMessage("946684800000"), rule.ClaimNbf},
		{"iat", nil, rule.ClaimIat},
		{"exp", nil, rule.ClaimExp},
	} {
		within(t, func(t *testing.T, w *world) {
			d := newDraft()
			d.payload[test.claim] = test.value
			c, _, err := w.verifier(t).Verify(t.Context(), client, d.compact(t, w))
			if ruleOf(err) != test.rule || (c == nil) != (test.rule != nil) {
				t.Errorf("%s %.50v: %v", test.claim, test.value, err)
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("%s: an error of %d bytes", test.claim, len(err.Error()))
			}
		})
	}
}

func TestClaimsThatAreMissing(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		for claim, reason := range map[string]*rule.Rule{
			"iss": rule.ClaimIss, "sub": rule.ClaimSub, "aud": rule.ClaimAud,
			"jti": rule.ClaimJTI, "iat": rule.ClaimIat, "exp": rule.ClaimExp,
		} {
			d := newDraft()
			delete(d.payload, claim)
			checkRefused(t, v, d.compact(t, w), reason)
		}
		d := newDraft()
		d.payload = map[string]any{}
		checkRefused(t, v, d.compact(t, w), rule.ClaimIss)
	})
}

// It is the first second of 2000, 946684800.
func TestTimesInEveryForm(t *testing.T) {
	for _, test := range []struct {
		iat, exp string
		rule     *rule.Rule // nil: accepted
	}{
		{"946684800", "946684830", nil},
		{"946684800.0", "946684830.0", nil},
		{"946684800.5", "946684830.5", nil},
		{"946684799.123456789", "946684829.123456789", nil},
		{"946684799.123", "946684829.1234", nil}, // the same millisecond
		{"9.466848E8", "9.4668483e+8", nil},
		{"9466848e2", "94668483E1", nil},
		{"946684800000e-3", "946684830000E-3", nil},
		{"946684800." + strings.Repeat("0", 5000), "946684830", nil},
		{"0.9466848e9", "946684830", nil},
		{"946684800", "946684829.9996", nil}, // rounded
		{"946684800", "946684830.0006", rule.ClaimLifetime},
		{"946684800", "100000000000", rule.ClaimExp}, // milliseconds
		{"946684810", "946684840", nil},
		{"946684810.001", "946684840.001", rule.ClaimIat},
		{"946684810.0004", "946684840.0004", nil}, // rounded to the millisecond
		{"946684760.001", "946684790.001", nil},
		{"946684760", "946684790", rule.ClaimExp},
		{"946684760.0004", "946684790.0004", rule.ClaimExp},
		{"946684800", "946684830.001", rule.ClaimLifetime},
		{"946684800", "946684829.999", rule.ClaimLifetime},
		{"946684800", "946684831", rule.ClaimLifetime},
		{"946684800", "946684829", rule.ClaimLifetime},
		{"946684800", "946684800", rule.ClaimLifetime},
		{"946684800", "946684799", rule.ClaimLifetime},
		{"946684800", "946684860", rule.ClaimLifetime},
		{"946684800", "99999999999", rule.ClaimLifetime},
		{"0", "30", rule.ClaimExp},
		{"-0", "30", rule.ClaimExp},
		{"0e999", "946684830", rule.ClaimLifetime},
		{"1e-999999999", "946684830", rule.ClaimLifetime},
		{"-1", "29", rule.ClaimIat},
		{"-946684800", "946684830", rule.ClaimIat},
		{"946684800000", "946684830000", rule.ClaimIat},
		{"946684800", "946684830000", rule.ClaimExp},
		{"100000000000", "100000000030", rule.ClaimIat},
		{"1e400", "1e400", rule.ClaimIat},
		{"946684800", "1e400", rule.ClaimExp},
		{"-1e400", "946684830", rule.ClaimIat},
		{"946684800", "1e308", rule.ClaimExp},
		{"946684800", "9223372036854775808", rule.ClaimExp},
		{"946684800", "-9223372036854775809", rule.ClaimExp},
		{strings.Repeat("9", 10000), "946684830", rule.ClaimIat},
		{`"946684800"`, "946684830", rule.ClaimIat},
		{"946684800", `"946684830"`, rule.ClaimExp},
		{`"2000-01-01T00:00:00Z"`, "946684830", rule.ClaimIat},
		{"true", "946684830", rule.ClaimIat},
		{"[946684800]", "946684830", rule.ClaimIat},
		{"{}", "946684830", rule.ClaimIat},
		{"null", "946684830", rule.ClaimIat},
		{"946684800", "null", rule.ClaimExp},
		{"946684800", "{}", rule.ClaimExp},
	} {
		within(t, func(t *testing.T, w *world) {
			d := newDraft()
			d.payload["iat"], d.payload["exp"] = json.RawMessage(test.iat), json.RawMessage(test.exp)
			compact := d.compact(t, w)
			_, _, err := w.verifier(t).Verify(t.Context(), client, compact)
			if ruleOf(err) != test.rule || (err == nil) != (test.rule == nil) {
				t.Errorf("iat %.40s, exp %.40s: %v", test.iat, test.exp, err)
			}
			if r := w.verifier(t).Explain(t.Context(), compact, time.Now()); r.Accepted != (test.rule == nil) || test.rule != nil && r.Rejection.Rule != test.rule {
				t.Errorf("iat %.40s, exp %.40s: explained as %v", test.iat, test.exp, r.Rejection)
			}
		})
	}
}

// The leeway counts for iat, exp and nbf, to the millisecond, and never for the
// 30 seconds.
func TestLeeway(t *testing.T) {
	for _, leeway := range []time.Duration{0, time.Second, 10 * time.Second, 60 * time.Second} {
		for _, test := range []struct {
			name     string
			iat, nbf time.Duration // from now
			life     time.Duration
			rule     *rule.Rule // nil: accepted
		}{
			{name: "now"},
			{name: "iat at the bound", iat: leeway},
			{name: "iat over the bound", iat: leeway + time.Millisecond, rule: rule.ClaimIat},
			{name: "exp before the bound", iat: -leeway - 30*time.Second + time.Millisecond},
			{name: "exp at the bound", iat: -leeway - 30*time.Second, rule: rule.ClaimExp},
			{name: "nbf at the bound", nbf: leeway},
			{name: "nbf over the bound", nbf: leeway + time.Millisecond, rule: rule.ClaimNbf},
			{name: "a shorter life", life: -time.Millisecond, rule: rule.ClaimLifetime},
			{name: "a longer life", life: time.Millisecond, rule: rule.ClaimLifetime},
			{name: "a life with the leeway", life: max(leeway, time.Second), rule: rule.ClaimLifetime},
		} {
			within(t, func(t *testing.T, w *world) {
				w.memory.leeway = leeway
				d := newDraft()
				at := func(from time.Duration) float64 { return float64(time.Now().Add(from).UnixMilli()) / 1000 }
				d.payload["iat"], d.payload["exp"] = at(test.iat), at(test.iat+30*time.Second+test.life)
				d.payload["nbf"] = at(test.nbf)
				compact := d.compact(t, w)
				_, _, err := w.verifier(t).Verify(t.Context(), client, compact)
				if ruleOf(err) != test.rule || (err == nil) != (test.rule == nil) {
					t.Errorf("leeway %s, %s: %v", leeway, test.name, err)
				}
				if err == nil && w.memory.last.Until.Sub(w.memory.last.IssuedAt) != 30*time.Second+leeway {
					t.Errorf("leeway %s, %s: remembered from %s until %s", leeway, test.name, w.memory.last.IssuedAt, w.memory.last.Until)
				}
			})
		}
	}
}

// For as long as an assertion could be accepted, it is accepted once; and then not
// at all.
func TestOnceInItsWholeLife(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		compact := newDraft().compact(t, w)
		checkAccepted(t, v, compact)
		for range 39 {
			checkRefused(t, v, compact, rule.JTIReplayed)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second - time.Nanosecond)
		checkRefused(t, v, compact, rule.JTIReplayed)
		time.Sleep(time.Nanosecond)
		for range 100 {
			checkRefused(t, v, compact, rule.ClaimExp)
			time.Sleep(time.Second)
		}
	})
}

// The jti counts by its value, however it is spelt, and for its issuer only.
func TestReplayKey(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		spelt := func(jti string) string {
			d := newDraft()
			d.payload["jti"] = json.RawMessage(jti)
			return d.compact(t, w)
		}
		checkAccepted(t, v, spelt(`"abc/\u00e9"`))
		for _, same := range []string{`"abc/é"`, `"\u0061bc\/é"`, `"abc/\u00E9"`} {
			checkRefused(t, v, spelt(same), rule.JTIReplayed)
		}
		for _, other := range []string{`"ABC/é"`, `"abc/é "`, `"abc/e\u0301"`} {
			checkAccepted(t, v, spelt(other))
		}
		d := newDraft()
		d.payload["jti"], d.payload["iss"], d.payload["sub"] = "abc/é", clientAlias, clientAlias
		if _, _, err := v.Verify(t.Context(), clientAlias, d.compact(t, w)); err != nil {
			t.Errorf("the same jti of another issuer: %v", err)
		}
	})
}

// An assertion whose answers take longer than it lives is not accepted, and its
// copies are not either: once the store has forgotten a pair, nobody may use it.
func TestSlowRegistryOpensNoWindow(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		w.registry.delay = 30*time.Second + leeway + time.Second
		compact := newDraft().compact(t, w)
		var wait sync.WaitGroup
		for i := range 5 {
			wait.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				checkRefused(t, v, compact, rule.ClaimExp)
			})
		}
		wait.Wait()
	})
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		w.registry.delay = 20 * time.Second
		compact := newDraft().compact(t, w)
		var accepted atomic.Int32
		var wait sync.WaitGroup
		for i := range 40 {
			wait.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				if _, _, err := v.Verify(t.Context(), client, compact); err == nil {
					accepted.Add(1)
				}
			})
		}
		wait.Wait()
		if n := accepted.Load(); n != 1 {
			t.Errorf("accepted %d times", n)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		const copies, different = 50, 8
		compacts := make([]string, different)
		for i := range compacts {
			compacts[i] = newDraft().compact(t, w)
		}
		wins := make([]atomic.Int32, different)
		var wait sync.WaitGroup
		for n := range copies * different {
			wait.Go(func() {
				i := n % different
				_, _, err := v.Verify(t.Context(), client, compacts[i])
				if err == nil {
					wins[i].Add(1)
				} else if ruleOf(err) != rule.JTIReplayed {
					t.Error(err)
				}
			})
		}
		wait.Go(func() {
			for range 20 { // the anchors are the same, by another map
				w.config.Trust.SetAnchors(anchors(w.ca.Authority(testca.Sub).Certificate()))
				w.config.Trust.SetAnchors(anchors(w.ca.Authority(testca.Root).Certificate()))
			}
		})
		wait.Wait()
		for i := range wins {
			if n := wins[i].Load(); n != 1 {
				t.Errorf("assertion %d was accepted %d times", i, n)
			}
		}
	})
}

func TestNewVerifierRefuses(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		for name, spoil := range map[string]func(c *assertion.Config){
			"no audience":             func(c *assertion.Config) { c.Audience = nil },
			"empty audience":          func(c *assertion.Config) { c.Audience = []ishare.PartyID{server, ""} },
			"a URL as audience":       func(c *assertion.Config) { c.Audience = []ishare.PartyID{"https://example.com/token"} },
			"no trust":                func(c *assertion.Config) { c.Trust = nil },
			"no parties":              func(c *assertion.Config) { c.Parties = nil },
			"no revocation":           func(c *assertion.Config) { c.Revocation = nil },
			"no replay":               func(c *assertion.Config) { c.Replay = nil },
			"negative leeway":         func(c *assertion.Config) { c.Replay = &memory{leeway: -1} },
			"leeway over the maximum": func(c *assertion.Config) { c.Replay = &memory{leeway: assertion.MaxLeeway + 1} },
		} {
			config := w.config
			spoil(&config)
			if v, err := assertion.NewVerifier(config); err == nil || v != nil {
				t.Errorf("%s: accepted", name)
			}
		}
		config := w.config
		config.Audience = slices.Clone(config.Audience)
		v, err := assertion.NewVerifier(config)
		if err != nil {
			t.Fatal(err)
		}
		config.Audience[0] = nobody
		checkAccepted(t, v, newDraft().compact(t, w))
	})
}

func TestUnverifiedInfo(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		v := w.verifier(t)
		thumbprint := ishare.Thumbprint(w.seal.Certificate().Raw)
		see := func(d *draft) assertion.UnverifiedInfo {
			_, seen, err := v.Verify(t.Context(), client, d.compact(t, w))
			if err == nil {
				t.Error("accepted")
			}
			return seen
		}
		d := newDraft()
		d.payload["jti"], d.payload["aud"] = "1", nobody
		sum := sha256.Sum256([]byte(string(client) + "\x00" + "1"))
		if got, want := see(d), (assertion.UnverifiedInfo{Issuer: string(client), Thumbprint: thumbprint, JTIHash: hex.EncodeToString(sum[:8])}); got != want {
			t.Errorf("a token for somebody else: %+v, want %+v", got, want)
		}
		d = newDraft()
		d.header["alg"] = "none"
		if got := see(d); got != (assertion.UnverifiedInfo{}) {
			t.Errorf("a header that is refused: %+v", got)
		}
		d = newDraft()
		d.editPayload = []func(string) string{add("x")}
		if got := see(d); got != (assertion.UnverifiedInfo{Thumbprint: thumbprint}) {
			t.Errorf("a payload that is refused: %+v", got)
		}
		d = newDraft()
		d.payload["iss"], d.payload["jti"] = strings.Repeat("x", 10_000), 1
		if got := see(d); got != (assertion.UnverifiedInfo{Issuer: strings.Repeat("x", 255), Thumbprint: thumbprint}) {
			t.Errorf("claims of odd forms: %+v", got)
		}
	})
}
