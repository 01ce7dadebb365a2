package client_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/client"
	"github.com/waybill-token/waybill/isharetest"
)

// keyFiles writes the seal of a party as people keep it: in PEM, and in PKCS#12 as new
// programs and as old ones make it.
func keyFiles(dir string, p *isharetest.Party, password string) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return err
	}
	files := map[string][]byte{"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
	for _, c := range p.Certificates {
		files["chain.pem"] = append(files["chain.pem"], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if files["seal.p12"], err = pkcs12.Modern.Encode(p.Key, p.Certificates[0], p.Certificates[1:], password); err != nil {
		return err
	}
	if files["old.p12"], err = pkcs12.LegacyRC2.Encode(p.Key, p.Certificates[0], p.Certificates[1:], password); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func TestLoadKey(t *testing.T) {
	t.Parallel()
	ca := isharetest.NewCA()
	party := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := isharetest.NewProvider(ca, party)
	defer provider.Close()
	dir := t.TempDir()
	if err := keyFiles(dir, party, "a password"); err != nil {
		t.Fatal(err)
	}
	for _, files := range []client.KeyFiles{
		{Key: filepath.Join(dir, "key.pem"), Certificates: filepath.Join(dir, "chain.pem")},
		{Key: filepath.Join(dir, "seal.p12"), Password: "a password"},
		{Key: filepath.Join(dir, "old.p12"), Password: "a password"},
	} {
		key, chain, err := client.LoadKey(files)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(client.Config{
			Server: provider.URL, Audience: provider.Audience, ClientID: party.ID(), Key: key, Certificates: chain,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Token(t.Context()); err != nil {
			t.Errorf("%s: %v", files.Key, err)
		}
		c.Close()
	}
}

func TestLoadKeySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	party := isharetest.NewCA().Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	dir := t.TempDir()
	if err := keyFiles(dir, party, "a password"); err != nil {
		t.Fatal(err)
	}
	secret := rand.Text() // is in no path
	for want, files := range map[string]client.KeyFiles{
		"no certificate found":  {Key: filepath.Join(dir, "key.pem")},
		"does not open":         {Key: filepath.Join(dir, "seal.p12"), Password: secret},
		"cannot be read":        {Key: filepath.Join(dir, "nowhere.pem")},
		"holds a PIN":           {Key: "pkcs11:token=t;object=o?module-path=/x.so&pin-value=" + secret, Certificates: filepath.Join(dir, "chain.pem")},
		"no private key found:": {Key: filepath.Join(dir, "chain.pem")},
	} {
		key, chain, err := client.LoadKey(files)
		if err == nil || !strings.Contains(err.Error(), want) || key != nil || chain != nil {
			t.Errorf("error %v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}

// A seal mostly comes as one PKCS#12 file, with the chain in it.
func ExampleLoadKey() {
	ca := isharetest.NewCA()
	consumer := ca.Party("did:ishare:EU.NL.NTRNL-10000001", "Some Consumer")
	provider := isharetest.NewProvider(ca, consumer)
	defer provider.Close()
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := keyFiles(dir, consumer, "a password"); err != nil {
		fmt.Println(err)
		return
	}

	key, chain, err := client.LoadKey(client.KeyFiles{Key: filepath.Join(dir, "seal.p12"), Password: "a password"})
	if err != nil {
		fmt.Println(err) // everything that is wrong, with a mend
		return
	}
	c, err := client.New(client.Config{
		Server: provider.URL, Audience: provider.Audience, ClientID: consumer.ID(),
		Key: key, Certificates: chain,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	token, err := c.Token(context.Background())
	fmt.Println(len(chain), token.Type(), err)
	// Output: 4 Bearer <nil>
}
