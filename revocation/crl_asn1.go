package revocation

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A signedList is a revocation list as it stands on the wire (RFC 5280 section
// 5.1), and a wireList its middle part, read as far as it always is.
//
// x509.ParseRevocationList makes Go values of every entry, twice over, and
// allocates 480 MB for the largest list that is fetched. Here the entries are left as
// they are, and read when they are looked for.
type (
	signedList struct {
		List      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	wireList struct {
		versionOne bool
		issuer     []byte // raw name
		thisUpdate time.Time
		nextUpdate time.Time // zero when there is none
		entries    wireEntries
		extensions []pkix.Extension
	}
)

// wireEntries is what stands in revokedCertificates.
type wireEntries cryptobyte.String

// A wireEntry is one of them, of which only the beginning was read.
type wireEntry struct {
	serial []byte            // contents of the INTEGER
	rest   cryptobyte.String // revocationDate and crlEntryExtensions
}

var errMalformedList = errors.New("the list is malformed")

const versionTwo = 1

// parseList reads a TBSCertList whose signature has been verified with the
// algorithm.
func parseList(tbs []byte, algorithm pkix.AlgorithmIdentifier) (*wireList, error) {
	var (
		all     = cryptobyte.String(tbs)
		l       = &wireList{}
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
	if err := l.readRest(all); err != nil {
		return nil, err
	}
	return l, nil
}

// readRest reads what may stand behind the times.
func (l *wireList) readRest(rest cryptobyte.String) error {
	var entries, extensions cryptobyte.String
	var present bool
	if !rest.ReadOptionalASN1(&entries, &present, cbasn1.SEQUENCE) {
		return fmt.Errorf("%w: revokedCertificates", errMalformedList)
	}
	l.entries = wireEntries(bytes.Clone(entries)) // all that is kept, without the room around it
	if !rest.ReadOptionalASN1(&extensions, &present, cbasn1.Tag(0).ContextSpecific().Constructed()) || !rest.Empty() {
		return fmt.Errorf("%w: crlExtensions", errMalformedList)
	}
	switch {
	case !present:
		return nil
	case l.versionOne:
		return fmt.Errorf("%w: it is of version 1 and has extensions", errMalformedList)
	}
	if err := unmarshalAll(extensions, &l.extensions); err != nil {
		return fmt.Errorf("%w: crlExtensions: %w", errMalformedList, err)
	}
	return nil
}

// sameAlgorithm: RFC 5280 section 5.1.2.2 wants the algorithm stated twice, so that
// it is signed.
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

// next takes the first entry away.
func (e *wireEntries) next() (first wireEntry, err error) {
	var entry, serial cryptobyte.String
	if !(*cryptobyte.String)(e).ReadASN1(&entry, cbasn1.SEQUENCE) ||
		!entry.ReadASN1(&serial, cbasn1.INTEGER) || !minimal(serial) {
		return first, fmt.Errorf("%w: an entry", errMalformedList)
	}
	return wireEntry{serial: serial, rest: entry}, nil
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

// withdrawal reads the rest of an entry.
func (e wireEntry) withdrawal() (withdrawal, error) {
	var w withdrawal
	at, ok := readTime(&e.rest)
	if !ok {
		return w, fmt.Errorf("%w: revocationDate", errMalformedList)
	}
	w.at = at
	var extensions cryptobyte.String
	var present bool
	if !e.rest.ReadOptionalASN1(&extensions, &present, cbasn1.SEQUENCE) || !e.rest.Empty() {
		return w, fmt.Errorf("%w: an entry", errMalformedList)
	}
	if !present {
		return w, nil
	}
	err := w.readExtensions(extensions)
	return w, err
}

// maxEntryExtensions is how many extensions an entry may have. RFC 5280 section 5.3 knows four.
const maxEntryExtensions = 8

// readExtensions reads those of an entry, of which each may stand there once (RFC 5280
// section 4.2). A list has up to a million entries, so what was seen is not kept in a map.
func (w *withdrawal) readExtensions(all cryptobyte.String) error {
	var seen [maxEntryExtensions]cryptobyte.String
	for n := 0; !all.Empty(); n++ {
		if n == len(seen) {
			return fmt.Errorf("an entry has more than %d extensions, which is all that is read here", len(seen))
		}
		id, err := w.readExtension(&all)
		if err != nil {
			return err
		}
		for _, other := range seen[:n] {
			if bytes.Equal(other, id) {
				return fmt.Errorf("%w: the extension %s stands twice in an entry, which RFC 5280 section 4.2 forbids", errMalformedList, oidString(id))
			}
		}
		seen[n] = id
	}
	return nil
}

// readExtension takes the first extension of an entry away, and gives its identifier. A list
// with a critical one that is not known says nothing about any certificate (RFC 5280 section 5.3).
func (w *withdrawal) readExtension(from *cryptobyte.String) (id cryptobyte.String, err error) {
	var extension, value cryptobyte.String
	var critical bool
	if !from.ReadASN1(&extension, cbasn1.SEQUENCE) ||
		!extension.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) ||
		!readCritical(&extension, &critical) ||
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
		w.reason = reasonOf(code)
	case derInvalidityDate: // says since when the key is bad; the certificate is as revoked as without
	default:
		if critical {
			return nil, fmt.Errorf("an entry has the critical extension %s, which is not known here", oidString(id))
		}
	}
	return id, nil
}

func readCritical(from *cryptobyte.String, critical *bool) bool {
	return !from.PeekASN1Tag(cbasn1.BOOLEAN) || from.ReadASN1Boolean(critical)
}

func oidString(contents []byte) string {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.UnmarshalWithParams(append([]byte{byte(cbasn1.OBJECT_IDENTIFIER), byte(len(contents))}, contents...), &oid, ""); err != nil {
		return "of a malformed name"
	}
	return oid.String()
}
