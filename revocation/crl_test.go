package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/testca"
)

func manyEntries(n int) []x509.RevocationListEntry {
	entries := make([]x509.RevocationListEntry, n)
	base := new(big.Int).Lsh(big.NewInt(1), 158)
	for i := range entries {
		entries[i] = x509.RevocationListEntry{
			SerialNumber:   new(big.Int).Add(base, big.NewInt(int64(i))),
			RevocationTime: time.Now(),
		}
	}
	return entries
}

func marshal(tb testing.TB, value any) []byte {
	tb.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func uri(address string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(address)}
}

func issuingPoint(tb testing.TB, point issuingDistributionPoint) pkix.Extension {
	tb.Helper()
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: marshal(tb, point)}
}

// versionOne makes a list of version 1 of the members of one without entry extensions,
// as `openssl ca -gencrl` writes it (RFC 5280 section 5.1).
func versionOne(members []asn1.RawValue) []asn1.RawValue {
	return slices.DeleteFunc(slices.Clone(members), func(member asn1.RawValue) bool {
		return member.Tag == asn1.TagInteger || member.Class == asn1.ClassContextSpecific
	})
}

func withoutEnd(members []asn1.RawValue) []asn1.RawValue {
	const thisUpdate = 3
	return slices.Delete(slices.Clone(members), thisUpdate+1, thisUpdate+2)
}

// freshest is the value of a freshestCRL extension.
func freshest(tb testing.TB, address string) []byte {
	tb.Helper()
	return marshal(tb, []distributionPoint{{Name: distributionPointName{Full: []asn1.RawValue{uri(address)}}}})
}

func TestListsThatDoNotCount(t *testing.T) {
	now := time.Now()
	extension := func(ext pkix.Extension) func(*pki, *testca.ListAnswer) {
		return func(_ *pki, l *testca.ListAnswer) { l.ExtraExtensions = []pkix.Extension{ext} }
	}
	entry := func(ext pkix.Extension) func(*pki, *testca.ListAnswer) {
		return func(_ *pki, l *testca.ListAnswer) {
			l.RevokedCertificateEntries = manyEntries(3)
			l.RevokedCertificateEntries[1].ExtraExtensions = []pkix.Extension{ext}
		}
	}
	edited := func(edit func([]asn1.RawValue) []asn1.RawValue) func(*pki, *testca.ListAnswer) {
		return func(_ *pki, l *testca.ListAnswer) { l.Edit = edit }
	}
	for _, test := range []struct {
		name   string
		tamper func(*pki, *testca.ListAnswer)
		want   string
	}{
		{"expired", func(_ *pki, l *testca.ListAnswer) {
			l.ThisUpdate, l.NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Hour)
		}, "it ended on"},
		{"from the future", func(_ *pki, l *testca.ListAnswer) {
			l.ThisUpdate = now.Add(2 * maxSkew)
		}, "it begins only on"},
		{"signed by a stranger", func(p *pki, l *testca.ListAnswer) {
			l.Key = p.key()
		}, "not signed by the issuer"},
		{"signed by another CA of the chain", func(p *pki, l *testca.ListAnswer) {
			sub := p.ca.Authority(testca.Sub)
			l.Issuer, l.Key = sub.Certificate(), sub.Key
		}, "not signed by the issuer"},
		{"signed by the issuer in another name", func(p *pki, l *testca.ListAnswer) {
			l.Issuer = p.ca.Authority(testca.Sub).Certificate()
		}, "the list has another issuer than the certificate"},
		{"signed with SHA-1", func(_ *pki, l *testca.ListAnswer) {
			l.SignatureAlgorithm = x509.SHA1WithRSA
		}, "SHA-256 or better"},
		{"delta", extension(pkix.Extension{Id: oidDeltaCRLIndicator, Critical: true, Value: []byte{2, 1, 1}}), "the list is a delta"},
		{"delta that hides it", extension(pkix.Extension{Id: oidDeltaCRLIndicator, Value: []byte{2, 1, 1}}), "the list is a delta"},
		{"unknown critical extension", extension(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes}), "critical extension 1.2.3"},
		{"indirect", extension(issuingPoint(t, issuingDistributionPoint{Indirect: true})), "the list is indirect"},
		{"two distribution points", func(_ *pki, l *testca.ListAnswer) {
			l.ExtraExtensions = []pkix.Extension{issuingPoint(t, issuingDistributionPoint{CAsOnly: true}), issuingPoint(t, issuingDistributionPoint{UsersOnly: true})}
		}, "stands there twice"},
		{"two extensions that do not matter", func(_ *pki, l *testca.ListAnswer) {
			l.ExtraExtensions = slices.Repeat([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.NullBytes}}, 2)
		}, "the extension 1.2.3 stands there twice"},
		{"entry with two dates", func(_ *pki, l *testca.ListAnswer) {
			l.RevokedCertificateEntries = manyEntries(3)
			l.RevokedCertificateEntries[1].ExtraExtensions = slices.Repeat([]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: asn1.NullBytes}}, 2)
		}, "the extension 2.5.29.24 stands twice in an entry"},
		{"indirect by an entry", entry(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: asn1.NullBytes}), "the list is indirect"},
		{"entry with an unknown critical extension", entry(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes}), "critical extension 1.2.3"},
		{"some reasons", extension(issuingPoint(t, issuingDistributionPoint{
			SomeReasons: asn1.BitString{Bytes: []byte{0x40}, BitLength: 2},
		})), "for some reasons of revocation only"},
		{"attribute certificates", extension(issuingPoint(t, issuingDistributionPoint{AttributesOnly: true})), "attribute certificates only"},
		{"CAs only", extension(issuingPoint(t, issuingDistributionPoint{CAsOnly: true})), "speaks for CAs only"},
		{"another distribution point", extension(issuingPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Full: []asn1.RawValue{uri("http://status.test/other.crl")}},
		})), "another distribution point"},
		{"a distribution point that is no address", extension(issuingPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Full: []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: marshal(t, pkix.RDNSequence{})}}},
		})), "another distribution point"},
		{"a distribution point that is named relative to another issuer's name", extension(issuingPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Relative: []asn1.RawValue{{FullBytes: asn1.NullBytes}}},
		})), "another distribution point"},
		{"for no reasons at all", extension(issuingPoint(t, issuingDistributionPoint{
			SomeReasons: asn1.BitString{Bytes: []byte{}},
		})), "for some reasons of revocation only"},
		{"a delta beside it", extension(pkix.Extension{Id: oidFreshestCRL, Value: freshest(t, "http://status.test/delta.crl")}), "there is a delta list beside it (freshestCRL)"},
		{"version 1 with extensions", edited(func(members []asn1.RawValue) []asn1.RawValue { return members[1:] }), "is of version 1 and has extensions"},
		{"version 1 with extensions of an entry", func(_ *pki, l *testca.ListAnswer) {
			l.RevokedCertificateEntries = manyEntries(3)
			l.RevokedCertificateEntries[2].ReasonCode = 1
			l.Edit = versionOne
		}, "an entry of version 1 with extensions"},
		{"version 1 that says so", edited(func(members []asn1.RawValue) []asn1.RawValue {
			return slices.Insert(versionOne(members), 0, asn1.RawValue{Tag: asn1.TagInteger, Bytes: []byte{0}})
		}), "of another version than 1 and 2"},
		{"without an end", edited(withoutEnd), "no nextUpdate, which RFC 5280 section 5.1.2.5 demands"},
		{"version 1 without an end", edited(func(members []asn1.RawValue) []asn1.RawValue {
			return versionOne(withoutEnd(members))
		}), "no nextUpdate"},
		{"a distribution point that is no such thing", extension(pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: []byte{4, 0}}), "the list is malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := servedPKI(t, withoutOCSP).pinned()
			chain := p.chain()
			p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) { test.tamper(p, l) }})
			mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), chain), test.want)
			mustPass(t, p.revocation(Prefer).Check(t.Context(), chain))
		})
	}
}

func TestListsThatCount(t *testing.T) {
	for _, test := range []struct {
		name   string
		tamper func(address string, l *testca.ListAnswer)
	}{
		{"plain", func(string, *testca.ListAnswer) {}},
		{"of the certificate's distribution point", func(address string, l *testca.ListAnswer) {
			l.ExtraExtensions = []pkix.Extension{issuingPoint(t, issuingDistributionPoint{
				Name: distributionPointName{Full: []asn1.RawValue{uri("ldap://x/"), uri(address)}},
			})}
		}},
		{"for seals only", func(_ string, l *testca.ListAnswer) {
			l.ExtraExtensions = []pkix.Extension{issuingPoint(t, issuingDistributionPoint{UsersOnly: true})}
		}},
		{"an unknown extension that does not matter", func(_ string, l *testca.ListAnswer) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.NullBytes}}
		}},
		{"entries with the usual extensions", func(_ string, l *testca.ListAnswer) {
			more := manyEntries(2)
			more[0].ReasonCode = 4
			more[1].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Critical: true, Value: marshal(t, time.Now().UTC())}}
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, more...)
		}},
		{"of version 1", func(_ string, l *testca.ListAnswer) {
			for i := range l.RevokedCertificateEntries {
				l.RevokedCertificateEntries[i].ReasonCode = 0
			}
			l.Edit = versionOne
		}},
		{"in PEM", func(_ string, l *testca.ListAnswer) { l.PEM = true }},
		{"without a number", func(_ string, l *testca.ListAnswer) {
			l.Edit = func(members []asn1.RawValue) []asn1.RawValue { return members[:len(members)-1] }
		}},
		{"GeneralizedTime", func(_ string, l *testca.ListAnswer) {
			l.NextUpdate = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		}},
		{"the issuer's name in another case and type of string", func(_ string, l *testca.ListAnswer) {
			issuer := *l.Issuer
			issuer.RawSubject = otherwise(t, issuer.RawSubject)
			l.Issuer = &issuer
		}},
		{"twice on it", func(_ string, l *testca.ListAnswer) {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, l.RevokedCertificateEntries...)
		}},
		{"an entry with an unknown extension that does not matter", func(_ string, l *testca.ListAnswer) {
			l.RevokedCertificateEntries = append(manyEntries(1), l.RevokedCertificateEntries...)
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: asn1.NullBytes}}
		}},
		{"signed with SHA-384 and PSS", func(_ string, l *testca.ListAnswer) { l.SignatureAlgorithm = x509.SHA384WithRSAPSS }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := servedPKI(t, withoutOCSP).pinned()
			chain := p.chain()
			address := chain.Leaf().CRLDistributionPoints[0]
			p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) { test.tamper(address, l) }})
			mustPass(t, p.revocation(Require).Check(t.Context(), chain))
			p.service.Revoke(chain.Leaf(), 3)
			mustBeRevoked(t, p.revocation(Require).Check(t.Context(), chain), "x5c[0] is revoked since 20")
		})
	}
}

func TestListForSealsSaysNothingOfACA(t *testing.T) {
	p := servedPKI(t, withoutOCSP)
	p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) {
		l.ExtraExtensions = []pkix.Extension{issuingPoint(t, issuingDistributionPoint{UsersOnly: true})}
	}})
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), p.chain()), "x5c[1]: CRL at")
}

// A list that is split has to be answered for by the part that the certificate is in.
func TestRevokedInAnotherPartOfASplitList(t *testing.T) {
	p := servedPKI(t, withoutOCSP).pinned()
	chain := p.chain()
	p.service.Revoke(chain.Leaf(), 1)
	p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) {
		l.RevokedCertificateEntries = nil // not in this part
		l.ExtraExtensions = []pkix.Extension{issuingPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Full: []asn1.RawValue{uri(chain.Leaf().CRLDistributionPoints[0] + "?part=2")}},
		})}
	}})
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), chain), "another distribution point")
}

func TestRemovedFromAList(t *testing.T) {
	p := servedPKI(t, withoutOCSP).pinned()
	chain := p.chain()
	p.service.Revoke(chain.Leaf(), 8)
	mustPass(t, p.revocation(Require).Check(t.Context(), chain))
}

// The list is good, and signed by the same key and name in every case.
func TestListSignersByTheirKeyUsage(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*x509.Certificate)
		counts bool
	}{
		{"without cRLSign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }, false},
		{"without any bit", func(c *x509.Certificate) {
			c.KeyUsage = 0
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: certcheck.OIDKeyUsage, Critical: true, Value: []byte{3, 1, 0}})
		}, false},
		{"without the extension", func(c *x509.Certificate) { c.KeyUsage = 0 }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPKI(t, "http://status.test", nil)
			template := p.ca.Template(testca.Issuing)
			test.change(template)
			issuer, err := p.ca.Authority(testca.Sub).Issue(template, p.ca.Authority(testca.Issuing).Key)
			if err != nil {
				t.Fatal(err)
			}
			der, err := p.service.List(testca.Issuing)
			if err != nil {
				t.Fatal(err)
			}
			_, err = readList(der, issuer.Certificate(), time.Now())
			if test.counts && err != nil || !test.counts && (err == nil || !strings.Contains(err.Error(), "does not include cRLSign")) {
				t.Errorf("readList = %v", err)
			}
		})
	}
}

// What a list leaves out is asked elsewhere; what is on it is revoked in any case.
func TestListsThatSayNotAll(t *testing.T) {
	delta := pkix.Extension{Id: oidFreshestCRL, Value: freshest(t, "http://status.test/delta.crl")}
	points := func(points ...distributionPoint) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			address := c.CRLDistributionPoints[0]
			c.CRLDistributionPoints = nil
			for i := range points {
				points[i].Name.Full = []asn1.RawValue{uri(address)}
			}
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: certcheck.OIDCRLDistributionPoints, Value: marshal(t, points)})
		}
	}
	keyCompromise := asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}
	for _, test := range []struct {
		name   string
		seal   func(*x509.Certificate)
		tamper func(*testca.ListAnswer)
		want   string // empty: it says all
	}{
		{"nothing special", nil, nil, ""},
		{"the certificate points to a delta", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, delta)
		}, nil, "there is a delta list beside it"},
		{"the list points to a delta", nil, func(l *testca.ListAnswer) {
			l.ExtraExtensions = []pkix.Extension{delta}
		}, "there is a delta list beside it"},
		{"the list is for some reasons", nil, func(l *testca.ListAnswer) {
			l.ExtraExtensions = []pkix.Extension{issuingPoint(t, issuingDistributionPoint{SomeReasons: keyCompromise})}
		}, "for some reasons of revocation only"},
		{"the certificate names it for some reasons", points(distributionPoint{Reasons: keyCompromise}), nil, "for some reasons of revocation only"},
		{"the certificate names it for all reasons", points(distributionPoint{}), nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := servedPKI(t, withoutOCSP).pinned()
			p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) {
				if test.tamper != nil {
					test.tamper(l)
				}
			}})
			chain := p.chainOf(p.seal(test.seal))
			err := p.revocation(Require).Check(t.Context(), chain)
			if test.want == "" {
				mustPass(t, err)
			} else {
				mustBeUnavailable(t, err, test.want)
			}
			p.service.Revoke(chain.Leaf(), 6)
			for _, mode := range []Mode{Require, Prefer} {
				mustBeRevoked(t, p.revocation(mode).Check(t.Context(), chain), "x5c[0] is on hold")
			}
		})
	}
}

// OCSP knows what is on a delta.
func TestDeltaBesideOCSP(t *testing.T) {
	p := servedPKI(t, nil).pinned()
	chain := p.chainOf(p.seal(func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidFreshestCRL, Value: freshest(t, "http://status.test/delta.crl")})
	}))
	mustPass(t, p.revocation(Require).Check(t.Context(), chain))
	p.without(http.MethodPost)
	mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), chain), "there is a delta list beside it")
}

// otherwise writes a name with the same meaning: in upper case, as UTF8String.
func otherwise(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	var rdns pkix.RDNSequence
	if err := unmarshalAll(raw, &rdns); err != nil {
		tb.Fatal(err)
	}
	for _, rdn := range rdns {
		for i, attribute := range rdn {
			text, ok := attribute.Value.(string)
			if !ok {
				tb.Fatalf("%v is no text", attribute.Value)
			}
			rdn[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(" " + strings.ToUpper(text))}
		}
	}
	return marshal(tb, rdns)
}

func directory(tb testing.TB, names ...string) asn1.RawValue {
	tb.Helper()
	var rdns pkix.RDNSequence
	for _, name := range names {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name}})
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagDirectoryName, IsCompound: true, Bytes: marshal(tb, rdns)}
}

// RFC 5280 section 6.3.3 (b) (2) (i).
func TestNamesOfDistributionPoints(t *testing.T) {
	relative := func(name string) distributionPointName {
		return distributionPointName{Relative: []asn1.RawValue{{
			FullBytes: marshal(t, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name}),
		}}}
	}
	full := func(names ...asn1.RawValue) distributionPointName { return distributionPointName{Full: names} }
	const address = "http://status.test/a.crl"
	issuer := directory(t, "CA")
	for _, test := range []struct {
		name  string
		list  distributionPointName
		point distributionPoint
		want  bool
	}{
		{"address", full(uri(address)), distributionPoint{Name: full(uri(address))}, true},
		{"address in another case", full(uri(address)), distributionPoint{Name: full(uri("http://status.test/A.crl"))}, false},
		{"one of several", full(directory(t, "X"), uri(address)), distributionPoint{Name: full(uri("ldap:///x"), uri(address))}, true},
		{"directory name", full(directory(t, "CA", "List 1")), distributionPoint{Name: full(directory(t, "ca", "LIST  1"))}, true},
		{"another directory name", full(directory(t, "CA", "List 1")), distributionPoint{Name: full(directory(t, "CA", "List 2"))}, false},
		{"name of another kind", full(uri("x")), distributionPoint{Name: full(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("x")})}, false},
		{"relative to the issuer in the list", relative("List 1"), distributionPoint{Name: full(directory(t, "CA", "List 1"))}, true},
		{"relative to the issuer in the certificate", full(directory(t, "CA", "List 1")), distributionPoint{Name: relative("List 1")}, true},
		{"relative to the issuer in both", relative("List 1"), distributionPoint{Name: relative("list 1")}, true},
		{"another relative one", relative("List 1"), distributionPoint{Name: relative("List 2")}, false},
		{"the issuer's own, which is named", full(uri(address)), distributionPoint{Name: full(uri(address)), Issuer: []asn1.RawValue{directory(t, "ca")}}, true},
		{"of another issuer", full(uri(address)), distributionPoint{Name: full(uri(address)), Issuer: []asn1.RawValue{directory(t, "Other")}}, false},
		{"point without a name", full(uri(address)), distributionPoint{}, false},
	} {
		// Through DER, as it comes.
		s, err := readScope(marshal(t, issuingDistributionPoint{Name: test.list}))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		cert := &x509.Certificate{RawIssuer: issuer.Bytes, Extensions: []pkix.Extension{
			{Id: certcheck.OIDCRLDistributionPoints, Value: marshal(t, []distributionPoint{test.point})},
		}}
		points, err := pointsOf(cert)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if _, err := s.covers(cert, points); (err == nil) != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// FuzzDistributionPoints reads what an authority that is trusted can write, and a list
// that it signed.
func FuzzDistributionPoints(f *testing.F) {
	point := issuingDistributionPoint{Name: distributionPointName{Full: []asn1.RawValue{uri("http://status.test/a")}}}
	f.Add(marshal(f, point), freshest(f, "http://status.test/a"), directory(f, "CA").Bytes)
	point.Name = distributionPointName{Relative: []asn1.RawValue{{FullBytes: asn1.NullBytes}}}
	f.Add(marshal(f, point), marshal(f, []distributionPoint{{Name: point.Name, Reasons: asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}}}), []byte{0x30})
	f.Fuzz(func(t *testing.T, scope, points, issuer []byte) {
		cert := &x509.Certificate{RawIssuer: issuer, Extensions: []pkix.Extension{{Id: certcheck.OIDCRLDistributionPoints, Value: points}}}
		of, err := pointsOf(cert)
		if err != nil {
			return
		}
		s, err := readScope(scope)
		if err != nil {
			return
		}
		named := len(s.Name.Full) > 0 || len(s.Name.Relative) > 0
		if _, err := s.covers(cert, of); err == nil && named && len(of) == 0 {
			t.Error("a list of one distribution point speaks for a certificate that names none")
		}
	})
}

func TestListServersThatAreBroken(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"empty", body(nil), "answered with nothing, not with a revocation list"},
		{"a page", body([]byte("<!DOCTYPE html><title>Moved</title>")), "answered with text/html, not with a revocation list"},
		{"text", body([]byte("not here")), "answered with text/plain, not with a revocation list"},
		{"half of PEM", body([]byte("-----BEGIN X509 CRL-----\n")), "the list is malformed: PEM"},
		{"PEM of nothing", body([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n")), "the list is malformed"},
		{"PEM of something else", body([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")), "answered with text/plain, not with a revocation list"},
		{"PEM twice", body([]byte(strings.Repeat("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n", 2))), "the list is malformed: PEM"},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "16777217")
			w.Write([]byte{0x30})
		}, "larger than 16777216 bytes"},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte{0x30})
		}, "broke off"},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "HTTP status 500"},
		{"redirects in a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "more than 3 redirects"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := servedPKI(t, withoutOCSP).pinned()
			p.behind(func(http.Handler) http.Handler { return test.answer })
			mustBeUnavailable(t, p.revocation(Require).Check(t.Context(), p.chain()), test.want)
		})
	}
}

func TestListWithSomethingBehindIt(t *testing.T) {
	p := newPKI(t, "http://status.test", nil)
	der, err := p.service.List(testca.Issuing)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readList(der, p.issuer(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := readList(append(der, 0), p.issuer(), time.Now()); err == nil || !strings.Contains(err.Error(), "behind it") {
		t.Errorf("readList = %v", err)
	}
}

func TestListsThatAreMalformed(t *testing.T) {
	var signed signedList
	if err := unmarshalAll(listSeeds(t)[1], &signed); err != nil {
		t.Fatal(err)
	}
	tbs := signed.List.FullBytes
	if _, err := parseList(tbs, signed.Algorithm); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		old, replacement string
		want             string
	}{
		{"\x02\x01\x01", "\x02\x01\x00", "another version"},
		{"\x02\x01\x01", "\x02\x01\x02", "another version"},
		{"\x2a\x86\x48\xce\x3d\x04\x03\x02", "\x2a\x86\x48\xce\x3d\x04\x03\x03", "another algorithm"},
		{"\x17\x0d261123110000Z", "\x17\x0d261123110060Z", "thisUpdate"},
		{"\x17\x0d261123130000Z", "\x17\x0d269923130000Z", "nextUpdate"},
		{"\x17\x0d261123130000Z0", "\x17\x0d261123130000Z\x31", "crlExtensions"},
		{"\x06\x03\x55\x1d\x23", "\x07\x03\x55\x1d\x23", "crlExtensions"},
	} {
		broken := bytes.Replace(tbs, []byte(test.old), []byte(test.replacement), 1)
		if bytes.Equal(broken, tbs) {
			t.Fatalf("%x is not in the list", test.old)
		}
		if _, err := parseList(broken, signed.Algorithm); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%x: %v, want %q", test.replacement, err, test.want)
		}
	}
}

func TestEntriesThatAreMalformed(t *testing.T) {
	since := string(marshal(t, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
	sequence := func(contents string) string { return "\x30" + string(rune(len(contents))) + contents }
	extension := func(contents ...string) string {
		var all string
		for _, c := range contents {
			all += sequence(c)
		}
		return sequence(all)
	}
	const reason, hold, date, others = "\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01", "\x06\x03\x55\x1d\x17\x04\x00", "\x06\x03\x55\x1d\x18\x04\x00", "\x06\x01%c\x04\x00"
	var eight []string
	for i := range maxEntryExtensions {
		eight = append(eight, fmt.Sprintf(others, rune(1+i)))
	}
	for _, test := range []struct {
		entry string
		want  string // empty: it is understood
	}{
		{sequence("\x02\x01\x05" + since), ""},
		{sequence("\x02\x01\xfb" + since), ""}, // negative
		{sequence("\x02\x01\x05" + since + extension("\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01")), ""},
		{sequence("\x02\x01\x05" + since + extension("\x06\x03\x55\x1d\x15\x01\x01\xff\x04\x03\x0a\x01\x01")), ""},
		{sequence("\x02\x01\x05" + since + extension(reason, hold, date)), ""},
		{sequence("\x02\x01\x05" + since + extension(reason, reason)), "the extension 2.5.29.21 stands twice in an entry"},
		{sequence("\x02\x01\x05" + since + extension(date, reason, date)), "the extension 2.5.29.24 stands twice in an entry"},
		{sequence("\x02\x01\x05" + since + extension(hold, date, reason, hold)), "the extension 2.5.29.23 stands twice in an entry"},
		{sequence("\x02\x01\x05" + since + extension(eight...)), ""},
		{sequence("\x02\x01\x05" + since + extension(append(eight, reason)...)), "more than 8 extensions"},
		{sequence("\x02\x02\x00\x05" + since), "an entry"}, // in a way that would not be found
		{sequence("\x02\x00" + since), "an entry"},
		{sequence(since), "an entry"},
		{"\x31" + sequence("\x02\x01\x05" + since)[1:], "an entry"},
		{sequence("\x02\x01\x05"), "revocationDate"},
		{sequence("\x02\x01\x05" + since + "\x05\x00"), "an entry"},
		{sequence("\x02\x01\x05" + since + extension("\x05\x00")), "crlEntryExtensions"},
		{sequence("\x02\x01\x05" + since + extension("\x06\x03\x55\x1d\x15\x04\x03\x02\x01\x01")), "reasonCode"},
	} {
		err := listEntries(test.entry).understood(false)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%x: %v, want %q", test.entry, err, test.want)
		}
	}
}

func TestSerialNumbersAreToldApart(t *testing.T) {
	for _, n := range []int64{0, 1, 5, 127, 128, 255, 256, 32767, 32768, 65535, 1 << 62, -1, -128, -129, -32768} {
		element := marshal(t, n)
		if contents := contentsOf(big.NewInt(n)); !bytes.Equal(contents, element[2:]) || !minimal(contents) {
			t.Errorf("%d is looked for as %x, and stands in a list as %x", n, contents, element[2:])
		}
	}
	for _, contents := range [][]byte{{}, {0, 1}, {0, 0x7f}, {0xff, 0x80}, {0xff, 0xff}} {
		if minimal(contents) {
			t.Errorf("%x is a number", contents)
		}
	}
}
