package trust

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/waybill-token/waybill/internal/keyforms"
	"github.com/waybill-token/waybill/internal/regular"
)

// A Fingerprint is the SHA-256 of a certificate's DER. It is the only thing by
// which a trust anchor is known: names of certificates differ between systems.
type Fingerprint [sha256.Size]byte

// FingerprintOf computes the fingerprint of a certificate.
func FingerprintOf(cert *x509.Certificate) Fingerprint {
	return sha256.Sum256(cert.Raw)
}

// String gives the fingerprint in lower-case hex.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint reads 64 hex digits, in either case, with or without colons
// between the bytes, as certificate viewers and trusted lists print them.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(f) {
		return f, errors.New("trust: a fingerprint is 64 hex digits")
	}
	copy(f[:], b)
	return f, nil
}

// Anchors are the certificates that chains may end in, by fingerprint, each with
// a name for people. An anchor may be a root, a sub CA or an issuing CA.
type Anchors map[Fingerprint]string

// LoadAnchors reads anchors that are given as fingerprints, as names of files, or as the text of
// PEM in the place of a name. Files may be of every form in which certificates are sent:
// PEM, DER, PKCS#7, and PKCS#12 without a password. Every problem is reported, not only the first.
func LoadAnchors(items []string) (Anchors, error) {
	anchors := Anchors{}
	var problems []error
	for _, item := range items {
		if f, err := ParseFingerprint(item); err == nil {
			anchors[f] = "fingerprint " + f.String()
			continue
		}
		name, data, err := item, []byte(item), error(nil)
		if keyforms.IsText(item) {
			name = "" // and maybe a private key by mistake
		} else {
			data, err = readFile(item)
		}
		if err == nil {
			err = anchors.add(data, name)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("trust anchor %s: %w", cmp.Or(name, "(a text)"), err))
		}
	}
	return anchors, errors.Join(problems...)
}

// readFile reads one byte more than is used, at most.
func readFile(name string) ([]byte, error) {
	file, err := regular.OpenAny(name)
	if pathError, ok := errors.AsType[*os.PathError](err); ok {
		return nil, fmt.Errorf("the file cannot be read: %w", pathError.Err) // without the name, which is told already
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(file, keyforms.MaxSize+1))
}

// ParseAnchors reads every certificate of a PEM text, or of any other form that [LoadAnchors]
// reads, as an anchor. A certificate that is not a CA is refused: it could anchor nothing. So
// is a private key, which does not belong where others read.
func ParseAnchors(text []byte) (Anchors, error) {
	anchors := Anchors{}
	if err := anchors.add(text, ""); err != nil {
		return nil, err
	}
	return anchors, nil
}

// add takes all that the bytes hold, or nothing.
func (a Anchors) add(data []byte, name string) error {
	contents := keyforms.Read(data, keyforms.Source{Name: name})
	switch {
	case len(contents.Faults) > 0:
		fault := contents.Faults[0]
		if errors.Is(fault.Cause, keyforms.ErrPassword) { // which there is no way to give
			fault.Hint = contents.Command("Take the certificates out of it: openssl pkcs12 -in FILE -nokeys -out anchors.pem.")
		}
		return anchorError{fault}
	case len(contents.Keys) > 0:
		return anchorError{keyforms.Fault{Message: "it holds a private key", Hint: "Give the certificate of the CA alone."}}
	case len(contents.Certificates) == 0:
		return anchorError{keyforms.Fault{Message: "no certificate found: it holds " + contents.Instead(), Hint: "Give the certificate of the CA, in PEM or DER."}}
	}
	for _, cert := range contents.Certificates {
		if !cert.IsCA {
			return anchorError{keyforms.Fault{
				Message: fmt.Sprintf("certificate %q is not a CA", cert.Subject),
				Hint:    "Give the certificate of the CA that issues seals, or of one above it.",
			}}
		}
	}
	for _, cert := range contents.Certificates {
		a[FingerprintOf(cert)] = cert.Subject.String()
	}
	return nil
}

// An anchorError is a fault that comes with a hint.
type anchorError struct{ fault keyforms.Fault }

func (e anchorError) Error() string { return e.fault.Message }
func (e anchorError) Unwrap() error { return e.fault.Cause }

// Hint is how to mend it.
func (e anchorError) Hint() string { return e.fault.Hint }
