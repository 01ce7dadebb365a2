package revocation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/trust"
)

// A scope says for which of its issuer's certificates a list speaks (RFC 5280
// section 5.2.5). The zero scope is that of a list for all.
type scope struct {
	point       distributionPointName // without names: every distribution point
	usersOnly   bool
	casOnly     bool
	someReasons bool
}

type issuingDistributionPoint struct {
	Name           distributionPointName `asn1:"optional,tag:0"`
	UsersOnly      bool                  `asn1:"optional,tag:1"`
	CAsOnly        bool                  `asn1:"optional,tag:2"`
	SomeReasons    asn1.BitString        `asn1:"optional,tag:3"`
	Indirect       bool                  `asn1:"optional,tag:4"`
	AttributesOnly bool                  `asn1:"optional,tag:5"`
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

// Tags of a directoryName and a uniformResourceIdentifier among names (RFC 5280 section
// 4.2.1.6).
const (
	tagDirectoryName = 4
	tagURI           = 6
)

// readScope reads an issuing distribution point, and refuses a list that
// cannot answer for any certificate as a whole.
func readScope(der []byte) (scope, error) {
	var point issuingDistributionPoint
	if err := unmarshalAll(der, &point); err != nil {
		return scope{}, fmt.Errorf("%w: issuing distribution point: %w", errMalformedList, err)
	}
	switch {
	case point.Indirect:
		return scope{}, errIndirectList
	case point.AttributesOnly:
		return scope{}, errors.New("the list is for attribute certificates only")
	}
	return scope{
		point: point.Name, usersOnly: point.UsersOnly, casOnly: point.CAsOnly,
		someReasons: point.SomeReasons.Bytes != nil, // also when no reason is among them
	}, nil
}

// pointsOf reads the distribution points of a certificate, of which crypto/x509 tells the
// addresses only.
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

// covers says why a list does not speak for the certificate, and otherwise whether it may be
// one for some reasons of revocation only (RFC 5280 section 6.3.3 (b) and (d)). A CA that splits its
// list signs every part, and whoever stands between may hand out the part
// in which a certificate is not.
func (s scope) covers(cert *x509.Certificate, points []distributionPoint) (partial bool, err error) {
	switch {
	case s.usersOnly && cert.IsCA:
		return false, errors.New("the list does not speak for CAs")
	case s.casOnly && !cert.IsCA:
		return false, errors.New("the list speaks for CAs only")
	}
	names := s.point.names(cert.RawIssuer)
	if len(names) > 0 {
		points = slices.DeleteFunc(points, func(p distributionPoint) bool { return !p.isOneOf(names, cert.RawIssuer) })
		if len(points) == 0 {
			return false, errors.New("the list is of another distribution point than the certificate names")
		}
	}
	return slices.ContainsFunc(points, func(p distributionPoint) bool { return p.Reasons.Bytes != nil }), nil
}

// isOneOf reports whether the point has one of the names and is the issuer's own. Lists of
// another issuer are indirect.
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
