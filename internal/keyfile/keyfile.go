// Package keyfile reads a private key and its certificates from the files in which
// people keep them, in any of the forms of package keyforms, and says in plain words
// what is wrong with them and what to do about it. Nothing that it says holds key material or
// a password.
package keyfile

import (
	"cmp"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/waybill-token/waybill/internal/keyforms"
	"github.com/waybill-token/waybill/internal/permission"
	"github.com/waybill-token/waybill/internal/pkcs11"
	"github.com/waybill-token/waybill/internal/regular"
)

// Files names the files of a key and its certificates. Each may be of any form that package
// keyforms reads. In the place of a name there may be the text itself; see [IsText].
type Files struct {
	// Key is the file of the private key; PKCS#12 and PEM may hold the certificates
	// too. For a seal it may be the PKCS#11 URI of a key in hardware (RFC 7512).
	Key          string
	Certificates string // leaf first; empty: they are in the key's file
	Password     string // of PKCS#12 or an encrypted key, or the PIN of the hardware
	PasswordFrom string // where people set the password, for hints; empty: nobody knows
}

// IsURI reports whether the value of a key is the PKCS#11 URI of one in hardware.
func IsURI(value string) bool { return pkcs11.IsURI(value) }

// IsText reports whether a value is a key or certificates themselves, and not the name of a file:
// PEM, the base64 of a whole file, or a JSON object such as a JWK Set.
func IsText(value string) bool { return keyforms.IsText(value) }

// A Pair is a private key and the certificates that belong to it, leaf first. The
// key can be used and not read, so that no log or error can show it.
type Pair struct {
	Certificates []*x509.Certificate
	key          crypto.Signer
	closer       io.Closer // nil: there is nothing to close
}

// Signer signs with the private key. That of a key in hardware is an [io.Closer]
// too.
func (p *Pair) Signer() crypto.Signer { return p.key }

// Close ends the session with a key in hardware, which then no longer signs. When
// it is not called, the garbage collector does it some time after the last use. A
// key from a file has nothing to close.
func (p *Pair) Close() error {
	if p.closer == nil {
		return nil
	}
	return p.closer.Close()
}

// TLS gives the pair to a TLS server or client.
func (p *Pair) TLS() tls.Certificate {
	pair := tls.Certificate{PrivateKey: p.key, Leaf: p.Certificates[0]}
	for _, c := range p.Certificates {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// A Problem is something that is wrong with a file, fit to be shown to the person
// who keeps it.
type Problem struct { //nolint:errname // some are warnings
	File    string // its path
	Message string // what is wrong
	Hint    string // what to do about it
	Warning bool   // the file can be used all the same
	Cause   error  // what a library said, or nil: not fit to be shown

	// Certificates tells that File was named for the certificates, and not for the key.
	Certificates bool
}

// Error is the whole problem on one line.
func (p Problem) Error() string { return fmt.Sprintf("%s: %s. %s", p.File, p.Message, p.Hint) }

// Unwrap is the cause.
func (p Problem) Unwrap() error { return p.Cause }

// Problems are all that was found.
type Problems []Problem

// Err is nil when all problems are warnings, and otherwise an error that tells
// those that are not, one a line.
func (ps Problems) Err() error {
	var errs []error
	for _, p := range ps {
		if !p.Warning {
			errs = append(errs, p)
		}
	}
	return errors.Join(errs...)
}

// ReadSeal reads the key and the certificates with which a party signs. What a server would refuse
// of them in an assertion is a problem (see [trust.Check]); so is a key that is
// not theirs. It finds all problems at once. The pair is nil unless they are all warnings.
func ReadSeal(files Files, at time.Time) (*Pair, Problems) {
	return inspect(files, func(s *inspection) []Problem { return s.checkSeal(at) })
}

// ReadTLS reads the key and the certificates of a TLS server, which need not be RSA
// and need not reach the root. It finds all problems at once. The pair is nil
// unless they are all warnings. A password cannot be given.
func ReadTLS(files Files, at time.Time) (*Pair, Problems) {
	if IsURI(files.Key) {
		return nil, Problems{{
			File: "PKCS#11 URI", Message: "a key in hardware is supported for the seal only",
			Hint: "Give the file of a key for TLS.",
		}}
	}
	pair, problems := inspect(files, func(s *inspection) []Problem { return s.checkTLS(at) })
	for i := range problems {
		if errors.Is(problems[i], keyforms.ErrPassword) {
			file := permission.Quote(problems[i].File)
			problems[i].Hint = "Take the password off, as there is no way to give it: openssl pkey -in " + file + " -out tls-key.pem; of PKCS#12: openssl pkcs12 -nodes -in " + file + " -out tls-key.pem."
		}
	}
	return pair, problems
}

// inspect reads the files and, when there are a key and certificates in them, checks
// these.
func inspect(files Files, check func(*inspection) []Problem) (*Pair, Problems) {
	var keyFile *contents
	if IsURI(files.Key) {
		keyFile = openHardware(files)
	} else {
		keyFile = open(files, files.Key, false)
	}
	certFile := keyFile
	if files.Certificates != "" && files.Certificates != files.Key {
		certFile = open(files, files.Certificates, true)
	}
	certs, noCerts := certFile.chain(files.Certificates == "")
	key, problems := keyFile.privateKey(certs, !certFile.Unordered)
	if certFile != keyFile || len(keyFile.failures) == 0 { // else it is said already
		problems = append(problems, noCerts...)
	}
	pair := &Pair{key: key, closer: keyFile.closer}
	if len(problems) > 0 {
		_ = pair.Close() // nothing has been done that could be lost
		return nil, problems
	}
	s := newInspection(key, certs, certFile.Unordered)
	s.keyFile, s.certFile, s.shared = keyFile.path, certFile.path, certFile == keyFile
	problems = append(check(s), keyFile.warnings...)
	if certFile != keyFile {
		problems = append(problems, certFile.warnings...)
	}
	if Problems(problems).Err() != nil {
		_ = pair.Close() // as above
		return nil, problems
	}
	pair.Certificates = s.chain
	return pair, problems
}

// open reads one file, or the text in its place, whatever it holds.
func open(files Files, value string, certificates bool) *contents {
	c := &contents{Contents: &keyforms.Contents{}, path: value, certificates: certificates}
	source := keyforms.Source{Name: value, Password: files.Password, PasswordFrom: files.PasswordFrom}
	data := []byte(value)
	if IsText(value) {
		source.Name = ""
		c.path = "the text of the key"
		if certificates {
			c.path = "the text of the certificates"
		}
	} else if data, c.failures = c.read(keyforms.MaxSize); c.failures != nil {
		return c
	}
	c.Contents = keyforms.Read(data, source)
	c.failures = c.faults(keyforms.Whole)
	if len(c.Keys)+len(c.FaultsOf(keyforms.PrivateKey)) > 0 {
		c.warnings = permissions(c, "private key")
	}
	return c
}

// read gives the bytes of the file, of which there may be so many.
func (c *contents) read(limit int64) ([]byte, []Problem) {
	file, err := regular.OpenAny(c.path)
	if err != nil {
		return nil, []Problem{c.unreadable(err)}
	}
	defer file.Close() //nolint:errcheck // it was only read
	if info, err := file.Stat(); err == nil {
		c.mode = info.Mode()
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, []Problem{c.unreadable(err)}
	case int64(len(data)) > limit:
		return nil, []Problem{c.problem(nil, "Check that this is the right file.", "the file is over %d KiB, more than what it should hold", limit>>10)}
	}
	return data, nil
}

// unreadable leaves out the path that the system's error repeats.
func (c *contents) unreadable(err error) Problem {
	cause := err
	if pathError := (*os.PathError)(nil); errors.As(err, &pathError) {
		cause = pathError.Err
	}
	hint := "Check the path."
	if errors.Is(err, os.ErrPermission) {
		hint = "Let the account that Waybill runs under read the file."
	}
	return c.problem(err, hint, "the file cannot be read: %v", cause)
}

// permissions warns of a secret that others can read.
func permissions(c *contents, secret string) []Problem {
	found, ok := permission.Readable(c.path, secret)
	if !ok || c.mode == 0 { // a text has none
		return nil
	}
	warning := c.problem(nil, found.Hint, "%s", found.Message)
	warning.Warning = true
	return []Problem{warning}
}

// openHardware finds the key that a PKCS#11 URI names. What is found stands in contents as that
// of a file does.
func openHardware(files Files) *contents {
	c := &contents{Contents: &keyforms.Contents{}, path: "PKCS#11 URI"}
	pinPlaces := "pin-source=file:/path in the URI, or in " + cmp.Or(files.PasswordFrom, "the password of the key")
	uri, err := pkcs11.ParseURI(files.Key)
	if err != nil {
		hint := "Write it as pkcs11:token=LABEL;object=KEY?module-path=/path/of/library.so&pin-source=file:/path/of/pin (RFC 7512)."
		if errors.Is(err, pkcs11.ErrPINValue) {
			hint = "Remove it, and put the PIN in " + pinPlaces + "."
		}
		c.failures = []Problem{c.problem(err, hint, "%v", err)}
		return c
	}
	c.path = uri.Shown
	pin := files.Password
	if uri.PINSource != "" {
		if pin != "" {
			c.failures = []Problem{c.problem(nil, "Remove one of them.", "the PIN is given twice: by pin-source, and as the password of the key")}
			return c
		}
		file := &contents{path: uri.PINSource}
		if pin, c.failures = file.secret(); c.failures != nil {
			return c
		}
		c.warnings = permissions(file, "PIN of the token")
	}
	key, err := pkcs11.Open(uri, pin, pinPlaces)
	if err != nil {
		hint := "See the manual of the token."
		if said, ok := errors.AsType[*pkcs11.Error](err); ok {
			hint = said.Hint
		}
		c.failures = []Problem{c.problem(err, hint, "%v", err)}
		return c
	}
	c.Keys, c.closer = []keyforms.Key{{Signer: key}}, key
	c.Faults = []keyforms.Fault{{Part: keyforms.Certificate, Hint: "Name the PEM file of the chain as well.", Message: "the certificates are not taken from the token"}}
	return c
}
