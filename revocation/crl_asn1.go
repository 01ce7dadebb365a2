package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/trust"
)

// A tbsCertList is the part of a revocation list that is signed (RFC 5280 section 5.1), read as far as it always is.
//
// x509.ParseRevocationList makes Go values of every entry, twice over, and allocates 480 MB for the largest list that
// is fetched. Here the entries are left as they are, and read when they are looked for.
type tbsCertList struct {
	versionOne bool
	issuer     []byte // raw name
	thisUpdate time.Time
	nextUpdate time.Time // zero when there is none
	entries    listEntries
	extensions []pkix.Extension
}

var errMalformedList = errors.New("the list is malformed")

const versionTwo = 1

// parseSignedList takes a list apart that the issuer signed.
func parseSignedList(der []byte, issuer *x509.Certificate) (*tbsCertList, error) {
	var signed struct {
		List      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
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
	if err := certcheck.CheckSignatureOf(issuer, algorithm, signed.List.FullBytes, signed.Signature.RightAlign()); err != nil {
		return nil, fmt.Errorf("the list is not signed by the issuer: %w", err)
	}
	return parseList(signed.List.FullBytes, signed.Algorithm)
}

// parseList reads a TBSCertList whose signature has been verified with the algorithm.
func parseList(tbs []byte, algorithm pkix.AlgorithmIdentifier) (*tbsCertList, error) {
	var (
		all     = cryptobyte.String(tbs)
		l       = &tbsCertList{}
		version int
		inner   cryptobyte.String
		issuer  cryptobyte.String
		ok      bool
	)
	if !all.ReadASN1(&all, cbasn1.SEQUENCE) {
		return nil, errMalformedList
	}
	l.versionOne = !all.PeekASN1Tag(cbasn1.INTEGER) // which does not say so (RFC 5280 section 5.1.2.1)
	if !l.versionOne && (!all.ReadASN1Integer(&version) || version != versionTwo) {
		return nil, fmt.Errorf("%w: it is of another version than 1 and 2", errMalformedList)
	}
	if !all.ReadASN1Element(&inner, cbasn1.SEQUENCE) || !sameAlgorithm(inner, algorithm) {
		return nil, fmt.Errorf("%w: it names another algorithm than it is signed with", errMalformedList)
	}
	if !all.ReadASN1Element(&issuer, cbasn1.SEQUENCE) {
		return nil, fmt.Errorf("%w: issuer", errMalformedList)
	}
	l.issuer = issuer
	if l.thisUpdate, ok = readTime(&all); !ok {
		return nil, fmt.Errorf("%w: thisUpdate", errMalformedList)
	}
	if all.PeekASN1Tag(cbasn1.UTCTime) || all.PeekASN1Tag(cbasn1.GeneralizedTime) {
		if l.nextUpdate, ok = readTime(&all); !ok {
			return nil, fmt.Errorf("%w: nextUpdate", errMalformedList)
		}
	}
	var entries, extensions cryptobyte.String
	var present bool
	if !all.ReadOptionalASN1(&entries, &present, cbasn1.SEQUENCE) {
		return nil, fmt.Errorf("%w: revokedCertificates", errMalformedList)
	}
	l.entries = listEntries(bytes.Clone(entries)) // all that is kept, without the capacity around it
	if !all.ReadOptionalASN1(&extensions, &present, cbasn1.Tag(0).ContextSpecific().Constructed()) || !all.Empty() {
		return nil, fmt.Errorf("%w: crlExtensions", errMalformedList)
	}
	switch {
	case !present:
		return l, nil
	case l.versionOne:
		return nil, fmt.Errorf("%w: it is of version 1 and has extensions", errMalformedList)
	}
	if err := unmarshalAll(extensions, &l.extensions); err != nil {
		return nil, fmt.Errorf("%w: crlExtensions: %w", errMalformedList, err)
	}
	return l, nil
}

// sameAlgorithm compares the algorithm inside of the signed part with the one beside it, as RFC 5280 section
// 5.1.2.2 demands: only the one inside is signed.
func sameAlgorithm(inner []byte, outer pkix.AlgorithmIdentifier) bool {
	var algorithm pkix.AlgorithmIdentifier
	return unmarshalAll(inner, &algorithm) == nil &&
		algorithm.Algorithm.Equal(outer.Algorithm) &&
		bytes.Equal(algorithm.Parameters.FullBytes, outer.Parameters.FullBytes)
}

func readTime(from *cryptobyte.String) (t time.Time, ok bool) {
	if from.PeekASN1Tag(cbasn1.UTCTime) {
		ok = from.ReadASN1UTCTime(&t)
	} else {
		ok = from.ReadASN1GeneralizedTime(&t)
	}
	return t, ok
}

// listEntries is what stands in revokedCertificates.
type listEntries cryptobyte.String

// next takes the first entry away, of which the serial number is read: the contents of the INTEGER.
func (e *listEntries) next() (serial []byte, rest cryptobyte.String, err error) {
	var entry, integer cryptobyte.String
	if !(*cryptobyte.String)(e).ReadASN1(&entry, cbasn1.SEQUENCE) ||
		!entry.ReadASN1(&integer, cbasn1.INTEGER) || !minimal(integer) {
		return nil, nil, fmt.Errorf("%w: an entry", errMalformedList)
	}
	return integer, entry, nil
}

// understood says why the entries, or one of them, cannot be relied on. Those of
// version 1 have no extensions (RFC 5280 section 5.1.2.1).
func (e listEntries) understood(versionOne bool) error {
	for len(e) > 0 {
		_, rest, err := e.next()
		if err != nil {
			return err
		}
		if _, err := readEntry(rest); err != nil {
			return err
		}
		readTime(&rest)
		if versionOne && !rest.Empty() {
			return fmt.Errorf("%w: an entry of version 1 with extensions", errMalformedList)
		}
	}
	return nil
}

// find looks for the entry that revokes a serial number.
func (e listEntries) find(serial []byte) (*revocationEntry, error) {
	for len(e) > 0 {
		other, rest, err := e.next()
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(other, serial) {
			continue
		}
		found, err := readEntry(rest)
		if err != nil {
			return nil, err
		}
		// The other reason is said of a certificate that is no longer on hold,
		// although RFC 5280 section 5.3.1 wants that in deltas only.
		if found.reason != ocsp.RemoveFromCRL {
			return &found, nil
		}
	}
	return nil, nil
}

// minimal reports whether the contents of an INTEGER are as short as DER wants
// them. A number that could be written in two ways could be looked for in vain.
func minimal(integer []byte) bool {
	switch {
	case len(integer) < 2:
		return len(integer) == 1
	case integer[0] == 0:
		return integer[1]&0x80 != 0
	case integer[0] == 0xff:
		return integer[1]&0x80 == 0
	}
	return true
}

// contentsOf is a number as the contents of an INTEGER.
func contentsOf(n *big.Int) []byte {
	var builder cryptobyte.Builder
	builder.AddASN1BigInt(n)
	element := cryptobyte.String(builder.BytesOrPanic())
	element.ReadASN1(&element, cbasn1.INTEGER)
	return element
}

// Object identifiers of entry extensions, in DER.
const (
	derReasonCode        = "\x55\x1d\x15" // 2.5.29.21
	derInvalidityDate    = "\x55\x1d\x18" // 2.5.29.24
	derCertificateIssuer = "\x55\x1d\x1d" // 2.5.29.29
)

// readEntry reads what stands behind the serial number: revocationDate and crlEntryExtensions.
func readEntry(rest cryptobyte.String) (e revocationEntry, err error) {
	var ok bool
	if e.at, ok = readTime(&rest); !ok {
		return e, fmt.Errorf("%w: revocationDate", errMalformedList)
	}
	var extensions cryptobyte.String
	var present bool
	if !rest.ReadOptionalASN1(&extensions, &present, cbasn1.SEQUENCE) || !rest.Empty() {
		return e, fmt.Errorf("%w: an entry", errMalformedList)
	}
	// Each may stand there once (RFC 5280 section 4.2). A list has up to a million entries, so what was seen is not
	// kept in a map.
	var seen [maxEntryExtensions]cryptobyte.String
	for n := 0; !extensions.Empty(); n++ {
		if n == len(seen) {
			return e, fmt.Errorf("an entry has more than %d extensions, which is all that is read here", len(seen))
		}
		id, err := e.readExtension(&extensions)
		if err != nil {
			return e, err
		}
		for _, other := range seen[:n] {
			if bytes.Equal(other, id) {
				return e, fmt.Errorf("%w: the extension %s stands twice in an entry, which RFC 5280 section 4.2 forbids", errMalformedList, oidString(id))
			}
		}
		seen[n] = id
	}
	return e, nil
}

// maxEntryExtensions is how many extensions an entry may have. RFC 5280 section 5.3 knows four.
const maxEntryExtensions = 8

// readExtension takes the first extension of an entry away, and gives its identifier. A list
// with a critical one that is not known says nothing about any certificate (RFC 5280 section 5.3).
func (e *revocationEntry) readExtension(from *cryptobyte.String) (id cryptobyte.String, err error) {
	var extension, value cryptobyte.String
	var critical bool
	if !from.ReadASN1(&extension, cbasn1.SEQUENCE) ||
		!extension.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) ||
		extension.PeekASN1Tag(cbasn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
		!extension.ReadASN1(&value, cbasn1.OCTET_STRING) {
		return nil, fmt.Errorf("%w: crlEntryExtensions", errMalformedList)
	}
	switch string(id) {
	case derCertificateIssuer:
		return nil, errIndirectList
	case derReasonCode:
		var code int
		if !value.ReadASN1Enum(&code) {
			return nil, fmt.Errorf("%w: reasonCode", errMalformedList)
		}
		e.reason = code
	case derInvalidityDate: // says since when the key is bad; the certificate is as revoked as without
	default:
		if critical {
			return nil, fmt.Errorf("an entry has the critical extension %s, which is not known here", oidString(id))
		}
	}
	return id, nil
}

func oidString(contents []byte) string {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.UnmarshalWithParams(append([]byte{byte(cbasn1.OBJECT_IDENTIFIER), byte(len(contents))}, contents...), &oid, ""); err != nil {
		return "of a malformed name"
	}
	return oid.String()
}

// A distributionPoint is one of those that a certificate names (RFC 5280 section 4.2.1.13).
type distributionPoint struct {
	Name    distributionPointName `asn1:"optional,tag:0"`
	Reasons asn1.BitString        `asn1:"optional,tag:1"`
	Issuer  []asn1.RawValue       `asn1:"optional,tag:2"`
}

type distributionPointName struct {
	Full     []asn1.RawValue `asn1:"optional,tag:0"`
	Relative []asn1.RawValue `asn1:"optional,tag:1,set"`
}

// Tags of a directoryName and a uniformResourceIdentifier among names (RFC 5280 section 4.2.1.6).
const (
	tagDirectoryName = 4
	tagURI           = 6
)

// pointsOf reads the distribution points of a certificate, of which crypto/x509 tells the addresses only.
func pointsOf(cert *x509.Certificate) ([]distributionPoint, error) {
	var points []distributionPoint
	ext, ok := certcheck.Extension(cert, certcheck.OIDCRLDistributionPoints)
	if !ok {
		return nil, nil
	}
	if err := unmarshalAll(ext.Value, &points); err != nil {
		return nil, fmt.Errorf("the distribution points of the certificate are malformed: %w", err)
	}
	return points, nil
}

// isOneOf reports whether the point has one of the names and is the issuer's own. Lists of another issuer are indirect.
func (p distributionPoint) isOneOf(names []asn1.RawValue, issuer []byte) bool {
	own := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagDirectoryName, Bytes: issuer}
	if len(p.Issuer) > 0 && !hasGeneralName(p.Issuer, own) {
		return false
	}
	return slices.ContainsFunc(p.Name.names(issuer), func(name asn1.RawValue) bool { return hasGeneralName(names, name) })
}

// names are the names of a point, where one that is relative to the issuer is written out.
func (n distributionPointName) names(issuer []byte) []asn1.RawValue {
	if len(n.Relative) == 0 {
		return n.Full
	}
	name := cryptobyte.String(issuer)
	name.ReadASN1(&name, cbasn1.SEQUENCE)
	var builder cryptobyte.Builder
	builder.AddASN1(cbasn1.SEQUENCE, func(rdns *cryptobyte.Builder) {
		rdns.AddBytes(name)
		rdns.AddASN1(cbasn1.SET, func(rdn *cryptobyte.Builder) {
			for _, attribute := range n.Relative {
				rdn.AddBytes(attribute.FullBytes)
			}
		})
	})
	return []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tagDirectoryName, Bytes: builder.BytesOrPanic()}}
}

// hasGeneralName looks for a name; only directory names can be written in several ways.
func hasGeneralName(names []asn1.RawValue, name asn1.RawValue) bool {
	return slices.ContainsFunc(names, func(other asn1.RawValue) bool {
		switch {
		case other.Class != asn1.ClassContextSpecific || name.Class != other.Class || name.Tag != other.Tag:
			return false
		case name.Tag == tagDirectoryName:
			return trust.SameName(name.Bytes, other.Bytes)
		}
		return bytes.Equal(name.Bytes, other.Bytes)
	})
}
