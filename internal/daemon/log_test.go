package daemon_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// Each token request is one event, which tells who, why and how long.
func TestEvents(t *testing.T) {
	t.Parallel()
	consumer := players().consumer
	right := consumer.Request(providerID)
	elsewhere := consumer.Request("did:ishare:EU.NL.NTRNL-99999999")
	unread := consumer.Request(providerID)
	unread.Form.Set("client_assertion", "not.a.jwt")
	get := consumer.Request(providerID)
	get.Method = http.MethodGet
	steps := []struct {
		request *isharetest.Request
		want    map[string]any // of the event; nil: absent
	}{
		{right, map[string]any{
			"level": "INFO", "outcome": "issued", "rule": nil, "cause": nil, "client_id": string(consumer.ID()), "party": string(consumer.ID()),
			"certificate": ishare.Thumbprint(consumer.Certificates[0].Raw), "jti_hash": jtiHash(right), "scope": "iSHARE",
		}},
		{right, map[string]any{
			"level": "INFO", "outcome": "refused", "rule": "jti.replayed", "client_id": string(consumer.ID()), "party": nil,
			"certificate": ishare.Thumbprint(consumer.Certificates[0].Raw), "jti_hash": jtiHash(right), "token_id": nil,
		}},
		{elsewhere, map[string]any{
			"outcome": "refused", "rule": "claim.aud", "client_id": string(consumer.ID()), "jti_hash": jtiHash(elsewhere),
			"certificate": ishare.Thumbprint(consumer.Certificates[0].Raw),
		}},
		{unread, map[string]any{"outcome": "refused", "rule": "jwt.compact", "client_id": string(consumer.ID()), "certificate": nil, "jti_hash": nil}},
		{get, map[string]any{"outcome": "refused", "rule": "request.method", "client_id": nil, "certificate": nil, "jti_hash": nil}},
	}
	s := startNewborn(t)
	for _, step := range steps {
		s.send(t, step.request)
	}
	events := s.log.records(t, "token request")
	if len(events) != len(steps) {
		t.Fatalf("%d events, want %d:\n%s", len(events), len(steps), s.log)
	}
	for i, event := range events {
		for key, want := range steps[i].want {
			if got := event[key]; got != want {
				t.Errorf("event %d: %s is %v, want %v", i, key, got, want)
			}
		}
		if d, ok := event["duration_ms"].(float64); !ok || d <= 0 || event["remote"] == nil || event["time"] == nil {
			t.Errorf("event %d lacks its time: %v", i, event)
		}
	}
	if id, _ := events[0]["token_id"].(string); id == "" {
		t.Errorf("no token_id: %v", events[0])
	}
}

// jtiHash is how the log calls a jti.
func jtiHash(r *isharetest.Request) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%v\x00%v", r.Assertion.Payload.Get("iss"), r.Assertion.Payload.Get("jti")))
	return hex.EncodeToString(sum[:8])
}

// Nothing that would let a reader of the log in gets there, however a request fails,
// not even a part of it.
func TestLogKeepsSecrets(t *testing.T) {
	t.Parallel()
	s := start(t, daemon.Options{NoHistory: true, Secured: secured}, parse(t, newHome(t)))
	var secrets []string
	ask := func(edit func(*isharetest.Request)) {
		r := players().consumer.Request(providerID)
		if edit != nil {
			edit(r)
		}
		secrets = append(secrets, assertionSecrets(t, r)...)
		a := s.send(t, r)
		if a.AccessToken != "" {
			_, sealed, _ := strings.Cut(a.AccessToken, ".")
			secrets = append(secrets, sealed)
			for _, token := range []string{a.AccessToken, a.AccessToken + "x", strings.ToUpper(a.AccessToken)} {
				get(t, plain(t), s.url+"/who", "Authorization", "Bearer "+token)
				get(t, plain(t), s.url+"/who", "Authorization", "Basic "+token)
				get(t, plain(t), s.url+"/panic", "Authorization", "Bearer "+token)
			}
		}
	}
	ask(nil)
	for _, rule := range []func(*isharetest.Request){
		func(r *isharetest.Request) { r.Assertion.Payload.Set("aud", "did:ishare:EU.NL.NTRNL-99999999") },
		func(r *isharetest.Request) { r.Assertion.Payload.Set("exp", "soon") },
		func(r *isharetest.Request) { r.Assertion.Header.Set("alg", "none") },
		func(r *isharetest.Request) { r.Assertion.Payload.Add("iss", "twice") },
		func(r *isharetest.Request) { r.Assertion.Key = newKey(t) },
		func(r *isharetest.Request) { r.Assertion.Rewrite = func(c string) string { return c + "=" } },
		func(r *isharetest.Request) {
			r.Assertion.Rewrite = func(c string) string { return strings.ReplaceAll(c, ".", "..") }
		},
		func(r *isharetest.Request) { r.Rewrite = func(form string) string { return form + "&" + form } },
		func(r *isharetest.Request) { r.Rewrite = func(form string) string { return form + "%zz" } },
		func(r *isharetest.Request) { r.Form.Set("client_id", isharetest.Signed) },
		func(r *isharetest.Request) { r.Form.Set("scope", isharetest.Signed) },
		func(r *isharetest.Request) { r.Form.Set("grant_type", isharetest.Signed) },
		func(r *isharetest.Request) { r.Form.Add(isharetest.Signed, "a name") },
		func(r *isharetest.Request) { r.InURL = true },
		func(r *isharetest.Request) { r.Header.Set("Authorization", "Bearer "+r.Assertion.Compact()) },
		func(r *isharetest.Request) { r.Header.Set("Content-Type", r.Assertion.Compact()) },
		func(r *isharetest.Request) { r.Method = r.Assertion.Compact() },
	} {
		ask(rule)
	}
	der, err := x509.MarshalPKCS8PrivateKey(players().provider.Key)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, base64.StdEncoding.EncodeToString(der), players().provider.Key.D.String(), hex.EncodeToString(players().provider.Key.D.Bytes()))
	log := s.log.String()
	if strings.Contains(log, players().consumer.Request(providerID).Assertion.Compact()[:50]) {
		t.Error("the log holds the header of an assertion")
	}
	for _, secret := range secrets {
		if part := leaked(log, secret); part != "" {
			t.Errorf("the log holds %q", part)
		}
	}
	if leaked(log, string(players().consumer.ID())) == "" {
		t.Error("the search finds nothing, not even what is there")
	}
}

// assertionSecrets are the forms in which an assertion, its jti and its signature
// could turn up. Its header is none: all begin alike, and a refusal may quote the
// first 40 bytes of a parameter.
func assertionSecrets(t *testing.T, r *isharetest.Request) []string {
	t.Helper()
	compact := r.Assertion.Compact()
	_, signed, _ := strings.Cut(compact, ".")
	secrets := []string{signed, fmt.Sprint(r.Assertion.Payload.Get("jti"))}
	signature, err := base64.RawURLEncoding.DecodeString(compact[strings.LastIndexByte(compact, '.')+1:])
	if err == nil {
		secrets = append(secrets, base64.StdEncoding.EncodeToString(signature), hex.EncodeToString(signature), fmt.Sprintf("%d", signature))
	}
	return secrets
}

// telling is how many characters of a secret in a row give it away.
const telling = 16

// leaked is a part of the secret that the log holds.
func leaked(log, secret string) string {
	for i := range max(1, len(secret)-telling+1) {
		if part := secret[i:min(len(secret), i+telling)]; strings.Contains(log, part) {
			return part
		}
	}
	return ""
}
