package trust

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/rule"
)

// A pathCA makes chains of which each certificate has the extensions that a test gives it.
type pathCA struct{ root, sub, issuing, seal []pkix.Extension }

// chain issues root, two CAs and a seal. The change has the last word on each, by its place
// in the chain.
func (p pathCA) chain(t *testing.T, change func(i int, c *x509.Certificate)) []*x509.Certificate {
	t.Helper()
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		t.Fatal(err)
	}
	seal, err := ca.SealTemplate(testca.SealRequest{Organization: "Consumer"})
	if err != nil {
		t.Fatal(err)
	}
	var id *testca.Identity
	templates := []*x509.Certificate{ca.Template(testca.Root), ca.Template(testca.Sub), ca.Template(testca.Issuing), seal}
	for level, extensions := range [][]pkix.Extension{p.root, p.sub, p.issuing, p.seal} {
		template := templates[level]
		template.ExtraExtensions = append(template.ExtraExtensions, extensions...)
		if change != nil {
			change(3-level, template)
		}
		key, err := testca.PooledKey(2048)
		if err != nil {
			t.Fatal(err)
		}
		if id == nil {
			id, err = testca.SelfSign(template, key)
		} else {
			id, err = id.Issue(template, key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return id.Chain
}

// judgeChain validates with the last certificate as the anchor, and returns the rejection or nil.
func judgeChain(t *testing.T, chain []*x509.Certificate) *rule.Rejection {
	t.Helper()
	v, err := New(Anchors{FingerprintOf(chain[len(chain)-1]): ""})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Validate(chain, time.Now(), nil)
	var rejection *rule.Rejection
	if err != nil && !errors.As(err, &rejection) {
		t.Fatal(err)
	}
	return rejection
}

func der(f func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	f(&b)
	return b.BytesOrPanic()
}

func sequence(parts ...[]byte) []byte {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	})
}

func tagged(tag byte, content []byte) []byte {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(tag), func(b *cryptobyte.Builder) { b.AddBytes(content) })
	})
}

// Policies of tests, and the one that stands for all.
var (
	policyA   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2, 1}
	policyB   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2, 2}
	policyAny = asn1.ObjectIdentifier{2, 5, 29, 32, 0}
)

func certifies(ids ...asn1.ObjectIdentifier) pkix.Extension {
	var all []byte
	for _, id := range ids {
		all = append(all, sequence(mustDER(id))...)
	}
	return pkix.Extension{Id: certcheck.OIDCertificatePolicies, Value: sequence(all)}
}

func mapsTo(issuer, subject asn1.ObjectIdentifier) pkix.Extension {
	return pkix.Extension{Id: certcheck.OIDPolicyMappings, Critical: true, Value: sequence(sequence(mustDER(issuer), mustDER(subject)))}
}

func constrains(content ...byte) pkix.Extension {
	return pkix.Extension{Id: certcheck.OIDPolicyConstraints, Critical: true, Value: sequence(content)}
}

func inhibits(skip int) pkix.Extension {
	return pkix.Extension{Id: certcheck.OIDInhibitAnyPolicy, Critical: true, Value: mustDER(skip)}
}

func TestPolicies(t *testing.T) {
	type ext = []pkix.Extension
	explicit, noMapping := constrains(0x80, 1, 0), constrains(0x80, 1, 0, 0x81, 1, 0)
	for name, test := range map[string]struct {
		pathCA
		says string // "": accepted
	}{
		"none":                        {pathCA{}, ""},
		"some, and none is demanded":  {pathCA{sub: ext{certifies(policyA)}, issuing: ext{certifies(policyB)}}, ""},
		"one is demanded by a CA":     {pathCA{issuing: ext{explicit}}, "x5c[1] demands a certificate policy"},
		"one is demanded by the root": {pathCA{root: ext{explicit}}, "x5c[3] demands a certificate policy"},
		"one is demanded by the seal": {pathCA{seal: ext{explicit}}, "x5c[0] demands a certificate policy"},
		"demanded, and there": {
			pathCA{sub: ext{certifies(policyA)}, issuing: ext{explicit, certifies(policyA)}, seal: ext{certifies(policyA)}}, "",
		},
		"demanded, and another is there": {
			pathCA{sub: ext{certifies(policyA)}, issuing: ext{explicit, certifies(policyA)}, seal: ext{certifies(policyB)}}, "none is left at x5c[0]",
		},
		"demanded after three more": {pathCA{sub: ext{constrains(0x80, 1, 3)}}, ""},
		"demanded after two more":   {pathCA{sub: ext{constrains(0x80, 1, 2)}}, "x5c[2] demands"},
		"any, then one": {
			pathCA{sub: ext{explicit, certifies(policyAny)}, issuing: ext{certifies(policyAny)}, seal: ext{certifies(policyA)}}, "",
		},
		"any is inhibited": {
			pathCA{sub: ext{explicit, certifies(policyA), inhibits(0)}, issuing: ext{certifies(policyAny)}, seal: ext{certifies(policyA)}}, "none is left at x5c[1]",
		},
		"any is inhibited later": {
			pathCA{sub: ext{explicit, certifies(policyA), inhibits(1)}, issuing: ext{certifies(policyAny)}, seal: ext{certifies(policyA)}}, "",
		},
		"mapped": {
			pathCA{sub: ext{explicit, certifies(policyA), mapsTo(policyA, policyB)}, issuing: ext{certifies(policyB)}, seal: ext{certifies(policyB)}}, "",
		},
		"mapped, and the old one is used": {
			pathCA{sub: ext{explicit, certifies(policyA), mapsTo(policyA, policyB)}, issuing: ext{certifies(policyA)}, seal: ext{certifies(policyA)}}, "none is left",
		},
		"mapped, and that is inhibited": {
			pathCA{root: ext{noMapping}, sub: ext{certifies(policyA), mapsTo(policyA, policyB)}, issuing: ext{certifies(policyB)}, seal: ext{certifies(policyB)}}, "none is left",
		},
		"any is mapped":             {pathCA{sub: ext{mapsTo(policyAny, policyB)}}, "anyPolicy is mapped"},
		"mapped to any":             {pathCA{sub: ext{mapsTo(policyA, policyAny)}}, "anyPolicy is mapped"},
		"the root's are limits too": {pathCA{root: ext{certifies(policyA), explicit}, sub: ext{certifies(policyB)}}, "none is left at x5c[2]"},
		"a negative number":         {pathCA{sub: ext{constrains(0x80, 1, 0xff)}}, "policyConstraints (2.5.29.36) is malformed"},
		"numbers exchanged":         {pathCA{sub: ext{constrains(0x81, 1, 5, 0x80, 1, 0)}}, "policyConstraints (2.5.29.36) is malformed"},
		"inhibited by less than 0":  {pathCA{sub: ext{inhibits(-1)}}, "inhibitAnyPolicy (2.5.29.54) is malformed"},
		"critical, with a qualifier nobody knows": {
			pathCA{seal: ext{{Id: certcheck.OIDCertificatePolicies, Critical: true, Value: sequence(sequence(mustDER(policyA), sequence(sequence(mustDER(policyB)))))}}}, "certificatePolicies (2.5.29.32)",
		},
		"the same, not critical": {
			pathCA{seal: ext{{Id: certcheck.OIDCertificatePolicies, Value: sequence(sequence(mustDER(policyA), sequence(sequence(mustDER(policyB)))))}}}, "",
		},
	} {
		rejection := judgeChain(t, test.chain(t, nil))
		expectRejection(t, name, rejection, test.says)
	}
}

func expectRejection(t *testing.T, name string, got *rule.Rejection, says string) {
	t.Helper()
	switch {
	case says == "" && got != nil:
		t.Errorf("%s: %v", name, got)
	case says != "" && (got == nil || got.Rule != rule.ChainIssuer || !strings.Contains(unlabelled(got.Sentence), says)):
		t.Errorf("%s: %v, want chain.issuer: %s", name, got, says)
	}
}

// unlabelled takes the names of certificates out of a sentence.
func unlabelled(sentence string) string {
	for {
		before, rest, found := strings.Cut(sentence, ` ("`)
		if !found {
			return sentence
		}
		_, after, _ := strings.Cut(rest, `")`)
		sentence = before + after
	}
}

// Mappings upon mappings make the tree of RFC 5280 grow with each level. The work done here
// grows with the certificates.
func TestPolicyTreeCannotExplode(t *testing.T) {
	s := policyState{expected: map[string]struct{}{}, any: true, mapping: 10}
	p := &policies{present: true}
	for i := range 1000 {
		id := string([]byte{0x2a, byte(i >> 7), byte(i & 0x7f)})
		p.listed = append(p.listed, id)
		for j := range 20 {
			p.mappings = append(p.mappings, policyMapping{issuer: id, subject: string([]byte{0x2a, byte((i + j) % 1000 >> 7), byte((i + j) % 1000 & 0x7f)})})
		}
	}
	for range 10 {
		s.narrow(p, true)
		if err := s.apply(p.mappings); err != nil {
			t.Fatal(err)
		}
		if len(s.expected) > len(p.listed)+len(p.mappings) {
			t.Fatalf("%d policies are expected", len(s.expected))
		}
	}
}

func subtrees(permitted, excluded [][]byte) pkix.Extension {
	var content []byte
	for tag, bases := range map[byte][][]byte{0xa0: permitted, 0xa1: excluded} {
		var all []byte
		for _, base := range bases {
			all = append(all, sequence(base)...)
		}
		if len(bases) > 0 && tag == 0xa0 {
			content = append(tagged(tag, all), content...)
		} else if len(bases) > 0 {
			content = append(content, tagged(tag, all)...)
		}
	}
	return pkix.Extension{Id: certcheck.OIDNameConstraints, Critical: true, Value: sequence(content)}
}

func altNames(names ...[]byte) pkix.Extension {
	return pkix.Extension{Id: certcheck.OIDSubjectAltName, Value: sequence(names...)}
}

func TestNameConstraints(t *testing.T) {
	type list = [][]byte
	text := func(f form, s string) []byte { return tagged(0x80|byte(f), []byte(s)) }
	dns := func(s string) []byte { return text(formDNS, s) }
	email := func(s string) []byte { return text(formEmail, s) }
	uri := func(s string) []byte { return text(formURI, s) }
	ip := func(octets ...byte) []byte { return text(formIP, string(octets)) }
	directory := func(name []byte) []byte { return tagged(0xa0|byte(formDirectory), name) }
	subject := nameOf([]attr{{asn1.ObjectIdentifier{2, 5, 4, 6}, asn1.TagPrintableString, "nl"}}, []attr{{oidOrganization, asn1.TagUTF8String, " CONSUMER "}})
	stranger := nameOf([]attr{{oidOrganization, asn1.TagUTF8String, "Stranger"}})
	zeroWidth := nameOf([]attr{{oidOrganization, asn1.TagUTF8String, "Stran\u200bger"}})
	joined := nameOf([]attr{{oidOrganization, asn1.TagUTF8String, "Stran\u034fger"}})
	deeper := nameOf([]attr{{oidOrganization, asn1.TagUTF8String, "Stranger"}}, []attr{{oidOrganization, asn1.TagUTF8String, "Unit"}})
	mapped := ip(netip.MustParseAddr("::ffff:192.0.2.9").AsSlice()...)
	other := tagged(0xa0, append(mustDER(policyA), tagged(0xa0, mustDER("x"))...))
	mailbox := tagged(0xa0, append(mustDER(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}), tagged(0xa0, tagged(12, []byte("żółw@example.org")))...))
	untyped := tagged(0xa0, mustDER("x"))
	const refused, excluded = "is not among the permitted ones", "is excluded"
	for name, test := range map[string]struct {
		permitted, excluded, names list
		says                       string
	}{
		"the subject's organisation":        {list{directory(subject)}, nil, nil, ""},
		"another organisation":              {list{directory(stranger)}, nil, nil, "directoryName " + refused},
		"one of two":                        {list{directory(stranger), directory(subject)}, nil, nil, ""},
		"the organisation is excluded":      {nil, list{directory(subject)}, nil, "directoryName " + excluded},
		"another one is excluded":           {nil, list{directory(stranger)}, nil, ""},
		"a further name that is excluded":   {nil, list{directory(stranger)}, list{directory(stranger)}, "directoryName " + excluded},
		"a form that the seal has not":      {list{dns("example.org")}, nil, nil, ""},
		"a host":                            {list{dns("example.org")}, nil, list{dns("Example.ORG")}, ""},
		"a host below":                      {list{dns("example.org")}, nil, list{dns("a.example.org")}, ""},
		"a host that ends alike":            {list{dns("example.org")}, nil, list{dns("badexample.org")}, refused},
		"hosts below only":                  {list{dns(".example.org")}, nil, list{dns("example.org")}, refused},
		"a host below is excluded":          {nil, list{dns("example.org")}, list{dns("a.example.org")}, excluded},
		"a wildcard over what is excluded":  {nil, list{dns("a.example.org")}, list{dns("*.example.org")}, excluded},
		"every host is excluded":            {nil, list{dns("")}, list{dns("example.org")}, excluded},
		"an address":                        {list{email("seal@example.org")}, nil, list{email("seal@EXAMPLE.org")}, ""},
		"another address":                   {list{email("seal@example.org")}, nil, list{email("Seal@example.org")}, refused},
		"an address at a host":              {list{email("example.org")}, nil, list{email("seal@example.org")}, ""},
		"an address at a host below":        {list{email("example.org")}, nil, list{email("seal@a.example.org")}, refused},
		"an address below":                  {list{email(".example.org")}, nil, list{email("seal@a.example.org")}, ""},
		"excluded at a host below":          {nil, list{email("example.org")}, list{email("seal@a.example.org")}, excluded},
		"an address that is none":           {list{email("example.org")}, nil, list{email("example.org")}, refused},
		"a URI":                             {list{uri("example.org")}, nil, list{uri("https://example.org:8443/x")}, ""},
		"a URI of a user":                   {list{uri("example.org")}, nil, list{uri("https://example.org@evil.org/")}, refused},
		"a URI without a host":              {nil, list{uri("example.org")}, list{uri("urn:x:y")}, excluded},
		"a URI of an IP address":            {nil, list{uri("example.org")}, list{uri("https://192.0.2.1/")}, excluded},
		"an IP address":                     {list{ip(192, 0, 2, 0, 255, 255, 255, 0)}, nil, list{ip(192, 0, 2, 9)}, ""},
		"an IP address beside":              {list{ip(192, 0, 2, 0, 255, 255, 255, 0)}, nil, list{ip(192, 0, 3, 9)}, refused},
		"an IP address of the other family": {list{ip(192, 0, 2, 0, 255, 255, 255, 0)}, nil, list{ip(append(make([]byte, 15), 1)...)}, refused},
		"an address in another spelling":    {nil, list{email("seal@example.org")}, list{email(`"seal"@example.org`)}, excluded},
		"the same, permitted":               {list{email("example.org")}, nil, list{email(`"seal"@example.org`)}, refused},
		"a host that no label begins":       {list{dns("example.org")}, nil, list{dns(".example.org")}, refused},
		"a host with a NUL":                 {list{dns("example.org")}, nil, list{dns("evil.com\x00.example.org")}, refused},
		"an IPv4 address in IPv6":           {nil, list{ip(192, 0, 2, 0, 255, 255, 255, 0)}, list{mapped}, excluded},
		"a name that hides a character":     {nil, list{directory(stranger)}, list{directory(zeroWidth)}, "directoryName " + excluded},
		"a name that hides a joiner":        {nil, list{directory(stranger)}, list{directory(joined)}, "directoryName " + excluded},
		"the same, further down":            {nil, list{directory(deeper)}, list{directory(zeroWidth)}, ""},
		"the same, permitted by itself":     {list{directory(subject), directory(zeroWidth)}, nil, list{directory(zeroWidth)}, ""},
		"a form that nobody compares":       {list{other}, nil, list{other}, "otherName " + refused},
		"the same, excluded":                {nil, list{other}, list{other}, "otherName " + excluded},
		"the same, not in the seal":         {list{other}, nil, nil, ""},
		"a mailbox beyond ASCII":            {list{email("example.org")}, nil, list{mailbox}, "rfc822Name " + refused},
		"a mailbox, excluded":               {nil, list{email("example.com")}, list{mailbox}, "rfc822Name " + excluded},
		"a mailbox beside an address":       {list{email("example.org")}, nil, list{email("seal@example.org"), mailbox}, "rfc822Name " + refused},
		"a mailbox as a form of its own":    {list{other}, nil, list{mailbox}, "otherName " + refused},
		"a mailbox as a base":               {list{mailbox}, nil, list{other}, "otherName " + refused},
		"a mailbox without constraints":     {list{dns("example.org")}, nil, list{mailbox}, ""},
		"a form that is no mailbox":         {list{email("example.org")}, nil, list{other}, ""},
		"a form that may be one":            {list{email("example.org")}, nil, list{untyped}, "rfc822Name " + refused},
	} {
		p := pathCA{issuing: []pkix.Extension{subtrees(test.permitted, test.excluded)}}
		if test.names != nil {
			p.seal = []pkix.Extension{altNames(test.names...)}
		}
		expectRejection(t, name, judgeChain(t, p.chain(t, nil)), test.says)
	}
}

// Constraints are for every certificate below, except for those in between that are
// self-issued.
func TestNameConstraintsReachDown(t *testing.T) {
	permitted := func(organization string) []pkix.Extension {
		name := nameOf([]attr{{asn1.ObjectIdentifier{2, 5, 4, 6}, 19, "NL"}}, []attr{{oidOrganization, 12, organization}})
		return []pkix.Extension{subtrees([][]byte{tagged(0xa4, name)}, nil)}
	}
	named := func(names map[int]string) func(int, *x509.Certificate) {
		return func(i int, c *x509.Certificate) {
			c.Subject = pkix.Name{Country: []string{"NL"}, Organization: []string{names[i]}}
		}
	}
	for name, test := range map[string]struct {
		ca    pathCA
		names map[int]string
		says  string
	}{
		"all below the root":       {pathCA{root: permitted("Org")}, map[int]string{3: "Root", 2: "Org", 1: "Org", 0: "Org"}, ""},
		"not the seal":             {pathCA{root: permitted("Org")}, map[int]string{3: "Root", 2: "Org", 1: "Org", 0: "Seal"}, "of x5c[3] do not permit x5c[0]"},
		"not a CA in between":      {pathCA{root: permitted("Org")}, map[int]string{3: "Root", 2: "Other", 1: "Org", 0: "Org"}, "of x5c[3] do not permit x5c[2]"},
		"a CA that is self-issued": {pathCA{root: permitted("Org")}, map[int]string{3: "Root", 2: "Root", 1: "Org", 0: "Org"}, ""},
		"a seal that is self-issued": {
			pathCA{root: permitted("Org")}, map[int]string{3: "Root", 2: "Root", 1: "Root", 0: "Root"}, "of x5c[3] do not permit x5c[0]",
		},
		"what two of them permit": {
			pathCA{root: permitted("Org"), sub: permitted("Other")}, map[int]string{3: "Root", 2: "Org", 1: "Org", 0: "Org"}, "of x5c[2] do not permit x5c[0]",
		},
		"the seal's own": {pathCA{seal: permitted("Org")}, map[int]string{3: "A", 2: "B", 1: "C", 0: "Org"}, "x5c[0] has the critical extension nameConstraints (2.5.29.30)"},
	} {
		expectRejection(t, name, judgeChain(t, test.ca.chain(t, named(test.names))), test.says)
	}
}

func TestAddressesInTheSubject(t *testing.T) {
	p := pathCA{issuing: []pkix.Extension{subtrees([][]byte{tagged(0x81, []byte("example.org"))}, nil)}}
	address := func(host string) func(int, *x509.Certificate) {
		return func(i int, c *x509.Certificate) {
			if i == 0 {
				c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "seal@" + host}}
			}
		}
	}
	expectRejection(t, "permitted", judgeChain(t, p.chain(t, address("example.org"))), "")
	expectRejection(t, "not permitted", judgeChain(t, p.chain(t, address("example.com"))), `rfc822Name "seal@example.com" is not among the permitted ones`)
}

func TestTooManyComparisons(t *testing.T) {
	many := slices.Repeat([]generalName{{form: formDNS, text: "a"}}, 400)
	names := slices.Repeat([][]byte{tagged(0x82, []byte("b"))}, 400)
	cert := &x509.Certificate{RawSubject: nameOf(), Extensions: []pkix.Extension{altNames(names...)}}
	if err := (&nameConstraint{excluded: many}).permits(cert, new(int)); err == nil || !strings.Contains(err.Error(), "pairs of names and constraints") {
		t.Errorf("%v", err)
	}
}

// Only what is read in the certificate's position counts as processed.
func TestCriticalExtensionsByPosition(t *testing.T) {
	critical := func(id asn1.ObjectIdentifier, value []byte) []pkix.Extension {
		return []pkix.Extension{{Id: id, Critical: true, Value: value}}
	}
	purposes := func(ids ...asn1.ObjectIdentifier) func(int, *x509.Certificate) {
		return func(i int, c *x509.Certificate) {
			if i == 0 {
				c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, nil
				c.ExtraExtensions = append(c.ExtraExtensions, critical(certcheck.OIDExtKeyUsage, mustDER(ids))...)
			}
		}
	}
	qualified := func(i int, c *x509.Certificate) {
		if i == 0 {
			c.ExtraExtensions[0].Critical = true // qcStatements
		}
	}
	for name, test := range map[string]struct {
		ca     pathCA
		change func(int, *x509.Certificate)
		says   string
	}{
		"qcStatements":                   {change: qualified, says: "x5c[0] has the critical extension qcStatements (1.3.6.1.5.5.7.1.3), which is not processed here"},
		"mappings in a seal":             {ca: pathCA{seal: []pkix.Extension{mapsTo(policyA, policyB)}}, says: "x5c[0] has the critical extension policyMappings"},
		"inhibitAnyPolicy in a seal":     {ca: pathCA{seal: []pkix.Extension{inhibits(0)}}, says: "x5c[0] has the critical extension inhibitAnyPolicy"},
		"an issuer's issuerAltName":      {ca: pathCA{sub: critical(asn1.ObjectIdentifier{2, 5, 29, 18}, altNames(tagged(0x82, []byte("a"))).Value)}, says: "x5c[2] has the critical extension issuerAltName"},
		"subjectAltName":                 {ca: pathCA{seal: critical(certcheck.OIDSubjectAltName, altNames(tagged(0x82, []byte("a"))).Value)}},
		"distribution points":            {ca: pathCA{seal: critical(certcheck.OIDCRLDistributionPoints, sequence(sequence(tagged(0xa0, tagged(0xa0, tagged(0x86, []byte("http://a.example/l")))))))}},
		"for e-mail":                     {change: purposes(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4})},
		"for documents":                  {change: purposes(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 36})},
		"for time stamps alone":          {change: purposes(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}), says: "x5c[0] is limited to other purposes than signing"},
		"for time stamps and for e-mail": {change: purposes(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4})},
	} {
		rejection := judgeChain(t, test.ca.chain(t, test.change))
		expectRejection(t, name, rejection, test.says)
		if rejection != nil && strings.Contains(rejection.Hint, "cannot issue") {
			t.Errorf("%s: the hint speaks of seals that issue: %s", name, rejection.Hint)
		}
	}
}

// FIWARE's manual makes a root whose section v3_ca has no key usage.
func TestRootWithoutKeyUsage(t *testing.T) {
	none := func(i int, c *x509.Certificate) {
		if i > 0 {
			c.KeyUsage = 0
		}
	}
	if rejection := judgeChain(t, pathCA{}.chain(t, none)); rejection != nil {
		t.Error(rejection)
	}
}

func TestROCA(t *testing.T) {
	for range 20 {
		key, err := testca.PooledKey(2048)
		if err != nil {
			t.Fatal(err)
		}
		if certcheck.HasROCA(key.N) {
			t.Error("an ordinary key is said to be weak")
		}
	}
	weak := &rsa.PublicKey{N: new(big.Int).Mul(rocaPrime(t), rocaPrime(t)), E: 65537}
	if !certcheck.HasROCA(weak.N) {
		t.Error("a key of a faulty generator is not found")
	}
	if fault := certcheck.KeyFault(weak); !strings.Contains(fault, "ROCA") {
		t.Errorf("%q", fault)
	}
	chain := pathCA{}.chain(t, nil)
	for i := range 2 {
		cert := *chain[i]
		cert.PublicKey = weak
		rejection := judgeChain(t, slices.Replace(slices.Clone(chain), i, i+1, &cert))
		if rejection == nil || rejection.Rule != rule.CertificateKey || !strings.Contains(rejection.Sentence, "ROCA") {
			t.Errorf("x5c[%d]: %v", i, rejection)
		}
	}
}

// rocaPrime makes a prime of 1024 bits of the form k*M + (65537^a mod M), where M is
// the product of the first 126 primes.
func rocaPrime(t *testing.T) *big.Int {
	t.Helper()
	m := big.NewInt(1)
	for n, found := int64(2), 0; found < 126; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			m.Mul(m, p)
			found++
		}
	}
	for {
		a, err := rand.Int(rand.Reader, big.NewInt(1<<40))
		if err != nil {
			t.Fatal(err)
		}
		k, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(1023-m.BitLen())))
		if err != nil {
			t.Fatal(err)
		}
		k.SetBit(k, 1023-m.BitLen(), 1)
		p := new(big.Int).Exp(big.NewInt(65537), a, m)
		p.Add(p, k.Mul(k, m))
		if p.BitLen() == 1024 && p.Bit(1022) == 1 && p.ProbablyPrime(10) { // so that two make 2048 bits
			return p
		}
	}
}

// A forged leaf below public issuers costs one verification, and what does not hold is not
// remembered.
func TestSignaturesOfIssuersAreRemembered(t *testing.T) {
	chain := pathCA{}.chain(t, nil)
	v, err := New(Anchors{FingerprintOf(chain[3]): ""})
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	v.signatures.check = func(certificate, issuer *x509.Certificate) error {
		verified++
		return certcheck.CheckSignature(certificate, issuer)
	}
	broken := func(i int) []*x509.Certificate {
		raw := bytes.Clone(chain[i].Raw)
		raw[len(raw)-1] ^= 1
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Replace(slices.Clone(chain), i, i+1, cert)
	}
	for _, step := range []struct {
		name  string
		chain []*x509.Certificate
		holds bool
		costs int
	}{
		{"a stranger's CA below the anchor", broken(2), false, 1},
		{"the same again", broken(2), false, 1},
		{"a stranger's CA further down", broken(1), false, 2},
		{"the same again: its issuer is known", broken(1), false, 1},
		{"a forged leaf", broken(0), false, 2},
		{"a forged leaf again", broken(0), false, 1},
		{"the honest chain", chain, true, 1},
		{"the honest chain again: leaves are not remembered", chain, true, 1},
	} {
		verified = 0
		if _, err := v.Validate(step.chain, time.Now(), nil); (err == nil) != step.holds || verified != step.costs {
			t.Errorf("%s: %d verifications, want %d (%v)", step.name, verified, step.costs, err)
		}
	}
	if n := v.signatures.known.EstimatedSize(); n != 2 {
		t.Errorf("%d signatures are remembered, want 2", n)
	}
}

// Whoever has a seal can sign as many certificates with it as they like. None of
// these takes the place of an issuer's in the memory.
func TestSignaturesOfSealsAreNotRemembered(t *testing.T) {
	chain := pathCA{}.chain(t, func(i int, c *x509.Certificate) {
		if i < 3 {
			c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, 0, false
		}
	})
	v, err := New(Anchors{FingerprintOf(chain[3]): ""})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Validate(chain, time.Now(), nil); err == nil {
		t.Fatal("a seal may issue")
	}
	for i, want := range []bool{false, false, true} { // a leaf, what a seal signed, and the seal
		_, known := v.signatures.known.GetIfPresent(signature{certificate: FingerprintOf(chain[i]), issuer: FingerprintOf(chain[i+1])})
		if known != want {
			t.Errorf("x5c[%d] is remembered: %v", i, known)
		}
	}
}

// Sentences name the certificates, and hints fit the reason.
func TestSentencesAndHintsOfChains(t *testing.T) {
	chain := pathCA{}.chain(t, nil)
	expired := pathCA{}.chain(t, func(i int, c *x509.Certificate) {
		if i == 0 {
			c.NotBefore, c.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(-73*time.Hour)
		}
	})
	isCA := pathCA{}.chain(t, func(i int, c *x509.Certificate) { c.IsCA = true })
	without := pathCA{}.chain(t, func(i int, c *x509.Certificate) {
		if i == 0 {
			c.KeyUsage = 0
		}
	})
	for name, test := range map[string]struct {
		chain           []*x509.Certificate
		anchor          *x509.Certificate
		sentence, hints string
	}{
		"the root is missing": {chain[:3], chain[3], `x5c[2] ("Waybill Test Sub CA"), issued by "Waybill Test Root CA"`, `put the certificate of "Waybill Test Root CA" behind x5c[2]`},
		"another root":        {chain, isCA[3], `ends in the root x5c[3] ("Waybill Test Root CA")`, "trust.anchors"},
		"an issuer is missing": {
			[]*x509.Certificate{chain[0], chain[2], chain[3]},
			chain[3],
			`x5c[0] ("Consumer") names another issuer than x5c[1] ("Waybill Test Sub CA"): "Waybill Test Issuing CA"`, `Put the certificate of "Waybill Test Issuing CA" behind it`,
		},
		"expired":              {expired, expired[3], `x5c[0] ("Consumer") expired on `, "renew the certificate"},
		"expired three days":   {expired, expired[3], ", 3 days ago", "renew the certificate"},
		"a seal that is a CA":  {isCA, isCA[3], `x5c[0] ("Consumer")`, "openssl req -x509"},
		"a seal without usage": {without, without[3], "the extension is absent", "keyUsage"},
	} {
		v, err := New(Anchors{FingerprintOf(test.anchor): ""})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Validate(test.chain, time.Now(), nil)
		var r *rule.Rejection
		if !errors.As(err, &r) || !strings.Contains(r.Sentence, test.sentence) || !strings.Contains(r.Hint, test.hints) {
			t.Errorf("%s: %+v, want %q with the hint %q", name, r, test.sentence, test.hints)
		}
	}
}

// Names of many attributes are not written out: each attribute makes all the others dearer.
func TestNamesOfManyAttributes(t *testing.T) {
	chain := func(names map[int]pkix.Name) []*x509.Certificate {
		return pathCA{}.chain(t, func(i int, c *x509.Certificate) {
			if name, ok := names[i]; ok {
				c.Subject = name
			}
		})
	}
	many := func(commonName string, n int) pkix.Name {
		name := pkix.Name{CommonName: commonName}
		for range n {
			name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: oidOrganization, Value: "Org"})
		}
		return name
	}
	// The seal and the root; the last issuer that is presented names the root.
	long := chain(map[int]pkix.Name{0: many("", 4000), 3: many("", 4000)})
	usual := chain(map[int]pkix.Name{0: many("", maxAttributes), 1: {CommonName: "CA"}})
	alike := chain(map[int]pkix.Name{1: many("CA", 4000)})
	v, err := New(Anchors{FingerprintOf(usual[3]): ""})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"of the seal":                 {long[:1], "x5c[0] ('a name of 4000 attributes')"},
		"of the last issuer":          {long[:3], "issued by 'a name of 4000 attributes'"},
		"of an issuer of like name":   {[]*x509.Certificate{alike[0], usual[1]}, "x5c[1] ('CA'): 'a name of 4001 attributes'"},
		"as many as are written out":  {usual[:1], "x5c[0] ('O=Org+O=Org+"},
		"of many, with a common name": {alike[1:2], "x5c[0] ('CA')"},
	} {
		_, err := v.Validate(test.chain, time.Now(), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.1000v, want %s", name, err, test.want)
		}
	}
}

// What is quoted is cut short, whatever it is: an object identifier may be as long as the
// certificate.
func TestQuotesAreBounded(t *testing.T) {
	endless := make(asn1.ObjectIdentifier, 1000)
	endless[0] = 1
	if name := certcheck.ExtensionName(endless); len(name) != 80+len("...") {
		t.Errorf("an extension is called %s", name)
	}
	for s, want := range map[string]string{
		strings.Repeat("x", 80):             strings.Repeat("x", 80),
		strings.Repeat("x", 81):             strings.Repeat("x", 80) + "...",
		strings.Repeat("\U0001d11e", 80):    strings.Repeat("\U0001d11e", 80),
		strings.Repeat("\U0001d11e", 81):    strings.Repeat("\U0001d11e", 80) + "...",
		strings.Repeat("\U0001d11e", 9000):  strings.Repeat("\U0001d11e", 80) + "...",
		strings.Repeat("\xff", 40) + "rest": strings.Repeat("\xff", 40) + "rest",
	} {
		if got := certcheck.Shorten(s); got != want {
			t.Errorf("%q is cut to %q", s, got)
		}
	}
}

// FuzzExtensions: whatever the extensions hold, they are read or refused.
func FuzzExtensions(f *testing.F) {
	f.Add(certifies(policyA, policyAny).Value, subtrees([][]byte{tagged(0x82, []byte("a.example"))}, nil).Value, altNames(tagged(0x81, []byte("a@b"))).Value)
	f.Add(mapsTo(policyA, policyB).Value, subtrees(nil, [][]byte{tagged(0xa4, nameOf())}).Value, altNames(tagged(0x86, []byte("https://a.example/"))).Value)
	f.Add(constrains(0x80, 1, 0).Value, subtrees(nil, [][]byte{tagged(0x87, []byte{1, 2, 3, 4, 255, 255, 0, 0})}).Value, altNames(tagged(0x87, []byte{1, 2, 3, 4})).Value)
	f.Fuzz(func(t *testing.T, policy, constraint, names []byte) {
		for _, id := range []asn1.ObjectIdentifier{certcheck.OIDCertificatePolicies, certcheck.OIDPolicyMappings, certcheck.OIDPolicyConstraints, certcheck.OIDInhibitAnyPolicy} {
			cert := &x509.Certificate{Extensions: []pkix.Extension{{Id: id, Critical: true, Value: policy}}}
			if p, err := readPolicies(cert); (p == nil) == (err == nil) || err == nil && min(p.requireExplicit, p.inhibitMapping, p.inhibitAny) < 0 {
				t.Fatalf("%+v, %v", p, err)
			}
		}
		c, err := readNameConstraint(constraint)
		if err != nil {
			return
		}
		cert := &x509.Certificate{RawSubject: nameOf(), Extensions: []pkix.Extension{{Id: certcheck.OIDSubjectAltName, Value: names}}}
		all, err := namesOf(cert)
		if err != nil {
			return
		}
		for _, n := range all {
			for _, base := range slices.Concat(c.permitted, c.excluded) {
				// What a base permits, it would exclude too: the one reading is not looser.
				if n.form == base.form && !n.opaque && !base.opaque && n.within(base) && !n.overlaps(base) {
					t.Fatalf("%+v is within %+v and does not overlap", n, base)
				}
			}
		}
	})
}
