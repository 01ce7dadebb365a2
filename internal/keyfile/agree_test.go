package keyfile

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/waybill-token/waybill/internal/testca"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/trust"
)

// altered is a template in which rapid has changed what certificates are judged by.
func altered(t *rapid.T, template *x509.Certificate, what string) *x509.Certificate {
	pick := func(name string, options ...func()) {
		options = append(slices.Repeat([]func(){func() {}}, 2*len(options)), options...)
		options[rapid.IntRange(0, len(options)-1).Draw(t, what+" "+name)]()
	}
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	pick("usage",
		func() { template.KeyUsage = 0 },
		func() { template.KeyUsage = x509.KeyUsageKeyEncipherment },
		func() { template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign })
	pick("CA",
		func() { template.BasicConstraintsValid, template.IsCA, template.MaxPathLen = true, !template.IsCA, 0 },
		func() { template.BasicConstraintsValid, template.IsCA, template.MaxPathLen = false, false, 0 })
	pick("dates",
		func() { template.NotAfter = time.Now().Add(-time.Minute) },
		func() { template.NotBefore = time.Now().Add(time.Hour) },
		func() { template.NotAfter = time.Now().Add(time.Hour) })
	pick("extension",
		func() { template.ExtraExtensions = append(template.ExtraExtensions, unknown) },
		func() { unknown.Critical = false; template.ExtraExtensions = append(template.ExtraExtensions, unknown) })
	if template.IsCA && template.BasicConstraintsValid {
		pick("path length", func() { template.MaxPathLen, template.MaxPathLenZero = 0, true }, func() { template.MaxPathLen = 1 })
	}
	return template
}

// drawnKey is of a size and an exponent that servers take, or not.
func drawnKey(t *rapid.T, what string) crypto.Signer {
	size := rapid.SampledFrom([]struct{ bits, exponent int }{{2048, 65537}, {2048, 65537}, {2048, 65537}, {1024, 65537}, {2048, 3}, {2048, 65539}}).Draw(t, what)
	key, err := testca.NewOddKey(size.bits, size.exponent)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestMakerAndServerAgree: whatever is wrong with a chain, the maker is told if, and only if, a server
// that trusts its last certificate would refuse it.
func TestMakerAndServerAgree(t *testing.T) {
	t.Parallel()
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		t.Fatal(err)
	}
	agreed := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		issuer := ca.Authority(testca.Root)
		for range rapid.IntRange(0, 3).Draw(t, "CAs") {
			template := ca.Template(testca.Sub)
			template.Subject.CommonName += rapid.StringMatching("[a-z]{4}").Draw(t, "name")
			if issuer, err = issuer.Issue(altered(t, template, "CA"), drawnKey(t, "key of a CA")); err != nil {
				t.Fatal(err)
			}
		}
		template, err := ca.SealTemplate(testca.SealRequest{Organization: "Party"})
		if err != nil {
			t.Fatal(err)
		}
		seal, err := issuer.Issue(altered(t, template, "seal"), drawnKey(t, "key of the seal"))
		if err != nil {
			t.Fatal(err)
		}
		chain := rearranged(t, seal.Chain)
		refused := len(chain) > jws.MaxCertificates || !chain[0].Equal(seal.Chain[0]) // signed with another key
		if !refused {
			server, err := trust.New(trust.Anchors{trust.FingerprintOf(chain[len(chain)-1]): "the last"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = server.Validate(chain, time.Now(), nil)
			refused = err != nil
		}
		s := newInspection(seal.Key, chain, false)
		problems := Problems(s.checkSeal(time.Now()))
		if told := problems.Err() != nil; told != refused {
			t.Fatalf("the server refuses: %v; the maker is told %v", refused, problems)
		}
		agreed[refused]++
	})
	if agreed[true] == 0 || agreed[false] == 0 {
		t.Errorf("refused and accepted: %v; nothing is shown by one alone", agreed)
	}
}

// rearranged is the chain as a file may list it.
func rearranged(t *rapid.T, chain []*x509.Certificate) []*x509.Certificate {
	chain = slices.Clone(chain)
	switch rapid.SampledFrom([]string{"", "", "", "", "cut", "swapped", "twice"}).Draw(t, "order") {
	case "cut":
		return chain[:rapid.IntRange(1, len(chain)).Draw(t, "left")]
	case "swapped":
		i, j := rapid.IntRange(0, len(chain)-1).Draw(t, "one"), rapid.IntRange(0, len(chain)-1).Draw(t, "other")
		chain[i], chain[j] = chain[j], chain[i]
	case "twice":
		i := rapid.IntRange(0, len(chain)-1).Draw(t, "doubled")
		return slices.Insert(chain, i, chain[i])
	}
	return chain
}
