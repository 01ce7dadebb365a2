package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/capabilities"
	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/bucket"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/registry"
	"github.com/waybill-token/waybill/revocation"
	"github.com/waybill-token/waybill/state"
)

const (
	// least is the shortest configuration that is complete.
	least = `party: {id: did:ishare:EU.NL.NTRNL-10000000, key: party-key.pem}
participants: {file: parties.yaml}
trust: {anchors: [root.pem]}
`
	fingerprint = "0F:1E:2D:3C:4B:5A:69:78:87:96:A5:B4:C3:D2:E1:F0:0F:1E:2D:3C:4B:5A:69:78:87:96:A5:B4:C3:D2:E1:F0"

	// full has every key, with a value other than the default where there is one.
	full = `party:
  id: did:ishare:EU.NL.NTRNL-10000000
  also_known_as: [EU.EORI.NL000000000, did:web:provider.example]
  key: party-key.pem
  certificates: /etc/waybill/chain.pem
listen:
  public: 0.0.0.0:443
  tls: {certificate: tls.pem, key: tls-key.pem}
  internal: "[::1]:9091"
  internal_callers: {apisix: secrets/apisix, kong-1: /run/secrets/kong}
  url: https://provider.example/
  token_paths: [/2.1.1/connect/token, /oauth/token]
  http2: true
  shutdown_delay: 5s
  drain: 25s
participants:
  registry: {id: did:ishare:EU.NL.NTRNL-10000001, url: https://registry.example/api, version: 3.0, seals: [` + fingerprint + `]}
  cache: 1m
  max_stale: 2h
trust:
  anchors:
    - root.pem
    - ` + fingerprint + `
  trusted_list: true
  refresh: 30m
  revocation: prefer
  revocation_allow_private: true
  revocation_proxy: http://proxy.example:3128/
data: /var/lib/waybill
state: rediss://user:pa55word@redis.example:6379/1
state_wait_replicas: 1
tokens: {format: jwt, issuer: url, lifetime: 30m, keys: keys}
scopes: {orders: read orders, "orders:write": "write orders"}
policy: {roles: [ServiceConsumer], dataspaces: [space one], leeway: 20s, extra_header_parameters: allow}
routes:
  - {path: /api/, upstream: "http://127.0.0.1:8081", scope: iSHARE orders, paths: opaque, preflight: true, pass_token: true}
  - path: /
    upstream: http://backend:3000/base
capabilities:
  roles: [AuthorisationRegistry]
  public: [{identifier: timetable, endpoint_url: /timetable}]
  restricted:
    - identifier: orders
      title: Orders
      description: Read orders
      endpoint_description: https://provider.example/orders.json
      endpoint_url: https://provider.example/orders
      token_endpoint: https://tokens.example/connect/token
      status: deprecated
      type: dataspace-defined
      framework_versions: ["3.0"]
      dataspace_versions: ["1.2"]
      version: "2.0"
      methods: [GET, POST]
      roles: [ServiceConsumer]
      dataspaces: [space one]
limits: {connections: 1000, in_work: 50, known_clients: 20000, per_address: 100/s, per_party: 7200/h burst 30, trusted_proxies: [10.0.0.0/8, "::1"]}
log: {level: warn, format: json, guarded: true}
audit: {file: audit.jsonl, required: true}
metrics: false
profiling: true
tracing: {endpoint: "http://collector:4318", sample: 25%}
`
)

func fullConfig(t *testing.T) *Config {
	t.Helper()
	c := &Config{
		Party: Party{
			ID: "did:ishare:EU.NL.NTRNL-10000000", AlsoKnownAs: []ishare.PartyID{"EU.EORI.NL000000000", "did:web:provider.example"},
			Key: "/conf/party-key.pem", Certificates: "/etc/waybill/chain.pem",
		},
		Listen: Listen{
			Public: "0.0.0.0:443", TLS: &TLS{Certificate: "/conf/tls.pem", Key: "/conf/tls-key.pem"}, Internal: "[::1]:9091",
			InternalCallers: map[CallerName]Path{"apisix": "/conf/secrets/apisix", "kong-1": "/run/secrets/kong"},
			TokenPaths:      []TokenPath{"/2.1.1/connect/token", "/oauth/token"},
			HTTP2:           true, ShutdownDelay: 5 * time.Second, Drain: 25 * time.Second,
		},
		Participants: Participants{
			Registry: &Registry{
				ID: "did:ishare:EU.NL.NTRNL-10000001", Version: registry.Version3,
				Seals: []Fingerprint{Fingerprint(strings.ToLower(strings.ReplaceAll(fingerprint, ":", "")))},
			},
			Cache: time.Minute, MaxStale: 2 * time.Hour,
		},
		Trust: Trust{
			Anchors:     []Anchor{{File: "/conf/root.pem"}, {Fingerprint: strings.ToLower(strings.ReplaceAll(fingerprint, ":", ""))}},
			TrustedList: true, Refresh: 30 * time.Minute, Revocation: revocation.Prefer, RevocationAllowPrivate: true,
			RevocationProxy: Proxy{url.URL{Scheme: "http", Host: "proxy.example:3128"}},
		},
		Data: "/var/lib/waybill", State: State{must(state.ParseURL("rediss://user:pa55word@redis.example:6379/1"))}, StateWaitReplicas: 1,
		Tokens: Tokens{Format: accesstoken.JWT, Issuer: IssuerURL, Lifetime: 30 * time.Minute, Keys: "/conf/keys"},
		Scopes: map[ScopeName]string{"orders": "read orders", "orders:write": "write orders"},
		Policy: Policy{
			Roles: []string{"ServiceConsumer"}, Dataspaces: []string{"space one"},
			Leeway: 20 * time.Second, ExtraHeaderParameters: ExtraHeadersAllow,
		},
		Routes: []Route{{Path: "/api/", Scope: ishare.Scope{"iSHARE", "orders"}, Paths: proxy.PathsOpaque, Preflight: true, PassToken: true}, {Path: "/", Scope: ishare.Scope{"iSHARE"}}},
		Capabilities: Capabilities{
			Roles:  []string{"AuthorisationRegistry"},
			Public: []Service{{Identifier: "timetable", EndpointURL: "/timetable"}},
			Restricted: []Service{{
				Identifier: "orders", Title: "Orders", Description: "Read orders",
				EndpointDescription: "https://provider.example/orders.json", EndpointURL: "https://provider.example/orders",
				TokenEndpoint: "https://tokens.example/connect/token", Status: capabilities.Deprecated, Type: capabilities.DataspaceDefined,
				FrameworkVersions: []string{"3.0"}, DataspaceVersions: []string{"1.2"}, Version: "2.0", Methods: []string{"GET", "POST"},
				Roles: []string{"ServiceConsumer"}, Dataspaces: []string{"space one"},
			}},
		},
		Limits: Limits{
			Connections: 1000, InWork: 50, KnownClients: 20000,
			PerAddress:     Rate{bucket.Rate{Events: 100, Period: time.Second, Burst: 100}},
			PerParty:       Rate{bucket.Rate{Events: 7200, Period: time.Hour, Burst: 30}},
			TrustedProxies: []Network{{netip.MustParsePrefix("10.0.0.0/8")}, {netip.MustParsePrefix("::1/128")}},
		},
		Log:       Log{Level: LogLevel{slog.LevelWarn}, Format: LogJSON, Guarded: true},
		Audit:     &Audit{File: "/conf/audit.jsonl", Required: true},
		Profiling: true,
		Tracing:   &Tracing{Sample: 0.25},
	}
	for text, u := range map[string]interface{ UnmarshalText([]byte) error }{
		"https://provider.example":     &c.Listen.URL,
		"https://registry.example/api": &c.Participants.Registry.URL,
		"http://127.0.0.1:8081":        &c.Routes[0].Upstream,
		"http://backend:3000/base":     &c.Routes[1].Upstream,
		"http://collector:4318":        &c.Tracing.Endpoint,
	} {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func diff(want, got *Config) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Config{}, "places"), cmp.AllowUnexported(State{}, Secret{}), cmpopts.EquateComparable(netip.Prefix{}, state.URL{}))
}

func mustParse(t *testing.T, text string, environ ...string) *Config {
	t.Helper()
	c, err := Parse("/conf/waybill.yaml", []byte(text), environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problemsOf are the problems of a text that must have some.
func problemsOf(t *testing.T, text string, environ ...string) []Problem {
	t.Helper()
	c, err := Parse("waybill.yaml", []byte(text), environ)
	all, ok := errors.AsType[*Error](err)
	if c != nil || !ok {
		t.Fatalf("Parse = %v, %v, want problems", c, err)
	}
	return all.Problems
}

func TestParseEveryKey(t *testing.T) {
	t.Parallel()
	if d := diff(fullConfig(t), mustParse(t, full)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, key := range keys("", reflect.TypeFor[Config]()) {
		if _, ok := mustParse(t, full).places[key]; !ok && key != "participants.file" {
			t.Errorf("the test leaves out %s", key)
		}
	}
}

func TestParseDefaults(t *testing.T) {
	t.Parallel()
	want := &Config{
		Party:        Party{ID: "did:ishare:EU.NL.NTRNL-10000000", Key: "/conf/party-key.pem"},
		Listen:       Listen{Public: "127.0.0.1:8080", Internal: "127.0.0.1:9090", Drain: 15 * time.Second},
		Participants: Participants{File: "/conf/parties.yaml", Cache: 5 * time.Minute, MaxStale: time.Hour},
		Trust:        Trust{Anchors: []Anchor{{File: "/conf/root.pem"}}, Refresh: time.Hour, Revocation: revocation.Require},
		Data:         "/conf/data",
		Tokens:       Tokens{Format: accesstoken.Opaque, Lifetime: time.Hour, Keys: "/conf/data/keys"},
		Policy:       Policy{Leeway: 10 * time.Second, ExtraHeaderParameters: ExtraHeadersRefuse},
		Metrics:      true,
	}
	nulls := "listen:\nstate:\ntokens: {format: , lifetime: ~}\npolicy: {leeway: null}\nscopes:\nroutes:\n"
	for _, text := range []string{least, least + nulls, "# a comment\n---\n" + least} {
		if d := diff(want, mustParse(t, text)); d != "" {
			t.Errorf("%s\n(-want +got):\n%s", text, d)
		}
	}
}

// A key in the environment alone gives what it gives in the file, and wins over it.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	environ := []string{
		"PATH=/bin",
		"WAYBILL_PARTY_ID=did:ishare:EU.NL.NTRNL-10000000",
		"WAYBILL_PARTY_ALSO_KNOWN_AS=EU.EORI.NL000000000, did:web:provider.example",
		"WAYBILL_PARTY_KEY=party-key.pem",
		"WAYBILL_PARTY_CERTIFICATES=/etc/waybill/chain.pem",
		"WAYBILL_LISTEN_PUBLIC=0.0.0.0:443",
		"WAYBILL_LISTEN_TLS_CERTIFICATE=tls.pem",
		"WAYBILL_LISTEN_TLS_KEY=tls-key.pem",
		"WAYBILL_LISTEN_INTERNAL=[::1]:9091",
		"WAYBILL_LISTEN_URL=https://provider.example",
		"WAYBILL_LISTEN_TOKEN_PATHS=/2.1.1/connect/token, /oauth/token",
		"WAYBILL_LISTEN_HTTP2=true",
		"WAYBILL_LISTEN_SHUTDOWN_DELAY=5s",
		"WAYBILL_LISTEN_DRAIN=25s",
		"WAYBILL_LIMITS_CONNECTIONS=1000",
		"WAYBILL_LIMITS_IN_WORK=50",
		"WAYBILL_LIMITS_KNOWN_CLIENTS=20000",
		"WAYBILL_LIMITS_PER_ADDRESS=100/s",
		"WAYBILL_LIMITS_PER_PARTY=7200/h burst 30",
		"WAYBILL_LIMITS_TRUSTED_PROXIES=10.0.0.0/8, ::1",
		"WAYBILL_PARTICIPANTS_FILE=", // as if it were not there
		"WAYBILL_PARTICIPANTS_REGISTRY_ID=did:ishare:EU.NL.NTRNL-10000001",
		"WAYBILL_PARTICIPANTS_REGISTRY_URL=https://registry.example/api",
		"WAYBILL_PARTICIPANTS_REGISTRY_VERSION=3.0",
		"WAYBILL_PARTICIPANTS_REGISTRY_SEALS=" + fingerprint,
		"WAYBILL_PARTICIPANTS_CACHE=1m",
		"WAYBILL_PARTICIPANTS_MAX_STALE=2h",
		"WAYBILL_TRUST_ANCHORS=root.pem," + fingerprint,
		"WAYBILL_TRUST_TRUSTED_LIST=true",
		"WAYBILL_TRUST_REFRESH=30m",
		"WAYBILL_TRUST_REVOCATION=prefer",
		"WAYBILL_TRUST_REVOCATION_ALLOW_PRIVATE=true",
		"WAYBILL_TRUST_REVOCATION_PROXY=http://proxy.example:3128",
		"WAYBILL_DATA=/var/lib/waybill",
		"WAYBILL_STATE=rediss://user:pa55word@redis.example:6379/1", "WAYBILL_STATE_WAIT_REPLICAS=1",
		"WAYBILL_TOKENS_FORMAT=jwt",
		"WAYBILL_TOKENS_ISSUER=url",
		"WAYBILL_TOKENS_LIFETIME=30m",
		"WAYBILL_TOKENS_KEYS=keys",
		`WAYBILL_SCOPES={orders: read orders, "orders:write": write orders}`,
		"WAYBILL_LOG_LEVEL=warn", "WAYBILL_LOG_FORMAT=json", "WAYBILL_LOG_GUARDED=true",
		"WAYBILL_AUDIT_FILE=audit.jsonl", "WAYBILL_AUDIT_REQUIRED=true",
		"WAYBILL_METRICS=false", "WAYBILL_PROFILING=true",
		"WAYBILL_TRACING_ENDPOINT=http://collector:4318", "WAYBILL_TRACING_SAMPLE=0.25",
		"WAYBILL_POLICY_ROLES=ServiceConsumer",
		"WAYBILL_POLICY_DATASPACES=space one",
		"WAYBILL_POLICY_LEEWAY=20s",
		"WAYBILL_POLICY_EXTRA_HEADER_PARAMETERS=allow",
		"WAYBILL_LISTEN_INTERNAL_CALLERS={apisix: secrets/apisix, kong-1: /run/secrets/kong}",
		`WAYBILL_ROUTES=[{path: /api/, upstream: "http://127.0.0.1:8081", scope: iSHARE orders, paths: opaque, preflight: true, pass_token: true}, {path: /, upstream: "http://backend:3000/base"}]`,
		"WAYBILL_CAPABILITIES_ROLES=AuthorisationRegistry",
		"WAYBILL_CAPABILITIES_PUBLIC=[{identifier: timetable, endpoint_url: /timetable}]",
		`WAYBILL_CAPABILITIES_RESTRICTED=[{identifier: orders, title: Orders, description: Read orders, status: deprecated, type: dataspace-defined, ` +
			`endpoint_description: "https://provider.example/orders.json", endpoint_url: "https://provider.example/orders", ` +
			`token_endpoint: "https://tokens.example/connect/token", framework_versions: ["3.0"], dataspace_versions: ["1.2"], version: "2.0", methods: [GET, POST], roles: [ServiceConsumer], dataspaces: [space one]}]`,
	}
	var names []string
	for _, key := range keys("", reflect.TypeFor[Config]()) {
		names = append(names, envName(key))
	}
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		names = slices.DeleteFunc(names, func(n string) bool { return n == name })
	}
	if len(names) > 0 {
		t.Errorf("the test leaves out %v", names)
	}
	other := strings.NewReplacer("NTRNL-1", "NTRNL-2", ".pem", ".p12", "443", "444", "1m", "2m", "2h", "3h", "30m", "40m", "prefer", "off",
		"true", "false", "jwt", "opaque", "orders", "invoices", "20s", "30s", "5s", "6s", "1000", "1001", "in_work: 50", "in_work: 51", "20000", "30000", "100/s", "200/s", "burst 30", "burst 40", "10.0.0.0/8", "10.0.0.0/9", "/api/", "/other/", "timetable", "map", "GET", "PUT").Replace(full)
	for name, text := range map[string]string{"alone": "", "over the file": full, "over another file": other} {
		if d := diff(fullConfig(t), mustParse(t, text, environ...)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	with := func(text string) string { return least + text }
	instead := func(old, text string) string { return strings.Replace(least, old, text, 1) }
	cases := []struct {
		name, text, want string
		more             int // problems that go with it
	}{
		{"empty file", "", "waybill.yaml: party.id: is required. Add it, or set WAYBILL_PARTY_ID.", 3},
		{"comments only", "# nothing\n", "waybill.yaml: trust.anchors: is required", 3},
		{"a list", "- a\n", "waybill.yaml:1:1: want keys with values, got a list", 4},
		{"syntax", "party: {id: did:x:1\ntrust: 5\n", "waybill.yaml:2:6: while parsing a flow mapping: did not find expected ',' or '}'", 0},
		{"not UTF-8", "party: \xff", "waybill.yaml: invalid leading UTF-8 octet", 0},
		{"two documents", with("---\nparty: {}\n"), "waybill.yaml:4:1: want one YAML document, got a second", 0},
		{"broken second document", with("---\n{"), "waybill.yaml:6:1:", 0},
		{"huge", strings.Repeat("#", maxFileSize+1), "the file is over 1 MiB", 0},
		{"unknown key", with("lisen: {}\n"), "waybill.yaml:4:1: lisen: unknown key. Did you mean listen?", 0},
		{"unknown key below", with("tokens:\n  lifetimes: 1h\n"), "waybill.yaml:5:3: tokens.lifetimes: unknown key. Did you mean lifetime?", 0},
		{"unknown key in a list", with("routes:\n - {path: /, upstream: http://h, methods: [GET]}\n"), "waybill.yaml:5:34: routes[0].methods: unknown key", 0},
		{"other case", with("Data: x\n"), "waybill.yaml:4:1: Data: unknown key. Did you mean data?", 0},
		{"duplicate section", with("trust: {anchors: [a.pem]}\n"), "waybill.yaml:4:1: trust: given twice, first on line 3. Remove one.", 0},
		{"duplicate key", with("policy:\n  leeway: 1s\n  roles: []\n  leeway: 2s\n"), "waybill.yaml:7:3: policy.leeway: given twice, first on line 5", 0},
		{"duplicate scope", with("scopes:\n  a: b\n  a: c\n"), "waybill.yaml:6:3: scopes.a: given twice", 0},
		{"merge key", with("tokens:\n  <<: {format: jwt}\n"), "tokens.<<: unknown key", 0},
		{"alias", with("tokens: &t {format: jwt}\npolicy: *t\n"), "waybill.yaml:5:9: policy: want keys with values, got an alias", 0},
		{"tag", with("data: !!binary ZGF0YQ==\n"), "waybill.yaml:4:7: data: want one value without a tag", 0},
		{"list as a key", with("[a]: b\n"), "waybill.yaml:4:1: want the name of a key, got a list", 0},
		{"section as text", instead("{anchors: [root.pem]}", "all"), "waybill.yaml:3:8: trust: want keys with values, got one value", 1},
		{"text as list", with("data: [a]\n"), "waybill.yaml:4:7: data: want one value, got a list", 0},
		{"list as text", instead("[root.pem]", "root.pem"), "waybill.yaml:3:18: trust.anchors: want a list, got one value", 0},
		{"tilde in a list", instead("[root.pem]", "[root.pem, ~]"), "waybill.yaml:3:29: trust.anchors[1]: want one value, got nothing", 0},
		{"scope without a meaning", with("scopes: {orders: }\n"), "scopes.orders: want one value, got nothing", 0},
		{"no party", instead("party", "parti"), "waybill.yaml:1:1: party.id: is required", 2},
		{"no key", instead(", key: party-key.pem", ""), "waybill.yaml:1:1: party.key: is required. Add it, or set WAYBILL_PARTY_KEY.", 0},
		{"empty key", instead("party-key.pem", `""`), "waybill.yaml:1:51: party.key: want text, got nothing", 0},
		{"half of TLS", with("listen: {tls: {key: k.pem}}\n"), "waybill.yaml:4:10: listen.tls.certificate: is required. Add it, or set WAYBILL_LISTEN_TLS_CERTIFICATE.", 0},
		{"empty TLS", with("listen: {tls: {}}\n"), "listen.tls.key: is required", 1},
		{"half a route", with("routes: [{path: /}]\n"), "waybill.yaml:4:10: routes[0].upstream: is required", 0},
		{"empty route", with("routes: [~]\n"), "routes[0].path: is required", 1},
		{"party identifier", instead("did:ishare:EU.NL.NTRNL-10000000", "https://x"), "waybill.yaml:1:13: party.id: not a party identifier", 0},
		{"alias of the party", instead("key:", "also_known_as: [did:x:1, x], key:"), "waybill.yaml:1:71: party.also_known_as[1]: not a party identifier", 0},
		{"password in the file", instead("key:", "password: hunter2, key:"), "party.password: unknown key", 0},
		{"boolean", instead("anchors", "trusted_list: 1, anchors"), `trust.trusted_list: want true or false, got "1"`, 0},
		{"duration without unit", with("policy: {leeway: 10}\n"), `waybill.yaml:4:18: policy.leeway: want a duration such as 30s, 5m or 1h30m, got "10"`, 0},
		{"leeway too long", with("policy: {leeway: 61s}\n"), "policy.leeway: want a duration from 0s to 1m, got 1m1s", 0},
		{"leeway negative", with("policy: {leeway: -1s}\n"), "policy.leeway: want a duration from 0s to 1m, got -1s", 0},
		{"lifetime zero", with("tokens: {lifetime: 0s}\n"), "tokens.lifetime: want a duration from 1s to 24h", 0},
		{"lifetime too long", with("tokens: {lifetime: 25h}\n"), "tokens.lifetime: want a duration from 1s to 24h", 0},
		{"lifetime in parts", with("tokens: {lifetime: 1500ms}\n"), "waybill.yaml:4:10: tokens.lifetime: want whole seconds", 0},
		{"stale before it is fresh", instead("file:", "max_stale: 1m, file:"), "participants.max_stale: want no less than participants.cache, which is 5m0s", 0},
		{"format", with("tokens: {format: JWT}\n"), `tokens.format: want opaque or jwt, got "JWT"`, 0},
		{"issuer", with("tokens: {issuer: me}\n"), `tokens.issuer: want party or url, got "me"`, 0},
		{"issuer without an address", with("tokens: {issuer: url}\n"), "waybill.yaml:4:10: tokens.issuer: url needs listen.url", 0},
		{"revocation", instead("anchors", "revocation: no, anchors"), `trust.revocation: want require or prefer or off, got "no"`, 0},
		{"proxy without a scheme", instead("anchors", "revocation_proxy: 'proxy.example:3128', anchors"), "trust.revocation_proxy: want a URL such as https://example.com", 0},
		{"proxy of another kind", instead("anchors", "revocation_proxy: 'socks5://proxy.example', anchors"), "trust.revocation_proxy: want a URL such as https://example.com", 0},
		{"proxy with a password", instead("anchors", "revocation_proxy: 'http://user:pa55word@proxy.example', anchors"), "trust.revocation_proxy: want a URL without user and password", 0},
		{"proxy with a path", instead("anchors", "revocation_proxy: 'http://proxy.example/wpad.dat', anchors"), "trust.revocation_proxy: want the address of a proxy without a path", 0},
		{"extra headers", with("policy: {extra_header_parameters: ok}\n"), `policy.extra_header_parameters: want refuse or allow, got "ok"`, 0},
		{"registry version", instead("file: parties.yaml", "registry: {id: did:x:1, url: https://h, version: 3}"), `participants.registry.version: want auto or 3.0 or 2, got "3"`, 0},
		{"both sources", instead("file:", "registry: {id: did:x:1, url: https://h}, file:"), "waybill.yaml:2:16: participants.registry: participants.file is given as well. Remove one of them.", 0},
		{"no source", instead("file: parties.yaml", "cache: 1m"), "waybill.yaml:2:1: participants: is required. Add participants.file, or participants.registry.", 0},
		{"trusted list of a file", instead("anchors", "trusted_list: true, anchors"), "trust.trusted_list: only a registry has a trusted list", 0},
		{"registry over plain HTTP", instead("file: parties.yaml", "registry: {id: did:x:1, url: http://h}"), "participants.registry.url: want https", 0},
		{"registry with a query", instead("file: parties.yaml", "registry: {id: did:x:1, url: 'https://h?a=b'}"), "want a URL without query", 0},
		{"registry with a password", instead("file: parties.yaml", "registry: {id: did:x:1, url: 'https://user:pa55word@h'}"), "want a URL without user and password", 0},
		{"registry by FTP", instead("file: parties.yaml", "registry: {id: did:x:1, url: ftp://h}"), "want a URL such as https://example.com", 0},
		{"registry without a host", instead("file: parties.yaml", "registry: {id: did:x:1, url: 'https://'}"), "want a URL such as https://example.com", 0},
		{"no anchor", instead("[root.pem]", "[]"), "trust.anchors: want at least one", 0},
		{"empty anchor", instead("[root.pem]", "['']"), "trust.anchors[0]: want the file of a certificate", 0},
		{"SHA-1", instead("root.pem", "'"+fingerprint[:59]+"'"), "trust.anchors[0]: want a SHA-256 fingerprint", 0},
		{"address without port", with("listen: {public: localhost}\n"), "listen.public: want host:port", 0},
		{"port of a name", with("listen: {public: 'localhost:http'}\n"), `listen.public: want a port from 0 to 65535, got "http"`, 0},
		{"port too high", with("listen: {internal: ':65536'}\n"), `listen.internal: want a port from 0 to 65535, got "65536"`, 0},
		{"URL as an address", with("listen: {public: 'http://localhost:80'}\n"), "listen.public: want host:port", 0},
		{"path as an address", with("listen: {public: '/run/x:80'}\n"), `listen.public: want an IP address or a host name before the port`, 0},
		{"number that is none", with("limits: {connections: many}\n"), `limits.connections: want a whole number, got "many"`, 0},
		{"number too low", with("limits: {connections: 0}\n"), "limits.connections: want a number from 16 to 100000, got 0", 0},
		{"number too high", with("limits: {connections: 1000000}\n"), "limits.connections: want a number from 16 to 100000, got 1000000", 0},
		{"rate without a time", with("limits: {per_address: 100}\n"), `limits.per_address: want a rate such as 100/s, 600/m or 20/s burst 200, got "100"`, 0},
		{"rate of nothing", with("limits: {per_address: 0/s}\n"), "limits.per_address: want a rate such as", 0},
		{"burst of nothing", with("limits: {per_party: 1/s burst 0}\n"), "limits.per_party: want a rate such as", 0},
		{"rate too high", with("limits: {per_party: 1/s burst 1000001}\n"), "limits.per_party: want a rate of at most 1000000", 0},
		{"proxy by its name", with("limits: {trusted_proxies: [proxy.example]}\n"), `limits.trusted_proxies[0]: want an IP address, or a network such as 10.0.0.0/8, got "proxy.example"`, 0},
		{"proxy of a zone", with("limits: {trusted_proxies: ['fe80::1%eth0']}\n"), "limits.trusted_proxies[0]: want an IP address", 0},
		{"everybody", with("limits: {trusted_proxies: ['::/0']}\n"), `limits.trusted_proxies[0]: want the addresses of proxies, and "::/0" are all there are`, 0},
		{"address of a network", with("limits: {trusted_proxies: [10.0.0.1/8]}\n"), `limits.trusted_proxies[0]: want the network 10.0.0.0/8, or one address of it, got "10.0.0.1/8"`, 0},
		{"token path without a slash", with("listen: {token_paths: [token]}\n"), "waybill.yaml:4:24: listen.token_paths[0]: want a path such as /2.1.1/connect/token", 0},
		{"token path with a dot segment", with("listen: {token_paths: [/a/../token]}\n"), "listen.token_paths[0]: want a path such as", 0},
		{"token path that ends with a dot", with("listen: {token_paths: [/a./token]}\n"), "listen.token_paths[0]: want a path such as", 0},
		{"token path encoded", with("listen: {token_paths: [/a%2ftoken]}\n"), "listen.token_paths[0]: want a path such as", 0},
		{"token path with an empty segment", with("listen: {token_paths: [//token]}\n"), "listen.token_paths[0]: want a path such as", 0},
		{"token path with a slash at its end", with("listen: {token_paths: [/token/]}\n"), "listen.token_paths[0]: want a path such as", 0},
		{"token path with a wildcard", with("listen: {token_paths: ['/{v}/token']}\n"), "listen.token_paths[0]: want a path such as", 0},
		{"token path that is the root", with("listen: {token_paths: [/]}\n"), "listen.token_paths[0]: want a path such as", 0},
		{"token path without end", with("listen: {token_paths: [/" + strings.Repeat("a", 200) + "]}\n"), "at most 200 characters", 0},
		{"one listener twice", with("listen: {public: ':80', internal: ':80'}\n"), "waybill.yaml:4:25: listen.internal: is the same as listen.public", 0},
		{"state", with("state: disk\n"), "waybill.yaml:4:8: state: want memory, or the URL of a store: want a URL that begins with redis://", 0},
		{"waiting in memory", with("state_wait_replicas: 1\n"), "waybill.yaml:4:1: state_wait_replicas: only replicas of Redis or Valkey can be waited for", 0},
		{"waiting for a crowd", with("state: redis://h\nstate_wait_replicas: 17\n"), "state_wait_replicas: want a number from 0 to 16", 0},
		{"scope with a space", with("scopes: {a b: c}\n"), "waybill.yaml:4:10: scopes.a b: want one scope value", 0},
		{"scope with a quote", with("scopes: {'a\"': c}\n"), "malformed scope", 0},
		{"iSHARE as a scope", with("scopes: {iSHARE: c}\n"), "scopes.iSHARE: iSHARE is always known; remove it", 0},
		{"empty role", with("policy: {roles: ['']}\n"), "policy.roles[0]: want text, got nothing", 0},
		{"seal that is a file", instead("file: parties.yaml", "registry: {id: did:x:1, url: https://h, seals: [seal.pem]}"), "participants.registry.seals[0]: want a SHA-256 fingerprint (64 hex digits)", 0},
		{"seal by SHA-1", instead("file: parties.yaml", "registry: {id: did:x:1, url: https://h, seals: ["+fingerprint[:59]+"]}"), "participants.registry.seals[0]: want a SHA-256 fingerprint (64 hex digits); this has the length of SHA-1", 0},
		{"service without an address", with("capabilities: {public: [{identifier: a}]}\n"), "waybill.yaml:4:25: capabilities.public[0].endpoint_url: is required", 0},
		{"service of a strange type", with("capabilities: {restricted: [{identifier: a, endpoint_url: /, type: own}]}\n"), "capabilities.restricted[0].type: want self-defined or", 0},
		{"route scope unknown", with("routes: [{path: /, upstream: http://h, scope: iSHARE orders}]\n"), `waybill.yaml:4:40: routes[0].scope: no client can get the scope "orders". Add it to scopes.`, 0},
		{"route upstream", with("routes: [{path: /a, upstream: 'unix:/run/x'}]\n"), "routes[0].upstream: want a URL", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var lines []string
			for _, p := range problemsOf(t, c.text) {
				lines = append(lines, p.String())
			}
			if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, c.want) }) {
				t.Errorf("no problem says\n  %s\nbut\n  %s", c.want, strings.Join(lines, "\n  "))
			}
			if len(lines) != 1+c.more {
				t.Errorf("%d problems, want %d:\n  %s", len(lines), 1+c.more, strings.Join(lines, "\n  "))
			}
		})
	}
}

func TestAllProblemsAtOnceInOrder(t *testing.T) {
	t.Parallel()
	_, err := Parse("/conf/waybill.yaml", []byte(`party:
  id: nobody
  nmae: x
listen: {public: here}
participants:
  cache: soon
trust:
  anchors: []
  revocation: maybe
`), []string{"WAYBILL_POLICY_LEEWAY=1h", "WAYBILL_PARTY_IDS=x"})
	want := `$WAYBILL_PARTY_IDS: no key has this name. Did you mean WAYBILL_PARTY_ID?
$WAYBILL_POLICY_LEEWAY: policy.leeway: want a duration from 0s to 1m, got 1h0m0s
/conf/waybill.yaml:1:1: party.key: is required. Add it, or set WAYBILL_PARTY_KEY.
/conf/waybill.yaml:2:7: party.id: not a party identifier: want <method>:<value> or EU.EORI.<number>
/conf/waybill.yaml:3:3: party.nmae: unknown key
/conf/waybill.yaml:4:18: listen.public: want host:port, such as 127.0.0.1:8080, or :8080 for every address of the machine
/conf/waybill.yaml:5:1: participants: is required. Add participants.file, or participants.registry.
/conf/waybill.yaml:6:10: participants.cache: want a duration such as 30s, 5m or 1h30m, got "soon"
/conf/waybill.yaml:8:12: trust.anchors: want at least one
/conf/waybill.yaml:9:15: trust.revocation: want require or prefer or off, got "maybe"`
	if err == nil {
		t.Fatal("accepted")
	}
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestProblemsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"WAYBILL_PARTY_ID=nobody":                           "$WAYBILL_PARTY_ID: party.id: not a party identifier",
		"WAYBILL_PARTY_ALSO_KNOWN_AS=did:x:1,,EU":           "$WAYBILL_PARTY_ALSO_KNOWN_AS: party.also_known_as[1]: not a party identifier: empty",
		"WAYBILL_ROUTES=[{path: /}]":                        "$WAYBILL_ROUTES: routes[0].upstream: is required",
		"WAYBILL_ROUTES=[{path: /":                          "$WAYBILL_ROUTES: routes: want YAML on one line: while parsing a flow mapping",
		"WAYBILL_ROUTES=/":                                  "$WAYBILL_ROUTES: routes: want a list, got one value",
		"WAYBILL_SCOPES=orders":                             "$WAYBILL_SCOPES: scopes: want keys with values, got one value",
		"WAYBILL_SCOPES={a: b, a: c}":                       "$WAYBILL_SCOPES: scopes.a: given twice",
		"WAYBILL_LISTEN_TLS_KEY=k.pem":                      "$WAYBILL_LISTEN_TLS_KEY: listen.tls.certificate: is required",
		"WAYBILL_TRUST_REVOCATION=~":                        `$WAYBILL_TRUST_REVOCATION: trust.revocation: want require or prefer or off, got "~"`,
		"WAYBILL_PARTICIPANTS_REGISTRY_URL=https://h":       "$WAYBILL_PARTICIPANTS_REGISTRY_URL: participants.registry: participants.file is given as well",
		"WAYBILL_TRUST_ANCHOR=root.pem":                     "$WAYBILL_TRUST_ANCHOR: no key has this name. Did you mean WAYBILL_TRUST_ANCHORS?",
		"WAYBILL_TOKENS_EXPIRE_AFTER=1h":                    "$WAYBILL_TOKENS_EXPIRE_AFTER: no key has this name",
		"WAYBILL_PARTY_KEY_PASSWORDS=pa55word":              "$WAYBILL_PARTY_KEY_PASSWORDS: no key has this name. Did you mean WAYBILL_PARTY_KEY_PASSWORD?",
		"WAYBILL_PARTY_KEY_PASSWORD_FILE=/nowhere/pw":       "$WAYBILL_PARTY_KEY_PASSWORD_FILE: the file cannot be read",
		"WAYBILL_PARTY_KEY_PASSWORD_FILE=/dev/null":         "$WAYBILL_PARTY_KEY_PASSWORD_FILE: the file is empty",
		"WAYBILL_TOKENS={format: jwt}":                      "$WAYBILL_TOKENS: no key has this name. It is a section; set its keys one by one.",
		"WAYBILL_LISTEN_TLS={key: k.pem}":                   "$WAYBILL_LISTEN_TLS: no key has this name. It is a section",
		"WAYBILL_LISTEN_INTERNAL_SECRET=pa55word":           "$WAYBILL_LISTEN_INTERNAL_SECRET: listen.internal: want a secret of at least 16 printable ASCII characters, without blanks. Make one",
		"WAYBILL_LISTEN_INTERNAL_SECRET=pa55word with more": "$WAYBILL_LISTEN_INTERNAL_SECRET: listen.internal: want a secret of",
		"WAYBILL_STATE=redis://:pa55word@h:port":            "$WAYBILL_STATE: state: want memory",

		"WAYBILL_LISTEN_INTERNAL_CALLERS={a/b: f}":     "$WAYBILL_LISTEN_INTERNAL_CALLERS: listen.internal_callers.a/b: want a name of up to 64 letters",
		"WAYBILL_LISTEN_INTERNAL_CALLERS={a: f, a: g}": "listen.internal_callers.a: given twice",
		"WAYBILL_LISTEN_INTERNAL_CALLERS={a: ~}":       "listen.internal_callers.a: want one value, got nothing",
		"WAYBILL_LISTEN_INTERNAL_CALLERS={a: {b: c}}":  "listen.internal_callers.a: want one value, got keys with values",
		"WAYBILL_ROUTES=[{path: /, paths: any}]":       `routes[0].paths: want auto or exact or opaque, got "any"`,
		"WAYBILL_ROUTES=[{path: /, pass_token: yes}]":  `routes[0].pass_token: want true or false, got "yes"`,
		"WAYBILL_ROUTES=[{path: /, preflight: 1}]":     `routes[0].preflight: want true or false, got "1"`,
	}
	for variable, want := range cases {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			err := (&Error{problemsOf(t, least, variable)}).Error()
			if !strings.Contains(err, want) {
				t.Errorf("error %q does not say %q", err, want)
			}
			if strings.Contains(err, "pa55word") {
				t.Errorf("the error shows a password: %s", err)
			}
		})
	}
}

func TestEmptyVariableAsksForNoSection(t *testing.T) {
	t.Parallel()
	if c := mustParse(t, least, "WAYBILL_LISTEN_TLS_KEY=", "WAYBILL_PARTICIPANTS_REGISTRY_ID="); c.Listen.TLS != nil || c.Participants.Registry != nil {
		t.Errorf("listen %+v, participants %+v", c.Listen, c.Participants)
	}
}

// A list is set as a whole, and nothing reaches into it.
func TestEnvironmentCannotReachIntoList(t *testing.T) {
	t.Parallel()
	c := mustParse(t, full, "WAYBILL_ROUTES[0]_PATH=/other/")
	if c.Routes[0].Path != "/api/" {
		t.Errorf("path %q", c.Routes[0].Path)
	}
}

func TestListenersOnFreePorts(t *testing.T) {
	t.Parallel()
	mustParse(t, least+"listen: {public: '127.0.0.1:0', internal: '127.0.0.1:0'}\n")
}

func TestOtherVariablesAreNotOurs(t *testing.T) {
	t.Parallel()
	mustParse(t, least, "WAYBILL_TEST_SERVICES=require", "WAYBILL_CONFIG=waybill.yaml", "WAYBILLPARTY=x", "HOME=/", "=C:=C:\\", "WAYBILL",
		// What Kubernetes sets for a service named waybill.
		"WAYBILL_PORT=tcp://10.0.0.1:80", "WAYBILL_SERVICE_HOST=10.0.0.1", "WAYBILL_SERVICE_PORT=80", "WAYBILL_SERVICE_PORT_HTTP=80",
		"WAYBILL_PORT_80_TCP=tcp://10.0.0.1:80", "WAYBILL_PORT_80_TCP_PROTO=tcp", "WAYBILL_PORT_80_TCP_PORT=80", "WAYBILL_PORT_80_TCP_ADDR=10.0.0.1")
}

func TestPassword(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("password", "pa55 word \r\n")
	write("waybill.yaml", least)
	for _, environ := range [][]string{
		{"WAYBILL_PARTY_KEY_PASSWORD=pa55 word "},
		{"WAYBILL_PARTY_KEY_PASSWORD_FILE=" + file},
		{"WAYBILL_PARTY_KEY_PASSWORD_FILE=password", "WAYBILL_PARTY_KEY_PASSWORD="},
	} {
		c, err := Load(filepath.Join(dir, "waybill.yaml"), environ)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Party.Password.Reveal(); got != "pa55 word " {
			t.Errorf("%v: password %q", environ, got)
		}
	}
	if got := mustParse(t, least).Party.Password; got.Reveal() != "" || got.String() != "" {
		t.Errorf("password %q without one", got.Reveal())
	}
	problems := problemsOf(t, least, "WAYBILL_PARTY_KEY_PASSWORD=a", "WAYBILL_PARTY_KEY_PASSWORD_FILE="+file)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "set as well") {
		t.Errorf("problems %v", problems)
	}
	huge := write("huge", strings.Repeat("x", 4097))
	if problems := problemsOf(t, least, "WAYBILL_PARTY_KEY_PASSWORD_FILE="+huge); len(problems) != 1 || !strings.Contains(problems[0].Message, "over 4 KiB") {
		t.Errorf("problems %v", problems)
	}
}

func TestSecretsHideThemselves(t *testing.T) {
	t.Parallel()
	c := mustParse(t, full, "WAYBILL_PARTY_KEY_PASSWORD=pa55word", "WAYBILL_LISTEN_INTERNAL_SECRET=pa55word-pa55word")
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("read", "config", c, "state", c.State, "password", c.Party.Password, "party", c.Party)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("read", "config", c, "state", c.State, "password", c.Party.Password)
	fmt.Fprintf(&log, "%v %+v %#v %s %q", *c, *c, *c, c.Party.Password, c.State)
	if strings.Contains(log.String(), "pa55word") {
		t.Errorf("a password is shown:\n%s", log.String())
	}
	if c.State != (State{must(state.ParseURL("rediss://user:pa55word@redis.example:6379/1"))}) {
		t.Error("the address of the state lost its password")
	}
}

// Whoever takes the last caller out shuts the door, and does not open it.
func TestNoCallers(t *testing.T) {
	t.Parallel()
	for text, isNil := range map[string]bool{"": true, "listen: {internal_callers: {}}": false, "listen:\n  internal_callers:\n": false, "listen: {internal_callers: ~}": false} {
		if got := mustParse(t, least+text).Listen.InternalCallers; (got == nil) != isNil || len(got) > 0 {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestIsWeakSecret(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]bool{
		"0123456789abcdef": true, strings.Repeat("ab", 32): true, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": true,
		"5c1fd3a90b7e24688c03fe9d1a57b246": false, "kJ9xQ2vL7mZ4tR8wN1cB5g": false,
	} {
		if IsWeakSecret(secret) != want {
			t.Errorf("%q: %t", secret, !want)
		}
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	c := mustParse(t, full, "WAYBILL_PARTY_KEY=other.pem", "WAYBILL_PARTICIPANTS_REGISTRY_ID=did:x:1")
	for key, want := range map[string]string{
		"party.key":                   "$WAYBILL_PARTY_KEY",
		"party.id":                    "/conf/waybill.yaml:2:3",
		"party.also_known_as[1]":      "/conf/waybill.yaml:3:40",
		"listen.tls.key":              "/conf/waybill.yaml:8:31",
		"participants.file":           "/conf/waybill.yaml:16:1",
		"participants.registry.id":    "$WAYBILL_PARTICIPANTS_REGISTRY_ID",
		"participants.registry":       "/conf/waybill.yaml:17:3",
		"trust.anchors[1]":            "/conf/waybill.yaml:23:7",
		"trust.anchors[7]":            "/conf/waybill.yaml:21:3",
		"scopes.orders":               "/conf/waybill.yaml:33:10",
		"routes[1].upstream":          "/conf/waybill.yaml:38:5",
		"routes[1].scope":             "/conf/waybill.yaml:37:5",
		"no.such.key":                 "/conf/waybill.yaml:1:1",
		"":                            "/conf/waybill.yaml:1:1",
		"participants.registry.x.y.z": "/conf/waybill.yaml:17:3",
	} {
		if got := c.At(key).String(); got != want {
			t.Errorf("At(%s) = %s, want %s", key, got, want)
		}
	}
	p := c.Problem("party.id", "is somebody else's", "Use your own.")
	if got, want := p.String(), "/conf/waybill.yaml:2:3: party.id: is somebody else's. Use your own."; got != want {
		t.Errorf("problem %q, want %q", got, want)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "waybill.yaml")
	if _, err := Load(path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	if _, err := Load(filepath.Dir(path), nil); err == nil {
		t.Error("a folder was accepted")
	}
	os.WriteFile(path, []byte(least), 0o600)
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(c.Party.Key), filepath.Join(filepath.Dir(path), "party-key.pem"); got != want {
		t.Errorf("key %q, want %q", got, want)
	}
	environ := []string{"WAYBILL_PARTY_ID=did:x:1", "WAYBILL_PARTY_KEY=k.pem", "WAYBILL_PARTICIPANTS_FILE=p.yaml", "WAYBILL_TRUST_ANCHORS=r.pem"}
	if c, err = Load("", environ); err != nil || c.Party.Key != "k.pem" || c.Data != "data" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	if _, err = Load("", environ[1:]); err == nil || !strings.HasPrefix(err.Error(), "environment: party.id: is required") {
		t.Errorf("without a file: %v", err)
	}
}

// Whoever inspects gets what could be read, so that it can be looked at further.
func TestInspect(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "waybill.yaml")
	if _, _, err := Inspect(path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	os.WriteFile(path, []byte(least+"policy: {leeway: soon}\n"), 0o600)
	c, problems, err := Inspect(path, nil)
	if err != nil || len(problems) != 1 || problems[0].Key != "policy.leeway" {
		t.Errorf("problems %v, error %v", problems, err)
	}
	if c.Party.ID == "" || c.Policy.Leeway != 10*time.Second || c.At("policy.leeway").Line != 4 {
		t.Errorf("what could be read is lost: %+v", c)
	}
	os.WriteFile(path, []byte(least), 0o600)
	if _, problems, err = Inspect(path, nil); err != nil || len(problems) > 0 {
		t.Errorf("problems %v, error %v", problems, err)
	}
}

// The password of a store stands in the environment, and nowhere twice.
// A relative file in the URL of a state counts from the folder of the configuration, as all files do.
func TestStateFiles(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"rediss://h?ca=roots/redis.pem":                            "rediss://h?ca=%2Fetc%2Fwaybill%2Froots%2Fredis.pem",
		"rediss-sentinel://u:p%3Fw@h/name?sentinel_auth=same&ca=a": "rediss-sentinel://u:p%3Fw@h/name?ca=%2Fetc%2Fwaybill%2Fa&sentinel_auth=same",
		"rediss://h?ca=/roots/redis.pem":                           "rediss://h?ca=/roots/redis.pem",
		"postgres://h/waybill?sslmode=require":                     "postgres://h/waybill?sslmode=require",
	} {
		for file, environ := range map[string][]string{least + "state: '" + given + "'\n": nil, least: {"WAYBILL_STATE=" + given}} {
			c, err := Parse("/etc/waybill/waybill.yaml", []byte(file), environ)
			if err != nil {
				t.Fatal(err)
			}
			if c.State.URL != must(state.ParseURL(want)) {
				t.Errorf("%s: not %s", given, want)
			}
		}
	}
}

func TestStatePassword(t *testing.T) {
	t.Parallel()
	c := mustParse(t, least+"state: redis://user@h/1\n", "WAYBILL_STATE_PASSWORD=pa55 word")
	if want := must(state.ParseURL("redis://user:pa55%20word@h/1")); c.State.URL != want {
		t.Errorf("%#v", c.State)
	}
	if c := mustParse(t, least, "WAYBILL_STATE_PASSWORD=pa55word"); !c.State.Memory() {
		t.Error("a password makes a store")
	}
	_, err := Parse("waybill.yaml", []byte(least+"state: redis://:old@h/1\n"), []string{"WAYBILL_STATE_PASSWORD=pa55word"})
	if err == nil || !strings.Contains(err.Error(), "state: $WAYBILL_STATE_PASSWORD is set, but the URL has a password already") || strings.Contains(err.Error(), "pa55word") {
		t.Error(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// The zero value of every enumeration is the one that is safe.
func TestZeroValuesAreSafe(t *testing.T) {
	t.Parallel()
	var c Config
	got := []string{
		c.Trust.Revocation.String(), c.Tokens.Format.String(), new(Registry).Version.String(),
		c.State.String(), c.Policy.Leeway.String(), strconv.FormatBool(c.Trust.TrustedList), strconv.FormatBool(c.Trust.RevocationAllowPrivate),
	}
	if c.Tokens.Issuer != IssuerParty || c.Policy.ExtraHeaderParameters != ExtraHeadersRefuse {
		t.Errorf("issuer %d, extra header parameters %d", c.Tokens.Issuer, c.Policy.ExtraHeaderParameters)
	}
	if d := cmp.Diff([]string{"require", "opaque", "auto", "memory", "0s", "false", "false"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Plain http is for the machine itself, however it is spelt.
func TestEndpointOverPlainHTTP(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"http://localhost:8080": true, "http://LocalHost:8080": true, "http://[::1]:8080": true, "http://localhost.example": false, "http://10.0.0.1": false,
	} {
		var e Endpoint
		if err := e.UnmarshalText([]byte(address)); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestEveryDurationIsBounded(t *testing.T) {
	t.Parallel()
	var visit func(reflect.Type)
	visit = func(s reflect.Type) {
		for f := range s.Fields() {
			switch {
			case f.Type == reflect.TypeFor[time.Duration]():
				low, errLow := time.ParseDuration(f.Tag.Get("min"))
				high, errHigh := time.ParseDuration(f.Tag.Get("max"))
				if errLow != nil || errHigh != nil || low >= high {
					t.Errorf("%s.%s: bounds %q and %q", s, f.Name, f.Tag.Get("min"), f.Tag.Get("max"))
				}
			case f.Type.Kind() == reflect.Struct && keyName(f) != "":
				visit(f.Type)
			}
		}
	}
	visit(reflect.TypeFor[Config]())
}

// FuzzParse feeds the parser. A configuration that comes out is complete; problems
// that come out say something, and stand in the file or the environment.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{least, full, "", "a: &a [*a]", "routes: [{}, [], ~]", "scopes: {a: {b: c}}", "? {a: b}\n: c", "party: {id: [1, {x: y}]}"} {
		f.Add(seed, "")
		f.Add(least, seed)
	}
	for _, line := range []string{"[{path: /, upstream: http://h}]", "{a: b}", "[["} {
		f.Add(least, line)
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		c, err := Parse("waybill.yaml", []byte(text), []string{"WAYBILL_ROUTES=" + value, "WAYBILL_SCOPES=" + value, "WAYBILL_PARTY_ALSO_KNOWN_AS=" + value})
		if err == nil {
			if c.Party.ID == "" || c.Party.Key == "" || len(c.Trust.Anchors) == 0 || c.Data == "" || c.Tokens.Lifetime < time.Second ||
				(c.Participants.File == "") == (c.Participants.Registry == nil) || c.Policy.Leeway > time.Minute {
				t.Errorf("incomplete: %+v", c)
			}
			return
		}
		all, ok := errors.AsType[*Error](err)
		if !ok || len(all.Problems) == 0 {
			t.Fatalf("error without problems: %v", err)
		}
		for _, p := range all.Problems {
			if p.Message == "" || p.File != "waybill.yaml" && !strings.HasPrefix(p.File, "$WAYBILL_") {
				t.Errorf("problem %+v", p)
			}
		}
	})
}

// The page about the configuration shows every key, and can be used as it is.
func TestDocumentedConfiguration(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	c := mustParse(t, text)
	for _, key := range keys("", reflect.TypeFor[Config]()) {
		if _, ok := c.places[key]; !ok && key != "participants.file" {
			t.Errorf("the page leaves out %s", key)
		}
	}
	for service := range reflect.TypeFor[Service]().Fields() {
		if _, ok := c.places["capabilities.restricted[0]."+keyName(service)]; !ok {
			t.Errorf("the page leaves out %s of a service", keyName(service))
		}
	}
	for route := range reflect.TypeFor[Route]().Fields() {
		if _, ok := c.places["routes[0]."+keyName(route)]; !ok {
			t.Errorf("the page leaves out %s of a route", keyName(route))
		}
	}
	for _, variable := range []string{envPassword, envPassword + fileSuffix, envSecret, envSecret + fileSuffix} {
		if !strings.Contains(string(page), "`"+variable+"`") {
			t.Errorf("the page leaves out %s", variable)
		}
	}
}
