package trust_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/trust"
)

// vectors holds published JWTs and the certificates of the test PKIs that signed
// them. It is not part of the repository.
const vectors = "../../shared/vectors"

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func publishedChain(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	token, err := jws.Split(strings.TrimSpace(string(read(t, name))))
	if err != nil {
		t.Fatal(err)
	}
	header, err := token.Header()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := header.Certificates(nil)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func publishedAnchors(t *testing.T, names ...string) trust.Anchors {
	t.Helper()
	var text []byte
	for _, name := range names {
		text = append(text, read(t, filepath.Join("ca", name+".pem"))...)
	}
	anchors, err := trust.ParseAnchors(text)
	if err != nil {
		t.Fatal(err)
	}
	return anchors
}

// The chains of real seals: of 2018 (iSHARE's own CA), 2024 (2.x framework) and 2025
// (3.0: 4096-bit CAs, nonRepudiation only, extended key usage emailProtection).
func TestPublishedChains(t *testing.T) {
	if _, err := os.Stat(vectors); errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	const (
		seal2018 = "v1.x-postman-client-assertion-aud-array.jwt"
		seal2024 = "v2.0-swagger-trusted-list-token.jwt"
		seal2025 = "v3.0-openapi-capabilities-token.jwt"
	)
	for _, test := range []struct {
		token, at, anchor string
		length            int    // of the trusted chain
		broken            string // or the first rule that is broken
	}{
		{token: seal2025, at: "2025-02-27T17:00:55Z", anchor: "eIDASeSEALOID_RootG2", length: 4},
		{token: seal2025, at: "2025-02-27T17:00:55Z", anchor: "eIDASeSEALOID_SubCAG3", length: 3},
		{token: seal2025, at: "2025-02-27T17:00:55Z", anchor: "eIDASeSEALOID_IssCAG4", length: 2},
		{token: seal2025, at: "2025-02-27T17:00:55Z", anchor: "TEST_iSHARE_Foundation_eIDAS", broken: "chain.untrusted"},
		{token: seal2025, at: "2024-03-26T15:29:50Z", anchor: "eIDASeSEALOID_RootG2", broken: "certificate.validity"},
		{token: seal2025, at: "2027-11-06T14:32:11Z", anchor: "eIDASeSEALOID_RootG2", broken: "certificate.validity"},
		{token: seal2024, at: "2024-03-26T14:43:10Z", anchor: "TEST_iSHARE_Foundation_eIDAS", length: 3},
		{token: seal2024, at: "2024-03-26T14:43:10Z", anchor: "TEST_iSHARE_EU_Issuing_CA_G5", length: 2},
		{token: seal2024, at: "2024-03-26T14:43:10Z", anchor: "eIDASeSEALOID_RootG2", broken: "chain.untrusted"},
		{token: seal2018, at: "2018-10-29T15:37:20Z", anchor: "iSHARETestCA", broken: "chain.untrusted"}, // x5c is the seal alone
	} {
		at, err := time.Parse(time.RFC3339, test.at)
		if err != nil {
			t.Fatal(err)
		}
		chain, v := publishedChain(t, test.token), validator(t, publishedAnchors(t, test.anchor))
		trusted, err := v.Validate(chain, at, nil)
		broken := failures(v, chain, at)
		switch {
		case test.broken == "" && (err != nil || len(trusted.Certificates()) != test.length || broken != nil):
			t.Errorf("%s with %s: %v (%q)", test.token, test.anchor, err, broken)
		case test.broken != "" && (err == nil || broken[0] != test.broken):
			t.Errorf("%s with %s at %s: %v (%q), want %s", test.token, test.anchor, test.at, err, broken, test.broken)
		}
	}
}

// Whichever of their bits is flipped, real certificates are not trusted any more. The
// anchor is known by its fingerprint, and the others by their signatures.
func TestPublishedChainWithOneBitFlipped(t *testing.T) {
	if _, err := os.Stat(vectors); errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	chain := publishedChain(t, "v3.0-openapi-capabilities-token.jwt")
	v := validator(t, publishedAnchors(t, "eIDASeSEALOID_RootG2"))
	at := time.Date(2025, 2, 27, 17, 0, 55, 0, time.UTC)
	for i, cert := range chain {
		for bit := i; bit < 8*len(cert.Raw); bit += 61 { // a sample: prime, so that every bit of a byte has its turn
			der := slices.Clone(cert.Raw)
			der[bit/8] ^= 1 << (bit % 8)
			flipped, err := x509.ParseCertificate(der)
			if err != nil {
				continue
			}
			if _, err := v.Validate(with(chain, i, flipped), at, nil); err == nil {
				t.Errorf("x5c[%d] is trusted with bit %d flipped", i, bit)
			}
		}
	}
}
