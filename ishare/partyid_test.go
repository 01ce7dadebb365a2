package ishare_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/ishare"
)

func TestParsePartyIDAccepts(t *testing.T) {
	for _, id := range []string{
		"did:ishare:EU.NL.NTRNL-10000000",
		"EU.EORI.NL000000001",
		"did:web:example.com%3A8443:parties:a_b",
		"did:elsi:VATES-11111111B",
		"CoC:12345678",
		"0:0",
		"a:" + strings.Repeat("b", ishare.MaxPartyIDLength-2),
		"urn:x:~+@-._",
	} {
		got, err := ishare.ParsePartyID(id)
		if err != nil || string(got) != id {
			t.Errorf("ParsePartyID(%q) = %q, %v", id, got, err)
		}
	}
}

func TestParsePartyIDRefuses(t *testing.T) {
	for name, id := range map[string]string{
		"empty":                "",
		"no colon":             "NTRNL-10000000",
		"no method":            ":value",
		"no value":             "did:",
		"method is not a name": "-did:ishare:EU",
		"EORI without number":  "EU.EORI.",
		"EORI in lower case":   "eu.eori.NL000000001",
		"too long":             "a:" + strings.Repeat("b", ishare.MaxPartyIDLength-1),
		"URL":                  "https://example.com",
		"leading blank":        " did:ishare:EU.NL.NTRNL-1",
		"trailing line break":  "did:ishare:EU.NL.NTRNL-1\n",
		"inner blank":          "did:ishare:EU NL",
		"NUL":                  "did:\x00",
		"DEL":                  "did:\x7f",
		"quote":                `did:"`,
		"question mark":        "did:web:example.com?x",
		"number sign":          "did:web:example.com#key",
		"Kelvin sign for k":    "did:wa\u212a",
		"long s for s":         "did:i\u017fhare:x",
		"not UTF-8":            "did:\xff",
	} {
		if got, err := ishare.ParsePartyID(id); err == nil || got != "" {
			t.Errorf("%s: ParsePartyID(%q) = %q, %v; want an error", name, id, got, err)
		}
	}
}

func FuzzParsePartyID(f *testing.F) {
	for _, seed := range []string{
		"", ":", "did:ishare:EU.NL.NTRNL-10000000", "EU.EORI.NL000000001", "EU.EORI.", "a:b", "https://example.com", "a:\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ishare.ParsePartyID(s)
		if err != nil {
			if id != "" {
				t.Errorf("an identifier beside an error: %q", id)
			}
			return
		}
		if string(id) != s {
			t.Errorf("%q became %q", s, id)
		}
		if len(s) > ishare.MaxPartyIDLength {
			t.Errorf("%d bytes accepted", len(s))
		}
		// What may stand in a header, a log line or a path without quoting.
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"\/?#<>&'`, r) }) {
			t.Errorf("%q holds a character that needs quoting", s)
		}
	})
}

func TestDeriveID(t *testing.T) {
	for _, test := range []struct{ identifier, want string }{
		{"NTRNL-10000000", "did:ishare:EU.NL.NTRNL-10000000"},
		{"VATDE-123456789", "did:ishare:EU.DE.VATDE-123456789"},
		{"LEIXG-AEYE00EKXESVZUUEBP67", ""}, // XG is no country: the register is the world's
		{"NTRGB-12345678", "did:ishare:EU.GB.NTRGB-12345678"},
		{"NTRUS-1", "did:ishare:NA.US.NTRUS-1"},
		{"NTRBR-1", "did:ishare:SA.BR.NTRBR-1"},
		{"NTRZA-1", "did:ishare:AF.ZA.NTRZA-1"},
		{"NTRJP-1", "did:ishare:AS.JP.NTRJP-1"},
		{"NTRAU-1", "did:ishare:OC.AU.NTRAU-1"},
		{"NTRNL-1-2", "did:ishare:EU.NL.NTRNL-1-2"},
		{"NTRXX-1", ""},
		{"NTR12-1", ""},
		{"NTREU-1", ""},
		{"NTRNL-", ""},
		{"NTRNL10000000", ""},
		{"NL-10000000", ""},
		{"NTRNLD-10000000", ""},
		{"-NTRNL-1", ""},
		{"NTRNL-1 2", ""},
		{"NTRNL-" + strings.Repeat("1", ishare.MaxPartyIDLength), ""},
		{"NTR\xff\xfe-1", ""},
		{"", ""},
	} {
		got, err := ishare.DeriveID(test.identifier)
		if string(got) != test.want || (err == nil) != (test.want != "") {
			t.Errorf("DeriveID(%q) = %q, %v; want %q", test.identifier, got, err, test.want)
		}
	}
}

func FuzzDeriveID(f *testing.F) {
	for _, seed := range []string{"NTRNL-10000000", "VATXX-1", "NTR\x00\x00-1", "NTRnl-1", "SI:FR-1", "----- -"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ishare.DeriveID(s)
		if err != nil {
			return
		}
		if _, err := ishare.ParsePartyID(string(id)); err != nil {
			t.Errorf("DeriveID(%q) = %q: %v", s, id, err)
		}
		if !strings.HasPrefix(string(id), "did:ishare:") || !strings.HasSuffix(string(id), "."+s) {
			t.Errorf("DeriveID(%q) = %q", s, id)
		}
	})
}

// Object identifiers of the subject's attributes, as certificates carry them.
var (
	oidOrganizationIdentifier = asn1.ObjectIdentifier{2, 5, 4, 97}
	oidSerialNumber           = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidCommonName             = asn1.ObjectIdentifier{2, 5, 4, 3}
)

func attribute(oid asn1.ObjectIdentifier, value any) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

// certificate makes a certificate with these attributes in its subject, through
// its encoding, as one from outside would come.
func certificate(t *testing.T, attributes ...pkix.AttributeTypeAndValue) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{ExtraNames: attributes},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Unix(1, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCertificateIDs(t *testing.T) {
	for _, test := range []struct {
		name    string
		subject []pkix.AttributeTypeAndValue
		want    []ishare.PartyID
	}{
		{
			"organizationIdentifier",
			[]pkix.AttributeTypeAndValue{attribute(oidCommonName, "A"), attribute(oidOrganizationIdentifier, "NTRNL-10000001")},
			[]ishare.PartyID{"did:ishare:EU.NL.NTRNL-10000001"},
		},
		{
			"EORI in serialNumber",
			[]pkix.AttributeTypeAndValue{attribute(oidSerialNumber, "EU.EORI.NL000000001")},
			[]ishare.PartyID{"EU.EORI.NL000000001"},
		},
		{
			"both",
			[]pkix.AttributeTypeAndValue{
				attribute(oidSerialNumber, "EU.EORI.NL000000001"), attribute(oidOrganizationIdentifier, "NTRBE-1"),
			},
			[]ishare.PartyID{"EU.EORI.NL000000001", "did:ishare:EU.BE.NTRBE-1"},
		},
		{
			"the wrong attributes",
			[]pkix.AttributeTypeAndValue{attribute(oidCommonName, "EU.EORI.NL000000001"), attribute(oidSerialNumber, "CoC:12345678")},
			nil,
		},
		{
			"values that are no identifiers",
			[]pkix.AttributeTypeAndValue{
				attribute(oidSerialNumber, "EU.EORI.NL 1"), attribute(oidOrganizationIdentifier, "NTRXX-iSHARETEST"),
			},
			nil,
		},
		{"nothing", nil, nil},
	} {
		got := ishare.CertificateIDs(certificate(t, test.subject...))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestCertificateIDsIgnoresWhatIsNoText(t *testing.T) {
	cert := &x509.Certificate{Subject: pkix.Name{Names: []pkix.AttributeTypeAndValue{attribute(oidOrganizationIdentifier, 42)}}}
	if got := ishare.CertificateIDs(cert); got != nil {
		t.Errorf("CertificateIDs = %q", got)
	}
}
