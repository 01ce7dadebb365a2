package sandbox

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/isharetest"
	"github.com/waybill-token/waybill/registry"
)

// Folders of the authorities.
const (
	ownCA   = "ca"
	otherCA = "other-ca"
)

// openAuthorities finds or makes the CAs, and the services that tell which of their certificates are revoked.
func (s *Sandbox) openAuthorities() error {
	s.authorities = map[string]*testca.CA{}
	// The provider asks again when half of an answer's life is over: with this life about as often as it asks the registry.
	status := isharetest.StatusConfig{CAs: map[string]*isharetest.CA{}, Life: max(2*s.config.Freshness, 2*time.Second)}
	for _, ca := range []struct{ folder, name string }{{ownCA, "Waybill Sandbox"}, {otherCA, "Waybill Other"}} {
		var err error
		if s.authorities[ca.folder], err = openAuthority(s.config, ca.folder, ca.name, s.listeners); err != nil {
			return err
		}
		if status.CAs[ca.folder], err = isharetest.LoadCA(filepath.Join(s.config.Dir, ca.folder)); err != nil {
			return err
		}
	}
	var err error
	s.status, err = isharetest.StartStatusServices(status)
	return err
}

// openAuthority finds the CA in its folder, or makes it. Its certificates name the services at these listeners.
func openAuthority(c Config, folder, name string, l *listeners) (*testca.CA, error) {
	dir := filepath.Join(c.Dir, folder)
	settings := testca.Config{
		Name: name, KeyBits: c.CAKeyBits, NewKey: c.newKey,
		OCSPURL: baseURL(l.ocsp) + "/" + folder, CRLURL: baseURL(l.crl) + "/" + folder,
	}
	ca, err := testca.Load(dir, settings)
	if errors.Is(err, fs.ErrNotExist) {
		c.Progress(fmt.Sprintf("making a certificate authority with keys of %d bits: %s", c.CAKeyBits, name))
		if ca, err = testca.New(settings); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return nil, err
		}
		err = ca.Save(dir)
		return ca, err
	}
	if err != nil {
		return nil, err
	}
	cert := ca.Authority(testca.Issuing).Certificate()
	inFolder := func(list string) bool { return strings.HasPrefix(list, settings.CRLURL+"/") }
	if !slices.Contains(cert.OCSPServer, settings.OCSPURL) || !slices.ContainsFunc(cert.CRLDistributionPoints, inFolder) {
		return nil, fmt.Errorf("the certificates in %s do not name the status services at %s and %s; remove the folder %s to start over",
			dir, settings.OCSPURL, settings.CRLURL, c.Dir)
	}
	return ca, nil
}

// trustedList is what the registry says of both authorities. Whether the other one is granted is a switch.
func (s *Sandbox) trustedList(other string) []isharetest.TrustedCA {
	root := func(folder string) *x509.Certificate {
		return s.authorities[folder].Authority(testca.Root).Certificate()
	}
	return []isharetest.TrustedCA{{Certificate: root(ownCA)}, {Certificate: root(otherCA), Withdrawn: other == withdrawn}}
}

// openRegistry makes the Participant Registry, which gives tokens whatever the status services do: it asks nobody about
// revocation, so that the two can fail one at a time.
func (s *Sandbox) openRegistry() error {
	self := s.party(registryFolder)
	asParty, err := self.inRegistry(self.ID)
	if err != nil {
		return err
	}
	impostor, err := s.party(consumerFolder).inRegistry(self.ID)
	if err != nil {
		return err
	}
	s.registry, err = isharetest.StartRegistry(isharetest.RegistryConfig{
		Self: asParty, Impostor: impostor, TrustedList: s.trustedList(withdrawn),
		Version: registry.Version(s.config.Framework), URL: baseURL(s.listeners.registry), Name: "the sandbox's registry",
		Dir: filepath.Join(s.config.Dir, registryFolder), NoHistory: self.isNew,
		Log: s.config.Log.With("server", "registry"),
	})
	return err
}
