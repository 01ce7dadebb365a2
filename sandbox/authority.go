package sandbox

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/testca"
)

// An authority is a CA with the services that tell which of its certificates are
// revoked.
type authority struct {
	ca     *testca.CA
	status *testca.StatusService
}

// openAuthority finds the CA in its folder, or makes it. Its certificates name the
// services at these listeners.
func openAuthority(c Config, folder, name string, l *listeners) (*authority, error) {
	dir := filepath.Join(c.Dir, folder)
	settings := testca.Config{
		Name: name, KeyBits: c.CAKeyBits, NewKey: c.newKey,
		OCSPURL: baseURL(l.ocsp) + "/" + folder, CRLURL: baseURL(l.crl) + "/" + folder,
	}
	ca, err := testca.Load(dir, settings)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		ca, err = makeAuthority(c, dir, settings)
	case err == nil && !names(ca, settings):
		err = fmt.Errorf("the certificates in %s do not name the status services at %s and %s; remove the folder %s to start over",
			dir, settings.OCSPURL, settings.CRLURL, c.Dir)
	}
	if err != nil {
		return nil, err
	}
	return &authority{ca: ca, status: testca.NewStatusService(ca, statusLife(c.Freshness))}, nil
}

func makeAuthority(c Config, dir string, settings testca.Config) (*testca.CA, error) {
	c.Progress(fmt.Sprintf("making a certificate authority with keys of %d bits: %s", c.CAKeyBits, settings.Name))
	ca, err := testca.New(settings)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	err = ca.Save(dir)
	return ca, err
}

func names(ca *testca.CA, c testca.Config) bool {
	cert := ca.Authority(testca.Issuing).Certificate()
	return slices.Contains(cert.OCSPServer, c.OCSPURL) &&
		slices.ContainsFunc(cert.CRLDistributionPoints, func(list string) bool { return strings.HasPrefix(list, c.CRLURL+"/") })
}

// statusLife has the server ask again about as often as it asks the registry: it
// does so when half of an answer's life is over.
func statusLife(freshness time.Duration) time.Duration { return max(2*freshness, 2*time.Second) }

// root is the certificate to trust.
func (a *authority) root() *x509.Certificate { return a.ca.Authority(testca.Root).Certificate() }

// mark has the services say of a certificate what the choice says.
func (a *authority) mark(seal *testca.Identity, choice string) {
	switch choice {
	case held:
		a.status.Revoke(seal.Certificate(), ocsp.CertificateHold)
	case revoked:
		a.status.Revoke(seal.Certificate(), ocsp.KeyCompromise)
	default:
		a.status.Reinstate(seal.Certificate())
	}
}

// statusServices serves a kind of status service of authorities by the folders
// that they live in.
func statusServices(authorities map[string]*authority, method string) http.Handler {
	mux := http.NewServeMux()
	for folder, a := range authorities {
		mux.Handle(method+" /"+folder, a.status)
		mux.Handle(method+" /"+folder+"/", a.status)
	}
	return mux
}
