package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

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

func distributionPoint(tb testing.TB, point issuingDistributionPoint) pkix.Extension {
	tb.Helper()
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: marshal(tb, point)}
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
		{"indirect", extension(distributionPoint(t, issuingDistributionPoint{Indirect: true})), "the list is indirect"},
		{"indirect by an entry", entry(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: asn1.NullBytes}), "the list is indirect"},
		{"entry with an unknown critical extension", entry(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: asn1.NullBytes}), "critical extension 1.2.3"},
		{"some reasons", extension(distributionPoint(t, issuingDistributionPoint{
			SomeReasons: asn1.BitString{Bytes: []byte{0x40}, BitLength: 2},
		})), "for some reasons of revocation only"},
		{"attribute certificates", extension(distributionPoint(t, issuingDistributionPoint{AttributesOnly: true})), "attribute certificates only"},
		{"CAs only", extension(distributionPoint(t, issuingDistributionPoint{CAsOnly: true})), "speaks for CAs only"},
		{"another distribution point", extension(distributionPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Full: []asn1.RawValue{uri("http://status.test/other.crl")}},
		})), "another distribution point"},
		{"a distribution point that is no address", extension(distributionPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Full: []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: marshal(t, pkix.RDNSequence{})}}},
		})), "another distribution point"},
		{"a relative distribution point", extension(distributionPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Relative: []asn1.RawValue{{FullBytes: asn1.NullBytes}}},
		})), "relative to its issuer"},
		{"a distribution point that is no such thing", extension(pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: []byte{4, 0}}), "the list is malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := servedPKI(t, withoutOCSP).pinned()
			chain := p.chain()
			p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) { test.tamper(p, l) }})
			mustBeUnavailable(t, p.revocation(RequireRevocation).Check(t.Context(), chain), test.want)
			mustPass(t, p.revocation(PreferRevocation).Check(t.Context(), chain))
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
			l.ExtraExtensions = []pkix.Extension{distributionPoint(t, issuingDistributionPoint{
				Name: distributionPointName{Full: []asn1.RawValue{uri("ldap://x/"), uri(address)}},
			})}
		}},
		{"for seals only", func(_ string, l *testca.ListAnswer) {
			l.ExtraExtensions = []pkix.Extension{distributionPoint(t, issuingDistributionPoint{UsersOnly: true})}
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
		{"signed with SHA-384 and PSS", func(_ string, l *testca.ListAnswer) { l.SignatureAlgorithm = x509.SHA384WithRSAPSS }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := servedPKI(t, withoutOCSP).pinned()
			chain := p.chain()
			address := chain.Leaf().CRLDistributionPoints[0]
			p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) { test.tamper(address, l) }})
			mustPass(t, p.revocation(RequireRevocation).Check(t.Context(), chain))
			p.service.Revoke(chain.Leaf(), 3)
			mustBeRevoked(t, p.revocation(RequireRevocation).Check(t.Context(), chain), "(affiliationChanged), says CRL")
		})
	}
}

func TestListForSealsSaysNothingOfACA(t *testing.T) {
	p := servedPKI(t, withoutOCSP)
	p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) {
		l.ExtraExtensions = []pkix.Extension{distributionPoint(t, issuingDistributionPoint{UsersOnly: true})}
	}})
	mustBeUnavailable(t, p.revocation(RequireRevocation).Check(t.Context(), p.chain()), "x5c[1]: CRL at")
}

// A list that is split has to be answered for by the part that the certificate is in.
func TestRevokedInAnotherPartOfASplitList(t *testing.T) {
	p := servedPKI(t, withoutOCSP).pinned()
	chain := p.chain()
	p.service.Revoke(chain.Leaf(), 1)
	p.service.Tamper(testca.Tampering{List: func(l *testca.ListAnswer) {
		l.RevokedCertificateEntries = nil // not in this part
		l.ExtraExtensions = []pkix.Extension{distributionPoint(t, issuingDistributionPoint{
			Name: distributionPointName{Full: []asn1.RawValue{uri(chain.Leaf().CRLDistributionPoints[0] + "?part=2")}},
		})}
	}})
	mustBeUnavailable(t, p.revocation(RequireRevocation).Check(t.Context(), chain), "another distribution point")
}

func TestRemovedFromAList(t *testing.T) {
	p := servedPKI(t, withoutOCSP).pinned()
	chain := p.chain()
	p.service.Revoke(chain.Leaf(), 8)
	mustPass(t, p.revocation(RequireRevocation).Check(t.Context(), chain))
}

func TestListOfAnIssuerThatMayNotSignLists(t *testing.T) {
	p := servedPKI(t, withoutOCSP)
	template := p.ca.Template(testca.Issuing)
	template.KeyUsage = x509.KeyUsageCertSign
	template.SubjectKeyId = p.issuer().SubjectKeyId
	weak, err := p.ca.Authority(testca.Sub).Issue(template, p.ca.Authority(testca.Issuing).Key)
	if err != nil {
		t.Fatal(err)
	}
	seal, err := p.ca.Seal(testca.SealRequest{Organization: "Consumer", Issuer: weak})
	if err != nil {
		t.Fatal(err)
	}
	p.anchors = Anchors{FingerprintOf(weak.Certificate()): "test"}
	// The list is good, and signed by the same key and name.
	mustBeUnavailable(t, p.revocation(RequireRevocation).Check(t.Context(), p.chainOf(seal)), "does not include cRLSign")
}

func TestListServersThatAreBroken(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"empty", body(nil), "the list is malformed"},
		{"PEM", body([]byte("-----BEGIN X509 CRL-----\n")), "the list is malformed"},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "16777217")
			w.Write([]byte{0x30})
		}, "larger than 16777216 bytes"},
		{"breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte{0x30})
		}, "broke off"},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "HTTP status 500"},
		{"redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/sub.crl", http.StatusFound) }, "redirects are not followed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := servedPKI(t, withoutOCSP).pinned()
			p.behind(func(http.Handler) http.Handler { return test.answer })
			mustBeUnavailable(t, p.revocation(RequireRevocation).Check(t.Context(), p.chain()), test.want)
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
		{"\x02\x01\x01", "\x02\x01\x00", "version 2"}, // version 1 knows no extensions
		{"\x02\x01\x01", "\x02\x01\x02", "version 2"},
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
	extension := func(contents string) string { return sequence(sequence(contents)) }
	for _, test := range []struct {
		entry string
		want  string // empty: it is understood
	}{
		{sequence("\x02\x01\x05" + since), ""},
		{sequence("\x02\x01\xfb" + since), ""}, // negative
		{sequence("\x02\x01\x05" + since + extension("\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01")), ""},
		{sequence("\x02\x01\x05" + since + extension("\x06\x03\x55\x1d\x15\x01\x01\xff\x04\x03\x0a\x01\x01")), ""},
		{sequence("\x02\x02\x00\x05" + since), "an entry"}, // in a way that would not be found
		{sequence("\x02\x00" + since), "an entry"},
		{sequence(since), "an entry"},
		{"\x31" + sequence("\x02\x01\x05" + since)[1:], "an entry"},
		{sequence("\x02\x01\x05"), "revocationDate"},
		{sequence("\x02\x01\x05" + since + "\x05\x00"), "an entry"},
		{sequence("\x02\x01\x05" + since + extension("\x05\x00")), "crlEntryExtensions"},
		{sequence("\x02\x01\x05" + since + extension("\x06\x03\x55\x1d\x15\x04\x03\x02\x01\x01")), "reasonCode"},
	} {
		err := wireEntries(test.entry).understood()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%x: %v, want %q", test.entry, err, test.want)
		}
	}
}

// x509.CreateRevocationList makes none without nextUpdate.
func TestListWithoutAnEnd(t *testing.T) {
	l := &list{thisUpdate: time.Now()}
	if err := l.inForce(time.Now()); err == nil || !strings.Contains(err.Error(), "no nextUpdate") {
		t.Errorf("inForce = %v", err)
	}
}

func TestSerialNumbersAreToldApart(t *testing.T) {
	for _, n := range []int64{0, 1, 5, 127, 128, 255, 256, 32767, 32768, 65535, 1 << 62} {
		element := marshal(t, n)
		if contents := contentsOf(big.NewInt(n)); !bytes.Equal(contents, element[2:]) || !minimal(contents) {
			t.Errorf("%d is looked for as %x, and stands in a list as %x", n, contents, element[2:])
		}
	}
	for _, n := range []int64{-1, -128, -129, -32768} {
		if contents := marshal(t, n)[2:]; !minimal(contents) {
			t.Errorf("%d is malformed", n)
		}
	}
	for _, contents := range [][]byte{{}, {0, 1}, {0, 0x7f}, {0xff, 0x80}, {0xff, 0xff}} {
		if minimal(contents) {
			t.Errorf("%x is a number", contents)
		}
	}
}
