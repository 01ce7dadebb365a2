package registry

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waybill-token/waybill/internal/testca"
)

// A record by which nobody can ever be admitted is told, with what is wrong and where, and so is a
// name that is likely misspelt; what a registrar means to say is not.
func TestInspect(t *testing.T) {
	t.Parallel()
	seal := newPKI(t).consumer
	now := time.Now()
	const (
		compliance  = `{type: frameworkCompliance, frameworkId: iSHARE, status: active, startDate: 2020-01-01T00:00:00Z, endDate: 2090-01-01T00:00:00Z}`
		fingerprint = `{type: x509Certificate, status: active, "x5t#s256": "` + "abababababababababababababababababababababababababababababababab" + `"}`
	)
	certificate := func(der []byte) string {
		return `{type: x509Certificate, status: active, x5c: "` + base64.StdEncoding.EncodeToString(der) + `"}`
	}
	claims := func(list ...string) string { return "claims: [" + strings.Join(list, ", ") + "]" }
	changed := func(claim, old, with string) string {
		if !strings.Contains(claim, old) {
			t.Fatalf("%q is not in %s", old, claim)
		}
		return strings.Replace(claim, old, with, 1)
	}
	for _, test := range []struct {
		name   string
		record string
		want   []string // parts of the message; none: no finding
	}{
		{"good", claims(compliance, certificate(seal.Certificate().Raw)), nil},
		{"good by fingerprint", claims(compliance, fingerprint), nil},
		{"members of a registry's own", "capabilityUrl: x, spor: {}, tags: a, " + claims(compliance, fingerprint, "{type: agreement, agreementType: x, title: y, uri: z}"), nil},
		{"suspended", claims(changed(compliance, "active", "suspended"), fingerprint), nil},
		{"revoked beside active", claims(changed(compliance, "active", "revoked"), compliance, fingerprint), nil},
		{"to begin", claims(changed(compliance, "2020", "2089"), fingerprint), nil},
		{"one certificate of two", claims(compliance, certificate([]byte("no certificate")), fingerprint), nil},

		{"claim for claims", "claim: [" + compliance + "]", []string{"no compliance with iSHARE", "no claim of the type x509Certificate", "the member 'claim' is unknown, did you mean claims?"}},
		{"no claims", "name: x", []string{"no compliance with iSHARE", "no claim of the type x509Certificate"}},
		{"no compliance", claims(certificate(seal.Certificate().Raw)), []string{"no compliance with iSHARE"}},
		{"another framework", claims(changed(compliance, "iSHARE", "ishare"), fingerprint), []string{"no compliance with iSHARE", "frameworkId 'ishare'"}},
		{"type misspelt", claims(changed(compliance, "frameworkC", "frameworkc"), fingerprint), []string{"claim 1: the type 'frameworkcompliance' is unknown, did you mean frameworkCompliance?"}},
		{"ended", claims(changed(compliance, "2090", "2021"), fingerprint), []string{"compliance ended on 2021-01-01"}},
		{"ended before it begins", claims(changed(changed(compliance, "2020", "2089"), "2090", "2088"), fingerprint), []string{"compliance begins on 2089-01-01"}},
		{"no dates", claims(changed(compliance, ", endDate: 2090-01-01T00:00:00Z", ""), fingerprint), []string{"states no start or end date"}},
		{"dates misspelt", claims(changed(compliance, "endDate", "enddate"), fingerprint), []string{"states no start or end date", "the member 'enddate' is unknown, did you mean endDate?"}},
		{"a word that is no status", claims(changed(compliance, "active", "actve"), fingerprint), []string{"compliance is not active"}},
		{"no certificate", claims(compliance), []string{"no claim of the type x509Certificate"}},
		{"certificate without a status", claims(compliance, changed(fingerprint, "status: active, ", "")), []string{"no status, which must be active"}},
		{"certificate withdrawn", claims(compliance, changed(fingerprint, "active", "revoked")), []string{"the status of its certificate is 'revoked'"}},
		{"registration ended", claims(compliance, changed(fingerprint, "active,", "active, endDate: 2021-01-01T00:00:00Z,")), []string{"registration of its certificate ended on 2021-01-01"}},
		{"no certificate in x5c", claims(compliance, certificate([]byte("no certificate"))), []string{"its x5c cannot be read: the certificate is "}},
		{"expired certificate", claims(compliance, certificate(expired(t, now))), []string{"its certificate expired on " + now.AddDate(0, 0, -1).UTC().Format(time.DateOnly)}},
		{"good, but for a name", "alsoKnowAs: [EU.EORI.NL1], " + claims(compliance, fingerprint), []string{"the member 'alsoKnowAs' is unknown, did you mean alsoKnownAs?"}},
	} {
		path := filepath.Join(t.TempDir(), "parties.yaml")
		writeFile(t, path, "# who takes part\n- id: did:ishare:A\n  "+claims(compliance, fingerprint)+"\n- {id: did:ishare:B, "+test.record+"}\n")
		found, err := Inspect(path, now)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if test.want == nil {
			if len(found) > 0 {
				t.Errorf("%s: %+v", test.name, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Party != "did:ishare:B" || found[0].Line != 4 || found[0].Hint == "" {
			t.Errorf("%s: %+v", test.name, found)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(found[0].Message, want) {
				t.Errorf("%s: %q does not say %q", test.name, found[0].Message, want)
			}
		}
		if barred := strings.HasPrefix(found[0].Message, "nobody can be admitted"); barred == strings.HasPrefix(test.name, "good") {
			t.Errorf("%s: %q", test.name, found[0].Message)
		}
	}
}

// expired is a certificate that ended a day before.
func expired(t *testing.T, now time.Time) []byte {
	t.Helper()
	ca, err := testca.New(testca.Config{NewKey: testca.PooledKey})
	if err != nil {
		t.Fatal(err)
	}
	seal, err := ca.Seal(testca.SealRequest{
		Organization: "Consumer", Identifier: "NTRNL-10000001",
		Template: func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.AddDate(-1, 0, 0), now.AddDate(0, 0, -1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return seal.Certificate().Raw
}

// The line is where the record begins, however the list is written.
func TestInspectLines(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []int
	}{
		"JSON":             {"[\n {\"id\":\n\"did:ishare:A\",\n\"claims\":[]},\n\n\n{\"id\":\"did:ishare:B\"}, {\"id\":\"did:ishare:C\"}]", []int{2, 7, 7}},
		"JSON after blank": {"\n\n[{\"id\":\"did:ishare:A\"}\n,\n{\"id\":\"did:ishare:B\"}]\n", []int{3, 5}},
		"YAML":             {"# x\n- id: did:ishare:A\n  claims: []\n\n-\n  id: did:ishare:B\n", []int{2, 6}},
		"nobody":           {"[]", nil},
	} {
		path := filepath.Join(t.TempDir(), "parties")
		writeFile(t, path, test.text)
		found, err := Inspect(path, time.Now())
		var lines []int
		for _, f := range found {
			lines = append(lines, f.Line)
		}
		if err != nil || fmt.Sprint(lines) != fmt.Sprint(test.want) {
			t.Errorf("%s: lines %v, want %v; %v", name, lines, test.want, err)
		}
	}
}

func TestInspectFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"broken": "[", "null": "[null]", "record": `[{"id":"nobody"}]`, "yaml": "a: b"} {
		path := filepath.Join(dir, name)
		writeFile(t, path, text)
		if found, err := Inspect(path, time.Now()); err == nil || found != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	if _, err := Inspect(filepath.Join(dir, "nowhere"), time.Now()); err == nil {
		t.Error("a file that is not there")
	}
}
