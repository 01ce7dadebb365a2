package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
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

// LoadAnchors reads anchors that are given as fingerprints or as names of files
// of PEM certificates. Every problem is reported, not only the first.
func LoadAnchors(items []string) (Anchors, error) {
	anchors := Anchors{}
	var problems []error
	for _, item := range items {
		if f, err := ParseFingerprint(item); err == nil {
			anchors[f] = "fingerprint " + f.String()
			continue
		}
		data, err := os.ReadFile(item)
		if err == nil {
			err = anchors.addPEM(data)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("trust anchor %s: %w", item, err))
		}
	}
	return anchors, errors.Join(problems...)
}

// ParseAnchors reads every certificate of a PEM text as an anchor. A certificate
// that is not a CA is refused: it could anchor nothing.
func ParseAnchors(pemText []byte) (Anchors, error) {
	anchors := Anchors{}
	if err := anchors.addPEM(pemText); err != nil {
		return nil, err
	}
	return anchors, nil
}

var pemBegin = []byte("-----BEGIN ")

func (a Anchors) addPEM(data []byte) error {
	found := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("holds a PEM block of type %q, want CERTIFICATE", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		if !cert.IsCA {
			return fmt.Errorf("certificate %q is not a CA", cert.Subject)
		}
		a[FingerprintOf(cert)] = cert.Subject.String()
		found++
	}
	switch {
	case found == 0:
		return errors.New("holds no PEM certificate")
	case found != bytes.Count(data, pemBegin): // the decoder skips what it cannot read
		return errors.New("holds a PEM block that cannot be read")
	}
	return nil
}
