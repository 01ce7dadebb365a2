package tokenendpoint_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/replay"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/tokenendpoint"
	"github.com/waybill-token/waybill/trust"
)

const (
	provider = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")
	alias    = ishare.PartyID("EU.EORI.NL000000000")
)

// An endpoint is a token endpoint with what a test wants to look at.
type endpoint struct {
	http.Handler

	client   *isharetest.Party
	trust    *trust.Validator
	verifier *assertion.Verifier
	issuer   *accesstoken.Issuer
	log      *logtest.Buffer
}

// participant is the client of all tests, which none of them changes, and the anchors that its seal is trusted by.
var participant = sync.OnceValues(func() (trust.Anchors, *isharetest.Party) {
	ca := isharetest.NewCA()
	return ca.Anchors(), ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer", isharetest.AlsoKnownAs("EU.EORI.NL000000001"))
})

func newEndpoint(tb testing.TB) *endpoint {
	tb.Helper()
	anchors, consumer := participant()
	e := &endpoint{log: &logtest.Buffer{}, client: consumer}
	var err error
	e.trust, err = trust.New(anchors)
	check(tb, err)
	e.verifier, err = assertion.NewVerifier(e.verifierConfig(tb, nil))
	check(tb, err)
	keys, err := accesstoken.OpenKeys(tb.TempDir(), slog.New(slog.DiscardHandler))
	check(tb, err)
	e.issuer, err = accesstoken.New(accesstoken.Config{Party: provider, Lifetime: time.Hour, Keys: keys})
	check(tb, err)
	e.Handler, err = tokenendpoint.New(tokenendpoint.Config{
		Verifier: e.verifier, Issuer: e.issuer, Scopes: []string{"orders"}, Log: slog.New(slog.NewJSONHandler(e.log, nil)),
	})
	check(tb, err)
	return e
}

// verifierConfig is that of a verifier with a memory of its own.
func (e *endpoint) verifierConfig(tb testing.TB, observe func(context.Context, string, time.Time, error)) assertion.Config {
	tb.Helper()
	store, err := replay.Open(replay.Config{Leeway: 10 * time.Second, NoHistory: true})
	check(tb, err)
	tb.Cleanup(func() { check(tb, store.Close()) })
	return assertion.Config{
		Audience: []ishare.PartyID{provider, alias}, Trust: e.trust, Parties: isharetest.NewList(e.client),
		Revocation: revocation.Off{}, Replay: store, Observe: observe,
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// post sends a form and returns the answer.
func (e *endpoint) post(body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, tokenendpoint.Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

// form is a right one; changes are pairs of names and values.
func (e *endpoint) form(compact string, changes ...string) url.Values {
	f := url.Values{
		"grant_type": {"client_credentials"}, "scope": {"iSHARE"}, "client_id": {string(e.client.ID())},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {compact},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		f.Set(changes[i], changes[i+1])
	}
	return f
}

type answer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Correlation string `json:"correlation"`
}

func decode(tb testing.TB, w *httptest.ResponseRecorder) answer {
	tb.Helper()
	var a answer
	check(tb, json.Unmarshal(w.Body.Bytes(), &a, json.RejectUnknownMembers(true)))
	if id := w.Header().Get("X-Request-Id"); id == "" || a.Error != "" && a.Correlation != id {
		tb.Errorf("X-Request-Id is %q, and the correlation %q", id, a.Correlation)
	}
	return a
}

// A character that cannot be seen is named where it stands.
func TestStrayCharacters(t *testing.T) {
	e := newEndpoint(t)
	compact := e.client.Assertion(provider)
	for _, c := range []struct{ name, value, rule, want string }{
		{"client_id", string(e.client.ID()) + "\n", "request.client-id", "ends with a line feed"},
		{"client_id", "did:x:1 2", "request.client-id", "holds a blank at place 8 of 9"},
		{"client_id", "did:x:\\1", "request.client-id", "holds the character <U+005C> at place 7 of 8"},
		{"scope", "iSHARE\r\n", "request.scope", "ends with a line feed"},
		{"scope", "iSHARE\torders", "request.scope", "holds a tab at place 7 of 13"},
		{"scope", "iSHARE  orders", "request.scope", "values are separated by single spaces"},
		{"client_assertion", compact + "\n", "jwt.compact", "a line feed at its end"},
		{"client_assertion", compact + "\r\n", "jwt.compact", "at its end"},
		{"client_assertion", " " + compact, "jwt.compact", "a blank at place 1"},
	} {
		got := decode(t, e.post(e.form(compact, c.name, c.value).Encode())).Description
		if !strings.HasPrefix(got, c.rule+": ") || !strings.Contains(got, c.want) {
			t.Errorf("%s %q: %s, want %s", c.name, c.value, got, c.want)
		}
	}
}

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		asked, granted string // granted is empty when the request is refused
		told           string // scope in the answer
	}{
		{"iSHARE", "iSHARE", ""},
		{"orders iSHARE", "orders iSHARE", ""},
		{"iSHARE orders", "iSHARE orders", ""},
		{"orders iSHARE orders", "orders iSHARE", "orders iSHARE"},
		{"orders", "", ""},
		{"ishare", "", ""},
		{"dsgo iSHARE", "", ""},
		{"iSHARE  orders", "", ""},
		{" iSHARE", "", ""},
		{"iSHARE\torders", "", ""},
	} {
		t.Run(c.asked, func(t *testing.T) {
			e := newEndpoint(t)
			w := e.post(e.form(e.client.Assertion(provider), "scope", c.asked).Encode())
			got := decode(t, w)
			if c.granted == "" {
				if w.Code != http.StatusBadRequest || got.Error != rule.CodeInvalidScope || !strings.HasPrefix(got.Description, "request.scope: ") {
					t.Fatalf("%d %s", w.Code, w.Body)
				}
				return
			}
			if w.Code != http.StatusOK || got.Scope != c.told || got.TokenType != "Bearer" || got.ExpiresIn != 3600 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			claims, err := e.issuer.Check(t.Context(), got.AccessToken)
			check(t, err)
			if claims.Scope.String() != c.granted {
				t.Errorf("the token carries %q", claims.Scope)
			}
		})
	}
}

// A client that goes by an alias gets a token with both identifiers, from a server
// that is addressed by an alias.
func TestAliases(t *testing.T) {
	e := newEndpoint(t)
	r := e.client.Request(alias)
	r.As("EU.EORI.NL000000001")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r.HTTP("http://server.example"))
	claims, err := e.issuer.Check(t.Context(), decode(t, w).AccessToken)
	check(t, err)
	if claims.Party != e.client.ID() || claims.Client != "EU.EORI.NL000000001" || claims.Issuer != provider {
		t.Errorf("%+v", claims)
	}
}

// Requests lie in buffers that others use after them. Whatever is kept of one, in tokens, refusals and the log, is its
// own, also when all come at once; under the race detector, a piece of a buffer that were kept would be a race.
func TestRequestsDoNotSeeEachOther(t *testing.T) {
	e := newEndpoint(t)
	const workers, rounds = 8, 12
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for round := range rounds {
				mark := fmt.Sprintf("did:ishare:EU.NL.NTRNL-9%03d%04d", worker, round)
				padding := strings.Repeat(string(rune('A'+worker)), 500*round)
				granted := decode(t, e.post(e.form(e.client.Assertion(provider), "padding", padding).Encode()))
				if claims, err := e.issuer.Check(t.Context(), granted.AccessToken); err != nil || claims.Client != e.client.ID() {
					t.Errorf("a token of another one: %+v, %v", claims, err)
				}
				refused := decode(t, e.post(e.form(e.client.Assertion(provider), "client_id", mark, "padding", padding).Encode()))
				if !strings.HasPrefix(refused.Description, "claim.iss") || !strings.Contains(refused.Description, mark) {
					t.Errorf("the refusal of another one: %+v", refused)
				}
				unknown := decode(t, e.post(e.form("x", "scope", "iSHARE "+mark).Encode()))
				if !strings.Contains(unknown.Description, mark) {
					t.Errorf("the refusal of another one: %+v", unknown)
				}
			}
		})
	}
	group.Wait()
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	e := newEndpoint(t)
	right := e.form(e.client.Assertion(provider)).Encode()
	for name, w := range map[string]*httptest.ResponseRecorder{
		"token": e.post(right), "replay": e.post(right), "refusal": e.post("scope=iSHARE"),
		"too large": e.post(strings.Repeat("a", tokenendpoint.MaxBody+1)),
	} {
		for header, want := range map[string]string{
			"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache",
		} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
	}
}

// Whatever single bit is flipped or byte dropped in an assertion, there is no
// token, and the assertion itself is not used up by all that. The issuing CA is the anchor here, so that
// no longer chain is needed.
func TestEveryFlipAndDropIsRefused(t *testing.T) {
	e := newEndpoint(t)
	issuing := e.client.Certificates[1]
	e.trust.SetAnchors(trust.Anchors{trust.FingerprintOf(issuing): "the issuing CA"})
	maker := assertion.Maker{ClientID: e.client.ID(), Key: e.client.Key, Certificates: e.client.Certificates[:2]}
	compact, err := maker.Make(provider)
	check(t, err)
	step := 1
	if raceEnabled || testing.Short() {
		step = 13 // a prime, so that all bits have their turn
	}
	before := e.form("").Encode()
	try := func(mutant string) {
		w := e.post(before + "&client_assertion=" + url.QueryEscape(mutant))
		if w.Code != http.StatusBadRequest {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		e.log.Reset()
	}
	for bit := 0; bit < 8*len(compact); bit += step {
		mutant := []byte(compact)
		mutant[bit/8] ^= 1 << (bit % 8)
		try(string(mutant))
	}
	for i := 0; i < len(compact); i += step {
		try(compact[:i] + compact[i+1:])
	}
	// Fresh, because the above takes longer than an assertion lives.
	compact, err = maker.Make(provider)
	check(t, err)
	if w := e.post(e.form(compact).Encode()); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

// A mutated parameter is refused or, where it means the same, granted; it is
// never an error of ours.
func TestMutatedParametersAreNeverInternalErrors(t *testing.T) {
	e := newEndpoint(t)
	hostile := []string{
		"", " ", "\x00", "\xff", "%", "null", "true", "[]", "{}", "0", "-1", "1e999", "../../etc/passwd", "'\"<>&;=",
		strings.Repeat("A", 60000), "iSHARE", "did:ishare:EU.NL.NTRNL-10000001", "\u202e", "a\r\nSet-Cookie: x", ".", "..", "...", "a.b.c",
	}
	for name := range e.form("") {
		for _, value := range hostile {
			w := e.post(e.form(e.client.Assertion(provider), name, value).Encode())
			if w.Code >= 500 {
				t.Errorf("%s=%.40q: %d %s", name, value, w.Code, w.Body)
			}
			if got := decode(t, w); w.Code != http.StatusOK && (got.Error == "" || got.AccessToken != "") {
				t.Errorf("%s=%.40q: %d %s", name, value, w.Code, w.Body)
			}
		}
	}
	for _, body := range []string{"%zz=1", "=", "&&&", "a=%", "\xff=1", "grant_type=%ff", strings.Repeat("&", 60000), strings.Repeat("=", 60000)} {
		if w := e.post(body); w.Code != http.StatusBadRequest {
			t.Errorf("%.20q: %d", body, w.Code)
		}
	}
}

// A stranger costs no more memory than a few times what they send.
func TestHostileRequestsAreCheap(t *testing.T) {
	e := newEndpoint(t)
	forged := func(change func(*isharetest.Request)) string {
		r := e.client.Request(provider)
		change(r)
		return r.Body()
	}
	parameters := e.form(e.client.Assertion(provider)).Encode()
	for i := range 10000 {
		parameters += "&" + string(rune('a'+i%26)) + strings.Repeat("x", i%3)
	}
	for _, c := range []struct {
		name, body string
		rule       *rule.Rule
	}{
		{"one byte too many", strings.Repeat("a", tokenendpoint.MaxBody+1), rule.RequestSize},
		{"10,000 parameters", parameters[:min(len(parameters), tokenendpoint.MaxBody)], nil},
		{"100 certificates", forged(func(r *isharetest.Request) {
			r.Assertion.Header.Set("x5c", slicesRepeat("AAAA", 100))
		}), rule.JWTX5C},
		{"nested JSON", forged(func(r *isharetest.Request) {
			r.Assertion.Payload.Set("deep", isharetest.Raw(strings.Repeat("[", 15000)+strings.Repeat("]", 15000)))
		}), rule.JWTPayload},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w *httptest.ResponseRecorder
			allocated := allocatedBy(func() { w = e.post(c.body) })
			if w.Code < 400 || w.Code >= 500 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if c.rule != nil && !strings.HasPrefix(decode(t, w).Description, c.rule.ID+": ") {
				t.Errorf("%s, want %s", w.Body, c.rule.ID)
			}
			if limit := uint64(8 * tokenendpoint.MaxBody); allocated > limit {
				t.Errorf("%d bytes allocated, more than %d", allocated, limit)
			}
		})
	}
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// allocatedBy measures the second call: the first fills pools.
func allocatedBy(f func()) uint64 {
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The log tells who and why, once for each request, and no secret.
func TestLog(t *testing.T) {
	e := newEndpoint(t)
	compact := e.client.Assertion(provider)
	body := e.form(compact).Encode()
	issued := decode(t, e.post(body))
	e.post(body)
	text := e.log.String()
	if lines := strings.Count(text, "\n"); lines != 2 {
		t.Fatalf("%d events for two requests: %s", lines, text)
	}
	for _, want := range []string{
		`"outcome":"issued"`, `"outcome":"refused"`, `"rule":"jti.replayed"`, `"party":"did:ishare:EU.NL.NTRNL-10000001"`,
		ishare.Thumbprint(e.client.Certificates[0].Raw), `"jti_hash":"`, `"duration_ms":`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s: %s", want, text)
		}
	}
	signature := compact[strings.LastIndex(compact, ".")+1:]
	for name, secret := range map[string]string{
		"assertion": compact[:200], "signature": signature[:40], "token": issued.AccessToken[len(issued.AccessToken)-40:],
	} {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds the %s", name)
		}
	}
}

// errReader is a client that goes away.
type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("gone") }

func TestBodyThatBreaksOff(t *testing.T) {
	e := newEndpoint(t)
	r := httptest.NewRequest(http.MethodPost, tokenendpoint.Path, errReader{})
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest || !strings.HasPrefix(decode(t, w).Description, "request.malformed: ") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func FuzzForm(f *testing.F) {
	e := newEndpoint(f)
	f.Add(e.form(e.client.Assertion(provider)).Encode())
	f.Add("grant_type=client_credentials&grant_type=x")
	f.Add("%ff=%zz&;&=")
	f.Fuzz(func(t *testing.T, body string) {
		if w := e.post(body); w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		e.log.Reset()
	})
}

// failing is a verifier and an issuer that have an error to tell.
type failing struct {
	tokenendpoint.Verifier
	tokenendpoint.Issuer

	verify, issue error
}

func (f *failing) Verify(ctx context.Context, id ishare.PartyID, compact string) (*assertion.Client, assertion.UnverifiedInfo, error) {
	if f.verify != nil {
		return nil, assertion.UnverifiedInfo{}, f.verify
	}
	return f.Verifier.Verify(ctx, id, compact)
}

func (f *failing) Issue(context.Context, accesstoken.Claims) (string, accesstoken.Claims, error) {
	return "", accesstoken.Claims{}, f.issue
}

// An outage is answered as one, whatever stands beside, above or below it; and what
// somebody said of us when a token was to be issued is not told of the client.
func TestErrorsBecomeAnswers(t *testing.T) {
	rejection := rule.ChainUntrusted.Reject()
	outage := &rule.Outage{Rule: rule.UnavailableRegistry, RetryAfter: 3 * time.Second, Cause: rejection}
	for name, c := range map[string]struct {
		verify, issue error
		status        int
		told          string
		outcome       string
	}{
		"rejection":                  {verify: rejection, status: 400, told: "chain.untrusted: ", outcome: "refused"},
		"outage for a rejection":     {verify: outage, status: 503, told: "unavailable.registry: ", outcome: "unavailable"},
		"both":                       {verify: errors.Join(rejection, outage), status: 503, told: "unavailable.registry: ", outcome: "unavailable"},
		"rejection for an outage":    {verify: fmt.Errorf("x: %w", rule.PartyUnknown.Reject().From(outage)), status: 503, told: "unavailable.registry: ", outcome: "unavailable"},
		"another":                    {verify: errors.New("x"), status: 500, told: "internal: ", outcome: "failed"},
		"rejection by the issuer":    {issue: fmt.Errorf("x: %w", rejection), status: 500, told: "internal: ", outcome: "failed"},
		"outage at the issuer's end": {issue: outage, status: 503, told: "unavailable.registry: ", outcome: "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t)
			f := &failing{Verifier: e.verifier, verify: c.verify, issue: c.issue}
			var err error
			e.Handler, err = tokenendpoint.New(tokenendpoint.Config{Verifier: f, Issuer: f, Log: slog.New(slog.NewJSONHandler(e.log, nil))})
			check(t, err)
			w := e.post(e.form(e.client.Assertion(provider)).Encode())
			if got := decode(t, w); w.Code != c.status || !strings.HasPrefix(got.Description, c.told) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if waits := w.Header().Get("Retry-After") == "3"; waits != (c.status == 503) {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
			if !strings.Contains(e.log.String(), `"outcome":"`+c.outcome+`"`) {
				t.Errorf("the log says %s", e.log)
			}
		})
	}
}
