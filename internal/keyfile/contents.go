package keyfile

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/waybill-token/waybill/internal/keyforms"
)

// contents is what a file turned out to hold, or a text in its place.
type contents struct {
	*keyforms.Contents

	path         string // as problems call it
	mode         fs.FileMode
	certificates bool      // it was named for its certificates
	failures     []Problem // with the file as a whole
	warnings     []Problem // that do not keep it from being used
	closer       io.Closer // nil: there is nothing to close
}

// faults are the problems that keep a part from being used.
func (c *contents) faults(part keyforms.Part) []Problem {
	var problems []Problem
	for _, f := range c.FaultsOf(part) {
		problems = append(problems, c.problem(f.Cause, f.Hint, "%s", f.Message))
	}
	return problems
}

// privateKey is the one private key of the file. Of several it is the one that a certificate
// belongs to: in a list the first one that has its key here, in a set the only one that
// a chain begins with.
func (c *contents) privateKey(certs []*x509.Certificate, ordered bool) (crypto.Signer, []Problem) {
	faults := c.faults(keyforms.PrivateKey)
	switch {
	case len(c.failures) > 0:
		return nil, c.failures
	case len(c.Keys) == 1 && len(faults) == 0:
		return c.Keys[0].Signer, nil
	case len(c.Keys) == 0 && len(faults) > 0:
		return nil, faults
	case len(c.Keys) == 0:
		return nil, []Problem{c.problem(nil,
			"Give the private key that was made together with the certificate's request, in PEM (BEGIN PRIVATE KEY) or PKCS#12.",
			"no private key found: the file holds %s", c.Instead())}
	}
	var found, chained []crypto.Signer
	var names []string
	for _, cert := range certs {
		for _, k := range c.Keys {
			if !belongs(cert, k) || slices.Contains(found, k.Signer) {
				continue
			}
			found, names = append(found, k.Signer), append(names, strconv.Quote(k.Name)+" of "+name(cert))
			if len(chainOf(cert, certs)) > 1 {
				chained = append(chained, k.Signer)
			}
		}
	}
	switch {
	case len(found) == 1 || len(found) > 1 && ordered:
		return found[0], nil
	case len(chained) == 1:
		return chained[0], nil
	case len(found) == 0 && len(faults) > 0:
		return nil, faults
	case len(found) == 0:
		return nil, []Problem{c.problem(nil, "Give the certificates of the one to use, or keep that one alone in the file.",
			"the file holds %d private keys, and none belongs to a certificate", len(c.Keys))}
	}
	return nil, []Problem{c.problem(nil,
		"Put the certificates of the one to use into a file of their own, leaf first, and give that for the certificates; or export that key alone.",
		"the file holds %d private keys with certificates: %s", len(found), strings.Join(names, ", "))}
}

// belongs reports whether a certificate is for the public half of a key.
func belongs(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

// chain is every certificate of the file. That there are none has another hint when nobody said
// where they are.
func (c *contents) chain(unnamed bool) ([]*x509.Certificate, []Problem) {
	faults := c.faults(keyforms.Certificate)
	switch {
	case len(c.failures) > 0:
		return nil, c.failures
	case len(faults) > 0:
		return nil, faults
	case len(c.Certificates) > 0:
		return c.Certificates, nil
	case unnamed:
		return nil, []Problem{c.problem(nil, "Name the file of the certificates as well, or use PKCS#12 that holds both.",
			"no certificate found: the file holds %s", c.Instead())}
	}
	return nil, []Problem{c.problem(nil,
		"Give the certificates that the trust service provider sent, in PEM (BEGIN CERTIFICATE), leaf first.",
		"no certificate found: the file holds %s", c.Instead())}
}

func (c *contents) problem(cause error, hint, format string, args ...any) Problem {
	return Problem{File: c.path, Message: fmt.Sprintf(format, args...), Hint: hint, Cause: cause, Certificates: c.certificates}
}

// maxSecret is how much of the file of a secret is accepted, in bytes.
const maxSecret = 4096

// ReadSecret reads a password, a PIN, or another secret from a file of at most 4 KiB. Line ends behind it, and the
// byte order mark and the UTF-16 that Windows writes, are no part of it. An empty file is refused: one that was never
// filled would switch off what the secret is for. There is one problem at most, which does not hold the secret.
func ReadSecret(path string) (string, Problems) {
	return (&contents{path: path}).secret()
}

func (c *contents) secret() (string, Problems) {
	data, failures := c.read(maxSecret)
	if failures != nil {
		return "", failures
	}
	text := strings.TrimRight(string(keyforms.ToUTF8(data)), "\r\n")
	if text == "" {
		return "", []Problem{c.problem(nil, "Write the secret into it, or do not name it.", "the file is empty")}
	}
	return text, nil
}
