package daemon_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/internal/config"
	"github.com/waybill-token/waybill/internal/daemon"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
)

// bystander is everything that a server could be made to call: its registry, and
// the OCSP responder and the lists that certificates name. It counts connections.
func bystander(t *testing.T) (string, *atomic.Int64) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	calls := &atomic.Int64{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	return "http://" + l.Addr().String(), calls
}

// A stranger must not be able to make the server call anybody: before signature and
// chain hold, nothing leaves the machine, not even for a registered client's own
// certificates.
func TestNothingIsCalledForABadAssertion(t *testing.T) {
	t.Parallel()
	base, calls := bystander(t)
	settings := testca.Config{OCSPURL: base + "/ocsp", CRLURL: base + "/crl", NewKey: testca.PooledKey}
	ca, other := daemon.Must(testca.New(settings))(t), daemon.Must(testca.New(settings))(t)
	seal := func(ca *testca.CA, identifier string) *testca.Identity {
		return daemon.Must(ca.Seal(testca.SealRequest{Organization: "Some Party", Identifier: identifier}))(t)
	}
	dir := t.TempDir()
	provider := seal(ca, "NTRNL-10000000")
	if err := provider.Save(filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")); err != nil {
		t.Fatal(err)
	}
	root := testca.EncodeCertificates(ca.Authority(testca.Root).Certificate())
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), root, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse(filepath.Join(dir, "waybill.yaml"), []byte(`
party: {id: "did:ishare:EU.NL.NTRNL-10000000", key: key.pem, certificates: chain.pem}
listen: {public: "127.0.0.1:0", internal: "127.0.0.1:0"}
participants: {registry: {id: "did:ishare:EU.NL.NTRNL-10000009", url: "`+base+`"}}
trust: {anchors: [root.pem], revocation: require, revocation_allow_private: true}
data: data
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, daemon.Options{NoHistory: true}, cfg)

	const id = ishare.PartyID("did:ishare:EU.NL.NTRNL-10000001")
	maker := func(i *testca.Identity) *assertion.Maker {
		return &assertion.Maker{ClientID: id, Key: i.Key, Certificates: i.Chain}
	}
	registered, stranger := maker(seal(ca, "NTRNL-10000001")), maker(seal(other, "NTRNL-10000001"))
	target := d.url + "/connect/token"
	send := func(compact string) int {
		response, err := http.PostForm(target, url.Values{
			"grant_type": {"client_credentials"}, "scope": {"iSHARE"}, "client_id": {string(id)},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {compact},
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	var good, untrusted, elsewhere string
	for i := range 1000 {
		if i%100 == 0 { // before they expire
			good, untrusted = daemon.Must(registered.Make(cfg.Party.ID))(t), daemon.Must(stranger.Make(cfg.Party.ID))(t)
			elsewhere = daemon.Must(registered.Make("did:ishare:EU.NL.NTRNL-99999999"))(t)
		}
		signature := strings.LastIndex(good, ".") + 1
		compact := [...]string{
			good[:signature] + fmt.Sprintf("%06d", i) + good[signature+6:], // another signature each time
			untrusted,
			elsewhere,
			good[:signature-8] + fmt.Sprintf("%07d", i) + good[signature-1:], // another payload each time
		}[i%4]
		if status := send(compact); status != http.StatusBadRequest {
			t.Fatalf("attempt %d: status %d", i, status)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Fatalf("%d calls were made", n)
	}
	// The good one does lead to a call: otherwise nothing was measured.
	if status := send(daemon.Must(registered.Make(cfg.Party.ID))(t)); status != http.StatusServiceUnavailable || calls.Load() == 0 {
		t.Errorf("status %d after %d calls", status, calls.Load())
	}
}
