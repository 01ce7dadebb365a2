package daemon_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/jws"
)

// post sends a form to the internal listener.
func (s *server) post(t *testing.T, path string, form url.Values, fields ...string) (status int, header http.Header, body []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.internal+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", isharetest.MediaType)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	return exchange(t, plain(t), r)
}

// admits asks everybody who knows whether a token is good. They must agree.
func (s *server) admits(t *testing.T, token string) bool {
	t.Helper()
	_, _, body := s.post(t, "/introspect", url.Values{"token": {token}})
	active := strings.HasPrefix(string(body), `{"active":true,`)
	want := http.StatusUnauthorized
	if active {
		want = http.StatusOK
	} else if string(body) != `{"active":false}` {
		t.Errorf("introspection says %q", body)
	}
	for _, asked := range []string{s.url + "/who", s.url + "/capabilities", s.internal + "/auth", s.internal + "/envoy/"} {
		if status, _, body := get(t, plain(t), asked, "Authorization", "Bearer "+token); status != want {
			t.Errorf("%s: status %d, %s; introspection says %t", asked, status, body, active)
		}
	}
	return active
}

// A revocation is seen by everybody at once, and outlives a reload and the process.
func TestRevocation(t *testing.T) {
	t.Parallel()
	cfg := parse(t, newHome(t))
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, cfg)
	revoked, kept := s.token(t), s.token(t)
	if !s.admits(t, revoked) || !s.admits(t, kept) {
		t.Fatal("a new token is no good")
	}
	if status, _, body := s.post(t, "/revoke", url.Values{"token": {revoked}}); status != http.StatusOK {
		t.Fatalf("status %d, %s", status, body)
	}
	judge := func(when string) {
		if s.admits(t, revoked) {
			t.Errorf("%s: the revoked token is good", when)
		}
		if !s.admits(t, kept) {
			t.Errorf("%s: the other token is no good", when)
		}
	}
	judge("at once")
	if err := s.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	judge("after a reload")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, daemon.Options{Secured: secured}, cfg)
	judge("after a restart")
	if status, _, _ := s.post(t, "/revoke", url.Values{"party_id": {string(players().consumer.ID())}}); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if s.admits(t, kept) {
		t.Error("the party's token is good")
	}
}

// A party is locked out by whatever it is known by, whichever of it the token was issued under.
func TestRevocationByAlias(t *testing.T) {
	t.Parallel()
	for _, id := range []string{string(players().consumer.ID()), "EU.EORI.NL000000001"} {
		s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, newHome(t)))
		token := s.token(t)
		if status, _, body := s.post(t, "/revoke", url.Values{"party_id": {id}}); status != http.StatusOK {
			t.Errorf("%s: status %d, %s", id, status, body)
		}
		if s.admits(t, token) {
			t.Errorf("%s: the token is good", id)
		}
	}
}

// What cannot be revoked whole is told.
func TestRevocationWithoutRegistry(t *testing.T) {
	t.Parallel()
	registry := newHesitant(t)
	registry.release()
	s := start(t, daemon.Options{NoHistory: true}, registry.config(t, newHome(t)))
	if status, _, body := s.post(t, "/revoke", url.Values{"party_id": {"EU.EORI.NL000000001"}}); status != http.StatusServiceUnavailable {
		t.Errorf("status %d, %s", status, body)
	}
}

// When nobody knows what was revoked, no old token is good, and the log and /readyz say why.
func TestLostRevocations(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(folder string) error{
		"last line gone": func(folder string) error {
			return os.Truncate(filepath.Join(folder, "revocations"), int64(len("waybill revocations 2\n")))
		},
		"folder gone, and the keys are not":       os.RemoveAll,
		"folder gone, and the keys are elsewhere": os.RemoveAll,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newHome(t)
			cfg := parse(t, dir)
			if strings.HasSuffix(name, "elsewhere") {
				cfg = parse(t, dir, "WAYBILL_TOKENS_KEYS="+filepath.Join(t.TempDir(), "keys"))
			}
			s := start(t, daemon.Options{NoHistory: true, Secured: secured}, cfg)
			if _, _, body := get(t, plain(t), s.internal+"/readyz"); strings.Contains(string(body), "access tokens") {
				t.Errorf("at a first start, /readyz says %s", body)
			}
			token := s.token(t)
			if status, _, _ := s.post(t, "/revoke", url.Values{"token_id": {"another"}}); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(dir, "data", "revocations")); err != nil {
				t.Fatal(err)
			}
			for range 2 { // a restart does not end it
				s = start(t, daemon.Options{Secured: secured}, cfg)
				if s.admits(t, token) {
					t.Error("a token is good that may have been revoked")
				}
				if told := s.log.records(t, "old access tokens are refused, as they may have been revoked"); len(told) != 1 || told[0]["reason"] == nil {
					t.Errorf("the log says %v", told)
				}
				if _, _, body := get(t, plain(t), s.internal+"/readyz"); !strings.Contains(string(body), "state: access tokens issued up to ") {
					t.Errorf("/readyz says %s", body)
				}
				if err := s.stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A secret keeps others from the desks, and proxies need none to ask about a token.
func TestInternalSecret(t *testing.T) {
	t.Parallel()
	const secret = "a secret that nobody guesses"
	s := startNewborn(t, "WAYBILL_LISTEN_INTERNAL_SECRET="+strings.ReplaceAll(secret, " ", "-"))
	token := s.token(t)
	for _, path := range []string{"/introspect", "/revoke"} {
		form := url.Values{"token": {token}}
		if status, header, _ := s.post(t, path, form); status != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s without the secret: status %d", path, status)
		}
		if status, _, _ := s.post(t, path, form, "Authorization", "Bearer "+token); status != http.StatusUnauthorized {
			t.Errorf("%s with another: status %d", path, status)
		}
	}
	if status, _, _ := get(t, plain(t), s.internal+"/auth", "Authorization", "Bearer "+token); status != http.StatusOK {
		t.Errorf("forward-auth: status %d", status)
	}
	if status, _, _ := s.post(t, "/introspect", url.Values{"token": {token}}, "Authorization", "Bearer "+strings.ReplaceAll(secret, " ", "-")); status != http.StatusOK {
		t.Errorf("with the secret: status %d", status)
	}
}

// A proxy that appends the client's path gets an answer, whatever the path. A
// redirection would be for the client to follow.
func TestForwardAuthAtAnyPath(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	token := s.token(t)
	for _, path := range []string{"/envoy/", "/envoy/orders?scope=none", "/envoy//orders", "/envoy/../livez", "/envoy/%2e%2e/livez", "/envoy/.", "/envoy/a/../../readyz"} {
		for authorization, want := range map[string]int{"Bearer " + token: http.StatusOK, "Bearer x": http.StatusUnauthorized, "Basic eDp5": http.StatusBadRequest} {
			conn := dial(t, s.InternalAddr())
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: internal\r\nAuthorization: %s\r\nConnection: close\r\n\r\n", path, authorization)
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("%s, %.8s: status %d, want %d", path, authorization, answer.StatusCode, want)
			}
		}
	}
}

// An upstream remembers what it was asked.
type upstream struct {
	*httptest.Server

	mu    sync.Mutex
	asked []*http.Request
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.asked = append(u.asked, r)
		u.mu.Unlock()
		if r.Header.Get("Upgrade") != "" {
			upgrade(w)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(u.Close)
	return u
}

// upgrade answers on a WebSocket with what comes in.
func upgrade(w http.ResponseWriter) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	_ = rw.Flush()
	_, _ = io.Copy(conn, rw)
}

// requests are what came so far.
func (u *upstream) requests() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked
}

// The configured routes stand behind tokens, and what is our own stays ours.
func TestRoutes(t *testing.T) {
	t.Parallel()
	all, orders := newUpstream(t), newUpstream(t)
	s := startNewborn(t, fmt.Sprintf("WAYBILL_ROUTES=[{path: /, upstream: %q}, {path: /orders, upstream: %q, scope: orders}]", all.URL, orders.URL))
	token := s.token(t)
	for _, path := range daemon.OwnPaths() {
		get(t, plain(t), s.url+path, "Authorization", "Bearer "+token)
		get(t, plain(t), s.url+path+"/", "Authorization", "Bearer "+token)
	}
	if status, header, _ := get(t, plain(t), s.url+"/x"); status != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" {
		t.Errorf("without a token: status %d, %v", status, header)
	}
	if status, _, _ := get(t, plain(t), s.url+"/orders/1", "Authorization", "Bearer "+token); status != http.StatusForbidden {
		t.Errorf("without the scope: status %d", status)
	}
	if came := len(all.requests()) + len(orders.requests()); came > 0 {
		t.Fatalf("%d requests came through", came)
	}
	status, header, _ := get(t, plain(t), s.url+"/x?y", "Authorization", "Bearer "+token, "X-Ishare-Party-Id", "did:ishare:EU.NL.NTRNL-99999999")
	if came := all.requests(); status != http.StatusOK || len(came) != 1 || came[0].RequestURI != "/x?y" ||
		came[0].Header.Get(proxy.HeaderPartyID) != string(players().consumer.ID()) || came[0].Header.Get("Authorization") != "" {
		t.Errorf("status %d, %v", status, came)
	}
	if got := header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	all.Close()
	status, _, body := get(t, plain(t), s.url+"/x", "Authorization", "Bearer "+token)
	if status != http.StatusBadGateway || !strings.Contains(string(body), `"error":"temporarily_unavailable"`) {
		t.Errorf("upstream down: status %d, %s", status, body)
	}
}

// The short form for one upstream is a route like another.
func TestProtect(t *testing.T) {
	t.Parallel()
	api := newUpstream(t)
	cfg := parse(t, newHome(t))
	for _, wrong := range []string{"", "localhost:3000", "ftp://localhost", "http://a@b/"} {
		if err := cfg.Protect(wrong); err == nil || len(cfg.Routes) > 0 {
			t.Errorf("%q is protected", wrong)
		}
	}
	if err := cfg.Protect(api.URL); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Protect(api.URL); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Open(t.Context(), cfg, daemon.Options{Log: discard}); err == nil || !strings.Contains(err.Error(), "routes[1].path") {
		t.Errorf("two routes take everything: %v", err)
	}
	cfg = parse(t, newHome(t))
	if err := cfg.Protect(api.URL); err != nil {
		t.Fatal(err)
	}
	s := start(t, daemon.Options{NoHistory: true}, cfg)
	if status, _, _ := get(t, plain(t), s.url+"/x"); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	if status, _, _ := get(t, plain(t), s.url+"/x", "Authorization", "Bearer "+s.token(t)); status != http.StatusOK || len(api.requests()) != 1 {
		t.Errorf("status %d", status)
	}
}

// What the proxy refuses is told by place, all of it at once, by check and by whoever starts a server.
func TestRoutesThatAreRefused(t *testing.T) {
	t.Parallel()
	cfg := parse(t, newHome(t), "WAYBILL_ROUTES="+`[{path: /a, upstream: "http://h"}, {path: /A/, upstream: "http://h"}, {path: /connect/token, upstream: "http://h"},
		{path: /connect/token/x, upstream: "http://h"}, {path: /Capabilities/x, upstream: "http://h"}, {path: b, upstream: "http://h"}, {path: /a;b, upstream: "http://h"}, {path: /c/../d, upstream: "http://h"}, {path: /e, upstream: "http://h"}]`)
	var places []string
	for _, p := range check(cfg).Problems {
		places = append(places, p.Key)
	}
	want := []string{"routes[1].path", "routes[2].path", "routes[3].path", "routes[4].path", "routes[5].path", "routes[6].path", "routes[7].path"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err := daemon.Open(t.Context(), cfg, daemon.Options{Log: discard})
	if problems, ok := errors.AsType[*config.Error](err); !ok || len(problems.Problems) != len(want) {
		t.Errorf("Open: %v", err)
	}
}

// Nothing on the way to a route stands in the way of a WebSocket.
func TestRouteOfWebSocket(t *testing.T) {
	t.Parallel()
	s := startNewborn(t, fmt.Sprintf("WAYBILL_ROUTES=[{path: /, upstream: %q}]", newUpstream(t).URL))
	conn := dial(t, s.PublicAddr())
	fmt.Fprintf(conn, "GET /live HTTP/1.1\r\nHost: provider\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", s.token(t))
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", answer, err)
	}
	answer.Body.Close()
	for _, word := range []string{"hello\n", "again\n"} {
		if _, err := io.WriteString(conn, word); err != nil {
			t.Fatal(err)
		}
		if got, err := in.ReadString('\n'); err != nil || got != word {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// A route over TLS and HTTP/2 is what it is over HTTP/1.1.
func TestRouteOverHTTP2(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	client := secure(t, writeCertificate(t, dir))
	api := newUpstream(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, append(withTLS, "WAYBILL_LISTEN_HTTP2=true", fmt.Sprintf("WAYBILL_ROUTES=[{path: /, upstream: %q}]", api.URL))...))
	s.described = client
	token := s.token(t)
	if status, _, _ := get(t, client, s.url+"/x"); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/x", strings.NewReader("a body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || answer.ProtoMajor != 2 || string(body) != "a body" {
		t.Errorf("%v, %q, %v", answer, body, err)
	}
}

// services are the identifiers of what capabilities list, public and restricted.
func (s *server) services(t *testing.T, fields ...string) (audience, tokenEndpoint string, public, restricted []string) {
	t.Helper()
	status, _, body := get(t, s.described, s.url+"/capabilities", fields...)
	if status != http.StatusOK {
		t.Fatalf("status %d, %s", status, body)
	}
	var answer struct {
		Token string `json:"capabilitiesToken"`
	}
	type service struct {
		Identifier    string `json:"identifier"`
		TokenEndpoint string `json:"tokenEndpoint"`
	}
	var claims struct {
		Audience string `json:"aud"`
		Info     struct {
			Public     []service `json:"publicServices"`
			Restricted []service `json:"restrictedServices"`
		} `json:"capabilitiesInfo"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	payload := verified(t, answer.Token)
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	for _, p := range claims.Info.Public {
		public, tokenEndpoint = append(public, p.Identifier), p.TokenEndpoint
	}
	for _, r := range claims.Info.Restricted {
		restricted = append(restricted, r.Identifier)
	}
	return claims.Audience, tokenEndpoint, public, restricted
}

// verified is the payload of a JWT that the provider's seal has signed.
func verified(t *testing.T, token string) []byte {
	t.Helper()
	signed, err := jws.Split(token)
	if err != nil {
		t.Fatal(err)
	}
	if err := signed.Verify(jws.RS256, jws.NewKey(&players().provider.Key.PublicKey)); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// Capabilities tell everybody of the public services, and bearers of the others too.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	const offer = `WAYBILL_CAPABILITIES_PUBLIC=[{identifier: timetable, endpoint_url: /timetable}]`
	const more = `WAYBILL_CAPABILITIES_RESTRICTED=[{identifier: orders, endpoint_url: https://orders.example/, status: deprecated, methods: [GET]}]`
	dir := newHome(t)
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, offer, more))
	public := []string{"request-oauth-token", "get-capabilities-token", "timetable"}
	// The address is ours whatever the Host header says.
	audience, tokens, p, r := s.services(t)
	if audience != "" || !slices.Equal(p, public) || len(r) > 0 || tokens != s.url+"/connect/token" {
		t.Errorf("for a stranger: %q, %q, %q, %q", audience, tokens, p, r)
	}
	bearer := "Bearer " + s.token(t)
	audience, _, p, r = s.services(t, "Authorization", bearer)
	if audience != string(players().consumer.ID()) || !slices.Equal(p, public) || !slices.Equal(r, []string{"orders"}) {
		t.Errorf("for a participant: %q, %q, %q", audience, p, r)
	}
	for authorization, want := range map[string]int{"Basic eDp5": http.StatusBadRequest, bearer + "x": http.StatusUnauthorized} {
		if status, _, _ := get(t, s.described, s.url+"/capabilities", "Authorization", authorization); status != want {
			t.Errorf("%.8s: status %d, want %d", authorization, status, want)
		}
	}
	if err := s.Reload(t.Context(), parse(t, dir, "WAYBILL_LISTEN_URL=https://provider.example")); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "the configured address", func() bool {
		_, tokens, _, _ = s.services(t)
		return tokens == "https://provider.example/connect/token"
	})
}

// A stranger cannot have us sign where to get tokens.
func TestCapabilitiesIgnoreHost(t *testing.T) {
	t.Parallel()
	s := startNewborn(t)
	conn := dial(t, s.PublicAddr())
	fmt.Fprint(conn, "GET /capabilities HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body struct {
		Token string `json:"capabilitiesToken"`
	}
	if err := json.UnmarshalRead(answer.Body, &body); err != nil {
		t.Fatal(err)
	}
	if payload := string(verified(t, body.Token)); strings.Contains(payload, "evil") || !strings.Contains(payload, s.url) {
		t.Error(payload)
	}
}

// Check finds what is wrong with routes and services, and warns of what others may see.
func TestCheckSecured(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	for _, c := range []struct {
		environ       []string
		problem, warn string
	}{
		{[]string{"WAYBILL_CAPABILITIES_PUBLIC=[{identifier: a, endpoint_url: nowhere}]"}, "capabilities: ", ""},
		{[]string{"WAYBILL_CAPABILITIES_PUBLIC=[{identifier: a, endpoint_url: /}, {identifier: a, endpoint_url: /}]"}, "there twice", ""},
		{[]string{"WAYBILL_LISTEN_URL=", "WAYBILL_LISTEN_PUBLIC=127.0.0.1:0"}, "", "listen.url: is absent"},
		{[]string{"WAYBILL_LISTEN_URL=", "WAYBILL_LISTEN_PUBLIC=:0"}, "", "http://127.0.0.1:0"},
		{[]string{"WAYBILL_LISTEN_URL=", "WAYBILL_LISTEN_PUBLIC=0.0.0.0:0"}, "", "http://127.0.0.1:0"},
		{[]string{"WAYBILL_LISTEN_INTERNAL=0.0.0.0:0"}, "", "listen.internal: whoever reaches it"},
		{[]string{"WAYBILL_LISTEN_INTERNAL=:0", "WAYBILL_LISTEN_INTERNAL_SECRET=5c1fd3a90b7e24688c03fe9d1a57b246"}, "", ""},
		{[]string{"WAYBILL_LISTEN_INTERNAL=localhost:0"}, "", ""},
		{[]string{"WAYBILL_TRUST_REVOCATION=require"}, "", "trust.revocation: the certificate of "},
	} {
		found := check(parse(t, dir, append([]string{"WAYBILL_LISTEN_URL=https://provider.example"}, c.environ...)...))
		for _, list := range []struct {
			got  []config.Problem
			want string
		}{{found.Problems, c.problem}, {found.Warnings, c.warn}} {
			if got := told(list.got); (list.want == "") != (got == "") || !strings.Contains(got, list.want) {
				t.Errorf("%q: %q, want %q", c.environ, got, list.want)
			}
		}
	}
}
