package certparse_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/waybill-token/waybill/internal/certparse"
	"github.com/waybill-token/waybill/internal/testca"
)

var identity = sync.OnceValue(func() *testca.Identity {
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		panic(err)
	}
	return ca.Authority(testca.Issuing)
})

// named is a certificate whose common name is of this type and has these bytes.
func named(tb testing.TB, tag int, text string) []byte {
	tb.Helper()
	subject, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: tag, Bytes: []byte(text)}}}})
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: identity().Certificate().SerialNumber, RawSubject: subject,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, identity().Certificate(), identity().Key.Public(), identity().Key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// altered is a certificate with bytes replaced that stand in it once.
func altered(tb testing.TB, before, after []byte) []byte {
	tb.Helper()
	der := identity().Certificate().Raw
	if bytes.Count(der, before) < 1 || len(before) != len(after) {
		tb.Fatalf("%x is not in the certificate, or has another length than %x", before, after)
	}
	return bytes.Replace(der, before, after, 1)
}

func TestParse(t *testing.T) {
	t.Parallel()
	der := identity().Certificate().Raw
	if cert, err := certparse.Parse(der); err != nil || !cert.Equal(identity().Certificate()) {
		t.Errorf("%v, %v", cert, err)
	}
	serial := identity().Certificate().SerialNumber.Bytes()
	negative := bytes.Clone(serial)
	negative[0] |= 0x80
	request, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, identity().Key)
	list, _ := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: identity().Certificate().SerialNumber}, identity().Certificate(), identity().Key)
	for name, c := range map[string]struct {
		der    []byte
		want   string
		issued bool
	}{
		"underscore":        {named(t, asn1.TagPrintableString, "Field_Party"), `was issued with the character '_' in a PrintableString ("Field_Party"), which X.680 forbids`, true},
		"at":                {named(t, asn1.TagPrintableString, "a@b"), `the character '@' in a PrintableString`, true},
		"Latin-1":           {named(t, asn1.TagPrintableString, "caf\xe9"), `the character 'é' in a PrintableString ("café")`, true},
		"UTF-8":             {named(t, asn1.TagUTF8String, "caf\xe9"), "bytes that are not UTF-8 in a UTF8String", true},
		"IA5":               {named(t, asn1.TagIA5String, "caf\xe9"), "the character 'é' in a IA5String", true},
		"numeric":           {named(t, asn1.TagNumericString, "12x"), "the character 'x' in a NumericString", true},
		"line feed":         {named(t, asn1.TagPrintableString, "a\nb"), `the character '\n' in a PrintableString ("a\nb")`, true},
		"long":              {named(t, asn1.TagPrintableString, strings.Repeat("x", 5000)+"_"), `the character '_' in a PrintableString`, true},
		"UCS-2":             {named(t, asn1.TagBMPString, "abc"), "a name whose characters do not fit their type", true},
		"negative serial":   {altered(t, serial, negative), "was issued with a negative serial number, which RFC 5280 section 4.1.2.2 forbids", true},
		"algorithms differ": {altered(t, []byte{0x86, 0xf7, 0x0d, 1, 1, 11}, []byte{0x86, 0xf7, 0x0d, 1, 1, 12}), "two different signature algorithms", true},
		"extension twice":   {altered(t, []byte{0x55, 0x1d, 0x0e}, []byte{0x55, 0x1d, 0x0f}), "an extension that stands in it twice", true},
		"constraints":       {altered(t, []byte{0x55, 0x1d, 0x13}, []byte{0x55, 0x1d, 0x1e}), "a field that breaks the rules of RFC 5280", true},
		"damaged":           {altered(t, []byte{0x06, 0x03, 0x55, 0x1d, 0x0f}, []byte{0x06, 0x7f, 0x55, 0x1d, 0x0f}), "is damaged", false},
		"cut off":           {der[:len(der)-1], "is cut off", false},
		"longer":            {append(bytes.Clone(der), 0), "is followed by 1 bytes that do not belong to it", false},
		"empty":             {nil, "is empty", false},
		"BER":               {append([]byte{0x30, 0x80}, der[4:]...), "is BER of indefinite length, not DER", false},
		"a request":         {request, "is a certificate signing request", false},
		"a list":            {list, "is a revocation list", false},
		"a public key":      {identity().Certificate().RawSubjectPublicKeyInfo, "is a public key", false},
		"PEM":               {testca.EncodeCertificates(identity().Certificate()), "is PEM text", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := certparse.Parse(c.der)
			why, ok := errors.AsType[*certparse.Error](err)
			if !ok || !strings.Contains(why.Reason, c.want) || why.Issued != c.issued || why.Unwrap() == nil {
				t.Errorf("%#v, want %q, issued %v", err, c.want, c.issued)
			}
		})
	}
}

// TestDescribe holds the words against what they are for.
func TestDescribe(t *testing.T) {
	t.Parallel()
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(identity().Key)
	null := []byte{5, 0}
	list := func(parts ...[]byte) []byte {
		content := bytes.Join(parts, nil)
		return append([]byte{0x30, byte(len(content))}, content...)
	}
	for want, data := range map[string][]byte{
		"a certificate":                         identity().Certificate().Raw,
		"a private key (PKCS#8)":                pkcs8,
		"a private key (PKCS#1)":                list([]byte{2, 1, 0}, []byte{2, 1, 5}, []byte{2, 1, 3}),
		"a private key (SEC 1)":                 list([]byte{2, 1, 1}, []byte{4, 1, 5}),
		"an encrypted private key (PKCS#8)":     list(list(null), []byte{4, 1, 5}),
		"PKCS#7":                                list([]byte{6, 1, 5}),
		"PKCS#12":                               list([]byte{2, 1, 3}, list(null)),
		"a Java keystore of the old kind (JKS)": []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"),
		"a key for SSH":                         []byte("ssh-rsa AAAA"),
		"HTML or XML":                           []byte("\n<html>"),
		"no DER":                                {0x02, 1, 1},
		"no certificate, key or PKCS#12":        list(null),
	} {
		if got := certparse.Describe(data); got != want {
			t.Errorf("%x is %q, want %q", data[:min(len(data), 20)], got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(identity().Certificate().Raw)
	f.Add(named(f, asn1.TagPrintableString, "a_b"))
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := certparse.Parse(der)
		if (cert == nil) == (err == nil) {
			t.Fatalf("%v, %v", cert, err)
		}
		if err != nil && (!utf8.ValidString(err.Error()) || len(err.Error()) > 600 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' })) {
			t.Errorf("%q is not fit to be shown", err.Error())
		}
	})
}
