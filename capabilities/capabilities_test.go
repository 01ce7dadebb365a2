package capabilities_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/tokenendpoint"
)

const (
	provider = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000000")
	consumer = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000001")
	alias    = ishare.PartyID("EU.EORI.NL000000001")
	address  = "https://provider.example/base"
)

// seal is made once, because its key takes time.
var seal = sync.OnceValue(func() *isharetest.Party { return isharetest.NewCA().Party(provider, "Some Provider") })

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func newIssuer(tb testing.TB) *accesstoken.Issuer {
	tb.Helper()
	keys, err := accesstoken.OpenKeys(tb.TempDir(), slog.New(slog.DiscardHandler))
	check(tb, err)
	issuer, err := accesstoken.New(accesstoken.Config{Party: provider, Lifetime: time.Hour, Keys: keys})
	check(tb, err)
	return issuer
}

func token(tb testing.TB, issuer *accesstoken.Issuer, scope ...string) string {
	tb.Helper()
	token, _, err := issuer.Issue(tb.Context(), accesstoken.Claims{Party: consumer, Client: alias, Scope: scope, Thumbprint: strings.Repeat("ab", 32)})
	check(tb, err)
	return token
}

func config(tb testing.TB, issuer *accesstoken.Issuer) capabilities.Config {
	tb.Helper()
	base, err := url.Parse(address)
	check(tb, err)
	return capabilities.Config{
		Party: provider, Key: seal().Key, Certificates: seal().Certificates, URL: base, Checker: issuer,
		Public:     []capabilities.Service{{Identifier: "weather", EndpointURL: "https://weather.example/v1", Status: "deprecated"}},
		Restricted: []capabilities.Service{{Identifier: "orders", Title: "Orders", EndpointURL: "/orders", EndpointDescription: "/openapi.json", Type: "dataspace-defined", Methods: []string{"GET"}}},
		Log:        slog.New(slog.DiscardHandler),
	}
}

func newHandler(tb testing.TB, c capabilities.Config) *capabilities.Handler {
	tb.Helper()
	h, err := capabilities.New(c)
	check(tb, err)
	return h
}

func ask(h http.Handler, method string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://evil.example/capabilities", nil)
	if len(authorization) > 0 {
		r.Header["Authorization"] = authorization
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// payload verifies the signature of an answer and returns what is signed.
func payload(tb testing.TB, w *httptest.ResponseRecorder) map[string]any {
	tb.Helper()
	if w.Code != http.StatusOK {
		tb.Fatalf("%d %s", w.Code, w.Body)
	}
	var body struct {
		Token  string `json:"capabilitiesToken"`
		Token2 string `json:"capabilities_token"`
	}
	check(tb, json.Unmarshal(w.Body.Bytes(), &body, json.RejectUnknownMembers(true)))
	if body.Token2 != body.Token {
		tb.Errorf("clients of 2.x get another token: %s", w.Body)
	}
	signed, err := jws.Split(body.Token)
	check(tb, err)
	key, ok := seal().Certificates[0].PublicKey.(*rsa.PublicKey)
	if !ok {
		tb.Fatal("not an RSA key")
	}
	check(tb, signed.Verify(jws.RS256, jws.NewKey(key)))
	var claims map[string]any
	check(tb, json.Unmarshal(signed.Payload(), &claims))
	return claims
}

// service is a complete one, as it stands in the JWT, with changes to what a service has by default.
func service(identifier, address string, changes map[string]any) map[string]any {
	version := "1.0"
	if changes["serviceType"] == "framework-defined" {
		version = "3.0"
	}
	s := map[string]any{
		"identifier": identifier, "title": identifier, "description": "", "endpointURL": address,
		"tokenEndpoint": "https://provider.example/base/connect/token", "status": "active", "serviceType": "self-defined",
		"version": map[string]any{
			"compliesWithFrameworkVersions": []any{"3.0"}, "compliesWithDataspaceVersions": []any{}, "capabilityVersion": version,
		},
		"methods": []any{},
	}
	maps.Copy(s, changes)
	return s
}

func publicServices() []any {
	return []any{
		service("request-oauth-token", address+"/connect/token", map[string]any{
			"title": "Access token", "description": "Gives an access token to a participant that signs for it.",
			"serviceType": "framework-defined", "methods": []any{"POST"},
		}),
		service("get-capabilities-token", address+"/capabilities", map[string]any{
			"title": "Capabilities", "description": "Says which services this party offers.",
			"serviceType": "framework-defined", "methods": []any{"GET"},
		}),
		service("weather", "https://weather.example/v1", map[string]any{"status": "deprecated"}),
	}
}

// info2 is capabilities_info, as clients of 2.x read it.
func info2(restricted ...any) map[string]any {
	const token = address + "/connect/token"
	features := []any{map[string]any{"public": []any{
		map[string]any{"id": "request-oauth-token", "feature": "Access token", "description": "Gives an access token to a participant that signs for it.", "url": token},
		map[string]any{"id": "get-capabilities-token", "feature": "Capabilities", "description": "Says which services this party offers.", "url": address + "/capabilities", "token_endpoint": token},
		map[string]any{"id": "weather", "feature": "weather", "description": "", "url": "https://weather.example/v1", "token_endpoint": token},
	}}}
	if len(restricted) > 0 {
		features = append(features, map[string]any{"restricted": restricted})
	}
	return map[string]any{
		"party_id": string(provider), "ishare_roles": []any{map[string]any{"role": "ServiceProvider"}},
		"supported_versions": []any{map[string]any{"version": "2.0", "supported_features": features}},
	}
}

// What a stranger sees has no audience and nothing restricted.
func TestPublic(t *testing.T) {
	h := newHandler(t, config(t, newIssuer(t)))
	before := time.Now().Unix()
	w := ask(h, http.MethodGet)
	claims := payload(t, w)
	iat, _ := claims["iat"].(float64)
	if int64(iat) < before-5 || claims["exp"] != iat+30 || claims["jti"] == "" {
		t.Errorf("%v", claims)
	}
	want := map[string]any{
		"iss": string(provider), "sub": string(provider), "iat": claims["iat"], "exp": claims["exp"], "jti": claims["jti"],
		"capabilitiesInfo":  map[string]any{"publicServices": publicServices()},
		"capabilities_info": info2(),
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A bearer of a token sees the restricted services too, in a JWT for it alone.
func TestRestricted(t *testing.T) {
	issuer := newIssuer(t)
	h := newHandler(t, config(t, issuer))
	bearer := "Bearer " + token(t, issuer, "iSHARE")
	first, second := payload(t, ask(h, http.MethodGet, bearer)), payload(t, ask(h, http.MethodGet, bearer))
	orders := service("orders", address+"/orders", map[string]any{
		"title": "Orders", "endpointDescription": address + "/openapi.json", "serviceType": "dataspace-defined", "methods": []any{"GET"},
	})
	want := map[string]any{
		"iss": string(provider), "sub": string(provider), "aud": string(alias), "iat": first["iat"], "exp": first["exp"], "jti": first["jti"],
		"capabilitiesInfo": map[string]any{"publicServices": publicServices(), "restrictedServices": []any{orders}},
		"capabilities_info": info2(map[string]any{
			"id": "orders", "feature": "Orders", "description": "", "url": address + "/orders", "token_endpoint": address + "/connect/token",
		}),
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if first["jti"] == second["jti"] {
		t.Error("one jti for two answers to one receiver")
	}
	c := config(t, issuer)
	c.Restricted = nil
	info, ok := payload(t, ask(newHandler(t, c), http.MethodGet, bearer))["capabilitiesInfo"].(map[string]any)
	if list, isList := info["restrictedServices"].([]any); !ok || !isList || len(list) != 0 {
		t.Errorf("without restricted services: %v", info)
	}
}

// parties answers for a registry.
type parties func(ishare.PartyID) (*ishare.Party, error)

func (p parties) Party(_ context.Context, id ishare.PartyID) (*ishare.Party, error) { return p(id) }

// A restricted service can be for parties of some roles and data spaces only.
func TestLimitedServices(t *testing.T) {
	now := time.Now()
	claim := func(c ishare.Claim) ishare.Claim {
		c.Status, c.Start, c.End = "active", now.Add(-time.Hour), now.Add(time.Hour)
		return c
	}
	complies := claim(ishare.Claim{Type: ishare.ClaimFrameworkCompliance, FrameworkID: ishare.FrameworkISHARE})
	role := claim(ishare.Claim{Type: ishare.ClaimFrameworkRole, RoleID: "ServiceConsumer"})
	north := claim(ishare.Claim{Type: ishare.ClaimDataspaceMembership, DataspaceID: "north"})
	south := claim(ishare.Claim{Type: ishare.ClaimDataspaceMembership, DataspaceID: "south"})
	ended, suspended := north, complies
	ended.End, suspended.Status = now.Add(-time.Minute), "suspended"
	record := func(claims ...ishare.Claim) parties {
		return func(id ishare.PartyID) (*ishare.Party, error) {
			if id != consumer { // the canonical identifier, whatever the caller used
				return nil, fmt.Errorf("asked for %s", id)
			}
			return &ishare.Party{ID: id, Claims: claims}, nil
		}
	}
	for name, c := range map[string]struct {
		parties parties
		want    []string // nil: 503
	}{
		"nothing":               {record(complies), []string{"orders"}},
		"one data space":        {record(complies, north), []string{"orders", "of-north"}},
		"both data spaces":      {record(complies, north, south), []string{"orders", "of-north", "of-both"}},
		"role":                  {record(complies, role), []string{"orders", "of-role"}},
		"role and data space":   {record(complies, role, north), []string{"orders", "of-north", "of-role", "of-role-in-north"}},
		"membership that ended": {record(complies, ended), []string{"orders"}},
		"suspended party":       {record(suspended, role, north, south), []string{"orders"}},
		"no compliance":         {record(role, north, south), []string{"orders"}},
		"unknown party": {func(ishare.PartyID) (*ishare.Party, error) {
			return nil, fmt.Errorf("asked: %w", ishare.ErrUnknownParty)
		}, []string{"orders"}},
		"registry out of reach":  {func(ishare.PartyID) (*ishare.Party, error) { return nil, errors.New("the registry at slot 7") }, nil},
		"neither record nor err": {func(ishare.PartyID) (*ishare.Party, error) { return nil, nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := newIssuer(t)
			cfg := config(t, issuer)
			cfg.Parties = c.parties
			cfg.Restricted = append(
				cfg.Restricted,
				capabilities.Service{Identifier: "of-north", EndpointURL: "/n", Dataspaces: []string{"north"}},
				capabilities.Service{Identifier: "of-both", EndpointURL: "/b", Dataspaces: []string{"north", "south"}},
				capabilities.Service{Identifier: "of-role", EndpointURL: "/r", Roles: []string{"ServiceConsumer"}},
				capabilities.Service{Identifier: "of-role-in-north", EndpointURL: "/rn", Roles: []string{"ServiceConsumer"}, Dataspaces: []string{"north"}},
			)
			h := newHandler(t, cfg)
			w := ask(h, http.MethodGet, "Bearer "+token(t, issuer, "iSHARE"))
			if c.want == nil {
				if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "slot") {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			} else if got := restrictedOf(t, payload(t, w)); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if strings.Contains(fmt.Sprint(payload(t, ask(h, http.MethodGet))), "of-") {
				t.Error("strangers are told")
			}
		})
	}
}

// restrictedOf are the restricted services of a payload, which must be the same in the words of 2.x.
func restrictedOf(tb testing.TB, claims map[string]any) []string {
	tb.Helper()
	data, err := json.Marshal(claims)
	check(tb, err)
	var told struct {
		Info struct {
			Restricted []struct {
				ID string `json:"identifier"`
			} `json:"restrictedServices"`
		} `json:"capabilitiesInfo"`
		Info2 struct {
			Versions []struct {
				Features []struct {
					Restricted []struct {
						ID string `json:"id"`
					} `json:"restricted"`
				} `json:"supported_features"`
			} `json:"supported_versions"`
		} `json:"capabilities_info"`
	}
	check(tb, json.Unmarshal(data, &told))
	var three, two []string
	for _, s := range told.Info.Restricted {
		three = append(three, s.ID)
	}
	for _, f := range told.Info2.Versions[0].Features {
		for _, s := range f.Restricted {
			two = append(two, s.ID)
		}
	}
	if !slices.Equal(three, two) {
		tb.Errorf("%v in 3.0, %v in 2.x", three, two)
	}
	return three
}

func TestRefusals(t *testing.T) {
	issuer := newIssuer(t)
	h := newHandler(t, config(t, issuer))
	good := token(t, issuer, "iSHARE")
	for _, c := range []struct {
		name, method  string
		authorization []string
		status        int
	}{
		{"not Bearer", "GET", []string{"Basic eDp5"}, 400},
		{"Bearer without a token", "GET", []string{"Bearer "}, 400},
		{"two headers", "GET", []string{"Bearer " + good, "Bearer " + good}, 400},
		{"bad token", "GET", []string{"Bearer x"}, 401},
		{"tampered", "GET", []string{"Bearer " + good[:len(good)-4] + "AAAA"}, 401},
		{"of another server", "GET", []string{"Bearer " + token(t, newIssuer(t), "iSHARE")}, 401},
		{"without iSHARE", "GET", []string{"Bearer " + token(t, issuer, "orders")}, 403},
		{"POST", "POST", nil, 405},
		{"PUT with a token", "PUT", []string{"Bearer " + good}, 405},
	} {
		w := ask(h, c.method, c.authorization...)
		if w.Code != c.status || strings.Contains(w.Body.String(), "capabilitiesToken") || !strings.Contains(w.Body.String(), `"error_description"`) {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if c.status == http.StatusMethodNotAllowed && w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow %q", c.name, w.Header().Get("Allow"))
		}
		if c.status == http.StatusUnauthorized && !strings.Contains(w.Header().Get("WWW-Authenticate"), "invalid_token") {
			t.Errorf("%s: WWW-Authenticate %q", c.name, w.Header().Get("WWW-Authenticate"))
		}
	}
	if w := ask(h, http.MethodHead); w.Code != http.StatusOK {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func TestExpiredToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		h := newHandler(t, config(t, issuer))
		bearer := "Bearer " + token(t, issuer, "iSHARE")
		time.Sleep(time.Hour + 10*time.Minute)
		if w := ask(h, http.MethodGet, bearer); w.Code != http.StatusUnauthorized {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// counting is a key that notes how often it signs, takes its time, and fails on demand.
type counting struct {
	crypto.Signer
	delay         time.Duration
	tried, signed atomic.Int64
	broken        atomic.Bool
}

func (c *counting) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.tried.Add(1)
	time.Sleep(c.delay)
	if c.broken.Load() {
		return nil, errors.New("the token was pulled out of slot 7")
	}
	c.signed.Add(1)
	return c.Signer.Sign(rand, digest, opts)
}

// A nil logger is silent, also where something fails.
func TestWithoutALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := &counting{Signer: seal().Key}
		c := config(t, newIssuer(t))
		c.Key, c.Log = key, nil
		h := newHandler(t, c)
		time.Sleep(time.Minute)
		key.broken.Store(true)
		if w := ask(h, http.MethodGet); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// However many strangers ask, we sign every five seconds at most, and what they get has 25 seconds
// left to live.
func TestStrangersCannotMakeUsSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := &counting{Signer: seal().Key}
		c := config(t, newIssuer(t))
		c.Key = key
		h := newHandler(t, c)
		for range 20 {
			var group sync.WaitGroup
			for range 50 {
				group.Go(func() { ask(h, http.MethodGet) })
			}
			group.Wait()
			claims := payload(t, ask(h, http.MethodGet))
			if exp, _ := claims["exp"].(float64); int64(exp)-time.Now().Unix() < 25 {
				t.Errorf("%d s left", int64(exp)-time.Now().Unix())
			}
			time.Sleep(time.Second)
		}
		if got := key.signed.Load(); got != 4 {
			t.Errorf("%d signatures in 20 seconds", got)
		}
	})
}

func TestKeyOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		key := &counting{Signer: seal().Key}
		c := config(t, issuer)
		var log bytes.Buffer
		c.Key, c.Log = key, slog.New(slog.NewTextHandler(&log, nil))
		h := newHandler(t, c)
		key.broken.Store(true)
		time.Sleep(5 * time.Second)
		for _, authorization := range [][]string{nil, {"Bearer " + token(t, issuer, "iSHARE")}} {
			w := ask(h, http.MethodGet, authorization...)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "slot") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		if !strings.Contains(log.String(), "slot 7") {
			t.Errorf("log: %s", &log)
		}
		key.broken.Store(false)
		time.Sleep(time.Second)
		payload(t, ask(h, http.MethodGet))
	})
}

// crowd asks at once, and returns the answers in the order in which they come: status and time.
func crowd(tb testing.TB, size int, h http.Handler, authorization ...string) []string {
	tb.Helper()
	answers, start := make(chan string, size), time.Now()
	for range size {
		go func() {
			w := ask(h, http.MethodGet, authorization...)
			if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "1" {
				tb.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
			answers <- fmt.Sprint(w.Code, " after ", time.Since(start))
		}()
	}
	var all []string
	for range size {
		all = append(all, <-answers)
	}
	return all
}

// One attempt is made for all strangers, and none for a second after it failed.
func TestStrangersAtAFailingKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		key := &counting{Signer: seal().Key}
		c := config(t, issuer)
		var log bytes.Buffer
		c.Key, c.Log = key, slog.New(slog.NewTextHandler(&log, nil))
		h := newHandler(t, c)
		bearer := "Bearer " + token(t, issuer, "iSHARE")
		key.delay = 100 * time.Millisecond
		key.broken.Store(true)
		time.Sleep(5 * time.Second)
		for _, want := range []struct {
			answer string
			tried  int64
		}{
			{"503 after 100ms", 2}, {"503 after 0s", 2}, {"503 after 100ms", 3}, // the first was that of New
		} {
			if diff := cmp.Diff(slices.Repeat([]string{want.answer}, 60), crowd(t, 60, h)); diff != "" || key.tried.Load() != want.tried {
				t.Errorf("%d attempts, want %d (-want +got):\n%s", key.tried.Load(), want.tried, diff)
			}
			if w := ask(h, http.MethodGet, bearer); w.Code != http.StatusServiceUnavailable || key.tried.Load() != want.tried {
				t.Errorf("with a token: %d after %d attempts", w.Code, key.tried.Load())
			}
			time.Sleep(600 * time.Millisecond)
		}
		h.Close()
		if lines := strings.Count(log.String(), "could not be told"); lines != 2 || !strings.Contains(log.String(), "more=182") {
			t.Errorf("%d lines in the log:\n%s", lines, &log)
		}
	})
}

// Whoever leaves does not wait, nor take the answer from those who stay.
func TestClientThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		key := &counting{Signer: seal().Key}
		c := config(t, issuer)
		var log bytes.Buffer
		c.Key, c.Log = key, slog.New(slog.NewTextHandler(&log, nil))
		h := newHandler(t, c)
		key.delay = 100 * time.Millisecond
		time.Sleep(5 * time.Second)
		start := time.Now()
		var group sync.WaitGroup
		for _, authorization := range []string{"", "Bearer " + token(t, issuer, "iSHARE")} {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/capabilities", nil)
				if authorization != "" {
					synctest.Wait() // until the other one signs
					r.Header.Set("Authorization", authorization)
				}
				h.ServeHTTP(httptest.NewRecorder(), r)
				if took := time.Since(start); took != 10*time.Millisecond {
					t.Errorf("%q waited for %s", authorization, took)
				}
			})
		}
		group.Wait()
		if diff := cmp.Diff([]string{"200 after 90ms", "200 after 90ms"}, crowd(t, 2, h)); diff != "" || key.signed.Load() != 2 {
			t.Errorf("%d signatures (-want +got):\n%s", key.signed.Load(), diff)
		}
		if log.Len() > 0 {
			t.Errorf("log: %s", &log)
		}
	})
}

// Bearers of tokens use the key one at a time, and wait for a second at most. Strangers need not wait
// for them.
func TestManyBearersAtASlowKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		key := &counting{Signer: seal().Key}
		c := config(t, issuer)
		c.Key = key
		h := newHandler(t, c)
		key.delay = 300 * time.Millisecond
		bearer := "Bearer " + token(t, issuer, "iSHARE")
		strangers := make(chan []string)
		go func() {
			time.Sleep(time.Millisecond)
			strangers <- crowd(t, 1, h)
		}()
		want := slices.Concat(
			[]string{"200 after 300ms", "200 after 600ms", "200 after 900ms"},
			slices.Repeat([]string{"503 after 1s"}, 16), []string{"200 after 1.2s"},
		)
		if diff := cmp.Diff(want, crowd(t, 20, h, bearer)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := <-strangers; got[0] != "200 after 0s" {
			t.Errorf("a stranger: %s", got)
		}
	})
}

// A signature that takes longer than anybody waits is there for those who ask next.
func TestKeySlowerThanPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := &counting{Signer: seal().Key, delay: 2500 * time.Millisecond}
		c := config(t, newIssuer(t))
		c.Key = key
		h := newHandler(t, c)
		time.Sleep(2500 * time.Millisecond)
		for _, want := range []string{"503 after 1s", "503 after 1s", "200 after 500ms", "200 after 0s"} {
			if got := crowd(t, 1, h); got[0] != want {
				t.Errorf("%s, want %s", got[0], want)
			}
		}
	})
}

func TestBadConfigurations(t *testing.T) {
	issuer := newIssuer(t)
	parse := func(text string) *url.URL {
		u, err := url.Parse(text)
		check(t, err)
		return u
	}
	service := func(change func(*capabilities.Service)) []capabilities.Service {
		s := capabilities.Service{Identifier: "a", EndpointURL: "/a"}
		change(&s)
		return []capabilities.Service{s}
	}
	for name, change := range map[string]func(*capabilities.Config){
		"no checker":       func(c *capabilities.Config) { c.Checker = nil },
		"no party":         func(c *capabilities.Config) { c.Party = "" },
		"no key":           func(c *capabilities.Config) { c.Key = nil },
		"no certificate":   func(c *capabilities.Config) { c.Certificates = nil },
		"no URL":           func(c *capabilities.Config) { c.URL = nil },
		"relative URL":     func(c *capabilities.Config) { c.URL = parse("/x") },
		"URL with a query": func(c *capabilities.Config) { c.URL = parse("https://x/?y") },
		"other algorithm":  func(c *capabilities.Config) { c.Algorithm = "ES256" },
		"no identifier":    func(c *capabilities.Config) { c.Public = service(func(s *capabilities.Service) { s.Identifier = "" }) },
		"no endpoint":      func(c *capabilities.Config) { c.Public = service(func(s *capabilities.Service) { s.EndpointURL = "" }) },
		"endpoint nowhere": func(c *capabilities.Config) {
			c.Public = service(func(s *capabilities.Service) { s.EndpointURL = "orders" })
		},
		"endpoint no host": func(c *capabilities.Config) {
			c.Public = service(func(s *capabilities.Service) { s.EndpointURL = "//x/y" })
		},
		"token endpoint": func(c *capabilities.Config) {
			c.Public = service(func(s *capabilities.Service) { s.TokenEndpoint = "ftp://x" })
		},
		"description": func(c *capabilities.Config) {
			c.Public = service(func(s *capabilities.Service) { s.EndpointDescription = "see below" })
		},
		"status": func(c *capabilities.Config) {
			c.Public = service(func(s *capabilities.Service) { s.Status = "Active" })
		},
		"type": func(c *capabilities.Config) {
			c.Restricted = service(func(s *capabilities.Service) { s.Type = "other" })
		},
		"public for a role": func(c *capabilities.Config) {
			c.Public = service(func(s *capabilities.Service) { s.Roles = []string{"ServiceConsumer"} })
		},
		"limited, and nobody to ask": func(c *capabilities.Config) {
			c.Restricted = service(func(s *capabilities.Service) { s.Dataspaces = []string{"north"} })
		},
		"public twice":  func(c *capabilities.Config) { c.Public = append(c.Public, c.Public...) },
		"in both lists": func(c *capabilities.Config) { c.Restricted = c.Public },
		"there by itself": func(c *capabilities.Config) {
			c.Public = service(func(s *capabilities.Service) { s.Identifier = "request-oauth-token" })
		},
		"capabilities too": func(c *capabilities.Config) {
			c.Restricted = service(func(s *capabilities.Service) { s.Identifier = "get-capabilities-token" })
		},
		"key of another":    func(c *capabilities.Config) { c.Certificates = c.Certificates[1:] },
		"user in the URL":   func(c *capabilities.Config) { c.URL = parse("https://u@x/") },
		"URL without host":  func(c *capabilities.Config) { c.URL = parse("https:///x") },
		"URL of other kind": func(c *capabilities.Config) { c.URL = parse("ws://x") },
	} {
		c := config(t, issuer)
		change(&c)
		if h, err := capabilities.New(c); err == nil || h != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A configuration is not written to.
func TestConfigurationIsLeftAlone(t *testing.T) {
	c := config(t, newIssuer(t))
	newHandler(t, c)
	if c.Public[0].Title != "" || c.Restricted[0].EndpointURL != "/orders" {
		t.Errorf("%+v %+v", c.Public, c.Restricted)
	}
}

// A client that knows only our address finds our token endpoint.
func TestDiscovery(t *testing.T) {
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer server.Close()
	c := config(t, newIssuer(t))
	var err error
	c.URL, err = url.Parse(server.URL)
	check(t, err)
	handler = newHandler(t, c)
	got, err := client.Discover(t.Context(), client.Config{Server: server.URL, Audience: provider})
	if err != nil || got != server.URL+tokenendpoint.Path {
		t.Errorf("%s, %v", got, err)
	}
}

// The members of services are those of the published example.
func TestShapeOfThePublishedExample(t *testing.T) {
	data, err := os.ReadFile("../../shared/vectors/v3.0-openapi-capabilities-token.jwt")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	check(t, err)
	signed, err := jws.Split(strings.TrimSpace(string(data)))
	check(t, err)
	type shape struct {
		Info struct {
			Public     []map[string]any `json:"publicServices"`
			Restricted []map[string]any `json:"restrictedServices"`
		} `json:"capabilities_info"` // the example's spelling
	}
	var published shape
	check(t, json.Unmarshal(signed.Payload(), &published))
	issuer := newIssuer(t)
	info, ok := payload(t, ask(newHandler(t, config(t, issuer)), http.MethodGet, "Bearer "+token(t, issuer, "iSHARE")))["capabilitiesInfo"].(map[string]any)
	if !ok {
		t.Fatal("no capabilitiesInfo")
	}
	for list, services := range map[string][]map[string]any{"publicServices": published.Info.Public, "restrictedServices": published.Info.Restricted} {
		ours, _ := info[list].([]any)
		if len(ours) == 0 || len(services) == 0 {
			t.Fatalf("%s: %v, %v", list, ours, services)
		}
		one, _ := ours[0].(map[string]any)
		for name := range services[0] {
			if name == "descriptionURL" { // endpointDescription in the text of 3.0
				continue
			}
			if _, there := one[name]; !there {
				t.Errorf("%s lacks %s", list, name)
			}
		}
	}
}
