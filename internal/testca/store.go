package testca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Types of PEM blocks (RFC 7468 sections 5 and 10).
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// Save writes the CA to a folder that does not exist yet, or that is empty: <level>.pem and <level>-key.pem for each
// level. The folder appears complete or not at all.
func (ca *CA) Save(dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("test CA: %w", err)
		}
	}()
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	unfinished, err := os.MkdirTemp(parent, ".ca-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished) //nolint:errcheck // it is gone when all went well, and otherwise the first error matters
	for _, level := range Levels() {
		id := ca.authorities[level]
		own := &Identity{Key: id.Key, Chain: id.Chain[:1]}
		if err := own.save(files(unfinished, level)); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(unfinished, dir)
}

// files are those of the CA at a level.
func files(dir string, level Level) (keyFile, certificateFile string) {
	return filepath.Join(dir, level.String()+"-key.pem"), filepath.Join(dir, level.String()+".pem")
}

// Load reads what [CA.Save] wrote. The configuration is for what the CA issues
// from now on; status services that it does not name are those of the issuing CA's
// own certificate. The error wraps [fs.ErrNotExist] when there is no CA in the folder.
func Load(dir string, c Config) (*CA, error) {
	ca := &CA{config: c.withDefaults()}
	var above []*x509.Certificate
	for _, level := range Levels() {
		keyFile, certificateFile := files(dir, level)
		id, err := LoadIdentity(keyFile, certificateFile)
		if err != nil {
			return nil, err
		}
		if len(above) > 0 {
			if err := id.Certificate().CheckSignatureFrom(above[0]); err != nil {
				return nil, fmt.Errorf("test CA: %s is not issued by the CA above it: %w", certificateFile, err)
			}
		}
		id.Chain = append(id.Chain[:1:1], above...)
		ca.authorities[level], above = id, id.Chain
	}
	issuing := above[0]
	if c.OCSPURL == "" && len(issuing.OCSPServer) > 0 {
		ca.config.OCSPURL = issuing.OCSPServer[0]
	}
	if c.CRLURL == "" && len(issuing.CRLDistributionPoints) > 0 {
		ca.config.CRLURL = strings.TrimSuffix(issuing.CRLDistributionPoints[0], "/"+Sub.String()+".crl")
	}
	return ca, nil
}

// Save writes the key, readable by its owner only, and the chain to two files, in place of what they held before.
func (id *Identity) Save(keyFile, chainFile string) error {
	if err := id.save(keyFile, chainFile); err != nil {
		return fmt.Errorf("test CA: %w", err)
	}
	return nil
}

func (id *Identity) save(keyFile, chainFile string) error {
	der, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		return err
	}
	if err := replaceFile(chainFile, EncodeCertificates(id.Chain...), 0o644); err != nil {
		return err
	}
	return replaceFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), 0o600)
}

// EncodeCertificates writes certificates as PEM, in the order given.
func EncodeCertificates(certificates ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, cert := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw}))
	}
	return b.Bytes()
}

// replaceFile lets readers see either the file of before or the whole new one.
func replaceFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone when all went well, and otherwise the first error matters
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// LoadIdentity reads what [Identity.Save] wrote, and checks that the key is that of the first certificate.
func LoadIdentity(keyFile, chainFile string) (*Identity, error) {
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("test CA: %w", err)
	}
	chain, err := loadChain(chainFile)
	if err != nil {
		return nil, fmt.Errorf("test CA: %w", err)
	}
	public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("test CA: the key in %s is not that of the certificate in %s", keyFile, chainFile)
	}
	return &Identity{Key: key, Chain: chain}, nil
}

func loadKey(name string) (crypto.Signer, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("%s holds no PEM block of type %s", name, pemKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T does not sign", name, key)
	}
	return signer, nil
}

func loadChain(name string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", name)
	}
	return chain, nil
}
