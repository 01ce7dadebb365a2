package tokenadmin_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/guard/internal/guardtest"
	"github.com/waybill-token/waybill/guard/tokenadmin"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
)

// Two handlers with one secret, or none.
type handlers struct {
	*guardtest.Issuer
	introspection, revocation http.Handler
	log                       *logtest.Buffer
}

func newHandlers(tb testing.TB, secret string) *handlers {
	tb.Helper()
	d := &handlers{Issuer: guardtest.NewIssuer(tb)}
	c := tokenadmin.Config{Checker: d, Secret: secret, Revocations: d.Revocations}
	c.Log, d.log = guardtest.NewLog()
	var err error
	d.introspection, err = tokenadmin.NewIntrospection(c)
	guardtest.NoError(tb, err)
	d.revocation, err = tokenadmin.NewRevocation(c)
	guardtest.NoError(tb, err)
	return d
}

// post sends a form, and the name and value of header fields.
func post(h http.Handler, body string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/admin", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func form(pairs ...string) string {
	f := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f.Encode()
}

func decode(tb testing.TB, w *httptest.ResponseRecorder) map[string]any {
	tb.Helper()
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		tb.Fatalf("%q: %v", w.Body, err)
	}
	return body
}

func active(tb testing.TB, w *httptest.ResponseRecorder) bool {
	tb.Helper()
	yes, ok := decode(tb, w)["active"].(bool)
	return ok && yes
}

func TestIntrospection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newHandlers(t, "")
		token := d.Token(t, "iSHARE", "orders")
		claims, err := d.Check(t.Context(), token)
		guardtest.NoError(t, err)
		now := time.Now().Unix()
		want := map[string]any{
			"active": true, "token_type": "Bearer", "scope": "iSHARE orders", "client_id": string(guardtest.Alias), "sub": string(guardtest.Consumer),
			"iss": string(guardtest.Provider), "aud": string(guardtest.Provider), "iat": float64(now), "exp": float64(now + 3600), "jti": claims.ID,
			"ishare_certificate_thumbprint": guardtest.Certificate,
		}
		for _, body := range []string{form("token", token), form("token", token, "token_type_hint", "refresh_token", "unknown", "x"), form("token", token+"\n")} {
			w := post(d.introspection, body)
			if diff := cmp.Diff(want, decode(t, w)); diff != "" || w.Code != http.StatusOK {
				t.Errorf("%d (-want +got):\n%s", w.Code, diff)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%v", w.Header())
			}
		}
		wantInactive := func(token string) {
			t.Helper()
			w := post(d.introspection, form("token", token))
			if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"active":false}` {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		wantInactive("x")
		wantInactive(token[:len(token)-4] + "AAAA")
		wantInactive(guardtest.NewIssuer(t).Token(t, "iSHARE"))
		wantInactive(strings.Repeat("a", 20000))
		other := d.Token(t, "iSHARE")
		post(d.revocation, form("token", other))
		wantInactive(other)
		time.Sleep(time.Hour)
		wantInactive(token)
	})
}

// Whichever way a token is revoked, every way of guarding refuses it from then on.
func TestRevocation(t *testing.T) {
	for _, c := range []struct {
		name    string
		form    func(token string, c *accesstoken.Claims) string
		sibling bool // another token of the party is revoked too
	}{
		{"token", func(token string, _ *accesstoken.Claims) string { return form("token", token) }, false},
		{"token from a file", func(token string, _ *accesstoken.Claims) string { return form("token", token+"\r\n") }, false},
		{"token with a hint", func(token string, _ *accesstoken.Claims) string {
			return form("token", token, "token_type_hint", "refresh_token")
		}, false},
		{"token id", func(_ string, c *accesstoken.Claims) string { return form("token_id", c.ID) }, false},
		{"party", func(string, *accesstoken.Claims) string { return form("party_id", string(guardtest.Consumer)) }, true},
		{"party by its alias", func(string, *accesstoken.Claims) string { return form("party_id", string(guardtest.Alias)) }, true},
		{"certificate", func(string, *accesstoken.Claims) string { return form("certificate", guardtest.Certificate) }, true},
		{"certificate as openssl prints it", func(string, *accesstoken.Claims) string {
			return form("certificate", strings.TrimSuffix(strings.Repeat("AB:", 32), ":"))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newHandlers(t, "")
			token, sibling := d.Token(t, "iSHARE"), d.Token(t, "iSHARE")
			claims, err := d.Check(t.Context(), token)
			guardtest.NoError(t, err)
			guards := map[string]http.Handler{}
			for _, way := range guardtest.Ways() {
				guards[way.Name] = way.Guard(t, d, nil)
				if w := guardtest.Get(guards[way.Name], "/orders", token); w.Code != http.StatusOK {
					t.Fatalf("%s, before: %d", way.Name, w.Code)
				}
			}
			if w := post(d.revocation, c.form(token, claims)); w.Code != http.StatusOK || w.Body.Len() != 0 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			for name, handler := range guards {
				if w := guardtest.Get(handler, "/orders", token); w.Code != http.StatusUnauthorized || !strings.Contains(w.Header().Get("WWW-Authenticate"), "revoked") {
					t.Errorf("%s: %d %v", name, w.Code, w.Header())
				}
				if w := guardtest.Get(handler, "/orders", sibling); (w.Code == http.StatusUnauthorized) != c.sibling {
					t.Errorf("%s, another token: %d", name, w.Code)
				}
			}
			if w := post(d.revocation, c.form(token, claims)); w.Code != http.StatusOK {
				t.Errorf("again: %d %s", w.Code, w.Body)
			}
			if text := d.log.String(); !strings.Contains(text, "access tokens revoked") || strings.Contains(text, token[40:]) {
				t.Errorf("log: %s", text)
			}
		})
	}
}

// A party can be revoked by any of its identifiers, once it is known which is canonical: its tokens
// name the canonical one and the one that it used. What is given is revoked whoever answers.
func TestRevocationOfAPartyUnderAllItsNames(t *testing.T) {
	const stranger = ishare.PartyID("urn:a")
	for _, c := range []struct {
		name      string
		canonical func(context.Context, ishare.PartyID) (ishare.PartyID, error)
		party     ishare.PartyID
		status    int
		revoked   []ishare.PartyID // who has used them as client_id
	}{
		{"nobody resolves", nil, guardtest.Alias, 200, []ishare.PartyID{guardtest.Alias}},
		{"alias", resolve, guardtest.Alias, 200, []ishare.PartyID{guardtest.Alias, guardtest.Consumer}},
		{"canonical", resolve, guardtest.Consumer, 200, []ishare.PartyID{guardtest.Alias, guardtest.Consumer}},
		{"unknown", resolve, stranger, 200, nil},
		{"out of reach", func(context.Context, ishare.PartyID) (ishare.PartyID, error) {
			return "", errors.New("the registry is at secret.example")
		}, guardtest.Alias, 503, []ishare.PartyID{guardtest.Alias}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := guardtest.NewIssuer(t)
			log, told := guardtest.NewLog()
			revocation, err := tokenadmin.NewRevocation(tokenadmin.Config{Checker: h, Log: log, Canonical: c.canonical, Revocations: h.Revocations})
			guardtest.NoError(t, err)
			tokens := map[ishare.PartyID]string{}
			for _, id := range []ishare.PartyID{guardtest.Alias, guardtest.Consumer} {
				tokens[id], _, err = h.Issue(t.Context(), accesstoken.Claims{Party: guardtest.Consumer, Client: id, Scope: ishare.Scope{"iSHARE"}, Thumbprint: guardtest.Certificate})
				guardtest.NoError(t, err)
			}
			w := post(revocation, form("party_id", string(c.party)))
			if w.Code != c.status || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if c.status != http.StatusOK && (!strings.Contains(w.Body.String(), "only tokens with this identifier are revoked") || !strings.Contains(told.String(), "secret.example")) {
				t.Errorf("%s, log: %s", w.Body, told)
			}
			for id, token := range tokens {
				if _, err := h.Check(t.Context(), token); errors.Is(err, accesstoken.ErrRevoked) != slices.Contains(c.revoked, id) {
					t.Errorf("the token of %s: %v", id, err)
				}
			}
		})
	}
}

// resolve knows the consumer only.
func resolve(_ context.Context, id ishare.PartyID) (ishare.PartyID, error) {
	if id == guardtest.Alias {
		return guardtest.Consumer, nil
	}
	return id, nil
}

// RFC 7009 section 2.2: what is no token is no error.
func TestRevocationOfNothing(t *testing.T) {
	d := newHandlers(t, "")
	for _, token := range []string{"x", guardtest.NewIssuer(t).Token(t, "iSHARE"), strings.Repeat("a", 20000)} {
		if w := post(d.revocation, form("token", token)); w.Code != http.StatusOK || w.Body.Len() != 0 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if d.Revocations.Len() != 0 {
		t.Errorf("%d revocations are held", d.Revocations.Len())
	}
}

func TestRefusals(t *testing.T) {
	d := newHandlers(t, "")
	token := d.Token(t, "iSHARE")
	for _, c := range []struct {
		name    string
		handler http.Handler
		body    string
		status  int
		rule    *rule.Rule
	}{
		{"introspect nothing", d.introspection, "", 400, rule.RequestMissingParameter},
		{"introspect an empty token", d.introspection, "token=", 400, rule.RequestMissingParameter},
		{"introspect twice", d.introspection, form("token", token, "token", token), 400, rule.RequestDuplicateParameter},
		{"introspect too much", d.introspection, "token=" + strings.Repeat("a", 64<<10), 413, rule.RequestSize},
		{"introspect broken", d.introspection, "token=%zz", 400, rule.RequestMalformed},
		{"revoke nothing", d.revocation, "token_type_hint=access_token", 400, rule.RequestMissingParameter},
		{"revoke two", d.revocation, form("token", token, "party_id", "urn:a"), 400, rule.RequestMalformed},
		{"revoke twice", d.revocation, form("party_id", "urn:a", "party_id", "urn:b"), 400, rule.RequestDuplicateParameter},
		{"revoke no party", d.revocation, form("party_id", "no party"), 400, rule.RequestMalformed},
		{"revoke no certificate", d.revocation, form("certificate", "abc"), 400, rule.RequestMalformed},
		{"revoke no token id", d.revocation, form("token_id", "a b"), 400, rule.RequestMalformed},
	} {
		w := post(c.handler, c.body)
		body := decode(t, w)
		if description, _ := body["error_description"].(string); w.Code != c.status || body["error"] != c.rule.Code || !strings.HasPrefix(description, c.rule.ID+": ") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	for _, h := range []http.Handler{d.introspection, d.revocation} {
		if w := guardtest.Get(h, "/admin?"+form("token", token), ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
			t.Errorf("GET: %d %v", w.Code, w.Header())
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/admin", strings.NewReader(form("token", token))))
		if w.Code != http.StatusBadRequest {
			t.Errorf("without a media type: %d", w.Code)
		}
	}
	if _, err := d.Check(t.Context(), token); err != nil {
		t.Errorf("a refused revocation holds: %v", err)
	}
}

func TestWithASecret(t *testing.T) {
	d := newHandlers(t, "a secret of the house")
	token := d.Token(t, "iSHARE")
	for _, fields := range [][]string{
		nil,
		{"Authorization", "Bearer "},
		{"Authorization", "Bearer wrong"},
		{"Authorization", "Bearer a secret of the hous"},
		{"Authorization", "Bearer\ta secret of the house"},
		{"Authorization", "Basic a secret of the house"},
		{"Authorization", "a secret of the house"},
		{"Authorization", "Bearer a secret of the house", "Authorization", "Bearer a secret of the house"},
	} {
		for _, h := range []http.Handler{d.introspection, d.revocation} {
			w := post(h, form("token", token), fields...)
			if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" || decode(t, w)["error"] != "invalid_client" {
				t.Errorf("%q: %d %s", fields, w.Code, w.Body)
			}
		}
	}
	if w := post(d.introspection, form("token", token), "Authorization", "bearer   a secret of the house"); !active(t, w) {
		t.Errorf("with the secret: %d %s", w.Code, w.Body)
	}
	if w := post(d.revocation, form("token", token), "Authorization", "Bearer a secret of the house"); w.Code != http.StatusOK {
		t.Errorf("with the secret: %d %s", w.Code, w.Body)
	}
}

const (
	apisixSecret = "5c1fd3a90b7e24688c03fe9d1a57b246"
	kongSecret   = "a+b/c%2Fd=e:f~0123456789"
	sharedSecret = "the-secret-of-the-house"
)

// basic is the value of Authorization, name and secret as given.
func basic(name, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
}

// Those who may ask say so in each of the ways of RFC 6749 section 2.3.1, or with Bearer.
func TestWithCallers(t *testing.T) {
	h := guardtest.NewIssuer(t)
	log, told := guardtest.NewLog()
	c := tokenadmin.Config{Checker: h, Revocations: h.Revocations, Log: log, Secret: sharedSecret, Callers: map[string]string{"apisix": apisixSecret, "kong": kongSecret}}
	introspection, err := tokenadmin.NewIntrospection(c)
	guardtest.NoError(t, err)
	revocation, err := tokenadmin.NewRevocation(c)
	guardtest.NoError(t, err)
	token := h.Token(t, "iSHARE")
	encoded := url.QueryEscape(kongSecret)
	for _, c := range []struct {
		name          string
		authorization []string
		form          []string
		status        int
		caller        string
	}{
		{"Bearer", []string{"Bearer " + apisixSecret}, nil, 200, "apisix"},
		{"Bearer, several blanks", []string{"bearer   " + kongSecret}, nil, 200, "kong"},
		{"Bearer of the house", []string{"Bearer " + sharedSecret}, nil, 200, ""},
		{"Basic", []string{basic("apisix", apisixSecret)}, nil, 200, "apisix"},
		{"Basic, scheme in another case", []string{"bASIC  " + basic("apisix", apisixSecret)[6:]}, nil, 200, "apisix"},
		{"Basic, not encoded", []string{basic("kong", kongSecret)}, nil, 200, "kong"},
		{"Basic, encoded", []string{basic("%6bong", encoded)}, nil, 200, "kong"},
		{"Basic of the house, any name", []string{basic("whoever%20", sharedSecret)}, nil, 200, ""},
		{"Basic of the house, no name", []string{basic("", sharedSecret)}, nil, 200, ""},
		{"form", nil, []string{"client_id", "kong", "client_secret", kongSecret}, 200, "kong"},
		{"form of the house", nil, []string{"client_secret", sharedSecret}, 200, ""},
		{"form beside an empty header", []string{" "}, []string{"client_id", "apisix", "client_secret", apisixSecret}, 200, "apisix"},
		{"Basic with client_id and an empty client_secret", []string{basic("apisix", apisixSecret)}, []string{"client_id", "apisix", "client_secret", ""}, 200, "apisix"},

		{"nothing", nil, nil, 401, ""},
		{"name only", nil, []string{"client_id", "apisix"}, 401, ""},
		{"secret without its name", nil, []string{"client_secret", apisixSecret}, 401, ""},
		{"another's name in the form", nil, []string{"client_id", "kong", "client_secret", apisixSecret}, 401, ""},
		{"another's name", []string{basic("kong", apisixSecret)}, nil, 401, ""},
		{"unknown name", []string{basic("nobody", apisixSecret)}, nil, 401, ""},
		{"no name", []string{basic("", apisixSecret)}, nil, 401, ""},
		{"no secret", []string{basic("apisix", "")}, nil, 401, ""},
		{"no colon", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(apisixSecret))}, nil, 401, ""},
		{"not base64", []string{"Basic apisix:" + apisixSecret}, nil, 401, ""},
		{"a character less", []string{"Bearer " + apisixSecret[:31]}, nil, 401, ""},
		{"Digest", []string{"Digest " + apisixSecret}, nil, 401, ""},
		{"an access token", []string{"Bearer " + token}, nil, 401, ""},
		{"encoded in Bearer", []string{"Bearer " + encoded}, nil, 401, ""},
		{"wrong header beside a good form", []string{"Bearer wrong"}, []string{"client_id", "kong", "client_secret", kongSecret}, 401, ""},
		{"two headers", []string{"Bearer " + apisixSecret, "Bearer " + apisixSecret}, nil, 401, ""},
		{"header and form", []string{basic("kong", kongSecret)}, []string{"client_id", "kong", "client_secret", kongSecret}, 400, ""},
		{"header and a wrong form", []string{"Bearer " + sharedSecret}, []string{"client_secret", "x"}, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fields []string
			for _, value := range c.authorization {
				fields = append(fields, "Authorization", value)
			}
			body := form(append([]string{"token", token}, c.form...)...)
			w := post(introspection, body, fields...)
			if w.Code != c.status || c.status == http.StatusOK && !active(t, w) {
				t.Errorf("introspection: %d %s", w.Code, w.Body)
			}
			challenges := strings.Join(w.Header().Values("WWW-Authenticate"), "\n")
			if (c.status == http.StatusUnauthorized) != (strings.Contains(challenges, "Basic realm=") && strings.Contains(challenges, "\nBearer realm=")) {
				t.Errorf("challenges %q", challenges)
			}
			party := "urn:" + hex.EncodeToString([]byte(c.name))
			w = post(revocation, form(append([]string{"party_id", party}, c.form...)...), fields...)
			if w.Code != c.status {
				t.Errorf("revocation: %d %s", w.Code, w.Body)
			}
			_, record, kept := strings.Cut(told.String(), party)
			record, _, _ = strings.Cut(record, "\n")
			if kept != (c.status == http.StatusOK) || kept && !strings.Contains(record, `"caller":"`+c.caller+`"`) {
				t.Errorf("log %q, want the caller %q", record, c.caller)
			}
		})
	}
	for _, secret := range []string{apisixSecret, kongSecret, encoded, sharedSecret, basic("apisix", apisixSecret)} {
		if strings.Contains(told.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// A map that names nobody lets nobody in, whoever reaches the listener.
func TestWithoutCallers(t *testing.T) {
	h := guardtest.NewIssuer(t)
	introspection, err := tokenadmin.NewIntrospection(tokenadmin.Config{Checker: h, Callers: map[string]string{}})
	guardtest.NoError(t, err)
	for _, fields := range [][]string{nil, {"Authorization", "Bearer "}, {"Authorization", basic("", "")}} {
		for _, more := range [][]string{nil, {"client_id", "", "client_secret", ""}} {
			if w := post(introspection, form(append([]string{"token", h.Token(t, "iSHARE")}, more...)...), fields...); w.Code != http.StatusUnauthorized {
				t.Errorf("%q %q: %d %s", fields, more, w.Code, w.Body)
			}
		}
	}
}

func TestBadCallers(t *testing.T) {
	for name, c := range map[string]tokenadmin.Config{
		"no name":           {Callers: map[string]string{"": apisixSecret}},
		"a name to encode":  {Callers: map[string]string{"a b": apisixSecret}},
		"a colon":           {Callers: map[string]string{"a:b": apisixSecret}},
		"a long name":       {Callers: map[string]string{strings.Repeat("a", 65): apisixSecret}},
		"no secret":         {Callers: map[string]string{"a": ""}},
		"one secret":        {Callers: map[string]string{"a": apisixSecret, "b": apisixSecret}},
		"that of the house": {Secret: sharedSecret, Callers: map[string]string{"a": sharedSecret}},
	} {
		c.Checker = guardtest.NewIssuer(t)
		if _, err := tokenadmin.NewIntrospection(c); err == nil || strings.Contains(err.Error(), apisixSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzCredentials finds nobody in without a secret.
func FuzzCredentials(f *testing.F) {
	h := guardtest.NewIssuer(f)
	introspection, err := tokenadmin.NewIntrospection(tokenadmin.Config{Checker: h, Callers: map[string]string{"kong": kongSecret}})
	guardtest.NoError(f, err)
	for _, seed := range []string{"Bearer " + kongSecret, basic("kong", kongSecret), basic("%6bong", url.QueryEscape(kongSecret)), "Basic ===", "Basic", "Bearer", "", "Basic Og=="} {
		f.Add(seed, "client_secret=")
	}
	f.Add("", form("client_id", "kong", "client_secret", kongSecret))
	f.Fuzz(func(t *testing.T, authorization, body string) {
		w := post(introspection, "token=x&"+body, "Authorization", authorization)
		if w.Code >= 500 {
			t.Errorf("%d", w.Code)
		}
		if w.Code == http.StatusOK {
			decoded, _ := base64.StdEncoding.DecodeString(strings.TrimLeft(authorization[min(6, len(authorization)):], " "))
			plain, _ := url.QueryUnescape(string(decoded))
			values, _ := url.ParseQuery(body)
			if !strings.Contains(authorization+string(decoded)+plain+values.Get("client_secret"), kongSecret) {
				t.Errorf("%q and %q are let in", authorization, body)
			}
		}
	})
}

// A page in the browser of somebody on the server's machine can post forms to it.
func TestBrowsersAreNotAnswered(t *testing.T) {
	d := newHandlers(t, "")
	token := d.Token(t, "iSHARE")
	for _, fields := range [][]string{{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", "http://example.com"}, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "cross-site"}} {
		for _, h := range []http.Handler{d.introspection, d.revocation} {
			if w := post(h, form("token", token), fields...); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "active") {
				t.Errorf("%q: %d %s", fields, w.Code, w.Body)
			}
		}
	}
	if _, err := d.Check(t.Context(), token); err != nil {
		t.Errorf("a page has revoked: %v", err)
	}
}

// fullStore has no room.
type fullStore struct{ guardtest.Unreachable }

// When nobody knows, the answer is neither yes nor no.
func TestWhatCannotBeDone(t *testing.T) {
	log, told := guardtest.NewLog()
	introspection, err := tokenadmin.NewIntrospection(tokenadmin.Config{Checker: guardtest.Undecided, Log: log})
	guardtest.NoError(t, err)
	unknowing, err := tokenadmin.NewRevocation(tokenadmin.Config{Checker: guardtest.Undecided, Log: log, Revocations: fullStore{}})
	guardtest.NoError(t, err)
	h := guardtest.NewIssuer(t)
	failing, err := tokenadmin.NewRevocation(tokenadmin.Config{Checker: h, Log: log, Revocations: fullStore{}})
	guardtest.NoError(t, err)
	token := h.Token(t, "iSHARE")
	for _, c := range []struct {
		name  string
		w     *httptest.ResponseRecorder
		about string
	}{
		{"introspection", post(introspection, form("token", token)), "the token cannot be checked"},
		{"revocation of a token", post(unknowing, form("token", token)), "the token cannot be checked"},
		{"revocation of a party", post(unknowing, form("party_id", "urn:a")), "the revocation cannot be kept"},
		{"revocation not kept", post(failing, form("token", token)), "the revocation cannot be kept"},
		{"certificate not kept", post(failing, form("certificate", guardtest.Certificate)), "the revocation cannot be kept"},
		{"revocation without end", post(failing, form("token_id", "A")), "the revocation cannot be kept"},
	} {
		if c.w.Code != http.StatusServiceUnavailable || c.w.Header().Get("Retry-After") == "" || strings.Contains(c.w.Body.String(), "secret") || strings.Contains(c.w.Body.String(), "active") {
			t.Errorf("%s: %d %s", c.name, c.w.Code, c.w.Body)
		}
		if body := c.w.Body.String(); !strings.Contains(body, c.about) || strings.Contains(body, "no connection") {
			t.Errorf("%s: %s, want %q", c.name, body, c.about)
		}
	}
	if text := told.String(); !strings.Contains(text, "no connection") || !strings.Contains(text, "the folder is gone") || strings.Contains(text, token[40:]) {
		t.Errorf("log: %s", text)
	}
}

func FuzzForms(f *testing.F) {
	d := newHandlers(f, "")
	token := d.Token(f, "iSHARE")
	for _, seed := range []string{form("token", token), "token=x&token=y", "party_id=urn:a", "certificate=" + guardtest.Certificate, "token_id=A", "%zz", "&&=&", "token=&party_id=urn:a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		store := &remembering{}
		revocation, err := tokenadmin.NewRevocation(tokenadmin.Config{Checker: d, Revocations: store})
		guardtest.NoError(t, err)
		w := post(revocation, body)
		if w.Code >= 500 || len(store.got) > 1 || len(store.got) == 1 && w.Code != http.StatusOK {
			t.Errorf("%d %s, %d revocations", w.Code, w.Body, len(store.got))
		}
		w = post(d.introspection, body)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if w.Code == http.StatusOK && active(t, w) && !strings.Contains(body, "token") && !strings.Contains(body, "%") {
			t.Errorf("%q is active", body)
		}
	})
}

// remembering is a store that refuses what a store must refuse.
type remembering struct {
	guardtest.Unreachable
	got []accesstoken.TokenRevocation
}

func (s *remembering) Revoke(ctx context.Context, r accesstoken.TokenRevocation) error {
	m, err := accesstoken.OpenTokenRevocations(accesstoken.TokenRevocationConfig{})
	if err != nil {
		return err
	}
	if err := m.Revoke(ctx, r); err != nil {
		return err
	}
	if m.Len() != 1 {
		return errors.New("nothing was revoked")
	}
	s.got = append(s.got, r)
	return nil
}

// What goes wrong for every request that comes is logged once while it lasts.
func TestFailuresAreSummedUp(t *testing.T) {
	guardtest.CheckSummedUp(t, "a request about access tokens failed", func(log *slog.Logger) (http.Handler, error) {
		return tokenadmin.NewIntrospection(tokenadmin.Config{Checker: guardtest.Undecided, Log: log})
	}, func(h http.Handler) { post(h, "token=x") })
}

// Who cannot tell is unavailable, and without a log there is silence.
func TestCheckersThatCannotTell(t *testing.T) {
	for _, checker := range []guard.Checker{guardtest.Undecided, guardtest.NoResult} {
		c := tokenadmin.Config{Checker: checker, Revocations: guardtest.NewIssuer(t).Revocations}
		introspection, err := tokenadmin.NewIntrospection(c)
		guardtest.NoError(t, err)
		revocation, err := tokenadmin.NewRevocation(c)
		guardtest.NoError(t, err)
		for _, h := range []http.Handler{introspection, revocation} {
			if w := post(h, form("token", "x")); w.Code != http.StatusServiceUnavailable {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
	}
}

// A handler is never made without what it needs.
func TestIncompleteConfigurations(t *testing.T) {
	issuer := guardtest.NewIssuer(t)
	_, introspection := tokenadmin.NewIntrospection(tokenadmin.Config{})
	_, revocation := tokenadmin.NewRevocation(tokenadmin.Config{Revocations: issuer.Revocations})
	_, nowhere := tokenadmin.NewRevocation(tokenadmin.Config{Checker: issuer})
	for field, err := range map[string]error{"field Checker": introspection, "the field Checker": revocation, "field Revocations": nowhere} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
