package daemon_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
)

const (
	apisixSecret = "5c1fd3a90b7e24688c03fe9d1a57b246"
	kongSecret   = "kJ9xQ2vL7mZ4tR8wN1cB5g+/"
)

// Each who asks on the internal listener has a secret, and a reload without it takes it back, be it the last one.
func TestInternalCallers(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	write(t, filepath.Join(dir, "apisix"), []byte(apisixSecret+"\n"))
	write(t, filepath.Join(dir, "kong"), []byte(kongSecret+"\n"))
	s := start(t, daemon.Options{NoHistory: true}, parse(t, dir, "WAYBILL_LISTEN_INTERNAL_CALLERS={apisix: apisix, kong: kong}"))
	token := s.token(t)
	basic := func(name, secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
	}
	ask := func(authorization string) int {
		t.Helper()
		status, _, _ := s.post(t, "/introspect", url.Values{"token": {token}}, "Authorization", authorization)
		return status
	}
	for authorization, want := range map[string]int{
		"": 401, basic("apisix", apisixSecret): 200, basic("kong", kongSecret): 200, basic("kong", url.QueryEscape(kongSecret)): 200, "Bearer " + apisixSecret: 200, basic("apisix", kongSecret): 401,
	} {
		if got := ask(authorization); got != want {
			t.Errorf("%q: %d, want %d", authorization, got, want)
		}
	}
	if status, _, _ := s.post(t, "/introspect", url.Values{"token": {token}, "client_id": {"kong"}, "client_secret": {kongSecret}}); status != http.StatusOK {
		t.Errorf("form: %d", status)
	}
	if status, _, _ := get(t, plain(t), s.internal+"/auth", "Authorization", "Bearer "+token); status != http.StatusOK {
		t.Errorf("forward-auth: %d", status)
	}
	if status, _, _ := s.post(t, "/revoke", url.Values{"token": {token}}, "Authorization", basic("kong", kongSecret)); status != http.StatusOK {
		t.Errorf("revocation: %d", status)
	}
	if told := s.log.records(t, "access tokens revoked"); len(told) != 1 || told[0]["caller"] != "kong" {
		t.Errorf("the log says %v", told)
	}
	for _, callers := range []string{"{apisix: apisix}", "{}"} {
		if err := s.Reload(t.Context(), parse(t, dir, "WAYBILL_LISTEN_INTERNAL_CALLERS="+callers)); err != nil {
			t.Fatal(err)
		}
		gone, secret := "kong", kongSecret
		if callers == "{}" {
			gone, secret = "apisix", apisixSecret
		}
		s.eventually(t, gone+" is gone", func() bool { return ask(basic(gone, secret)) == http.StatusUnauthorized })
		if got := ask("Bearer " + apisixSecret); (got == http.StatusOK) != (gone == "kong") {
			t.Errorf("apisix, with %s: %d", callers, got)
		}
	}
	if got := ask(""); got != http.StatusUnauthorized {
		t.Errorf("nobody is named, and all are let in: %d", got)
	}
	for _, secret := range []string{apisixSecret, kongSecret} {
		if strings.Contains(s.log.String(), secret) {
			t.Error("the log holds a secret")
		}
	}
}

// What is wrong with secrets is told at the caller that it is about, all at once, without the secret.
func TestCheckCallers(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	for name, secret := range map[string]string{"good": apisixSecret, "again": apisixSecret, "short": "pa55word", "blank": "pa55word with more of pa55word", "weak": "pa55pa55pa55pa55pa55", "house": "the-secret-of-the-house-0", "empty": ""} {
		write(t, filepath.Join(dir, name), []byte(secret))
	}
	cfg := parse(t, dir, "WAYBILL_LISTEN_URL=https://provider.example", "WAYBILL_LISTEN_INTERNAL=:0", "WAYBILL_LISTEN_INTERNAL_SECRET=the-secret-of-the-house-0",
		"WAYBILL_LISTEN_INTERNAL_CALLERS={a-good: good, b-again: again, c-short: short, d-blank: blank, e-weak: weak, f-house: house, g-none: none, h-empty: empty}")
	found := check(cfg)
	if d := cmp.Diff([]string{
		"listen.internal_callers.b-again: has the same secret as a-good", "listen.internal_callers.c-short: want a secret of at least 16", "listen.internal_callers.d-blank: want a secret of at least 16",
		"listen.internal_callers.f-house: has the same secret as $WAYBILL_LISTEN_INTERNAL_SECRET", "listen.internal_callers.g-none: ", "listen.internal_callers.h-empty: ",
	}, lines(found.Problems), cmp.Comparer(func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) })); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
	if got := lines(found.Warnings); len(got) != 1 || !strings.HasPrefix(got[0], "listen.internal_callers.e-weak: the secret is short") {
		t.Errorf("warnings %q", got)
	}
	if all := told(found.Problems) + told(found.Warnings); strings.Contains(all, "pa55word") || strings.Contains(all, apisixSecret) {
		t.Errorf("a secret is shown: %s", all)
	}
	_, err := daemon.Open(t.Context(), cfg, daemon.Options{Log: discard})
	if problems, ok := errors.AsType[*config.Error](err); !ok || len(problems.Problems) != 6 {
		t.Errorf("Open: %v", err)
	}
}

// lines are problems without their places.
func lines(problems []config.Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.Key+": "+p.Message)
	}
	return lines
}

// Whatever is asked for on the public listener, a host with more than a name and a port gets no answer.
func TestHostOfEveryPath(t *testing.T) {
	t.Parallel()
	routes := fmt.Sprintf("WAYBILL_ROUTES=[{path: /, upstream: %q}]", newUpstream(t).URL)
	for name, environ := range map[string][]string{"routes": {routes}, "no routes": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hostOfEveryPath(t, startNewborn(t, environ...))
		})
	}
}

func hostOfEveryPath(t *testing.T, s *server) {
	t.Helper()
	for _, path := range append(daemon.OwnPaths(), "/", "/x") {
		for lines, want := range map[string]bool{
			"GET " + path + " HTTP/1.1\r\nHost: provider.example:443":             true,
			"GET " + path + " HTTP/1.1\r\nHost: a,b":                              false,
			"GET " + path + " HTTP/1.1\r\nHost: a/b":                              false,
			"GET " + path + " HTTP/1.1\r\nHost: u@a":                              false,
			"GET http://u@a" + path + " HTTP/1.1\r\nHost: a":                      false,
			"GET http://a,b" + path + " HTTP/1.1\r\nHost: a":                      false,
			"GET http://provider.example" + path + " HTTP/1.1\r\nHost: elsewhere": true,
		} {
			conn := dial(t, s.PublicAddr())
			fmt.Fprintf(conn, "%s\r\nConnection: close\r\n\r\n", lines)
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if (answer.StatusCode != http.StatusBadRequest) != want {
				t.Errorf("%q: %d", lines, answer.StatusCode)
			}
		}
	}
}

// With --protect every path goes on as it stands; a route says so for itself where there are several.
func TestPathsOfRoutes(t *testing.T) {
	t.Parallel()
	const path = "/ngsi-ld/v1/entities/urn%3Angsi-ld%3AX/attrs/https%3A%2F%2Furi.etsi.org%2Fname;v=1//x"
	api, shop := newUpstream(t), newUpstream(t)
	protected := parse(t, newHome(t))
	if err := protected.Protect(api.URL); err != nil {
		t.Fatal(err)
	}
	several := parse(t, newHome(t), fmt.Sprintf("WAYBILL_ROUTES=[{path: /ngsi-ld, upstream: %q, paths: opaque, preflight: true, pass_token: true}, {path: /orders, upstream: %q, scope: orders}]", api.URL, shop.URL))
	for _, cfg := range []*config.Config{protected, several} {
		s := start(t, daemon.Options{NoHistory: true}, cfg)
		authorization := "Bearer " + s.token(t)
		before := len(api.requests())
		conn := dial(t, s.PublicAddr())
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: provider\r\nAuthorization: %s\r\nConnection: close\r\n\r\n", path, authorization)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		came := api.requests()[before:]
		if answer.StatusCode != http.StatusOK || len(came) != 1 || came[0].RequestURI != path {
			t.Fatalf("status %d, %v", answer.StatusCode, came)
		}
		if passed := came[0].Header.Get("Authorization"); (passed == authorization) != (cfg == several) || cfg == protected && passed != "" {
			t.Errorf("the upstream got the token: %t", passed != "")
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.url+"/ngsi-ld/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"PUT"}}
		if status, _, _ := exchange(t, plain(t), r); (status == http.StatusOK) != (cfg == several) {
			t.Errorf("preflight: %d", status)
		}
	}
	cfg := parse(t, newHome(t), fmt.Sprintf("WAYBILL_ROUTES=[{path: /ngsi-ld, upstream: %q, paths: opaque}, {path: /orders, upstream: %q, scope: orders}]", api.URL, api.URL))
	if problems := check(cfg).Problems; len(problems) != 1 || problems[0].Key != "routes[0].paths" || problems[0].Hint == "" {
		t.Errorf("%v", problems)
	}
}
