package daemon_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/isharetest"
)

// nowhere is an address at which nobody answers.
const nowhere = "https://127.0.0.1:1"

// withRegistry is the configuration of a server that asks a registry.
func withRegistry(t *testing.T, dir, url, trust string) *config.Config {
	t.Helper()
	text := strings.NewReplacer(
		"{file: parties.json}", `{registry: {id: "did:ishare:EU.NL.NTRNL-10000003", url: "`+url+`"}}`,
		"revocation: off", trust,
	).Replace(configuration)
	c, err := config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// At its start and after a reload, a server that cannot ask its registry tells nobody that a
// chain is not trusted, and nobody that a party is unknown.
func TestNoRegistryIsNoRefusal(t *testing.T) {
	t.Parallel()
	dir := newHome(t)
	stranger := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000004", "Stranger")
	cfg := func() *config.Config { return withRegistry(t, dir, nowhere, "revocation: off, trusted_list: true") }
	s := start(t, daemon.Options{Newborn: true}, cfg())
	refused := func(when string) {
		t.Helper()
		for name, p := range map[string]*isharetest.Party{"consumer": players().consumer, "stranger": stranger} {
			a := s.send(t, p.Request(providerID))
			if a.Status != http.StatusServiceUnavailable || !strings.HasPrefix(a.Description, "unavailable.registry: ") || a.Header.Get("Retry-After") == "" {
				t.Errorf("%s, %s: %d %s", when, name, a.Status, a.Description)
			}
		}
	}
	refused("at the start")
	if err := s.Reload(t.Context(), cfg()); err != nil {
		t.Fatal(err)
	}
	refused("after a reload")
}
