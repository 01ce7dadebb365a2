package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/waybill-token/waybill/internal/explain"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/isharetest"
)

// Who takes part in these tests.
const (
	providerID = "did:ishare:EU.NL.NTRNL-10000000"
	consumerID = "did:ishare:EU.NL.NTRNL-10000001"
	formerID   = "did:ishare:EU.NL.NTRNL-10000002"
)

// password opens the PKCS#12 files.
const password = "a password, of course"

// A cast is who takes part, and the files that they and their CA keep.
type cast struct {
	provider, consumer, former *isharetest.Party
	files                      map[string][]byte
}

// players are made once, because their keys take time. Nothing changes them.
var players = sync.OnceValues(func() (*cast, error) {
	ca := isharetest.NewCA()
	c := &cast{
		provider: ca.Party(providerID, "Some Provider"),
		consumer: ca.Party(consumerID, "Some Consumer"),
		former:   ca.Party(formerID, "Former Consumer", isharetest.Ended),
		files:    map[string][]byte{"root.pem": ca.RootPEM(), "oversized": bytes.Repeat([]byte("a"), explain.MaxInput+1)},
	}
	var records []*ishare.Party
	for name, p := range map[string]*isharetest.Party{"provider": c.provider, "consumer": c.consumer, "former": c.former} {
		records = append(records, p.Record)
		if err := c.keep(name, p); err != nil {
			return nil, err
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if c.files["ecdsa-key.pem"], err = keyPEM(other); err != nil {
		return nil, err
	}
	c.files["parties.json"], err = json.Marshal(records)
	return c, err
})

// keep makes the files of a party: its key and its chain right, and in ways in which
// people get them wrong.
func (c *cast) keep(name string, p *isharetest.Party) error {
	key, err := keyPEM(p.Key)
	if err != nil {
		return err
	}
	p12, err := pkcs12.Modern.Encode(p.Key, p.Certificates[0], p.Certificates[1:], password)
	if err != nil {
		return err
	}
	backwards := slices.Clone(p.Certificates)
	slices.Reverse(backwards)
	c.files[name+"-key.pem"] = key
	c.files[name+".pem"] = testca.EncodeCertificates(p.Certificates...)
	c.files[name+"-backwards.pem"] = testca.EncodeCertificates(backwards...)
	c.files[name+"-leaf.pem"] = testca.EncodeCertificates(p.Certificates[0])
	c.files[name+".p12"] = p12
	return nil
}

func keyPEM(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// writeFiles puts the files of the cast into a folder.
func writeFiles(dir string) error {
	c, err := players()
	if err != nil {
		return err
	}
	for name, content := range c.files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// newHome makes a folder with the files of the cast.
func newHome(t *testing.T) (string, *cast) {
	t.Helper()
	c, err := players()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeFiles(dir); err != nil {
		t.Fatal(err)
	}
	return dir, c
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
