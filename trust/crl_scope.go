package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// A scope says for which of its issuer's certificates a list speaks (RFC 5280
// section 5.2.5). The zero scope is that of a list for all.
type scope struct {
	names     []string // nil: those of every distribution point
	usersOnly bool
	casOnly   bool
}

type issuingDistributionPoint struct {
	Name           distributionPointName `asn1:"optional,tag:0"`
	UsersOnly      bool                  `asn1:"optional,tag:1"`
	CAsOnly        bool                  `asn1:"optional,tag:2"`
	SomeReasons    asn1.BitString        `asn1:"optional,tag:3"`
	Indirect       bool                  `asn1:"optional,tag:4"`
	AttributesOnly bool                  `asn1:"optional,tag:5"`
}

type distributionPointName struct {
	Full     []asn1.RawValue `asn1:"optional,tag:0"`
	Relative []asn1.RawValue `asn1:"optional,tag:1,set"`
}

// tagURI is that of a uniformResourceIdentifier among names (RFC 5280 section
// 4.2.1.6).
const tagURI = 6

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
	case point.SomeReasons.BitLength > 0:
		return scope{}, errors.New("the list is for some reasons of revocation only")
	case point.AttributesOnly:
		return scope{}, errors.New("the list is for attribute certificates only")
	case len(point.Name.Relative) > 0:
		return scope{}, errors.New("the list names its distribution point relative to its issuer, which is not known here")
	}
	return scope{names: uris(point.Name.Full), usersOnly: point.UsersOnly, casOnly: point.CAsOnly}, nil
}

// uris is not nil when there are names at all.
func uris(names []asn1.RawValue) []string {
	var list []string
	for _, name := range names {
		if name.Class == asn1.ClassContextSpecific && name.Tag == tagURI {
			list = append(list, string(name.Bytes))
		} else {
			list = append(list, "") // a name that matches none of a certificate's
		}
	}
	return list
}

// covers says why a list does not speak for the certificate. A CA that splits its
// list signs every part, and whoever stands between may hand out the part
// in which a certificate is not.
func (s scope) covers(cert *x509.Certificate) error {
	switch {
	case s.usersOnly && cert.IsCA:
		return errors.New("the list does not speak for CAs")
	case s.casOnly && !cert.IsCA:
		return errors.New("the list speaks for CAs only")
	case s.names != nil && !slices.ContainsFunc(cert.CRLDistributionPoints, s.has):
		return errors.New("the list is of another distribution point than the certificate names")
	}
	return nil
}

func (s scope) has(name string) bool { return name != "" && slices.Contains(s.names, name) }
