package daemon_test

import (
	"bytes"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/rule"
)

// passedOn are the paths at which a proxy passes everybody on to Waybill. That of the description is left to the API, which
// often has one of its own.
func passedOn() []string {
	return slices.DeleteFunc(daemon.OwnPaths(), func(path string) bool { return path == "/openapi.json" })
}

// Through the three proxies everybody reaches what Waybill serves to everybody, and nobody the API in this way.
func TestProxiesPassOn(t *testing.T) {
	t.Parallel()
	const offer = "WAYBILL_CAPABILITIES_RESTRICTED=[{identifier: orders, endpoint_url: /orders}]"
	for _, f := range fronts() {
		t.Run(f.program, func(t *testing.T) {
			t.Parallel()
			f.find(t)
			all := callers()[:1]
			s := startFor(t, all, offer, "WAYBILL_LIMITS_TRUSTED_PROXIES=127.0.0.1")
			g := f.open(t, s, strings.TrimPrefix(s.internal, "http://"))
			t.Run("token", func(t *testing.T) { g.givesTokens(t, all[0]) })
			t.Run("refusal", func(t *testing.T) { g.refusesTokens(t, all[0]) })
			t.Run("sizes", func(t *testing.T) { g.boundsForms(t, all[0]) })
			t.Run("address", func(t *testing.T) { g.tellsAddresses(t, all[0]) })
			t.Run("discovery", func(t *testing.T) { g.tellsOfWaybill(t, all[0]) })
			for _, v := range intruders() {
				t.Run(v.name, func(t *testing.T) { g.visit(t, all[0], v) })
			}
			t.Run("stopped", func(t *testing.T) { g.passesOnToNobody(t, all[0]) })
		})
	}
}

// through is Waybill as clients of the proxy see it.
func (g *gate) through() *server {
	s := *g.waybill
	s.url = "http://" + g.addr
	return &s
}

// unseen wants the API to know nothing of what was asked.
func (g *gate) unseen(t *testing.T) {
	t.Helper()
	for _, seen := range g.api.take() {
		t.Errorf("the API has seen %s %s", seen.Method, seen.RequestURI)
	}
}

// givesTokens gets one with all that a client could pretend with, and uses it.
func (g *gate) givesTokens(t *testing.T, c caller) {
	t.Helper()
	r := c.party.Request(providerID)
	r.As(c.alias)
	for _, field := range pretence {
		name, value, _ := strings.Cut(field, ": ")
		r.Header.Add(name, value)
	}
	a := g.through().send(t, r)
	if err := a.Meets(nil); err != nil {
		t.Fatal(err)
	}
	g.unseen(t)
	g.visit(t, c, visit{"", question{fields: []string{bearing(a.AccessToken)}}, 200, "", "iSHARE"})
}

// refusesTokens wants the answer to be Waybill's, with the id by which the operator finds it in the log.
func (g *gate) refusesTokens(t *testing.T, c caller) {
	t.Helper()
	a := g.through().send(t, c.party.Request("did:ishare:EU.NL.NTRNL-99999999"))
	if err := a.Meets(rule.ClaimAud); err != nil {
		t.Error(err)
	}
	ids := map[any]bool{}
	for _, event := range g.waybill.log.records(t, "token request") {
		ids[event["correlation"]] = true
	}
	if id := a.Header.Get("X-Request-Id"); id == "" || !ids[id] {
		t.Errorf("X-Request-Id is %q, the log has %v", id, ids)
	}
	g.unseen(t)
}

// boundsForms sends one that Waybill takes, and one that is too large for it.
func (g *gate) boundsForms(t *testing.T, c caller) {
	t.Helper()
	for size, want := range map[int]int{50 << 10: http.StatusOK, 70 << 10: http.StatusRequestEntityTooLarge} {
		r := c.party.Request(providerID)
		r.Form.Add("padding", strings.Repeat("x", size))
		if status, _, body := exchange(t, plain(t), r.HTTP(g.through().url)); status != want {
			t.Errorf("padded by %d bytes: status %d, want %d: %s", size, status, want, body)
		}
	}
	g.unseen(t)
}

// tellsAddresses asks from an address that is not the proxy's, and claims to have another.
func (g *gate) tellsAddresses(t *testing.T, c caller) {
	t.Helper()
	from := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}
	t.Cleanup(from.CloseIdleConnections)
	for _, claim := range []string{"", "X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.9"} {
		r := c.party.Request(providerID)
		if name, value, ok := strings.Cut(claim, ": "); ok {
			r.Header.Set(name, value)
		}
		if status, _, body := exchange(t, &http.Client{Transport: from}, r.HTTP(g.through().url)); status != http.StatusOK {
			t.Fatalf("%q: status %d, %s", claim, status, body)
		}
		events := g.waybill.log.records(t, "token request")
		if got := events[len(events)-1]["remote"]; got != "127.0.0.2:0" {
			t.Errorf("%q: the log says that the request came from %v", claim, got)
		}
	}
}

// tellsOfWaybill finds out what clients need to know.
func (g *gate) tellsOfWaybill(t *testing.T, c caller) {
	t.Helper()
	through := g.through()
	for _, path := range passedOn() {
		want, wantHeader, wantBody := get(t, plain(t), g.waybill.url+path)
		got, header, body := get(t, plain(t), through.url+path)
		if got != want || header.Get("Content-Type") != wantHeader.Get("Content-Type") || header.Get("Cache-Control") != wantHeader.Get("Cache-Control") {
			t.Errorf("%s: status %d, %v; from Waybill %d, %v", path, got, header, want, wantHeader)
		}
		if id := header.Get("X-Request-Id"); id != "" { // of which each request has its own
			body = bytes.Replace(body, []byte(id), []byte(wantHeader.Get("X-Request-Id")), 1)
		}
		if path != "/capabilities" && !bytes.Equal(body, wantBody) { // which is signed anew each time
			t.Errorf("%s: %s; from Waybill %s", path, body, wantBody)
		}
	}
	if _, _, _, restricted := through.services(t); len(restricted) > 0 {
		t.Errorf("a stranger is told of %q", restricted)
	}
	_, _, _, restricted := through.services(t, "Authorization", "Bearer "+c.token(t, g.waybill, "iSHARE"))
	if !slices.Equal(restricted, []string{"orders"}) {
		t.Errorf("a participant is told of %q", restricted)
	}
	g.unseen(t)
}

// intruders have no token, and names that are nearly those at which they need none.
func intruders() (visits []visit) {
	for status, paths := range map[int][]string{
		http.StatusBadRequest: { // could be read in two ways
			"/connect/token/../orders", "/connect/token/../../orders", "/connect/token/..", "/connect/./token", "/orders/../connect/token",
			"/connect/token/%2e%2e/%2E%2e/orders", "/connect/token/..%2f..%2forders", "/connect/token%2f..%2forders", "/orders%2f..%2fconnect/token",
			"//connect/token", "/connect//token", "/connect/token//orders", "/connect/token;/orders", "/connect/token%3b/orders", "/connect/token.",
			"/connect/token%20", "/connect/token%00", "/connect/token%0a", "/connect/token%0d%0a", `/connect/token\..\orders`, "/connect/token%5c..%5corders",
			"/connect/token#/../orders", "/connect/token%23", "/connect/token%3f", "/connect%252ftoken", "/connect/token%c0%af", "/connect/token(s(x))",
			"/capabilities/../orders", "/.well-known/jwks.json/../../orders", "http://api.example.com/connect/token/../orders",
		},
		http.StatusUnauthorized: {
			"/connect/token/", "/connect/token/orders", "/connect/tokens", "/connect/token.json", "/connect", "/connect/", "/token", "/x/connect/token",
			"/orders/connect/token", "/orders?/connect/token", "/orders?x=/../connect/token", "/capabilities/orders", "/capabilities.json",
			"/.well-known", "/.well-known/", "/.well-known/jwks", "/.well-known/jwks-json", "/.well-known/jwks.json/x", "/-well-known/jwks.json",
			"/.well-known/oauth-authorization-server/orders", "/.well-known/security.txt", "/openapi.json",
			"/auth", "/envoy/", "/introspect", "/revoke", "/livez", "/readyz", // of the internal listener
		},
		0: { // the same name in another spelling, which a proxy may take for it or not
			"/connect/%74oken", "/Connect/Token", "/CAPABILITIES", "/connect/token(1)", "http://api.example.com/connect/token",
		},
	} {
		for _, path := range paths {
			visits = append(visits, visit{path, question{line: "GET " + path + " HTTP/1.1", fields: pretence}, status, "", ""})
		}
	}
	for _, line := range []string{"CONNECT /connect/token HTTP/1.1", "CONNECT api.example.com:80 HTTP/1.1"} {
		visits = append(visits, visit{line, question{line: line}, 0, "", ""})
	}
	aside := []string{"X-Original-URL: /connect/token", "X-Original-URI: /connect/token", "X-Rewrite-URL: /connect/token", "X-Forwarded-Uri: /connect/token"}
	return append(visits, visit{"named in a field", question{line: "GET /orders HTTP/1.1", fields: aside}, http.StatusUnauthorized, "", ""})
}

// passesOnToNobody ends the daemon.
func (g *gate) passesOnToNobody(t *testing.T, c caller) {
	t.Helper()
	if err := g.waybill.stop(); err != nil {
		t.Fatal(err)
	}
	status, _, body := exchange(t, plain(t), c.party.Request(providerID).HTTP(g.through().url))
	if status/100 != 5 {
		t.Errorf("status %d, %s", status, body)
	}
	g.unseen(t)
}

// The file for Traefik, which no test runs, passes on what the others do, and has no other way to the API than by a
// middleware that asks.
func TestTraefikPassesOn(t *testing.T) {
	t.Parallel()
	var file struct {
		HTTP struct {
			Routers map[string]struct {
				Rule        string
				Priority    int
				Middlewares []string
				Service     string
			}
			Middlewares map[string]struct {
				ForwardAuth struct{ Address string } `yaml:"forwardAuth"`
			}
			Services map[string]struct {
				LoadBalancer struct{ Servers []struct{ URL string } } `yaml:"loadBalancer"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readDoc(t, "traefik.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	public := file.HTTP.Routers["waybill"]
	var named []string
	for part := range strings.SplitSeq(public.Rule, " || ") {
		path, ok := strings.CutPrefix(part, "Path(`")
		path, closed := strings.CutSuffix(path, "`)")
		if !ok || !closed {
			t.Errorf("the rule holds %s", part)
		}
		named = append(named, path)
	}
	if diff := cmp.Diff(passedOn(), named); diff != "" {
		t.Errorf("passed on (-want +got):\n%s", diff)
	}
	at := func(service string) string {
		if servers := file.HTTP.Services[service].LoadBalancer.Servers; len(servers) == 1 {
			return servers[0].URL
		}
		return ""
	}
	if got := at(public.Service); got != "http://"+shownPublic {
		t.Errorf("passed on to %s", got)
	}
	for name, router := range file.HTTP.Routers {
		asks := slices.ContainsFunc(router.Middlewares, func(m string) bool {
			return strings.HasPrefix(file.HTTP.Middlewares[m].ForwardAuth.Address, "http://"+shownWaybill+"/auth?")
		})
		if name == "waybill" {
			continue
		}
		if !asks || at(router.Service) != "http://"+shownAPI || router.Priority >= public.Priority {
			t.Errorf("router %s: %+v", name, router)
		}
	}
}

// The same for Envoy, where it is a route that does not ask.
func TestEnvoyPassesOn(t *testing.T) {
	t.Parallel()
	type route struct {
		Match struct {
			Prefix string
			Regex  struct{ Regex string } `yaml:"safe_regex"`
		}
		Route  struct{ Cluster string }
		Filter map[string]struct{ Disabled bool } `yaml:"typed_per_filter_config"`
	}
	type cluster struct {
		Name string
		Load struct {
			Endpoints []struct {
				Endpoints []struct {
					Endpoint struct {
						Address struct {
							Socket struct {
								Address string
								Port    string `yaml:"port_value"`
							} `yaml:"socket_address"`
						}
					}
				} `yaml:"lb_endpoints"`
			}
		} `yaml:"load_assignment"`
	}
	var file struct {
		Static struct {
			Listeners []struct {
				Chains []struct {
					Filters []struct {
						Config struct {
							Routes struct {
								Hosts []struct{ Routes []route } `yaml:"virtual_hosts"`
							} `yaml:"route_config"`
						} `yaml:"typed_config"`
					}
				} `yaml:"filter_chains"`
			}
			Clusters []cluster
		} `yaml:"static_resources"`
	}
	if err := yaml.Unmarshal([]byte(readDoc(t, "envoy.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, c := range file.Static.Clusters {
		to := c.Load.Endpoints[0].Endpoints[0].Endpoint.Address.Socket
		at[c.Name] = net.JoinHostPort(to.Address, to.Port)
	}
	routes := file.Static.Listeners[0].Chains[0].Filters[0].Config.Routes.Hosts[0].Routes
	if len(routes) != 2 {
		t.Fatalf("%d routes", len(routes))
	}
	const ask = "envoy.filters.http.ext_authz"
	if public := routes[0]; !public.Filter[ask].Disabled || at[public.Route.Cluster] != shownPublic {
		t.Errorf("passed on: %+v", public)
	}
	if api := routes[1]; len(api.Filter) > 0 || at[api.Route.Cluster] != shownAPI || api.Match.Prefix != "/" {
		t.Errorf("guarded: %+v", api)
	}
	// Envoy matches a whole path.
	whole, err := regexp.Compile("^(?:" + routes[0].Match.Regex.Regex + ")$")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range passedOn() {
		if !whole.MatchString(path) {
			t.Errorf("%s is not passed on", path)
		}
	}
	for _, v := range intruders() {
		if path := strings.Fields(v.line)[1]; v.status > 0 && whole.MatchString(path) {
			t.Errorf("%s is passed on", path)
		}
	}
}
