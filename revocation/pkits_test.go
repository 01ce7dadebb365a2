package revocation

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/certcheck"
	"github.com/waybill-token/waybill/trust"
)

// pkits is the Public Key Interoperability Test Suite of NIST. It is not part of the
// repository.
const pkits = "../../shared/suites/pkits"

// A pkitsCase is one test of the suite, with the inputs that it sets.
type pkitsCase struct {
	Number, Name string
	Certs, CRLs  []string // anchor first, leaf last
	Valid        bool

	InitialPolicySet, InitialExplicitPolicy, InitialPolicyMappingInhibit, InitialInhibitAnyPolicy string
}

// hasOwnInputs: path validation has the default inputs here and no others (RFC 5280
// section 6.1.1 (c), (e) to (g)).
func (c pkitsCase) hasOwnInputs() bool {
	return c.InitialPolicySet+c.InitialExplicitPolicy+c.InitialPolicyMappingInhibit+c.InitialInhibitAnyPolicy != ""
}

// refusedOnPurpose lists the valid cases that are refused, by the reason.
var refusedOnPurpose = map[string][]string{
	"keys are RSA or, of issuers, ECDSA": {
		"Section1ValidDSASignaturesTest4",
		"Section1ValidDSAParameterInheritanceTest5",
	},
	"lists are signed with the key that signed the certificate; other keys of the CA are not looked for": {
		"Section4ValidSeparateCertificateandCRLKeysTest19",
		"Section5ValidBasicSelfIssuedOldWithNewTest1",
		"Section5ValidBasicSelfIssuedNewWithOldTest4",
		"Section5ValidBasicSelfIssuedCRLSigningKeyTest6",
		"Section6ValidSelfIssuedpathLenConstraintTest15",
		"Section6ValidSelfIssuedpathLenConstraintTest17",
		"Section9ValidSelfIssuedrequireExplicitPolicyTest6",
		"Section11ValidSelfIssuedinhibitPolicyMappingTest7",
		"Section12ValidSelfIssuedinhibitAnyPolicyTest7",
		"Section12ValidSelfIssuedinhibitAnyPolicyTest9",
		"Section13ValidSelfIssuedDNnameConstraintsTest19",
	},
	"a leaf that is a CA is no seal": {
		"Section6ValidpathLenConstraintTest8",
		"Section6ValidpathLenConstraintTest14",
		"Section8OverlappingPoliciesTest6Subpart1",
		"Section8OverlappingPoliciesTest6Subpart2",
		"Section14ValidonlyContainsCACertsCRLTest13",
	},
	"an excluded host excludes the hosts below it, as crypto/x509 has it": {
		"Section13ValidRFC822nameConstraintsTest25",
		"Section13ValidURInameConstraintsTest36",
	},
	"crypto/x509 does not read a distribution point relative to its issuer": {
		"Section14ValiddistributionPointTest4",
		"Section14ValiddistributionPointTest5",
		"Section14ValidcRLIssuerTest29",
	},
	"lists for some reasons are not added up": {
		"Section14ValidonlySomeReasonsTest18",
		"Section14ValidonlySomeReasonsTest19",
	},
	"lists are those of the issuer; indirect ones are not believed": {
		"Section14ValidIDPwithindirectCRLTest22",
		"Section14ValidIDPwithindirectCRLTest24",
		"Section14ValidIDPwithindirectCRLTest25",
		"Section14ValidcRLIssuerTest28",
		"Section14ValidcRLIssuerTest30",
		"Section14ValidcRLIssuerTest33",
	},
	"delta lists are not read, so that a certificate with one is undecided": {
		"Section15ValiddeltaCRLTest2",
		"Section15ValiddeltaCRLTest5",
		"Section15ValiddeltaCRLTest7",
		"Section15ValiddeltaCRLTest8",
	},
}

func reasonToRefuse(name string) string {
	for reason, names := range refusedOnPurpose {
		if slices.Contains(names, name) {
			return reason
		}
	}
	return ""
}

func TestPKITS(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(pkits, "cases.json"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the suite is not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	var cases []pkitsCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	decided, listed := 0, 0
	for _, c := range cases {
		// What is valid with stricter inputs than the default ones is valid with those.
		if c.hasOwnInputs() && !c.Valid {
			continue
		}
		decided++
		reason, err := reasonToRefuse(c.Name), c.validate(t)
		if reason != "" {
			listed++
		}
		switch {
		case !c.Valid && err == nil:
			t.Errorf("%s %s: accepted, and it is invalid", c.Number, c.Name)
		case c.Valid && err != nil && reason == "":
			t.Errorf("%s %s: %v, and it is valid", c.Number, c.Name, err)
		case c.Valid && err == nil && reason != "":
			t.Errorf("%s %s: accepted, and it is listed as refused: %s", c.Number, c.Name, reason)
		}
	}
	for reason, names := range refusedOnPurpose {
		if listed -= len(names); reason == "" {
			t.Error("a case is listed without a reason")
		}
	}
	if listed != 0 {
		t.Errorf("%d listed cases too many or too few were there", listed)
	}
	t.Logf("%d of %d cases were decided", decided, len(cases))
}

// validate validates the chain with package trust, and asks the lists about each certificate below the anchor.
func (c pkitsCase) validate(t *testing.T) error {
	t.Helper()
	at := time.Date(2022, 6, 1, 0, 0, 0, 0, time.UTC)
	var chain []*x509.Certificate
	for _, name := range c.Certs {
		cert, err := x509.ParseCertificate(pkitsFile(t, "certs", name+".crt"))
		if err != nil {
			return err
		}
		chain = append(chain, cert)
	}
	slices.Reverse(chain)
	if path := pathOf(chain[:1], chain[1:]); path != nil {
		chain = path
	}
	v, err := trust.New(trust.Anchors{trust.FingerprintOf(chain[len(chain)-1]): "PKITS"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Validate(chain, at, nil); err != nil {
		return err
	}
	for i, cert := range chain[:len(chain)-1] {
		if err := c.askLists(t, cert, chain[i+1], at); err != nil {
			return err
		}
	}
	return nil
}

// pathOf finds the way up to the last of the others: some cases name certificates that sign
// lists besides. It returns nil where there is none, as where a signature is wrong.
func pathOf(path, others []*x509.Certificate) []*x509.Certificate {
	for i, issuer := range others {
		cert := path[len(path)-1]
		if !trust.SameName(cert.RawIssuer, issuer.RawSubject) || certcheck.CheckSignature(cert, issuer) != nil {
			continue
		}
		longer := append(slices.Clone(path), issuer)
		if i == len(others)-1 {
			return longer
		}
		if found := pathOf(longer, slices.Delete(slices.Clone(others), i, i+1)); found != nil {
			return found
		}
	}
	return nil
}

// askLists says why a certificate is revoked, or why nobody knows.
func (c pkitsCase) askLists(t *testing.T, cert, issuer *x509.Certificate, at time.Time) error {
	t.Helper()
	problem := errors.New("no list")
	for _, name := range c.CRLs {
		l, err := readList(pkitsFile(t, "crls", name+".crl"), issuer, at)
		if err != nil {
			problem = err
			continue
		}
		v, err := l.statusOf(cert)
		switch {
		case err != nil:
			problem = err
		case v.revoked != nil:
			return errors.New("revoked")
		default:
			return nil
		}
	}
	return problem
}

func pkitsFile(t *testing.T, folder, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(pkits, folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
