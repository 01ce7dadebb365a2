package daemon_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/rule"
)

// Whatever a token request breaks, its answer is one that openapi.json describes.
// Which rule refuses what is not judged here.
func TestAnswersAreDescribed(t *testing.T) {
	t.Parallel()
	attempts := isharetest.NewAttempts(players().ca, providerID, alias)
	dir := newHome(t)
	writeParties(t, dir, append(attempts.Parties(), players().provider)...)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, "WAYBILL_POLICY_ROLES="+isharetest.RoleServiceConsumer))
	statuses := map[int]bool{}
	for _, reason := range append(rule.All(), nil) {
		for _, attempt := range attempts.Breaking(reason)[:min(2, len(attempts.Breaking(reason)))] {
			for _, r := range attempt.Requests() {
				statuses[s.send(t, r).Status] = true
			}
		}
	}
	want := []int{http.StatusOK, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge}
	if got := slices.Sorted(maps.Keys(statuses)); !slices.Equal(got, want) {
		t.Errorf("statuses %v, want %v", got, want)
	}
}

// A server that may have used assertions in a life before says when to come back.
func TestUnsureAnswerIsDescribed(t *testing.T) {
	t.Parallel()
	s := start(t, daemon.Options{}, parse(t, newHome(t)))
	a := s.send(t, players().consumer.Request(providerID))
	if err := a.Meets(rule.UnavailableState); err != nil {
		t.Error(err)
	}
	if wait := a.Header.Get("Retry-After"); wait == "" || wait == "0" {
		t.Errorf("Retry-After: %q", wait)
	}
	told := s.log.records(t, "assertions issued before this start get no token, as they may have been used; until tokens are given, /readyz is 503")
	if len(told) != 1 || told[0]["reason"] == nil || told[0]["issued_before"] == nil {
		t.Errorf("the log says %v", told)
	}
}

func TestDescriptionIsServed(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("../../provider/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	s := startNewborn(t)
	if _, _, got := get(t, s.described, s.url+"/openapi.json"); !bytes.Equal(got, want) {
		t.Errorf("served: %.80s", got)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	const plainPath = "/.well-known/oauth-authorization-server"
	for _, test := range []struct{ name, configured, base, path string }{
		{"where we listen", "", "", plainPath},
		{"as the configuration says", "WAYBILL_LISTEN_URL=https://provider.example", "https://provider.example", plainPath},
		{"an issuer with a path, which a proxy cuts off", "WAYBILL_LISTEN_URL=https://provider.example/ishare/", "https://provider.example/ishare", plainPath},
		{"an issuer with a path", "WAYBILL_LISTEN_URL=https://provider.example/ishare/", "https://provider.example/ishare", plainPath + "/ishare"},
		{"an issuer with an odd path", "WAYBILL_LISTEN_URL=https://provider.example/{a}", "https://provider.example/%7Ba%7D", plainPath + "/%7Ba%7D"},
		{"an issuer with a longer path", "WAYBILL_LISTEN_URL=https://provider.example/a/b", "https://provider.example/a/b", plainPath + "/a/b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startNewborn(t, test.configured)
			base := test.base
			if base == "" {
				base = s.url
			}
			client := s.described
			if strings.Contains(test.path, "/a/b") { // OpenAPI cannot describe a path of any length
				client = plain(t)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "evil.example" // never repeated
			_, _, body := exchange(t, client, r)
			var got map[string]any
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"issuer":                                base,
				"token_endpoint":                        base + "/connect/token",
				"jwks_uri":                              base + "/.well-known/jwks.json",
				"scopes_supported":                      []any{"iSHARE", "orders"},
				"response_types_supported":              []any{},
				"grant_types_supported":                 []any{"client_credentials"},
				"token_endpoint_auth_methods_supported": []any{"private_key_jwt"},
				"token_endpoint_auth_signing_alg_values_supported": []any{"RS256", "RS384", "RS512"},
				"ishare_party_id":      providerID,
				"ishare_also_known_as": []any{alias},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A program for RFC 9068 finds the keys by the metadata, and compares iss with their issuer.
// Introspection says the same.
func TestTokensForRFC9068(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ setting, issuer string }{{"url", "https://provider.example/ishare"}, {"party", string(providerID)}} {
		t.Run(test.setting, func(t *testing.T) {
			t.Parallel()
			s := startNewborn(t, "WAYBILL_LISTEN_URL=https://provider.example/ishare/", "WAYBILL_TOKENS_FORMAT=jwt", "WAYBILL_TOKENS_ISSUER="+test.setting)
			var metadata struct {
				Issuer string `json:"issuer"`
			}
			_, _, body := get(t, s.described, s.url+"/.well-known/oauth-authorization-server")
			if err := json.Unmarshal(body, &metadata); err != nil {
				t.Fatal(err)
			}
			if (metadata.Issuer == test.issuer) != (test.setting == "url") {
				t.Errorf("the issuer of the metadata is %s", metadata.Issuer)
			}
			var keys jose.JSONWebKeySet
			_, _, body = get(t, s.described, s.url+"/.well-known/jwks.json")
			if err := json.Unmarshal(body, &keys); err != nil {
				t.Fatal(err)
			}
			token := s.token(t)
			parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
			if err != nil || parsed.Headers[0].ExtraHeaders[jose.HeaderType] != "at+jwt" {
				t.Fatalf("%v, %v", parsed, err)
			}
			var claims jwt.Claims
			if err := parsed.Claims(keys, &claims); err != nil {
				t.Fatal(err)
			}
			if err := claims.Validate(jwt.Expected{Issuer: test.issuer, AnyAudience: jwt.Audience{string(providerID)}, Time: time.Now()}); err != nil {
				t.Errorf("%+v: %v", claims, err)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.internal+"/introspect", strings.NewReader("token="+token))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			_, _, body = exchange(t, plain(t), r)
			var said struct {
				Active   bool
				Iss, Aud string
			}
			if err := json.Unmarshal(body, &said); err != nil || !said.Active || said.Iss != test.issuer || said.Aud != string(providerID) {
				t.Errorf("introspection says %s, %v", body, err)
			}
		})
	}
}

// Metadata of an issuer that is not us are nowhere.
func TestMetadataOfOtherPaths(t *testing.T) {
	t.Parallel()
	s := startNewborn(t, "WAYBILL_LISTEN_URL=https://provider.example/ishare")
	none := startNewborn(t)
	for base, paths := range map[string][]string{s.url: {"/other", "/ishare/", "/ishare/x", "/ISHARE", "/"}, none.url: {"/ishare", "/"}} {
		for _, path := range paths {
			if status, _, _ := get(t, plain(t), base+"/.well-known/oauth-authorization-server"+path); status != http.StatusNotFound {
				t.Errorf("%s: status %d", path, status)
			}
		}
	}
	if status, _, _ := get(t, s.described, s.url+"/.well-known/oauth-authorization-server/other"); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
}

// The token endpoint answers at the further paths that the configuration names, whatever the routes say.
func TestTokenPaths(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string]string{
		"without routes":     "",
		"with a route above": "WAYBILL_ROUTES=[{path: /2.1.1, upstream: 'http://127.0.0.1:1'}, {path: /, upstream: 'http://127.0.0.1:1'}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startNewborn(t, "WAYBILL_LISTEN_TOKEN_PATHS=/2.1.1/connect/token,/oauth/token", environ)
			for _, path := range []string{"/connect/token", "/2.1.1/connect/token", "/oauth/token"} {
				r := players().consumer.Request(providerID)
				r.Path = path
				if status, _, body := exchange(t, plain(t), r.HTTP(s.url)); status != http.StatusOK || !strings.Contains(string(body), `"access_token"`) {
					t.Errorf("POST %s: %d %s", path, status, body)
				}
				if status, header, _ := get(t, plain(t), s.url+path); status != http.StatusMethodNotAllowed || header.Get("Allow") != http.MethodPost {
					t.Errorf("GET %s: %d, Allow %q", path, status, header.Get("Allow"))
				}
				r.Path = path + "/"
				if status, _, body := exchange(t, plain(t), r.HTTP(s.url)); status != http.StatusNotFound || !strings.Contains(string(body), "the token endpoint is "+path+", without a slash") {
					t.Errorf("POST %s/: %d %s", path, status, body)
				}
			}
		})
	}
}

func TestTokenPathProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ paths, routes, key, message string }{
		{"/connect/token", "", "listen.token_paths[0]", "the server itself answers at /connect/token"},
		{"/Connect/Token", "", "listen.token_paths[0]", "the server itself answers at /connect/token"},
		{"/connect", "", "listen.token_paths[0]", "the server itself answers at /connect/token"},
		{"/connect/token/v2", "", "listen.token_paths[0]", "the server itself answers at /connect/token"},
		{"/2/token,/capabilities", "", "listen.token_paths[1]", "the server itself answers at /capabilities"},
		{"/openapi.json", "", "listen.token_paths[0]", "the server itself answers at /openapi.json"},
		{"/.well-known", "", "listen.token_paths[0]", ""},
		{"/2/token,/2/token", "", "listen.token_paths[1]", "the server itself answers at /2/token"},
		{"/2/token,/2", "", "listen.token_paths[1]", "the server itself answers at /2/token"},
		{"/2/token", "[{path: /2/token, upstream: 'http://127.0.0.1:1'}]", "routes[0].path", "the server itself answers there"},
		{"/2/token", "[{path: /2/TOKEN/x, upstream: 'http://127.0.0.1:1'}]", "routes[0].path", "the server itself answers there"},
	} {
		c, err := config.Parse("waybill.yaml", []byte(configuration), []string{"WAYBILL_LISTEN_TOKEN_PATHS=" + test.paths, "WAYBILL_ROUTES=" + test.routes})
		if test.message == "" {
			if err == nil || !strings.Contains(err.Error(), test.key+": want a path such as") {
				t.Errorf("%s: %v", test.paths, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", test.paths, err)
		}
		found := slices.ContainsFunc(check(c).Problems, func(p config.Problem) bool { return p.Key == test.key && strings.Contains(p.Message, test.message) })
		if !found {
			t.Errorf("%s %s: %v", test.paths, test.routes, check(c).Problems)
		}
		if _, err := daemon.Open(t.Context(), parse(t, newHome(t), "WAYBILL_LISTEN_TOKEN_PATHS="+test.paths, "WAYBILL_ROUTES="+test.routes), daemon.Options{NoHistory: true, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s is served: %v", test.paths, err)
		}
	}
}

// The published keys are those that verify a token in JWT format, and no more of
// them than their public halves.
func TestPublishedKeysVerifyTokens(t *testing.T) {
	t.Parallel()
	s := startNewborn(t, "WAYBILL_TOKENS_FORMAT=jwt")
	token := s.token(t)
	_, _, body := get(t, s.described, s.url+"/.well-known/jwks.json")
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(body, &keys); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(keys.Keys, func(k jose.JSONWebKey) bool { return !k.IsPublic() }) || len(keys.Keys) == 0 {
		t.Fatalf("keys: %s", body)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(keys, &claims); err != nil {
		t.Fatal(err)
	}
	err = claims.ValidateWithLeeway(jwt.Expected{Issuer: providerID, AnyAudience: jwt.Audience{providerID}, Time: time.Now()}, 0)
	if err != nil || parsed.Headers[0].ExtraHeaders["typ"] != "at+jwt" {
		t.Errorf("claims %+v, header %v: %v", claims, parsed.Headers[0].ExtraHeaders, err)
	}
}

// Every answer forbids caching, also those to requests that are none of ours.
func TestNothingIsCached(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	for _, path := range []string{"/", "*", "/connect/token", "/connect/token/", "/openapi.json", "/nowhere", "/.well-known/"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodOptions} {
			r, err := http.NewRequestWithContext(t.Context(), method, s.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.URL.Path = path
			status, header, _ := exchange(t, plain(t), r)
			if header.Get("Cache-Control") != "no-store" || header.Get("Pragma") != "no-cache" {
				t.Errorf("%s %s, status %d: %v", method, path, status, header)
			}
		}
	}
}

func TestWrongMethodIsDescribed(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	for path, allow := range map[string]string{
		"/connect/token":                          "POST",
		"/capabilities":                           "GET, HEAD",
		"/openapi.json":                           "GET, HEAD",
		"/.well-known/jwks.json":                  "GET, HEAD",
		"/.well-known/oauth-authorization-server": "GET, HEAD",
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, header, _ := exchange(t, s.described, r); status != http.StatusMethodNotAllowed || header.Get("Allow") != allow {
			t.Errorf("DELETE %s: status %d, Allow %q", path, status, header.Get("Allow"))
		}
	}
}

// What is not for the public is not on the public listener, nor the other way
// round.
func TestListenersServeTheirOwn(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	for base, paths := range map[string][]string{
		s.url:      {"/livez", "/readyz", "/metrics", "/introspect", "/revoke", "/auth", "/envoy/", "/debug/pprof/", "/"},
		s.internal: {"/connect/token", "/capabilities", "/openapi.json", "/.well-known/jwks.json", "/auth/", "/auth/orders", "/envoy", "/"},
	} {
		for _, path := range paths {
			if status, _, _ := get(t, plain(t), base+path); status != http.StatusNotFound {
				t.Errorf("%s%s: status %d", base, path, status)
			}
		}
	}
}

// A secured handler learns who calls, and is called by nobody without a token.
func TestSecuredHandler(t *testing.T) {
	t.Parallel()
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, newHome(t)))
	if status, header, _ := get(t, plain(t), s.url+"/who"); status != http.StatusUnauthorized || !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("without a token: status %d, %v", status, header)
	}
	if status, _, _ := get(t, plain(t), s.url+"/who", "Authorization", "Bearer "+s.token(t)+"x"); status != http.StatusUnauthorized {
		t.Errorf("with a changed token: status %d", status)
	}
	status, _, body := get(t, plain(t), s.url+"/who", "Authorization", "Bearer "+s.token(t))
	if want := string(players().consumer.ID()); status != http.StatusOK || string(body) != want {
		t.Errorf("status %d, %q; want %q", status, body, want)
	}
}

// A panic shows nothing but where to look in the log, and the next request is
// served.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, newHome(t)))
	token := s.token(t)
	status, header, body := get(t, plain(t), s.url+"/panic", "Authorization", "Bearer "+token)
	var answer isharetest.Answer
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	answer.Status = status
	if err := answer.Meets(rule.Internal); err != nil {
		t.Error(err)
	}
	if header.Get("Cache-Control") != "no-store" || strings.Contains(string(body), "secret") || strings.Contains(string(body), ".go") {
		t.Errorf("%v %s", header, body)
	}
	logged := s.log.records(t, "panic")
	if len(logged) != 1 || !strings.HasSuffix(answer.Description, logged[0]["correlation"].(string)) { //nolint:forcetypeassert // a test
		t.Errorf("answer %q, log %v", answer.Description, logged)
	}
	if status, _, _ := get(t, plain(t), s.url+"/who", "Authorization", "Bearer "+token); status != http.StatusOK {
		t.Errorf("afterwards: status %d", status)
	}
}

// A request in chunks is the last on its connection: what stands behind it may be the rest of it for whoever went by a
// Content-Length that came besides.
func TestNothingIsReadBehindChunks(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	const behind = "GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for _, test := range []struct {
		name, fields, body string
		answers            int
	}{
		{"chunks", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", 1},
		{"chunks and a length", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 1},
		{"a length", "Content-Length: 5\r\n", "0\r\n\r\n", 2},
	} {
		for _, address := range []net.Addr{s.PublicAddr(), s.InternalAddr()} {
			conn, err := net.Dial("tcp", address.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if _, err := io.WriteString(conn, "POST /connect/token HTTP/1.1\r\nHost: a\r\n"+test.fields+"\r\n"+test.body+behind); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if n := bytes.Count(answer, []byte("HTTP/1.1 ")); err != nil || n != test.answers {
				t.Errorf("%s at %s: %d answers, %v: %.200q", test.name, address, n, err, answer)
			}
		}
	}
}
