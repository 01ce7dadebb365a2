package provider_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/guard/proxy"
	"github.com/waybill-token/waybill/internal/logtest"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/provider"
	"github.com/waybill-token/waybill/revocation"
)

// unreachable is a server to which no connection lasts, which is told in other words each time.
type unreachable struct{ times atomic.Int64 }

func (u *unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("read tcp 192.0.2.1:%d->%s: %w", 32768+u.times.Add(1)%28000, r.URL.Host, errReset)
}

var errReset = errors.New("connection reset by peer")

// However long something that we need is gone, and whatever is asked of us meanwhile, the log has a few lines of it.
func TestHourOfOutage(t *testing.T) {
	const most = 30 // lines
	status := isharetest.NewStatusServices()
	defer status.Close()
	checked := status.CA.Party("did:ishare:EU.NL.NTRNL-10000002", "Checked Consumer")
	players() // whose keys take time
	now := time.Now()
	for name, change := range map[string]func(t *testing.T, c *provider.Config, dir string) (fail func()){
		"registry": func(_ *testing.T, c *provider.Config, _ string) func() {
			c.Parties = nil
			c.Registry = &provider.Registry{ID: "did:ishare:EU.NL.NTRNL-00000000", URL: "https://registry.example", TrustedList: true}
			return func() {}
		},
		"revocation": func(_ *testing.T, c *provider.Config, _ string) func() {
			c.Revocation, c.Anchors, c.Parties = provider.Revocation{Mode: revocation.Require, AllowPrivate: true}, status.CA.Anchors(), isharetest.NewList(checked)
			return func() {}
		},
		"upstream": func(_ *testing.T, c *provider.Config, _ string) func() {
			c.Routes = []proxy.Route{{Path: "/api", Upstream: &url.URL{Scheme: "http", Host: "upstream.example"}, Scope: []string{"iSHARE"}}}
			return func() {}
		},
		"participants file": func(t *testing.T, c *provider.Config, dir string) func() {
			file := filepath.Join(dir, "parties.json")
			records, err := json.Marshal([]*ishare.Party{players().consumer.Record})
			if err != nil || os.WriteFile(file, records, 0o600) != nil {
				t.Fatal(err)
			}
			c.Parties, c.PartiesFile = nil, file
			return func() { _ = os.WriteFile(file, []byte("nothing"), 0o600) }
		},
		"keys": func(_ *testing.T, c *provider.Config, _ string) func() {
			return func() { _ = os.RemoveAll(filepath.Join(c.Data, "keys")) }
		},
		"data": func(_ *testing.T, c *provider.Config, _ string) func() {
			return func() { _ = os.RemoveAll(c.Data) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(now)) // when the certificates are valid
				var written logtest.Buffer
				c := configuration(dir, true)
				c.Log = slog.New(slog.NewTextHandler(&written, nil))
				c.Outgoing = func(provider.Dependency, http.RoundTripper) http.RoundTripper { return &unreachable{} }
				fail := change(t, &c, dir)
				consumer := players().consumer
				if name == "revocation" {
					consumer = checked
				}
				p := provider.Must(provider.New(c))(t)
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- p.Run(ctx) }()
				token := func() *httptest.ResponseRecorder {
					w := httptest.NewRecorder()
					p.Public().ServeHTTP(w, consumer.Request(isharetest.ProviderID).HTTP("https://provider.example"))
					return w
				}
				before := len(outages(written.String()))
				_, bearer, _ := strings.Cut(token().Body.String(), `"access_token":"`)
				bearer, _, _ = strings.Cut(bearer, `"`)
				fail()
				issued := 0
				for range 720 {
					if name != "upstream" {
						if token().Code == http.StatusOK {
							issued++
						}
					}
					r := httptest.NewRequest(http.MethodGet, "https://provider.example/api", nil)
					r.Header.Set("Authorization", "Bearer "+bearer)
					p.Public().ServeHTTP(httptest.NewRecorder(), r)
					time.Sleep(5 * time.Second)
				}
				stop()
				<-ended // nothing can be handed over where the folder is gone
				if lines := outages(written.String())[before:]; len(lines) > most || len(lines) == 0 {
					t.Errorf("%d lines, and %d tokens, in an hour:\n%.6000s", len(lines), issued, strings.Join(lines, ""))
				}
			})
		})
	}
}

// outages are the lines of a log but those of tokens, each of which has one.
func outages(log string) (lines []string) {
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "outcome=issued") {
			lines = append(lines, line)
		}
	}
	return lines
}
