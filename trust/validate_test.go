package trust_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/rule"
	"github.com/waybill-token/waybill/trust"
)

// The shared certificate authority, and one that nobody trusts.
var (
	ca      = sync.OnceValue(func() *testca.CA { return newCA("Trusted") })
	otherCA = sync.OnceValue(func() *testca.CA { return newCA("Other") })
	honest  = sync.OnceValue(func() *testca.Identity { return newSeal(testca.SealRequest{}) })
)

func newCA(name string) *testca.CA {
	made, err := testca.New(testca.Config{Name: name, NewKey: testca.PooledKey})
	if err != nil {
		panic(err)
	}
	return made
}

func newSeal(r testca.SealRequest) *testca.Identity {
	r.Organization, r.Identifier = "Consumer", "NTRNL-10000001"
	seal, err := ca().Seal(r)
	if err != nil {
		panic(err)
	}
	return seal
}

// change issues a seal whose template was changed.
func change(f func(*x509.Certificate)) []*x509.Certificate {
	return newSeal(testca.SealRequest{Template: f}).Chain
}

// under issues a good seal below an issuer.
func under(issuer *testca.Identity) []*x509.Certificate {
	return newSeal(testca.SealRequest{Issuer: issuer}).Chain
}

// withKey issues a good seal for a key.
func withKey(key crypto.Signer) []*x509.Certificate {
	return newSeal(testca.SealRequest{Key: key}).Chain
}

func key(bits int) crypto.Signer {
	made, err := testca.PooledKey(bits)
	if err != nil {
		panic(err)
	}
	return made
}

func odd(bits, exponent int) crypto.Signer {
	made, err := testca.NewOddKey(bits, exponent)
	if err != nil {
		panic(err)
	}
	return made
}

// A publicOnly is a key that nobody has the private half of.
type publicOnly struct{ key crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.key }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no private key")
}

func curveKey(curve elliptic.Curve) crypto.Signer {
	made, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return made
}

func edKey() crypto.Signer {
	_, made, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return made
}

// authority issues a CA below another, from the template of the issuing CA.
func authority(by *testca.Identity, k crypto.Signer, f func(*x509.Certificate)) *testca.Identity {
	template := ca().Template(testca.Issuing)
	if f != nil {
		f(template)
	}
	made, err := by.Issue(template, k)
	if err != nil {
		panic(err)
	}
	return made
}

// issuing is an issuing CA of our own below the trusted sub CA.
func issuing(f func(*x509.Certificate)) *testca.Identity {
	return authority(ca().Authority(testca.Sub), key(2048), f)
}

// reparsed is a certificate whose DER was changed after it was signed.
func reparsed(cert *x509.Certificate, f func(der []byte) []byte) *x509.Certificate {
	changed, err := x509.ParseCertificate(f(bytes.Clone(cert.Raw)))
	if err != nil {
		panic(err)
	}
	return changed
}

// withBrokenSignature differs from the certificate in its last bit.
func withBrokenSignature(cert *x509.Certificate) *x509.Certificate {
	return reparsed(cert, func(der []byte) []byte {
		der[len(der)-1] ^= 1
		return der
	})
}

// with returns the chain with one certificate exchanged.
func with(chain []*x509.Certificate, i int, cert *x509.Certificate) []*x509.Certificate {
	chain = slices.Clone(chain)
	chain[i] = cert
	return chain
}

func pick(chain []*x509.Certificate, indices ...int) []*x509.Certificate {
	picked := make([]*x509.Certificate, len(indices))
	for i, index := range indices {
		picked[i] = chain[index]
	}
	return picked
}

func anchorsOf(certificates ...*x509.Certificate) trust.Anchors {
	anchors := trust.Anchors{}
	for _, cert := range certificates {
		anchors[trust.FingerprintOf(cert)] = cert.Subject.String()
	}
	return anchors
}

func level(l testca.Level) trust.Anchors { return anchorsOf(ca().Authority(l).Certificate()) }

func validator(tb testing.TB, anchors trust.Anchors) *trust.Validator {
	tb.Helper()
	v, err := trust.New(anchors)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// A presented chain is shown to a validator at a time.
type presented struct {
	v     *trust.Validator
	chain []*x509.Certificate
	at    time.Time
}

// labels are the names that sentences put behind the places of certificates.
var labels = regexp.MustCompile(` \("[^"]*"\)`)

// checkRefused asserts that a chain is refused by a rule, with a sentence that
// says so, both when serving and when explaining.
func checkRefused(t *testing.T, p presented, reason *rule.Rule, says string) {
	t.Helper()
	trace := &rule.Trace{}
	for mode, trace := range map[string]*rule.Trace{"serving": nil, "explaining": trace} {
		got, err := p.v.Validate(p.chain, p.at, trace)
		if got != nil {
			t.Errorf("%s: a chain was returned", mode)
		}
		rejection := (*rule.Rejection)(nil)
		if !errors.As(err, &rejection) || rejection.Rule != reason || !strings.Contains(labels.ReplaceAllString(rejection.Sentence, ""), says) {
			t.Errorf("%s: %v, want %s: …%s…", mode, err, reason.ID, says)
		}
	}
	if rejection, _ := trace.Outcome(reason); rejection == nil {
		t.Errorf("the trace does not tell that %s failed", reason.ID)
	}
}

// failures lists the rules that a chain breaks, in the order of the catalogue.
func failures(v *trust.Validator, chain []*x509.Certificate, at time.Time) []string {
	trace := &rule.Trace{}
	v.Validate(chain, at, trace)
	var broken []string
	for _, reason := range rule.All() {
		if rejection, _ := trace.Outcome(reason); rejection != nil {
			broken = append(broken, reason.ID)
		}
	}
	return broken
}

func TestAnchorAtEachLevel(t *testing.T) {
	chain := honest().Chain
	for name, test := range map[string]struct {
		anchors trust.Anchors
		chain   []*x509.Certificate
		length  int // of the trusted chain
	}{
		"root":                           {level(testca.Root), chain, 4},
		"sub CA":                         {level(testca.Sub), chain, 3},
		"issuing CA":                     {level(testca.Issuing), chain, 2},
		"the lowest of several":          {anchorsOf(chain[1:]...), chain, 2},
		"sub CA, root not sent":          {level(testca.Sub), chain[:3], 3},
		"issuing CA, nothing above sent": {level(testca.Issuing), chain[:2], 2},
		"the seal too":                   {anchorsOf(chain[0], chain[3]), chain, 4},
		"anchor listed twice":            {level(testca.Root), pick(chain, 0, 1, 2, 3, 3), 4},
		"other anchors besides":          {anchorsOf(otherCA().Authority(testca.Root).Certificate(), chain[2]), chain, 3},
	} {
		got, err := validator(t, test.anchors).Validate(test.chain, time.Now(), nil)
		if err != nil {
			t.Errorf("anchor at %s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.chain[:test.length], got.Certificates(), cmp.Comparer((*x509.Certificate).Equal)); diff != "" {
			t.Errorf("anchor at %s: another chain", name)
		}
	}
}

func TestChainTellsAboutItsLeaf(t *testing.T) {
	id := honest()
	sent := slices.Clone(id.Chain)
	chain, err := validator(t, level(testca.Sub)).Validate(sent, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	clear(sent)
	if chain.Leaf() != id.Certificate() || chain.Thumbprint() != ishare.Thumbprint(id.Certificate().Raw) {
		t.Error("the leaf is another certificate")
	}
	digest := sha256.Sum256(nil)
	if signature, err := id.Key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || chain.Key().Verify(crypto.SHA256, digest[:], signature) != nil {
		t.Errorf("the key is another one: %v", err)
	}
	chain.Certificates()[0] = nil
	if chain.Leaf() == nil || chain.Certificates()[0] == nil {
		t.Error("a caller can change the chain")
	}
}

func TestChainsThatAreTrusted(t *testing.T) {
	root := ca().Authority(testca.Root)
	for name, chain := range map[string][]*x509.Certificate{
		"as the real ones": honest().Chain,
		"digitalSignature": change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }),
		"both key usages":  change(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }),
		"more key usages":  change(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }),
		"no basic constraints": change(func(c *x509.Certificate) {
			c.BasicConstraintsValid = false
		}),
		"no extended key usage": change(func(c *x509.Certificate) { c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, nil }),
		"extended key usage of something else": change(func(c *x509.Certificate) {
			c.ExtKeyUsage, c.UnknownExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, nil
		}),
		"unknown extension that is not critical": change(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, unknown(false)) }),
		"SHA-384":                                change(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }),
		"SHA-512":                                change(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA512WithRSA }),
		"PSS":                                    change(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }),
		"8192 bits":                              withKey(odd(8192, 65537)),
		"largest exponent":                       withKey(publicOnly{&rsa.PublicKey{N: odd(2048, 65537).Public().(*rsa.PublicKey).N, E: 1<<31 - 1}}), //nolint:forcetypeassert // an OddKey is RSA
		"issuer of 8192 bits":                    under(authority(root, odd(8192, 65537), nil)),
		"ECDSA issuer":                           under(authority(root, curveKey(elliptic.P256()), nil)),
		"issued by the root":                     under(root),
		"an issuer without key usage":            under(issuing(func(c *x509.Certificate) { c.KeyUsage = 0 })),
		"path length as it can be":               under(authority(root, key(2048), func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })),
		"path length of one, with one": under(authority(
			authority(root, key(2048), func(c *x509.Certificate) { c.Subject.CommonName, c.MaxPathLen = "One", 1 }), key(2048), nil)),
		"path length zero, with a CA that is self-issued": under(authority(
			authority(root, key(2048), func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), key(2048), nil)),
		"eight CAs below the root": under(deep(8)),
	} {
		if _, err := validator(t, level(testca.Root)).Validate(chain, time.Now(), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if broken := failures(validator(t, level(testca.Root)), chain, time.Now()); broken != nil {
			t.Errorf("%s: explained as broken: %q", name, broken)
		}
	}
}

// deep is n CAs in a row below the root.
func deep(n int) *testca.Identity {
	id := ca().Authority(testca.Root)
	for i := range n {
		id = authority(id, key(2048), func(c *x509.Certificate) {
			c.Subject.CommonName = fmt.Sprintf("CA %d", i)
			c.MaxPathLen = -1
		})
	}
	return id
}

func unknown(critical bool) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: critical, Value: []byte{5, 0}}
}

func TestKeysThatAreRefused(t *testing.T) {
	root := ca().Authority(testca.Root)
	n := honest().Certificate().PublicKey.(*rsa.PublicKey).N //nolint:forcetypeassert // made as RSA
	even := new(big.Int).Sub(n, big.NewInt(1))
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		says  string
	}{
		"2047 bits":             {withKey(odd(2047, 65537)), "x5c[0] has 2047 bits"},
		"1024 bits":             {withKey(odd(1024, 65537)), "x5c[0] has 1024 bits"},
		"8193 bits":             {withKey(odd(8193, 65537)), "x5c[0] has 8193 bits"},
		"16384 bits":            {withKey(odd(16384, 65537)), "x5c[0] has 16384 bits"},
		"exponent 1":            {withKey(odd(2048, 1)), "exponent 1, "},
		"exponent 3":            {withKey(odd(2048, 3)), "exponent 3, "},
		"exponent 17":           {withKey(odd(2048, 17)), "exponent 17, "},
		"exponent 65535":        {withKey(publicOnly{&rsa.PublicKey{N: n, E: 65535}}), "exponent 65535, "},
		"exponent that is even": {withKey(publicOnly{&rsa.PublicKey{N: n, E: 65538}}), "exponent 65538, "},
		"exponent over 31 bits": {withKey(publicOnly{&rsa.PublicKey{N: n, E: 1<<31 + 1}}), "exponent 2147483649, "},
		"ECDSA leaf":            {withKey(curveKey(elliptic.P256())), "is ECDSA"},
		"Ed25519 leaf":          {withKey(edKey()), "x5c[0] is not RSA"},
		"issuer of 1024 bits":   {under(authority(root, key(1024), nil)), "x5c[1] has 1024 bits"},
		"issuer of 16384 bits":  {under(authority(root, odd(16384, 65537), nil)), "x5c[1] has 16384 bits"},
		"issuer, exponent 3":    {under(authority(root, odd(2048, 3), nil)), "x5c[1] has the public exponent 3"},
		"Ed25519 issuer":        {under(authority(root, edKey(), nil)), "x5c[1] is not RSA"},
		"above the anchor":      {append(slices.Clone(honest().Chain), withKey(odd(1024, 65537))[0]), "x5c[4] has 1024 bits"},
	} {
		checkRefused(t, presented{validator(t, level(testca.Root)), test.chain, time.Now()}, rule.CertificateKey, test.says)
		if broken := failures(validator(t, level(testca.Root)), test.chain, time.Now()); !slices.Equal(broken, []string{"certificate.key"}) {
			t.Errorf("%s: explained as broken: %q", name, broken)
		}
	}
	// Such a key is of a good size, and no signature of it can be right.
	chain := withKey(publicOnly{&rsa.PublicKey{N: even, E: 65537}})
	forged := with(honest().Chain, 0, chain[0])
	if _, err := validator(t, level(testca.Root)).Validate(forged, time.Now(), nil); err != nil {
		t.Errorf("a leaf with an even modulus: %v", err) // refused by its signature, see package jws
	}
}

func TestIssuerWithAnEvenModulusVerifiesNothing(t *testing.T) {
	n := new(big.Int).Sub(honest().Certificate().PublicKey.(*rsa.PublicKey).N, big.NewInt(1)) //nolint:forcetypeassert // made as RSA
	issuer := authority(ca().Authority(testca.Sub), publicOnly{&rsa.PublicKey{N: n, E: 65537}}, nil)
	chain := with(honest().Chain, 1, issuer.Certificate())
	checkRefused(t, presented{validator(t, level(testca.Root)), chain, time.Now()}, rule.ChainOrder, "x5c[0] is not signed by x5c[1]")
}

func TestValidityBounds(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	begin, end := now.Add(-time.Minute), now.Add(time.Minute)
	period := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = begin, end }
	chains := map[string][]*x509.Certificate{
		"x5c[0]": change(period),
		"x5c[1]": under(issuing(period)),
		"x5c[3]": under(belowRootWith(period)), // stands above the anchor
	}
	for where, chain := range chains {
		v := validator(t, anchorsOf(chain[2]))
		for _, at := range []time.Time{begin, now, end} {
			trusted, err := v.Validate(chain, at, nil)
			if err != nil {
				t.Fatalf("%s at %s: %v", where, at, err)
			}
			for bound, holds := range map[time.Time]bool{
				begin.Add(-1): false, begin: true, now: true, end: true, end.Add(1): false, {}: false,
			} {
				if v.Holds(trusted.Proof, bound) != holds {
					t.Errorf("%s: holds at %s: %t", where, bound, !holds)
				}
			}
		}
		checkRefused(t, presented{v, chain, begin.Add(-1)}, rule.CertificateValidity, where+" is not valid before "+begin.UTC().Format(time.RFC3339))
		checkRefused(t, presented{v, chain, end.Add(1)}, rule.CertificateValidity, where+" expired on "+end.UTC().Format(time.RFC3339))
	}
}

// belowRootWith is an issuing CA below a sub CA below a root of our own.
func belowRootWith(f func(*x509.Certificate)) *testca.Identity {
	template := ca().Template(testca.Root)
	f(template)
	root, err := testca.SelfSign(template, key(2048))
	if err != nil {
		panic(err)
	}
	return authority(authority(root, key(2048), func(c *x509.Certificate) { c.MaxPathLen = -1 }), key(2048), nil)
}

func TestLeavesThatAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		says   string
	}{
		"a CA":                 {func(c *x509.Certificate) { c.IsCA = true }, "is a CA"},
		"no key usage":         {func(c *x509.Certificate) { c.KeyUsage = 0 }, "neither digitalSignature nor nonRepudiation"},
		"keyEncipherment only": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, "neither"},
		"every other key usage": {func(c *x509.Certificate) {
			c.KeyUsage = 1<<9 - 1&^(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment)
		}, "neither"},
	} {
		chain := change(test.change)
		checkRefused(t, presented{validator(t, level(testca.Root)), chain, time.Now()}, rule.CertificateUsage, test.says)
		if broken := failures(validator(t, level(testca.Root)), chain, time.Now()); !slices.Equal(broken, []string{"certificate.usage"}) {
			t.Errorf("%s: explained as broken: %q", name, broken)
		}
	}
}

func TestOrderThatIsRefused(t *testing.T) {
	chain, other := honest().Chain, otherCA().Authority(testca.Issuing).Chain
	twin := authority(ca().Authority(testca.Sub), key(2048), nil).Certificate() // the issuing CA's name, another key
	weak := func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		says  string
	}{
		"CAs reversed":                  {pick(chain, 0, 3, 2, 1), "x5c[0] names another issuer"},
		"issuing CA left out":           {pick(chain, 0, 2, 3), "x5c[0] names another issuer"},
		"sub CA left out":               {pick(chain, 0, 1, 3), "x5c[1] names another issuer"},
		"leaf twice":                    {pick(chain, 0, 0, 1, 2, 3), "x5c[0] names another issuer"},
		"issuing CA twice":              {pick(chain, 0, 1, 1, 2, 3), "x5c[1] names another issuer"},
		"stranger in between":           {[]*x509.Certificate{chain[0], other[0], chain[1], chain[2], chain[3]}, "x5c[0] names another issuer"},
		"stranger above the anchor":     {append(slices.Clone(chain), other[0]), "x5c[3] names another issuer"},
		"chain of another CA, our root": {[]*x509.Certificate{chain[0], other[0], other[1], chain[3]}, "x5c[0] names another issuer"},
		"same name, other key":          {with(chain, 1, twin), "x5c[0] is not signed by x5c[1]"},
		"leaf's signature broken":       {with(chain, 0, withBrokenSignature(chain[0])), "x5c[0] is not signed by x5c[1]"},
		"issuer's signature broken":     {with(chain, 1, withBrokenSignature(chain[1])), "x5c[1] is not signed by x5c[2]"},
		"highest signature broken":      {with(chain, 2, withBrokenSignature(chain[2])), "x5c[2] is not signed by x5c[3]"},
		"signed by nobody":              {with(chain, 0, unsigned(chain[0])), "x5c[0] is not signed by x5c[1]"},
		"leaf signed with SHA-1":        {change(weak), "x5c[0] is signed with SHA1-RSA"},
		"issuer signed with SHA-1":      {under(issuing(weak)), "x5c[1] is signed with SHA1-RSA"},
		"unknown signature algorithm":   {with(chain, 0, withAlgorithm(chain[0], 14)), "x5c[0] is signed with"},
		"MD5":                           {with(chain, 0, withAlgorithm(chain[0], 4)), "x5c[0] is signed with MD5-RSA"},
		"another hash than was signed":  {with(chain, 0, withAlgorithm(chain[0], 13)), "x5c[0] is not signed by x5c[1]"},
	} {
		v := validator(t, level(testca.Root))
		checkRefused(t, presented{v, test.chain, time.Now()}, rule.ChainOrder, test.says)
		if broken := failures(v, test.chain, time.Now()); !slices.Contains(broken, "chain.order") || broken[0] != "chain.order" {
			t.Errorf("%s: explained as broken: %q", name, broken)
		}
	}
}

// unsigned has a signature of zero bytes.
func unsigned(cert *x509.Certificate) *x509.Certificate {
	return reparsed(cert, func(der []byte) []byte {
		clear(der[len(der)-len(cert.Signature):])
		return der
	})
}

// withAlgorithm exchanges sha256WithRSAEncryption (11) for another algorithm of
// PKCS #1, inside and outside of what was signed.
func withAlgorithm(cert *x509.Certificate, number byte) *x509.Certificate {
	oid := []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}
	other := append(bytes.Clone(oid[:10]), number)
	return reparsed(cert, func(der []byte) []byte { return bytes.ReplaceAll(der, oid, other) })
}

// From a cycle of certificates there is no way out but an anchor.
func TestCertificateCycle(t *testing.T) {
	one, two := key(2048), key(2048)
	named := func(name string) *x509.Certificate {
		c := ca().Template(testca.Sub)
		c.Subject = pkix.Name{CommonName: name}
		return c
	}
	first, err := testca.SelfSign(named("A"), one)
	if err != nil {
		t.Fatal(err)
	}
	b := authority(first, two, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "B"} })
	a := authority(b, one, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "A"}; c.MaxPathLen = -1 })
	leaf := under(a)[0]
	cycle := []*x509.Certificate{leaf}
	for range 4 {
		cycle = append(cycle, a.Certificate(), b.Certificate())
	}
	checkRefused(t, presented{validator(t, level(testca.Root)), cycle, time.Now()}, rule.ChainIssuer, "x5c[4] allows 1 CAs below it, and there are 3")
	checkRefused(t, presented{validator(t, level(testca.Root)), cycle[:3], time.Now()}, rule.ChainUntrusted, "trusted list")
	if got, err := validator(t, anchorsOf(b.Certificate())).Validate(cycle[:4], time.Now(), nil); err != nil || len(got.Certificates()) != 3 {
		t.Errorf("a cycle above the anchor: %v", err)
	}
}

func TestIssuersThatAreRefused(t *testing.T) {
	root := ca().Authority(testca.Root)
	pathLength := func(n int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject.CommonName = fmt.Sprintf("CA with path length %d", n) // other names: self-issued ones do not count
			c.MaxPathLen, c.MaxPathLenZero = n, n == 0
		}
	}
	constraints := func(f func(*x509.Certificate)) *testca.Identity {
		return issuing(func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = true; f(c) })
	}
	address := func(c *x509.Certificate) { c.EmailAddresses = []string{"seal@example.org"} }
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		says  string
	}{
		"a seal":               {under(honest()), "x5c[1] is not a CA"},
		"no basic constraints": {under(issuing(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA, c.MaxPathLen = false, false, 0 })), "x5c[1] is not a CA"},
		"no keyCertSign":       {under(issuing(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })), "x5c[1] lacks keyCertSign"},
		"path length zero, with a CA": {
			under(authority(authority(root, key(2048), pathLength(0)), key(2048), nil)), "x5c[2] allows 0 CAs below it, and there are 1",
		},
		"path length one, with two CAs": {
			under(authority(authority(authority(root, key(2048), pathLength(1)), key(2048), pathLength(9)), key(2048), nil)), "x5c[3] allows 1 CAs below it, and there are 2",
		},
		"unknown critical extension of the leaf":  {change(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, unknown(true)) }), "x5c[0] has the critical extension 1.3.6.1.4.1.99999.1"},
		"unknown critical extension of an issuer": {under(issuing(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, unknown(true)) })), "x5c[1] has the critical extension"},
		"name constraints exclude": {
			sealUnder(constraints(func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"example.org"} }), address), "name constraints",
		},
		"name constraints permit others": {
			sealUnder(constraints(func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.com"} }), address), "name constraints",
		},
		"name constraints that are not critical": {
			sealUnder(issuing(func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"example.org"} }), address), "name constraints",
		},
	} {
		v := validator(t, level(testca.Root))
		checkRefused(t, presented{v, test.chain, time.Now()}, rule.ChainIssuer, test.says)
		if broken := failures(v, test.chain, time.Now()); !slices.Equal(broken, []string{"chain.issuer"}) {
			t.Errorf("%s: explained as broken: %q", name, broken)
		}
	}
}

func sealUnder(issuer *testca.Identity, f func(*x509.Certificate)) []*x509.Certificate {
	return newSeal(testca.SealRequest{Issuer: issuer, Template: f}).Chain
}

func TestNameConstraintsThatPermit(t *testing.T) {
	for name, chain := range map[string][]*x509.Certificate{
		"the address": sealUnder(issuing(func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.org"} }),
			func(c *x509.Certificate) { c.EmailAddresses = []string{"seal@example.org"} }),
		"a seal without names": under(issuing(func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.org"} })),
	} {
		if broken := failures(validator(t, level(testca.Root)), chain, time.Now()); broken != nil {
			t.Errorf("%s: %q", name, broken)
		}
	}
}

// crypto/x509 is asked about the time of the assertion, not about the present.
func TestNameConstraintsAtAnotherTime(t *testing.T) {
	later := time.Now().AddDate(1, 0, 0)
	begin := func(c *x509.Certificate) { c.NotBefore = later.Add(-time.Hour) }
	chain := sealUnder(issuing(func(c *x509.Certificate) { begin(c); c.PermittedEmailAddresses = []string{"example.org"} }), begin)
	if broken := failures(validator(t, level(testca.Root)), chain, later); broken != nil {
		t.Errorf("%q", broken)
	}
}

// The constraints of an anchor count like those of any issuer.
func TestNameConstraintsOfTheAnchor(t *testing.T) {
	chain := sealUnder(issuing(func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"example.org"} }),
		func(c *x509.Certificate) { c.EmailAddresses = []string{"seal@example.org"} })
	checkRefused(t, presented{validator(t, anchorsOf(chain[1])), chain, time.Now()}, rule.ChainIssuer, "name constraints")
}

// What stands above the anchor must be well formed, and nothing depends on whether
// its signatures are right.
func TestAboveTheAnchor(t *testing.T) {
	chain := change(func(c *x509.Certificate) { c.EmailAddresses = []string{"seal@example.org"} })
	twin, err := testca.SelfSign(ca().Template(testca.Root), key(2048)) // the root's name, another key
	if err != nil {
		t.Fatal(err)
	}
	for name, above := range map[string]*x509.Certificate{
		"root of another key":   twin.Certificate(),
		"broken signature":      withBrokenSignature(chain[3]),
		"signed with MD5":       withAlgorithm(chain[3], 4),
		"root with constraints": rootWith(t, func(c *x509.Certificate) { c.ExcludedEmailAddresses = []string{"example.org"} }),
	} {
		if broken := failures(validator(t, level(testca.Sub)), with(chain, 3, above), time.Now()); broken != nil {
			t.Errorf("%s: %q", name, broken)
		}
	}
	for reason, above := range map[*rule.Rule]*x509.Certificate{
		rule.ChainIssuer:         rootWith(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		rule.ChainOrder:          rootWith(t, func(c *x509.Certificate) { c.Subject.CommonName = "Another" }),
		rule.CertificateValidity: rootWith(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
	} {
		if broken := failures(validator(t, level(testca.Sub)), with(chain, 3, above), time.Now()); !slices.Equal(broken, []string{reason.ID}) {
			t.Errorf("%q, want %s", broken, reason.ID)
		}
	}
	for name, f := range map[string]func(*x509.Certificate){
		"path length":                func(c *x509.Certificate) { c.MaxPathLen = 1 },
		"not a CA":                   func(c *x509.Certificate) { c.IsCA = false },
		"unknown critical extension": func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, unknown(true)) },
	} {
		if broken := failures(validator(t, level(testca.Sub)), with(chain, 3, rootWith(t, f)), time.Now()); !slices.Equal(broken, []string{"chain.issuer"}) {
			t.Errorf("%s: %q", name, broken)
		}
	}
}

// rootWith is a root of the right name and another key, whose template was changed.
func rootWith(t *testing.T, f func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := ca().Template(testca.Root)
	f(template)
	id, err := testca.SelfSign(template, key(2048))
	if err != nil {
		t.Fatal(err)
	}
	return id.Certificate()
}

// The anchor's own signature is its own business: roots of 2006 sign with SHA-1.
func TestAnchorIsNotJudgedByItsSignature(t *testing.T) {
	weak := belowRootWith(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })
	chain := under(weak)
	if broken := failures(validator(t, anchorsOf(chain[3])), chain, time.Now()); broken != nil {
		t.Errorf("a root signed with SHA-1: %q", broken)
	}
	if broken := failures(validator(t, anchorsOf(withBrokenSignature(chain[2]))), with(chain, 2, withBrokenSignature(chain[2])), time.Now()); broken != nil {
		t.Errorf("a sub CA with a broken signature, listed as it is: %q", broken)
	}
}

func TestChainsWithoutAnAnchor(t *testing.T) {
	chain, other := honest().Chain, newCA("Trusted") // the same names
	for name, test := range map[string]struct {
		anchors trust.Anchors
		chain   []*x509.Certificate
	}{
		"another CA":                         {anchorsOf(otherCA().Authority(testca.Root).Certificate()), chain},
		"another CA of the same name":        {anchorsOf(other.Authority(testca.Root).Certificate()), chain},
		"another CA of the same key":         {anchorsOf(withBrokenSignature(chain[3])), chain},
		"root not sent":                      {level(testca.Root), chain[:3]},
		"leaf alone":                         {level(testca.Issuing), chain[:1]},
		"leaf alone, listed as an anchor":    {anchorsOf(chain[0]), chain[:1]},
		"leaf listed as an anchor":           {anchorsOf(chain[0]), chain},
		"leaf listed, and its signature bad": {anchorsOf(chain[0]), with(chain, 1, withBrokenSignature(chain[1]))},
	} {
		v := validator(t, test.anchors)
		want := "no issuer in x5c is on this server's trusted list"
		if len(test.chain) == 1 {
			want = "x5c holds one certificate, that of x5c[0]"
		}
		checkRefused(t, presented{v, test.chain, time.Now()}, rule.ChainUntrusted, want)
		if broken := failures(v, test.chain, time.Now()); !slices.Equal(broken, []string{"chain.untrusted"}) {
			t.Errorf("%s: explained as broken: %q", name, broken)
		}
	}
}

// A seal that was pinned as an anchor still issues nothing.
func TestAnchorThatIsNoCA(t *testing.T) {
	chain := under(honest())
	checkRefused(t, presented{validator(t, anchorsOf(chain[1])), chain, time.Now()}, rule.ChainIssuer, "x5c[1] is not a CA")
}

// A chain without an anchor costs no RSA operation: signatures that would be
// found broken are not looked at, not even to explain.
func TestNoSignatureIsVerifiedWithoutAnAnchor(t *testing.T) {
	chain := slices.Clone(honest().Chain)
	for i, cert := range chain {
		chain[i] = withBrokenSignature(cert)
	}
	if broken := failures(validator(t, level(testca.Root)), chain, time.Now()); !slices.Equal(broken, []string{"chain.untrusted"}) {
		t.Errorf("explained as broken: %q", broken)
	}
	if broken := failures(validator(t, anchorsOf(chain[3])), chain, time.Now()); !slices.Equal(broken, []string{"chain.order"}) {
		t.Errorf("with an anchor, explained as broken: %q", broken)
	}
}

// Anchors are public. Whoever puts one above certificates of his own is found out
// by the first signature that is verified, which is the anchor's.
func TestAnchorsSignatureIsVerifiedFirst(t *testing.T) {
	chain := slices.Clone(honest().Chain)
	for i := range 3 {
		chain[i] = withBrokenSignature(chain[i])
	}
	checkRefused(t, presented{validator(t, level(testca.Root)), chain, time.Now()}, rule.ChainOrder, "x5c[2] is not signed by x5c[3]")
}

func TestEarlierRuleWins(t *testing.T) {
	break1 := []struct {
		rule   *rule.Rule
		change func(r *testca.SealRequest)
	}{
		{rule.CertificateKey, func(r *testca.SealRequest) { r.Key = odd(1024, 65537) }},
		{rule.CertificateValidity, onTemplate(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })},
		{rule.CertificateUsage, onTemplate(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })},
		{rule.ChainOrder, nil},
		{rule.ChainIssuer, onTemplate(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, unknown(true)) })},
		{rule.ChainUntrusted, nil},
	}
	for i, first := range break1 {
		for _, second := range break1[i+1:] {
			request := testca.SealRequest{}
			for _, b := range []func(*testca.SealRequest){first.change, second.change} {
				if b != nil {
					b(&request)
				}
			}
			chain, anchors := newSeal(request).Chain, level(testca.Root)
			if first.rule == rule.ChainOrder || second.rule == rule.ChainOrder {
				chain = pick(chain, 0, 1, 3)
			}
			if second.rule == rule.ChainUntrusted {
				anchors = anchorsOf(otherCA().Authority(testca.Root).Certificate())
			}
			checkRefused(t, presented{validator(t, anchors), chain, time.Now()}, first.rule, "")
			want := []string{first.rule.ID, second.rule.ID}
			if first.rule == rule.CertificateKey && (second.rule == rule.ChainOrder || second.rule == rule.ChainIssuer) {
				want = want[:1] // they rest on signatures
			}
			if diff := cmp.Diff(want, failures(validator(t, anchors), chain, time.Now())); diff != "" {
				t.Errorf("broken rules (-want +got):\n%s", diff)
			}
		}
	}
}

// onTemplate adds a change to those that a request makes already.
func onTemplate(f func(*x509.Certificate)) func(*testca.SealRequest) {
	return func(r *testca.SealRequest) {
		before := r.Template
		r.Template = func(c *x509.Certificate) {
			if before != nil {
				before(c)
			}
			f(c)
		}
	}
}

func TestCheckTellsEveryRejection(t *testing.T) {
	ids := func(rejections []*rule.Rejection) (list []string) {
		for _, r := range rejections {
			list = append(list, r.Rule.ID)
		}
		return list
	}
	bad := change(func(c *x509.Certificate) { c.KeyUsage, c.NotAfter = 0, time.Now().Add(-time.Hour) })
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		want  []string
	}{
		"a good seal":             {honest().Chain, nil},
		"expired, without usage":  {bad, []string{"certificate.validity", "certificate.usage"}},
		"a leaf alone":            {honest().Chain[:1], []string{"chain.untrusted"}},
		"nothing":                 {nil, []string{"jwt.x5c"}},
		"a key that is too small": {withKey(key(1024)), []string{"certificate.key"}},
	} {
		if diff := cmp.Diff(test.want, ids(trust.Check(test.chain, time.Now()))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNoCertificates(t *testing.T) {
	_, err := validator(t, level(testca.Root)).Validate(nil, time.Now(), nil)
	if rejection := (*rule.Rejection)(nil); !errors.As(err, &rejection) || rejection.Rule != rule.JWTX5C {
		t.Errorf("%v, want jwt.x5c", err)
	}
}

func TestNewNeedsAnchors(t *testing.T) {
	for _, anchors := range []trust.Anchors{nil, {}} {
		if _, err := trust.New(anchors); err == nil {
			t.Error("a validator without anchors was made")
		}
	}
}

func TestSetAnchorsDropsTrust(t *testing.T) {
	now, sub, issuer := time.Now(), level(testca.Sub), level(testca.Issuing)
	v := validator(t, sub)
	chain, err := v.Validate(honest().Chain, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	v.SetAnchors(level(testca.Sub))
	if !v.Holds(chain.Proof, now) {
		t.Error("the chain does not hold, and the anchors are the same")
	}
	v.SetAnchors(issuer)
	if v.Holds(chain.Proof, now) {
		t.Error("the chain holds, and its anchor has gone")
	}
	if again, err := v.Validate(honest().Chain, now, nil); err != nil || !v.Holds(again.Proof, now) {
		t.Errorf("by the new anchor: %v", err)
	}
	v.SetAnchors(nil)
	if v.Holds(chain.Proof, now) {
		t.Error("the chain holds without any anchors")
	}
	checkRefused(t, presented{v, honest().Chain, now}, rule.ChainUntrusted, "")
	if validator(t, sub).Holds(chain.Proof, now) {
		t.Error("the chain holds for another validator")
	}
}

func TestAnchorsAreCopied(t *testing.T) {
	mine := level(testca.Sub)
	v := validator(t, mine)
	clear(mine)
	clear(v.Anchors())
	if len(v.Anchors()) != 1 {
		t.Error("anchors can be changed from outside")
	}
	next := level(testca.Root)
	v.SetAnchors(next)
	clear(next)
	if diff := cmp.Diff(level(testca.Root), v.Anchors()); diff != "" {
		t.Errorf("anchors (-want +got):\n%s", diff)
	}
}

// While anchors are exchanged, a chain is trusted by the old or by the new ones, and
// what the old ones trusted never holds once the new ones stand.
func TestAnchorsAreExchangedAtOnce(t *testing.T) {
	v := validator(t, level(testca.Sub))
	chain, now := honest().Chain, time.Now()
	trusted := make(chan *trust.Chain, 200)
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for range cap(trusted) / 2 {
				if c, err := v.Validate(chain, now, nil); err == nil {
					trusted <- c
				} else {
					t.Error(err)
				}
			}
		})
	}
	for i := range 100 {
		v.SetAnchors(level([]testca.Level{testca.Issuing, testca.Sub}[i%2]))
	}
	wait.Wait()
	close(trusted)
	v.SetAnchors(level(testca.Root))
	for c := range trusted {
		if v.Holds(c.Proof, now) {
			t.Error("a chain holds by anchors that have gone")
		}
	}
}
