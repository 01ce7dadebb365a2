package trust

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/waybill-token/waybill/internal/certcheck"
)

// An attr is an attribute of a name in DER.
type attr struct {
	kind  asn1.ObjectIdentifier
	tag   int
	value string
}

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
)

// nameOf makes a name in DER whose RDNs are these.
func nameOf(rdns ...[]attr) []byte {
	type attribute struct {
		Kind  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var sets []asn1.RawValue
	for _, rdn := range rdns {
		set := asn1.RawValue{Tag: asn1.TagSet, IsCompound: true}
		for _, a := range rdn {
			set.Bytes = append(set.Bytes, mustDER(attribute{a.kind, asn1.RawValue{Tag: a.tag, Bytes: []byte(a.value)}})...)
		}
		sets = append(sets, set)
	}
	return mustDER(sets)
}

func mustDER(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return der
}

func commonName(tag int, value string) []byte {
	return nameOf([]attr{{oidCommonName, tag, value}})
}

const (
	tagBMP       = 30
	tagUniversal = 28
)

func TestSameName(t *testing.T) {
	printable := func(s string) []byte { return commonName(asn1.TagPrintableString, s) }
	utf := func(s string) []byte { return commonName(asn1.TagUTF8String, s) }
	o, cn := attr{oidOrganization, asn1.TagUTF8String, "Org"}, attr{oidCommonName, asn1.TagUTF8String, "Seal"}
	for name, test := range map[string]struct {
		a, b []byte
		same bool
	}{
		"itself":                       {printable("Test CA"), printable("Test CA"), true},
		"case":                         {printable("Test CA"), printable("tEST ca"), true},
		"case beyond ASCII":            {utf("Žluťoučký ÉÇ"), utf("žLUŤOUČKÝ éç"), true},
		"sharp s":                      {utf("Straße"), utf("STRASSE"), true},
		"blanks inside":                {printable("Test CA"), printable("Test   CA"), true},
		"blanks around":                {printable("Test CA"), printable("  Test CA "), true},
		"blank of another kind":        {utf("Test CA"), utf("Test\u00a0CA"), true},
		"no blank":                     {printable("Test CA"), printable("TestCA"), false},
		"type of string":               {printable("Test CA"), utf("Test CA"), true},
		"BMPString":                    {utf("Té"), commonName(tagBMP, "\x00T\x00\xe9"), true},
		"UniversalString":              {utf("Té"), commonName(tagUniversal, "\x00\x00\x00T\x00\x00\x00\xe9"), true},
		"TeletexString in ASCII":       {utf("Test"), commonName(asn1.TagT61String, "Test"), true},
		"TeletexString beyond it":      {utf("Té"), commonName(asn1.TagT61String, "T\xe9"), false},
		"IA5String":                    {utf("Test"), commonName(asn1.TagIA5String, "TEST"), true},
		"composed and decomposed":      {utf("\u00e9"), utf("e\u0301"), true},
		"full width":                   {utf("\uff34est"), utf("Test"), true},
		"another letter":               {printable("Test CA"), printable("Test CB"), false},
		"a letter that looks alike":    {utf("Test"), utf("T\u0435st"), false},
		"an accent":                    {utf("e"), utf("\u00e9"), false},
		"a character that is not seen": {utf("Test"), utf("Te\u200bst"), false},
		"a soft hyphen":                {utf("Test"), utf("Te\u00adst"), false},
		"a grapheme joiner":            {utf("Test"), utf("Te\u034fst"), false},
		"a variation selector":         {utf("Test"), utf("Te\ufe0fst"), false},
		"one that is not seen, twice":  {utf("Te\u034fst"), utf("te\u034fst"), false},
		"NUL":                          {utf("Test"), utf("Test\x00"), false},
		"two that are not seen":        {utf("Te\u200bst"), utf("te\u200bst"), false},
		"text that is not UTF-8":       {utf("T\xe9"), utf("t\xe9"), false},
		"half a pair in a BMPString":   {utf("\ufffd"), commonName(tagBMP, "\xd8\x00"), false},
		"BMPString of an odd length":   {commonName(tagBMP, "\x00T\x00"), commonName(tagBMP, "\x00t\x00"), false},
		"a surrogate as UniversalString": {
			commonName(tagUniversal, "\x00\x00\xd8\x00"), commonName(tagUniversal, "\x00\x00\xd8\x01"), false,
		},
		"a bit string of the same bytes": {utf("Test"), commonName(asn1.TagBitString, "Test"), false},
		"another attribute":              {nameOf([]attr{{oidCommonName, 12, "A"}}), nameOf([]attr{{oidOrganization, 12, "A"}}), false},
		"order inside of an RDN":         {nameOf([]attr{o, cn}), nameOf([]attr{cn, o}), true},
		"order of RDNs":                  {nameOf([]attr{o}, []attr{cn}), nameOf([]attr{cn}, []attr{o}), false},
		"one RDN or two":                 {nameOf([]attr{o}, []attr{cn}), nameOf([]attr{o, cn}), false},
		"an RDN more":                    {nameOf([]attr{o}), nameOf([]attr{o}, []attr{cn}), false},
		"an attribute twice":             {nameOf([]attr{cn}), nameOf([]attr{cn, cn}), false},
		"empty":                          {nameOf(), nameOf(), true},
		"empty and not":                  {nameOf(), nameOf([]attr{cn}), false},
		"no names":                       {[]byte("a"), []byte("b"), false},
		"a name and no name":             {nameOf([]attr{cn}), []byte("b"), false},
		"bytes behind":                   {nameOf([]attr{cn}), append(nameOf([]attr{cn}), 0), false},
		"an RDN without attributes":      {nameOf(), nameOf([]attr{}), false},
	} {
		if SameName(test.a, test.b) != test.same || SameName(test.b, test.a) != test.same {
			t.Errorf("%s: %t, want %t", name, !test.same, test.same)
		}
	}
}

// Each character that RFC 4518 section 2.2 removes, or that is not seen, is one for which a
// name is not compared: what is left of it may be another name.
func TestCharactersThatAreNotSeen(t *testing.T) {
	for _, r := range "\u00ad\u034f\u1806\u180b\u180c\u180d\u180e\u200b\u200f\u2060\ufe00\ufe0f\ufeff\ufffc\u115f\u3164\uffa0\U000e0001\U000e0100" {
		if text, ok := foldText("Ev" + string(r) + "il"); ok {
			t.Errorf("%U is compared, as %q", r, text)
		}
	}
	for _, s := range []string{"e\u0301", "\u1820\u1821", "\u0915\u094d\u0937", "日本"} {
		if _, ok := foldText(s); !ok {
			t.Errorf("%q is not compared", s)
		}
	}
}

func TestNameWithin(t *testing.T) {
	parsed := func(der []byte) name {
		n, ok := parseName(der)
		if !ok {
			t.Fatal("a name cannot be read")
		}
		return n
	}
	o, cn := []attr{{oidOrganization, 12, "Org"}}, []attr{{oidCommonName, 12, "Seal"}}
	upper := []attr{{oidOrganization, 19, "ORG "}}
	for title, test := range map[string]struct {
		name, base []byte
		within     bool
	}{
		"itself":            {nameOf(o, cn), nameOf(o, cn), true},
		"below":             {nameOf(o, cn), nameOf(upper), true},
		"everything":        {nameOf(o, cn), nameOf(), true},
		"above":             {nameOf(o), nameOf(o, cn), false},
		"beside":            {nameOf(cn), nameOf(o), false},
		"not the first RDN": {nameOf(cn, o), nameOf(o), false},
	} {
		if parsed(test.name).within(parsed(test.base), false) != test.within {
			t.Errorf("%s: %t, want %t", title, !test.within, test.within)
		}
	}
}

func TestCriticalExtensions(t *testing.T) {
	qualified := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}
	private := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	for name, test := range map[string]struct {
		extensions []pkix.Extension
		processed  []asn1.ObjectIdentifier
		want       string
	}{
		"none":                     {nil, nil, ""},
		"one that is processed":    {[]pkix.Extension{{Id: certcheck.OIDKeyUsage, Critical: true}}, []asn1.ObjectIdentifier{certcheck.OIDBasicConstraints, certcheck.OIDKeyUsage}, ""},
		"one that is not critical": {[]pkix.Extension{{Id: qualified}}, nil, ""},
		"one with a name":          {[]pkix.Extension{{Id: qualified, Critical: true}}, []asn1.ObjectIdentifier{certcheck.OIDKeyUsage}, "qcStatements (1.3.6.1.5.5.7.1.3)"},
		"one that is processed elsewhere": {
			[]pkix.Extension{{Id: certcheck.OIDKeyUsage, Critical: true}, {Id: certcheck.OIDPolicyMappings, Critical: true}},
			[]asn1.ObjectIdentifier{certcheck.OIDKeyUsage},
			"policyMappings (2.5.29.33)",
		},
		"one of somebody's own": {[]pkix.Extension{{Id: private, Critical: true}}, nil, "1.3.6.1.4.1.99999.1"},
	} {
		if got := certcheck.UnprocessedCritical(test.extensions, test.processed...); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if err := certcheck.CheckCritical(test.extensions, test.processed...); (err != nil) != (test.want != "") ||
			err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzSameName: whatever two names are, they are equal in both directions, each to
// itself, and a name that equals both makes them equal.
func FuzzSameName(f *testing.F) {
	o, cn := attr{oidOrganization, 19, "Org"}, attr{oidCommonName, 12, "Žluť  CA"}
	f.Add(nameOf([]attr{o, cn}), nameOf([]attr{cn, o}))
	f.Add(nameOf([]attr{o}), commonName(tagBMP, "\x00T\x00\xe9"))
	f.Add(commonName(tagUniversal, "\x00\x00\x00T"), []byte{0x30})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		same := SameName(a, b)
		if same != SameName(b, a) || !SameName(a, a) || !SameName(b, b) {
			t.Fatal("equality depends on the order")
		}
		one, ok := parseName(a)
		other, too := parseName(b)
		if ok && too && (one.within(other, false) && other.within(one, false)) != same {
			t.Fatal("names that are within each other are not the same")
		}
	})
}
