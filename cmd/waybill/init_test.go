package main

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/keyfile"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
)

// Whoever has a seal of the same CA cannot pass for the registry, and one that answers rightly is taken.
func TestInitSealOfAnother(t *testing.T) {
	t.Parallel()
	dir, who := newHome(t)
	issuer := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		payload := fmt.Sprintf(`{"iss":%q,"sub":%[1]q,"capabilitiesInfo":{}}`, issuer)
		compact, err := jws.Sign(jws.RS256, who.provider.Key, who.provider.Certificates, []byte(payload))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"capabilitiesToken":%q}`, compact)
	}))
	t.Cleanup(server.Close)
	out := filepath.Join(dir, "new.yaml")
	start := func() (int, string) {
		status, _, said := commandLine(t, "init", "--key", filepath.Join(dir, "consumer-key.pem"), "--certificates", filepath.Join(dir, "consumer.pem"),
			"--registry", server.URL, "--out", out, "--non-interactive")
		return status, said
	}
	issuer = formerID
	status, said := start()
	if status != statusNo || !strings.Contains(said, "the seal that answers for "+formerID+" names "+providerID) {
		t.Errorf("status %d, %s", status, said)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a configuration was written")
	}
	issuer = providerID
	if _, said = start(); !strings.Contains(said, "registry  "+providerID+" at "+server.URL) {
		t.Error(said)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// What stands in certificates is no YAML: a name in a comment stays in its comment.
func TestConfigurationOfOddNames(t *testing.T) {
	t.Parallel()
	dir, who := newHome(t)
	odd := *who.provider.Certificates[0]
	odd.Subject.CommonName = "x\nparty: {id: 'a:b'}\u2028data: /etc\x85y: 1 \u00e9"
	text, err := (&setup{
		out: filepath.Join(dir, "new.yaml"), root: filepath.Join(dir, "root.pem"), pair: &keyfile.Pair{Certificates: append([]*x509.Certificate{&odd}, who.provider.Certificates[1:]...)},
		ids: []ishare.PartyID{providerID, formerID}, registry: "https://registry.example", registryID: consumerID,
	}).configuration(&settings{given: map[string]given{"key": {"a b #c.pem", "--key"}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(filepath.Join(dir, "new.yaml"), text, nil)
	if err != nil || c.Party.ID != providerID || string(c.Data) != filepath.Join(dir, "data") || !strings.HasSuffix(string(c.Party.Key), "a b #c.pem") {
		t.Errorf("%v, %+v\n%s", err, c, text)
	}
}
