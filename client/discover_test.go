package client_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/jws"
)

// capabilitiesOf signs a payload as a server does.
func capabilitiesOf(tb testing.TB, payload string) string {
	tb.Helper()
	s := newSeal()
	compact, err := jws.Sign(jws.RS256, s.key, s.chain, []byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	return compact
}

// The two shapes of capabilities. The second is that of the 2.x framework.
const (
	shape3 = `{"iss":%q,"sub":%q,"capabilitiesInfo":{"publicServices":[%s],"restrictedServices":[]}}`
	shape2 = `{"iss":%q,"sub":%q,"capabilities_info":{"party_id":"x","supported_versions":[{"version":"2.0","supported_features":[{"public":[%s]}]}]}}`
)

func TestDiscover(t *testing.T) {
	const fixed = "https://provider.example/connect/token"
	tests := []struct {
		name, shape, services string
		want                  string // an endpoint, or what the error says
	}{
		{"3.0", shape3, `{"identifier":"orders","tokenEndpoint":"https://auth.example/token"}`, "https://auth.example/token"},
		{"2.x", shape2, `{"feature":"orders","token_endpoint":"https://auth.example/token"}`, "https://auth.example/token"},
		{"the same twice", shape3, `{"tokenEndpoint":"https://auth.example/token"},{"tokenEndpoint":"https://auth.example/token"}`, "https://auth.example/token"},
		{"the service itself", shape3, `{"identifier":"request-oauth-token","endpointURL":"https://auth.example/t"},{"tokenEndpoint":"https://other.example/t"}`, "https://auth.example/t"},
		{"none", shape3, `{"identifier":"orders"}`, fixed},
		{"no services", shape3, ``, fixed},
		{"several with the fixed place", shape3, `{"tokenEndpoint":"https://auth.example/t"},{"tokenEndpoint":"https://provider.example/connect/token"}`, fixed},
		{"several without", shape3, `{"tokenEndpoint":"https://b.example/t"},{"tokenEndpoint":"https://a.example/t"}`, "several token endpoints, set TokenEndpoint to one: https://a.example/t https://b.example/t"},
		{"deprecated", shape3, `{"status":"deprecated","tokenEndpoint":"https://old.example/t"},{"status":"active","tokenEndpoint":"https://new.example/t"}`, "https://new.example/t"},
		{"of another kind", shape3, `{"tokenEndpoint":{"tokenEndpoint":7}}`, fixed},
		{"plain http", shape3, `{"tokenEndpoint":"http://auth.example/token"}`, "is not https"},
		{"a loopback address", shape3, `{"tokenEndpoint":"http://127.0.0.1:9/token"}`, "is not https"},
		{"credentials", shape3, `{"tokenEndpoint":"https://a:b@auth.example/token"}`, "credentials"},
		{"no URL", shape3, `{"tokenEndpoint":"/connect/token"}`, "not an absolute URL"},
		{"two names", `{"iss":%q,"iss":%q,"capabilitiesInfo":{"a":[%s]}}`, ``, "each name once"},
	}
	for _, test := range tests {
		for _, member := range []string{"capabilitiesToken", "capabilities_token"} {
			t.Run(test.name+" "+member, func(t *testing.T) {
				compact := capabilitiesOf(t, fmt.Sprintf(test.shape, provider, provider, test.services))
				got, err := discover(t, jsonAnswer(200, fmt.Sprintf(`{%q:%q}`, member, compact)))
				if strings.HasPrefix(test.want, "https://") {
					if err != nil || got != test.want {
						t.Errorf("got %q, %v; want %s", got, err, test.want)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %q, %v; want an error with %q", got, err, test.want)
				}
			})
		}
	}
}

// discover asks a server that has this at /capabilities.
func discover(t *testing.T, capabilities http.HandlerFunc) (string, error) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("GET provider.example/capabilities", capabilities)
	return client.Discover(t.Context(), client.Config{
		Server: "https://provider.example", Audience: provider, Transport: &inMemory{handler: mux},
	})
}

func TestDiscoverErrors(t *testing.T) {
	stranger := capabilitiesOf(t, fmt.Sprintf(shape3, consumer, consumer, `{"tokenEndpoint":"https://auth.example/token"}`))
	tests := map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"not found":     {http.NotFound, "answered 404"},
		"redirect":      {redirect("https://elsewhere.example/capabilities"), "answered 307"},
		"HTML":          {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "not application/json"},
		"no token":      {jsonAnswer(200, `{}`), "one part instead of three"},
		"another party": {jsonAnswer(200, fmt.Sprintf(`{"capabilitiesToken":%q}`, stranger)), `those of "` + string(consumer)},
		"too long":      {jsonAnswer(200, strings.Repeat(" ", client.MaxCapabilities+1)), "longer than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := discover(t, test.answer)
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, client.ErrNoEndpoint) {
				t.Errorf("%q, %v; want ErrNoEndpoint with %q", got, err, test.want)
			}
		})
	}
}

// manyEndpoints are capabilities whose services name so many token endpoints, the last one first.
func manyEndpoints(tb testing.TB, count int) []byte {
	tb.Helper()
	services := make([]string, count)
	for i := range services {
		services[i] = fmt.Sprintf(`{"tokenEndpoint":"%05d"}`, count-i)
	}
	compact := capabilitiesOf(tb, fmt.Sprintf(shape3, provider, provider, strings.Join(services, ",")))
	return fmt.Appendf(nil, `{"capabilitiesToken":%q}`, compact)
}

// An answer as long as may be is read, and the error about it is short.
func TestDiscoverManyEndpoints(t *testing.T) {
	body := manyEndpoints(t, 28_000)
	if len(body) < client.MaxCapabilities*9/10 || len(body) > client.MaxCapabilities {
		t.Fatalf("%d bytes", len(body))
	}
	got, err := discover(t, jsonAnswer(200, string(body)))
	if err == nil || !strings.Contains(err.Error(), "several token endpoints, set TokenEndpoint to one: 00001 00002 00003 ") || len(err.Error()) > 700 {
		t.Errorf("%q, %.900v", got, err)
	}
}

// A server that has no capabilities may have metadata.
func TestDiscoverFromMetadata(t *testing.T) {
	tests := []struct{ name, server, metadata, want string }{
		{"plain", "https://provider.example", `{"issuer":"https://provider.example","token_endpoint":"https://auth.example/token","x":1}`, "https://auth.example/token"},
		{"slash", "https://provider.example/", `{"issuer":"https://provider.example","token_endpoint":"https://auth.example/token"}`, "https://auth.example/token"},
		{"path", "https://provider.example/a%2fb/c", `{"issuer":"https://provider.example/a%2fb/c","token_endpoint":"https://auth.example/token"}`, "https://auth.example/token"},
		{"another issuer", "https://provider.example", `{"issuer":"https://other.example","token_endpoint":"https://auth.example/token"}`, `the metadata are those of "https://other.example"`},
		{"nothing", "https://provider.example", `{"issuer":"https://provider.example"}`, "name no token endpoint"},
		{"of another kind", "https://provider.example", `{"issuer":"https://provider.example","token_endpoint":{}}`, "not one JSON object"},
		{"no metadata", "https://provider.example", ``, "capabilities: the server answered 404; https://provider.example/.well-known/oauth-authorization-server: the server answered 404"},
		{"plain http", "https://provider.example", `{"issuer":"https://provider.example","token_endpoint":"http://127.0.0.1/token"}`, "the token endpoint in the metadata is not https: 127.0.0.1"},
		{"credentials", "https://provider.example", `{"issuer":"https://provider.example","token_endpoint":"https://a:b@auth.example"}`, "credentials"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			if test.metadata != "" {
				place := "/.well-known/oauth-authorization-server"
				mux.Handle("GET "+place, jsonAnswer(200, test.metadata))
				mux.Handle("GET "+place+"/a%2fb/c", jsonAnswer(200, test.metadata))
			}
			got, err := client.Discover(t.Context(), client.Config{Server: test.server, Audience: provider, Transport: &inMemory{handler: mux}})
			switch {
			case strings.HasPrefix(test.want, "https://"):
				if err != nil || got != test.want {
					t.Errorf("got %q, %v; want %s", got, err, test.want)
				}
			case err == nil || !strings.Contains(err.Error(), test.want):
				t.Errorf("got %q, %v; want an error with %q", got, err, test.want)
			}
		})
	}
}

func TestDiscoverChecksItsConfig(t *testing.T) {
	for _, c := range []client.Config{
		{Audience: provider},
		{Server: "http://provider.example", Audience: provider},
		{Server: "https://provider.example"},
	} {
		if got, err := client.Discover(t.Context(), c); err == nil {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

// vectors holds published JWTs, byte for byte. It is not part of the repository.
const vectors = "../../shared/vectors"

func TestDiscoverPublishedExample(t *testing.T) {
	compact, err := os.ReadFile(filepath.Join(vectors, "v3.0-openapi-capabilities-token.jwt"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.ReadCapabilities(fmt.Appendf(nil, `{"capabilitiesToken":%q}`, strings.TrimSpace(string(compact))),
		"did:ishare:EU.NL.NTRNL-10000000", &url.URL{Scheme: "https", Host: "registry.example"})
	if err != nil || got != "https://url.to/tokenendpoint" {
		t.Errorf("%s, %v", got, err)
	}
}

// FuzzCapabilities shows that whatever stands at /capabilities, an endpoint that
// comes of it is https.
func FuzzCapabilities(f *testing.F) {
	for _, shape := range []string{shape3, shape2} {
		f.Add(fmt.Sprintf(shape, provider, provider, `{"identifier":"orders","tokenEndpoint":"https://auth.example/token"}`))
		f.Add(fmt.Sprintf(shape, provider, provider, `{"token_endpoint":"http://127.0.0.1/token"}`))
		f.Add(fmt.Sprintf(shape, provider, provider, `{"identifier":"request-oauth-token","endpointURL":"https://a.example/?q"}`))
	}
	f.Add(fmt.Sprintf(`{"iss":%q,"capabilitiesInfo":[[[[{"tokenEndpoint":""}]]]]}`, provider))
	f.Add("null")
	base := &url.URL{Scheme: "https", Host: "provider.example"}
	f.Fuzz(func(t *testing.T, payload string) {
		unsigned := "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".AAAA"
		body := fmt.Appendf(nil, `{"capabilitiesToken":%q}`, unsigned)
		got, err := client.ReadCapabilities(body, provider, base)
		if err != nil {
			return
		}
		if u, err := url.Parse(got); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			t.Errorf("endpoint %q, %v", got, err)
		}
	})
}

// newCapabilitiesServer names a token endpoint in another place.
func newCapabilitiesServer() *httptest.Server {
	payload := fmt.Sprintf(shape3, provider, provider, `{"identifier":"orders","tokenEndpoint":"https://auth.provider.example/oauth/token"}`)
	s := newSeal()
	compact, err := jws.Sign(jws.RS256, s.key, s.chain, []byte(payload))
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /capabilities", jsonAnswer(http.StatusOK, fmt.Sprintf(`{"capabilitiesToken":%q}`, compact)))
	return httptest.NewServer(mux)
}
