package sandbox_test

import (
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/sandbox"
)

// A provider that is told by which seal its registry signs believes no other, even one that names the
// registry.
func TestSealsOfTheRegistry(t *testing.T) {
	t.Parallel()
	s := share(t, sandbox.Framework3)
	thumbprint := func(party string) string {
		block, _ := pem.Decode(read(t, filepath.Join(filepath.Dir(s.ConfigFile), "..", party, "chain.pem")))
		return ishare.Thumbprint(block.Bytes)
	}
	for party, good := range map[string]bool{"registry": true, "consumer": false} {
		cfg, err := config.Load(s.ConfigFile, []string{
			"WAYBILL_PARTICIPANTS_REGISTRY_SEALS=" + thumbprint(party),
			"WAYBILL_LISTEN_PUBLIC=127.0.0.1:0", "WAYBILL_LISTEN_INTERNAL=127.0.0.1:0",
		})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, p := range daemon.Check(cfg).Problems {
			told = append(told, p.String())
		}
		if text := strings.Join(told, "\n"); (text == "") != good || !good && !strings.Contains(text, "participants.registry: ") {
			t.Errorf("the seal of the %s: %q", party, text)
		}
	}
}
