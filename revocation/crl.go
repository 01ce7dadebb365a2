package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/trust"
)

var (
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidFreshestCRL              = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// A certificate that is on a list is revoked whatever else there is; that it is not on
// the list may say nothing.
var (
	errIndirectList = errors.New("the list is indirect: it speaks for other issuers too")
	errDeltaBeside  = errors.New("the certificate is not on the list, but there is a delta list beside it (freshestCRL), and delta lists are not read")
	errSomeReasons  = errors.New("the certificate is not on the list, but the list is for some reasons of revocation only")
)

// A list is a certificate revocation list (RFC 5280 section 5) that its issuer
// signed, that is complete within its scope, and of which every entry was
// understood.
type list struct {
	thisUpdate time.Time
	nextUpdate time.Time
	scope      scope
	partial    error // why it says nothing of a certificate that is not on it, or nil
	entries    wireEntries
}

// listSize is about what a list takes in memory besides its entries, in bytes.
const listSize = 1 << 10

// size is about what the list takes in memory, in bytes. It is bounded by
// maxListAnswer.
func (l *list) size() uint32 { return uint32(listSize + len(l.entries)) }

// readList reads a list, in DER or PEM, and believes it when the issuer signed it and it is in
// force. Lists that are right and say too little to rely on are refused: indirect ones,
// deltas, and those with a critical extension that is not known here.
//
// The signature comes first: of what a stranger puts in the list's place,
// nothing else is read.
func readList(body []byte, issuer *x509.Certificate, at time.Time) (*list, error) {
	der, err := derOfList(body)
	if err != nil {
		return nil, err
	}
	parsed, err := parseSignedList(der, issuer)
	if err != nil {
		return nil, err
	}
	if !trust.SameName(parsed.issuer, issuer.RawSubject) {
		return nil, errors.New("the list has another issuer than the certificate; indirect lists are not used")
	}
	l := &list{thisUpdate: parsed.thisUpdate, nextUpdate: parsed.nextUpdate, entries: parsed.entries}
	if err := l.inForce(at); err != nil {
		return nil, err
	}
	if err := l.readExtensions(parsed.extensions); err != nil {
		return nil, err
	}
	if err := l.entries.understood(parsed.versionOne); err != nil {
		return nil, err
	}
	return l, nil
}

// derOfList takes the PEM off that many authorities put around what should be DER (RFC
// 5280 section 4.2.1.13).
func derOfList(body []byte) ([]byte, error) {
	if text := bytes.TrimSpace(body); bytes.HasPrefix(text, []byte("-----BEGIN X509 CRL-----")) {
		block, rest := pem.Decode(text)
		if block == nil || len(rest) > 0 {
			return nil, fmt.Errorf("%w: PEM", errMalformedList)
		}
		return block.Bytes, nil
	}
	return body, wantDER(body, "a revocation list")
}

// wantDER says what somebody answers who is no such service, such as a page for people or
// for whoever is not signed in.
func wantDER(body []byte, what string) error {
	const sequence = 0x30
	switch {
	case len(body) == 0:
		return fmt.Errorf("answered with nothing, not with %s", what)
	case body[0] != sequence:
		kind, _, _ := strings.Cut(http.DetectContentType(body), ";") // seen, not said: it is safe to show
		return fmt.Errorf("answered with %s, not with %s", kind, what)
	}
	return nil
}

// parseSignedList takes a list apart that the issuer signed.
func parseSignedList(der []byte, issuer *x509.Certificate) (*wireList, error) {
	var signed signedList
	if err := unmarshalAll(der, &signed); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformedList, err)
	}
	algorithm := signatureAlgorithm(signed.Algorithm)
	switch {
	case !certcheck.IssuerMay(issuer, x509.KeyUsageCRLSign):
		return nil, errors.New("the key usage of the issuer does not include cRLSign")
	case !certcheck.StrongSignature(algorithm):
		return nil, fmt.Errorf("the list is signed with the algorithm %s; SHA-256 or better is asked for", certcheck.Shorten(signed.Algorithm.Algorithm.String()))
	}
	if err := issuer.CheckSignature(algorithm, signed.List.FullBytes, signed.Signature.RightAlign()); err != nil {
		return nil, fmt.Errorf("the list is not signed by the issuer: %w", err)
	}
	return parseList(signed.List.FullBytes, signed.Algorithm)
}

func (l *list) inForce(at time.Time) error {
	if l.nextUpdate.IsZero() {
		return errors.New("the list has no nextUpdate, which RFC 5280 section 5.1.2.5 demands, so nobody knows until when it holds")
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
			if l.scope.someReasons {
				l.partial = errSomeReasons
			}
		case ext.Id.Equal(oidFreshestCRL):
			l.partial = errDeltaBeside
		}
	}
	return certcheck.CheckExtensions(extensions, oidIssuingDistributionPoint)
}

// understood says why the entries, or one of them, cannot be relied on. Those of
// version 1 have no extensions (RFC 5280 section 5.1.2.1).
func (e wireEntries) understood(versionOne bool) error {
	for len(e) > 0 {
		entry, err := e.next()
		if err != nil {
			return err
		}
		if _, err := entry.withdrawal(); err != nil {
			return err
		}
		readTime(&entry.rest)
		if versionOne && !entry.rest.Empty() {
			return fmt.Errorf("%w: an entry of version 1 with extensions", errMalformedList)
		}
	}
	return nil
}

// about is what the list says of a certificate of its issuer. It looks through the
// whole list, which takes some milliseconds for the largest ones, once for each certificate
// and answer.
//
// A delta could take a certificate off that is on hold. Deltas are not read, so it stays on hold.
func (l *list) about(cert *x509.Certificate) (verdict, error) {
	points, err := pointsOf(cert)
	if err != nil {
		return verdict{}, err
	}
	partial, err := l.scope.covers(cert, points)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{thisUpdate: l.thisUpdate, nextUpdate: l.nextUpdate}
	v.revoked, err = l.entries.find(contentsOf(cert.SerialNumber))
	switch {
	case err != nil:
		return verdict{}, err
	case v.revoked != nil:
		return v, nil
	case l.partial != nil:
		return verdict{}, l.partial
	case partial:
		return verdict{}, errSomeReasons
	}
	if _, delta := certcheck.Extension(cert, oidFreshestCRL); delta {
		return verdict{}, errDeltaBeside
	}
	return v, nil
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
