package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/guard"
	"github.com/waybill-token/waybill/internal/loopback"
	"github.com/waybill-token/waybill/internal/profile"
	"github.com/waybill-token/waybill/ishare"
)

// scopeOrders is what the provider knows besides iSHARE.
const scopeOrders = "orders"

// providerConfig keeps the internal listener on this machine, wherever the public one is. Its max_stale lets a person see that
// known parties are served on while the registry is away, and that this ends.
func providerConfig(c Config, provider Participant, registry Address) []byte {
	return fmt.Appendf(nil, `# Written at each start of the sandbox.
party:
  id: %q
  also_known_as: [%q]
  key: key.pem
  certificates: chain.pem
listen:
  public: %q
  internal: 127.0.0.1:0
participants:
  registry: {id: %q, url: %q, version: auto}
  cache: %s
  max_stale: %s
trust:
  anchors: [../%s/root.pem]
  trusted_list: true
  refresh: %[6]s
  revocation: require
  revocation_allow_private: true # everything is on this machine
data: data
scopes:
  %[10]s: read orders
policy: {roles: [%[9]q]}
`, provider.ID, provider.AlsoKnownAs[0], c.Listen, registry.ID, registry.URL, c.Freshness, 12*c.Freshness, ownCA, serviceConsumer, scopeOrders)
}

// writeProfiles writes how each consumer gets tokens of the provider.
func (s *Sandbox) writeProfiles() error {
	for _, p := range s.parties {
		if p.ProfileFile == "" {
			continue
		}
		text, err := profile.Format(p.ProfileFile, "Written at each start of the sandbox: "+p.Name+", for waybill token --profile.", []profile.Value{
			{Key: "server", Text: s.URL},
			{Key: "audience", Text: string(s.Provider.ID)},
			{Key: "client_id", Text: string(p.ID)},
			{Key: "key", Text: p.KeyFile},
			{Key: "certificates", Text: p.ChainFile},
		})
		if err == nil {
			err = os.WriteFile(p.ProfileFile, text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reachable is where a client on this machine finds a listener. One that listens
// on every address has none of its own, and plain http goes to loopback only.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err != nil || !ip.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort(ownHostName, port)
}

// lead sends who asks for the start page of the provider to the console.
func (s *Sandbox) lead(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := url.URL{Host: r.Host}
		if s.Console != nil && r.URL.Path == "/" && r.Method == http.MethodGet && loopback.Is(host.Hostname()) {
			http.Redirect(w, r, baseURL(s.listeners.control)+"/", http.StatusFound)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// me answers who the token says the caller is.
func me(w http.ResponseWriter, r *http.Request) {
	claims, ok := guard.Caller(r.Context())
	if !ok {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	b, err := json.Marshal(struct {
		Party   ishare.PartyID `json:"party"`
		Client  ishare.PartyID `json:"client_id"`
		Scope   string         `json:"scope"`
		Expires string         `json:"expires"`
	}{claims.Party, claims.Client, claims.Scope.String(), claims.Expires.UTC().Format("2006-01-02T15:04:05Z")})
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(b, '\n')) // the caller may be gone
}
