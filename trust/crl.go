package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

var (
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

var errIndirectList = errors.New("the list is indirect: it speaks for other issuers too")

// A list is a certificate revocation list (RFC 5280 section 5) that its issuer
// signed, that is complete within its scope, and of which every entry was
// understood.
type list struct {
	thisUpdate time.Time
	nextUpdate time.Time
	scope      scope
	entries    wireEntries
}

// listSize is about what a list takes in memory besides its entries, in bytes.
const listSize = 1 << 10

// size is about what the list takes in memory, in bytes. It is bounded by
// maxListAnswer.
func (l *list) size() uint32 { return uint32(listSize + len(l.entries)) }

// readList reads a list and believes it when the issuer signed it and it is in
// force. Lists that are right and say too little to rely on are refused:
// indirect ones, deltas, those for some reasons only, and those with a critical extension that
// is not known here.
//
// The signature comes first: of what a stranger puts in the list's place,
// nothing else is read.
func readList(der []byte, issuer *x509.Certificate, at time.Time) (*list, error) {
	parsed, err := parseSignedList(der, issuer)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(parsed.issuer, issuer.RawSubject) {
		return nil, errors.New("the list has another issuer than the certificate; indirect lists are not used")
	}
	l := &list{thisUpdate: parsed.thisUpdate, nextUpdate: parsed.nextUpdate, entries: parsed.entries}
	if err := l.inForce(at); err != nil {
		return nil, err
	}
	if err := l.readExtensions(parsed.extensions); err != nil {
		return nil, err
	}
	if err := l.entries.understood(); err != nil {
		return nil, err
	}
	return l, nil
}

// parseSignedList takes a list apart that the issuer signed.
func parseSignedList(der []byte, issuer *x509.Certificate) (*wireList, error) {
	var signed signedList
	if err := unmarshalAll(der, &signed); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformedList, err)
	}
	algorithm := signatureAlgorithm(signed.Algorithm)
	switch {
	case issuer.KeyUsage&x509.KeyUsageCRLSign == 0:
		return nil, errors.New("the key usage of the issuer does not include cRLSign")
	case !strongSignature(algorithm):
		return nil, fmt.Errorf("the list is signed with the algorithm %s; SHA-256 or better is asked for", signed.Algorithm.Algorithm)
	}
	if err := issuer.CheckSignature(algorithm, signed.List.FullBytes, signed.Signature.RightAlign()); err != nil {
		return nil, fmt.Errorf("the list is not signed by the issuer: %w", err)
	}
	return parseList(signed.List.FullBytes, signed.Algorithm)
}

func (l *list) inForce(at time.Time) error {
	if l.nextUpdate.IsZero() {
		return errors.New("the list has no nextUpdate")
	}
	return verdict{thisUpdate: l.thisUpdate, nextUpdate: l.nextUpdate}.inForce(at)
}

func (l *list) readExtensions(extensions []pkix.Extension) error {
	for _, ext := range extensions {
		switch {
		case ext.Id.Equal(oidDeltaCRLIndicator):
			return errors.New("the list is a delta, which says nothing without its base")
		case ext.Id.Equal(oidIssuingDistributionPoint):
			var err error
			if l.scope, err = readScope(ext.Value); err != nil {
				return err
			}
		}
	}
	return knowsCritical(extensions, oidIssuingDistributionPoint)
}

// understood says why the entries, or one of them, cannot be relied on.
func (e wireEntries) understood() error {
	for len(e) > 0 {
		entry, err := e.next()
		if err != nil {
			return err
		}
		if _, err := entry.withdrawal(); err != nil {
			return err
		}
	}
	return nil
}

// about is what the list says of a certificate of its issuer. It looks through the
// whole list, which takes some milliseconds for the largest ones, once for each certificate
// and answer.
func (l *list) about(cert *x509.Certificate) (verdict, error) {
	if err := l.scope.covers(cert); err != nil {
		return verdict{}, err
	}
	v := verdict{thisUpdate: l.thisUpdate, nextUpdate: l.nextUpdate}
	var err error
	v.revoked, err = l.entries.find(contentsOf(cert.SerialNumber))
	return v, err
}

// find looks for the entry that revokes a serial number.
func (e wireEntries) find(serial []byte) (*withdrawal, error) {
	for len(e) > 0 {
		entry, err := e.next()
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(entry.serial, serial) {
			continue
		}
		w, err := entry.withdrawal()
		if err != nil {
			return nil, err
		}
		// The other reason is said of a certificate that is no longer on hold,
		// although RFC 5280 section 5.3.1 wants that in deltas only.
		if w.reason != removeFromCRL {
			return &w, nil
		}
	}
	return nil, nil
}
