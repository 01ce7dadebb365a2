package assertion_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// Flip any bit of an assertion, or drop, double or exchange any byte: it is refused,
// by a verifier that has its header in the cache. An explanation, which is dear because
// it goes on to the end, agrees on the rule for a sample of them.
func TestEveryChangeIsRefused(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		issuer := w.ca.Authority(testca.Issuing).Certificate()
		w.config.Trust = w.trusting(t, issuer)
		d := newDraft()
		d.header["x5c"] = encodeChain(w.seal.Chain[:2])
		v, compact := w.verifier(t), d.compact(t, w)
		checkAccepted(t, v, compact)
		d.payload["jti"] = "not used yet"
		compact = d.compact(t, w)
		counted := w.asked()

		workers := runtime.GOMAXPROCS(0)
		var wait sync.WaitGroup
		for worker := range workers {
			wait.Go(func() {
				for i := worker; i < len(compact); i += workers {
					for what, changed := range changes(compact, i) {
						if changed != compact {
							checkChange(t, v, changed, fmt.Sprintf("byte %d, %s", i, what), i%16 == 0)
						}
					}
				}
			})
		}
		wait.Wait()
		if got := w.asked(); got != counted {
			t.Errorf("asked %+v, want %+v", got, counted)
		}
		checkAccepted(t, v, compact)
	})
}

func checkChange(t *testing.T, v *assertion.Verifier, changed, what string, explained bool) {
	t.Helper()
	c, _, err := v.Verify(t.Context(), client, changed)
	reason := ruleOf(err)
	if c != nil || reason == nil {
		t.Errorf("%s: client %v, %v", what, c, err)
		return
	}
	if !explained {
		return
	}
	r := v.Explain(t.Context(), changed, time.Now())
	switch {
	case r.Accepted || r.Rejection == nil:
		t.Errorf("%s: explained as accepted", what)
	case r.Rejection.Rule != reason && reason != rule.ClaimIss: // an explanation has no client_id to compare iss with
		t.Errorf("%s: %s, explained as %s", what, reason.ID, r.Rejection.Rule.ID)
	}
}

// changes are the flips of each bit of the byte at i, the text without that byte,
// with that byte twice, and with that byte and the next exchanged.
func changes(s string, i int) map[string]string {
	m := map[string]string{"dropped": s[:i] + s[i+1:], "doubled": s[:i+1] + s[i:]}
	if i+1 < len(s) {
		m["exchanged"] = s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:]
	}
	for bit := range 8 {
		m[fmt.Sprintf("bit %d", bit)] = s[:i] + string([]byte{s[i] ^ 1<<bit}) + s[i+1:]
	}
	return m
}

// What is large or deep is refused at a cost in proportion to its length.
func TestMemoryIsInProportion(t *testing.T) {
	const factor, constant = 25, 256 << 10
	within(t, func(t *testing.T, w *world) {
		v, size := w.verifier(t), 48<<10
		good := strings.Split(newDraft().compact(t, w), ".")
		entry := encodeChain(w.seal.Chain[:1])[0]
		x5c := func(entries string) string { return `{"alg":"RS256","typ":"JWT","x5c":[` + entries + `]}` }
		members := strings.Builder{}
		for i := 0; members.Len() < size; i++ {
			fmt.Fprintf(&members, `"%x":1,`, i)
		}
		for name, compact := range map[string]string{
			"nested header":           encode(`{"alg":`+strings.Repeat("[", size)) + "." + good[1] + "." + good[2],
			"nested payload":          good[0] + "." + encode(strings.Repeat(`{"a":`, size/6)+"1"+strings.Repeat("}", size/6)) + "." + good[2],
			"many members":            good[0] + "." + encode("{"+members.String()+`"iss":"x"}`) + "." + good[2],
			"many header parameters":  encode("{"+members.String()+`"alg":"RS256"}`) + "." + good[1] + "." + good[2],
			"a hundred certificates":  encode(x5c(`"`+entry+`"`+strings.Repeat(`,"`+entry+`"`, 99))) + "." + good[1] + "." + good[2],
			"ten certificates":        encode(x5c(`"`+entry+`"`+strings.Repeat(`,"`+entry+`"`, 9))) + "." + good[1] + "." + good[2],
			"entries that are none":   encode(x5c("1"+strings.Repeat(",1", size/2))) + "." + good[1] + "." + good[2],
			"a megabyte of signature": good[0] + "." + good[1] + "." + strings.Repeat("A", 1<<20),
			"a megabyte of header":    strings.Repeat("A", 1<<20) + "." + good[1] + "." + good[2],
			"a megabyte of dots":      strings.Repeat(".", 1<<20),
			"a long jti":              good[0] + "." + encode(`{"iss":"`+string(client)+`","jti":"`+strings.Repeat("x", size)+`"}`) + "." + good[2],
			"a long iss":              good[0] + "." + encode(`{"iss":"`+strings.Repeat("x", size)+`"}`) + "." + good[2],
		} {
			var err error
			got := allocated(func() { _, _, err = v.Verify(t.Context(), client, compact) })
			if ruleOf(err) == nil {
				t.Errorf("%s: %v", name, err)
			} else if len(err.Error()) > 500 {
				t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
			}
			if limit := factor*len(compact) + constant; got > limit {
				t.Errorf("%s: %d bytes took %d bytes of memory, more than %d", name, len(compact), got, limit)
			}
		}
		if v.Remembered() != 0 {
			t.Error("something is remembered")
		}
	})
}

// allocated is the least of a few runs, because other goroutines count too.
func allocated(f func()) int {
	least := math.MaxInt
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, int(after.TotalAlloc-before.TotalAlloc))
	}
	return least
}

// FuzzVerify: no input panics, and none is accepted but the one that was signed.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	w.memory.leeway = assertion.MaxLeeway
	v, good, at := w.verifier(f), newDraft().compact(f, w), time.Now()
	f.Add(good)
	for _, b := range breaches() {
		if strings.HasPrefix(b.rule.ID, "jwt.") || strings.HasPrefix(b.rule.ID, "claim.") {
			d := newDraft()
			b.apply(nil, w, d)
			f.Add(d.compact(f, w))
		}
	}
	for _, s := range []string{"", "..", "e30.e30.AA", good[1:], good + ".", strings.Repeat("e30.", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, _, err := v.Verify(t.Context(), client, s)
		if (c == nil) != (err != nil) || c != nil && s != good {
			t.Errorf("client %v, %v", c, err)
		}
		if err != nil && ruleOf(err) == nil && !errors.As(err, new(*rule.Outage)) {
			t.Errorf("%v is neither a rejection nor an outage", err)
		}
		r := v.Explain(t.Context(), s, at)
		if r.Accepted != (s == good) || len(r.Findings) != len(rule.All()) {
			t.Errorf("accepted %t, %d findings", r.Accepted, len(r.Findings))
		}
	})
}

// FuzzSignedPayload signs whatever the fuzzer thinks of, and holds what is accepted
// against encoding/json.
func FuzzSignedPayload(f *testing.F) {
	w := newWorld(f)
	w.config.AllowExtraHeader = true
	w.memory.leeway = assertion.MaxLeeway
	v := w.verifier(f)
	header := marshal(f, map[string]any{"alg": "RS256", "typ": "JWT", "x5c": encodeChain(w.seal.Chain)})
	const right = `{"iss":"CLIENT","sub":"CLIENT","aud":"SERVER","jti":"a","iat":IAT,"exp":EXP}`
	for _, payload := range []string{
		right,
		`{"jti":"b","exp":EXP.0,"iat":IAT.0,"aud":"SERVER","sub":"CLIENT","iss":"CLIENT","nbf":0}`,
		strings.Replace(right, `"CLIENT"`, `["CLIENT"]`, 1),
		strings.Replace(right, `"SERVER"`, `["SERVER"]`, 1),
		strings.Replace(right, "EXP", "EXPe0", 1),
		strings.Replace(right, "IAT", `"IAT"`, 1),
		strings.Replace(right, "{", `{"ISS":"x","i\u0073s":"x",`, 1),
		strings.Replace(right, "{", `{"nbf":null,`, 1),
	} {
		f.Add(`{"kid":"1",`, payload)
		f.Add(`{`, payload)
	}
	f.Add(`{"crit":["kid"],`, right)
	f.Fuzz(func(t *testing.T, start, payload string) {
		now := time.Now().Unix()
		payload = strings.NewReplacer("CLIENT", string(client), "SERVER", string(server), "IAT", fmt.Sprint(now), "EXP", fmt.Sprint(now+30)).Replace(payload)
		d := newDraft()
		d.header["x5c"] = nil
		d.editHeader = []func(string) string{func(string) string { return strings.Replace(header, "{", start, 1) }}
		d.editPayload = []func(string) string{func(string) string { return payload }}
		d.hash = crypto.SHA256
		c, seen, err := v.Verify(t.Context(), client, d.compact(t, w))
		if err != nil {
			return
		}
		var got struct {
			Iss, Sub, Aud, JTI string
			Iat, Exp           float64
		}
		if err := json.Unmarshal([]byte(payload), &got); err != nil {
			t.Errorf("accepted, and encoding/json says %v: %s", err, payload)
		}
		if c.ID() != client || seen.Issuer != string(client) || strings.Contains(start, "crit") {
			t.Errorf("accepted %s for %s: header %s", payload, seen.Issuer, start)
		}
	})
}

// vectors holds published JWTs. It is not part of the repository.
const vectors = "../../shared/vectors"

// Published assertions, judged at the time at which they were made.
func TestPublishedAssertions(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(vectors, "parties.json"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	parties, err := ishare.ParseParties(data)
	if err != nil {
		t.Fatal(err)
	}
	source := &registry{records: map[ishare.PartyID]*ishare.Party{}}
	for _, party := range parties {
		for _, id := range party.Identifiers() {
			source.records[id] = party
		}
	}
	const root = "eIDASeSEALOID_RootG2"
	for _, test := range []struct {
		token, at string
		audience  ishare.PartyID
		anchor    string
		rule      *rule.Rule // nil: accepted
	}{
		{"v3.0-openapi-capabilities-token", "2025-02-27T17:00:55Z", "did:ishare:EU.NL.NTRNL-10000001", root, nil},
		{"v3.0-openapi-capabilities-token", "2025-02-27T17:00:55Z", "did:ishare:EU.NL.NTRNL-10000001", "eIDASeSEALOID_IssCAG4", nil},
		{"v3.0-openapi-capabilities-token", "2025-02-27T17:00:55Z", "did:ishare:EU.NL.NTRNL-10000001", "TEST_iSHARE_Foundation_eIDAS", rule.ChainUntrusted},
		{"v3.0-openapi-capabilities-token", "2025-02-27T17:05:00Z", "did:ishare:EU.NL.NTRNL-10000001", root, rule.ClaimExp},
		{"v3.0-openapi-connect-token-client-assertion", "2025-02-27T16:54:50Z", "did:ishare:EU.NL.NTRNL-10000000", root, rule.PartyCertificate},
		{"v3.0-openapi-delegation-token", "2024-03-26T15:29:50Z", "did:ishare:EU.NL.NTRNL-10000001", root, rule.CertificateValidity},
		{"v3.0-openapi-dataspaces-token", "2025-02-27T17:00:00Z", "did:ishare:EU.NL.NTRNL-10000001", root, rule.ClaimIss},
		{"v3.0-openapi-placeholder-jwt-no-x5c", "2018-01-18T01:30:23Z", "did:ishare:EU.NL.NTRNL-10000001", root, rule.JWTX5C},
		{"v1.x-postman-client-assertion-aud-array", "2018-10-29T15:37:20Z", "EU.EORI.NL000000004", "iSHARETestCA", rule.ClaimAud},
		{"v2.0-docs-delegation-token-pem-in-x5c", "2020-06-12T12:50:30Z", "EU.EORI.NL000000001", "iSHARETestCA", rule.JWTX5C},
		{"v2.0-swagger-trusted-list-token", "2024-03-26T14:43:10Z", "EU.EORI.NL000000001", "TEST_iSHARE_Foundation_eIDAS", nil},
	} {
		at, err := time.Parse(time.RFC3339, test.at)
		if err != nil {
			t.Fatal(err)
		}
		e, err := assertion.NewExplainer(assertion.Config{
			Audience: []ishare.PartyID{test.audience}, Trust: publishedTrust(t, test.anchor),
			Parties: source, Revocation: revocation.Off{},
		}, leeway)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := os.ReadFile(filepath.Join(vectors, test.token+".jwt"))
		if err != nil {
			t.Fatal(err)
		}
		r := e.Explain(t.Context(), strings.TrimSpace(string(compact)), at)
		if r.Accepted != (test.rule == nil) || (r.Rejection == nil) != (test.rule == nil) || test.rule != nil && r.Rejection.Rule != test.rule {
			t.Errorf("%s at %s: accepted %t, %v", test.token, test.at, r.Accepted, r.Rejection)
		}
	}
}

func publishedTrust(t *testing.T, anchor string) *trust.Validator {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectors, "ca", anchor+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := trust.ParseAnchors(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := trust.New(anchors)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
