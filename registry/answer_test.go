package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/jws"
	"github.com/waybill-token/waybill/trust"
)

// certificatePrint is of the bytes that are aGVsbG8= in base64: no certificate, but as
// good as one, because only the fingerprint counts.
var certificatePrint = ishare.Thumbprint([]byte("hello"))

// at is a time in which the records of these tests are in force.
var at = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// readParty reads a signed answer like one to a question about id.
func readParty(payload string, id ishare.PartyID, log *slog.Logger) (*ishare.Party, Version, error) {
	records, version, err := partyRecords([]byte(payload))
	if err != nil {
		return nil, "", err
	}
	p, err := selectParty(records, version, id, log)
	return p, version, err
}

// claims30 is a record of 3.0 with these claims.
func claims30(claims ...string) string {
	return `{"partyInfo":{"id":"a:b","name":"AB","claims":[` + strings.Join(claims, ",") + `]}}`
}

func compliance30(status, more string) string {
	return fmt.Sprintf(`{"id":"x","type":"frameworkCompliance","frameworkId":"iSHARE","status":%q,"startDate":"2020-01-01T00:00:00Z","endDate":"2040-01-01T00:00:00.000Z"%s}`, status, more)
}

func certificate30(members string) string { return `{"type":"x509Certificate",` + members + `}` }

// record20 is a record of 2.x with these members besides.
func record20(members ...string) string {
	return `{"party_info":{` + strings.Join(append([]string{`"party_id":"a:b","party_name":"AB"`}, members...), ",") + `}}`
}

func adherence20(status string) string {
	return fmt.Sprintf(`"adherence":{"status":%q,"start_date":"2020-01-01T00:00:00.000Z","end_date":"2040-01-01T00:00:00Z"}`, status)
}

// What registries really say of a party's standing and certificates.
func TestPartyAnswers(t *testing.T) {
	t.Parallel()
	upper := strings.ToUpper(certificatePrint)
	cases := []struct {
		name, payload string
		standing      string // why it is not compliant; empty: it is
		certified     bool
	}{
		{"3.0 active", claims30(compliance30("active", ""), certificate30(`"status":"active","x5c":"aGVs\r\nbG8=\n"`)), "", true},
		{"3.0 words in capitals", claims30(compliance30("ACTIVE", ""), certificate30(`"status":"Active","x5t#s256":"`+upper+`"`)), "", true},
		{"3.0 blank before registrarId", claims30(compliance30("active", `,"registrarId":" did:x:1"`)), "", false},
		{"3.0 pending", claims30(compliance30("pending", "")), "compliance is pending", false},
		{"3.0 inactive", claims30(compliance30("Inactive", "")), "compliance is inactive", false},
		{"3.0 revoked", claims30(compliance30("revoked", "")), "compliance is revoked", false},
		{"3.0 suspended", claims30(compliance30("suspended", "")), "compliance is suspended", false},
		{"3.0 without compliance", claims30(), "holds no compliance", false},
		{"3.0 without claims", `{"partyInfo":{"id":"a:b","name":null,"claims":null}}`, "holds no compliance", false},
		{"3.0 expired", claims30(strings.Replace(compliance30("active", ""), "2040", "2025", 1)), "compliance ended on 2025-01-01", false},
		{"3.0 not begun", claims30(strings.Replace(compliance30("active", ""), "2020", "2039", 1)), "compliance begins on 2039-01-01", false},
		{"3.0 date of no sense", claims30(strings.Replace(compliance30("active", ""), "2040-01-01T", "soon", 1)), "holds no compliance", false},
		{"3.0 date null", claims30(strings.Replace(compliance30("active", ""), `"2040-01-01T00:00:00.000Z"`, "null", 1)), "states no start or end date", false},
		{"3.0 several certificates", claims30(compliance30("active", ""), certificate30(`"status":"active","x5c":"YWJj"`), certificate30(`"status":"active","x5c":"aGVsbG8="`)), "", true},
		{"3.0 certificate revoked", claims30(compliance30("active", ""), certificate30(`"status":"revoked","x5c":"aGVsbG8="`)), "", false},
		{"3.0 certificate without status", claims30(compliance30("active", ""), certificate30(`"x5c":"aGVsbG8="`)), "", false},
		{"3.0 certificate expired", claims30(certificate30(`"status":"active","x5c":"aGVsbG8=","endDate":"2025-01-01T00:00:00Z"`), compliance30("active", "")), "", false},
		{"3.0 certificate unreadable", claims30(certificate30(`"status":"active","x5c":"?"`), certificate30(`"status":"active"`), compliance30("active", "")), "", false},
		{"3.0 fingerprint of another", claims30(compliance30("active", ""), certificate30(`"status":"active","x5c":"YWJj","x5t#s256":"`+certificatePrint+`"`)), "", false},
		{"3.0 unknown types of claims", claims30(
			`{"type":"moonLanding","status":7,"startDate":"tomorrow"}`, `{"type":["x"]}`, `"claim"`, `null`, `17`, `{}`, `{"type":"frameworkAgreement","status":"active"}`,
			compliance30("active", ""), certificate30(`"status":"active","x5c":"aGVsbG8="`)), "", true},

		{"2.x active", record20(adherence20("Active"), `"certificates":[{"x5c":"aGVs\nbG8=","x5t#s256":""}]`), "", true},
		{"2.x words in capitals", record20(adherence20("ACTIVE"), `"certificates":[{"x5t#s256":"`+upper+`"}]`), "", true},
		{"2.x fingerprint spelt as in JOSE", record20(adherence20("active"), `"certificates":[{"x5t#S256":"`+upper+`"}]`), "", true},
		{"2.x pending", record20(adherence20("Pending")), "compliance is pending", false},
		{"2.x not active", record20(adherence20("NotActive")), "compliance is inactive", false},
		{"2.x not active, in two words", record20(adherence20("Not Active")), "compliance is inactive", false},
		{"2.x revoked", record20(adherence20("Revoked")), "compliance is revoked", false},
		{"2.x suspended", record20(adherence20("Suspended")), "compliance is suspended", false},
		{"2.x unknown status", record20(adherence20("Activated")), "compliance is not active", false},
		{"2.x expired", record20(strings.Replace(adherence20("Active"), "2040", "2025", 1)), "compliance ended on 2025-01-01", false},
		{"2.x without end", record20(`"adherence":{"status":"Active","start_date":"2020-01-01T00:00:00Z","end_date":""}`), "states no start or end date", false},
		{"2.x date of no sense", record20(`"adherence":{"status":"Active","start_date":"2020-01-01","end_date":"2040-01-01"}`), "holds no compliance", false},
		{"2.x revoked, date of no sense", record20(`"adherence":{"status":"Revoked","start_date":"2020-01-01T00:00:00Z","end_date":"soon"}`), "compliance is revoked", false},
		{"2.x revoked, date of no text", record20(`"adherence":{"status":"Revoked","start_date":"2020-01-01T00:00:00Z","end_date":7}`), "holds no compliance", false},
		{"2.x without adherence", record20(), "holds no compliance", false},
		{"2.x adherence null", record20(`"adherence":null,"certificates":null,"roles":null`), "holds no compliance", false},
		{"2.x adherence of no sense", record20(`"adherence":"Active"`), "holds no compliance", false},
		{"2.x certificate that is none", record20(adherence20("Active"), `"certificates":[{"subject_name":"CN=A","x5c":"","x5t#s256":""},null,7]`), "", false},
		{"2.x several certificates", record20(adherence20("Active"), `"certificates":[{"x5c":"?"},{"x5c":"YWJj"},{"x5c":"aGVsbG8="}]`), "", true},
		{"2.x certificate not begun", record20(adherence20("Active"), `"certificates":[{"x5c":"aGVsbG8=","enabled_from":"2039-01-01T00:00:00.000Z"}]`), "", false},
		{"2.x certificate begun", record20(adherence20("Active"), `"certificates":[{"x5c":"aGVsbG8=","enabled_from":"2021-02-18T11:24:03.000Z"}]`), "", true},
		{"2.x numbers and truths", record20(adherence20("Active"), `"roles":[{"role":"ServiceConsumer","compliancy_verified":true}],"spor":{"a":1},"agreements":[{}]`), "", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, version, err := readParty(c.payload, "a:b", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(c.name, string(version)) {
				t.Errorf("version %s", version)
			}
			err = p.Compliant(at)
			if c.standing == "" && err != nil || c.standing != "" && (err == nil || !strings.Contains(err.Error(), c.standing)) {
				t.Errorf("Compliant = %v, want %q", err, c.standing)
			}
			if got := p.Certified(certificatePrint, at); got != c.certified {
				t.Errorf("Certified = %t", got)
			}
		})
	}
}

func TestPartyAnswerIdentifiers(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string][]ishare.PartyID{
		`{"partyInfo":{"id":"a:b","alsoKnownAs":["a:b","c:d","https://no.example","EU.EORI.NL1"]}}`: {"a:b", "c:d", "EU.EORI.NL1"},
		`{"party_info":{"party_id":"a:b"}}`:                                          {"a:b"},
		`{"party_info":{"party_id":["a:b","EU.EORI.NL1"]}}`:                          {"a:b", "EU.EORI.NL1"},
		`{"party_info":{"id":"a:b","alsoKnownAs":["c:d"]}}`:                          {"a:b", "c:d"},
		`{"party_info":{"party_id":"EU.EORI.NL1","id":"a:b"}}`:                       {"EU.EORI.NL1", "a:b"},
		`{"parties_info":{"count":0,"data":[null,{"party_id":"a:b"}]}}`:              {"a:b"},
		`{"partiesInfo":{"data":[{"id":"e:f"},{"id":"c:d","alsoKnownAs":["a:b"]}]}}`: {"c:d", "a:b"},
		`{"partiesInfo":{"data":[{"id":7},{"id":"a:b"}]}}`:                           {"a:b"},
	} {
		p, _, err := readParty(payload, "a:b", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Errorf("%s: %v", payload, err)
			continue
		}
		if diff := cmp.Diff(want, p.Identifiers()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", payload, diff)
		}
	}
}

func TestPartyAnswersRefused(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`null`: "not an object",
		`{}`:   "does not speak of parties",
		`{"partyInfo":{"id":"a:b"},"party_info":{"party_id":"a:b"}}`:                        "twice",
		`{"partyInfo":{"id":"a:b"},"partiesInfo":{"data":[]}}`:                              "twice",
		`{"partyInfo":null,"parties_info":{"data":[]}}`:                                     "twice",
		`{"partyInfo":{"id":"a:b"},"partyInfo":{"id":"a:b"}}`:                               "twice",
		`{"PartyInfo":{"id":"a:b"}}`:                                                        "does not speak of parties",
		`{"partyInfo":{"ID":"a:b"}}`:                                                        "another party",
		`{"partyInfo":{"id":"A:b"}}`:                                                        "another party",
		`{"partyInfo":{"id":"a:b "}}`:                                                       "another party",
		`{"partyInfo":{"id":"x","alsoKnownAs":["a:b"]}}`:                                    "not a party identifier",
		`{"partyInfo":{"id":"a:b","claims":{}}}`:                                            "party record",
		`{"partyInfo":"a:b"}`:                                                               "party record",
		`{"party_info":{"party_name":"x"}}`:                                                 "no party_id",
		`{"party_info":{"party_id":7}}`:                                                     "no party_id",
		`{"party_info":{"party_id":["a:b",7]}}`:                                             "no party_id",
		`{"party_info":{"party_id":"a:b","certificates":"x"}}`:                              "party record",
		`{"party_info":{"id":"a:b"},"parties_info":{"data":[]}}`:                            "twice",
		`{"partiesInfo":null}`:                                                              "holds no data",
		`{"partiesInfo":{}}`:                                                                "holds no data",
		`{"partiesInfo":{"data":{}}}`:                                                       "not a list",
		`{"partiesInfo":{"data":[{"id":"c:d"}]}}`:                                           "another party",
		`{"partiesInfo":{"data":[{"id":"c:d"},{"id":7}]}}`:                                  "party record",
		`{"partiesInfo":{"data":[{"id":"a:b"},{"id":"a:b"}]}}`:                              "several parties",
		`{"parties_info":{"data":[{"party_id":"c:d"}]}}`:                                    "another party",
		`{"partiesInfo":` + strings.Repeat(`{"data":`, 40) + `[]` + strings.Repeat(`}`, 41): "nests deeper",
	} {
		p, _, err := readParty(payload, "a:b", slog.New(slog.DiscardHandler))
		if err == nil || errors.Is(err, errNobody) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, %v, want %q", payload, p, err, want)
		}
	}
}

func TestAnswersThatNobodyIsThere(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`{"partyInfo":null}`, `{"party_info":null}`, `{"partiesInfo":{"data":[]}}`, `{"parties_info":{"count":0,"data":[null]}}`, `{"parties_info":{"data":null}}`,
	} {
		if p, _, err := readParty(payload, "a:b", slog.New(slog.DiscardHandler)); !errors.Is(err, errNobody) {
			t.Errorf("%s: %v, %v, want errNobody", payload, p, err)
		}
	}
}

func TestUnreadableClaimsAreLogged(t *testing.T) {
	t.Parallel()
	var log logged
	payload := claims30(`{"type":"x509Certificate","x5c":"?"}`, compliance30("active", ""), compliance30("revoked", `,"loa":7`))
	if _, _, err := readParty(payload, "a:b", slog.New(&log)); err != nil {
		t.Fatal(err)
	}
	if log.count("WARN a claim in a party record cannot be read and counts for nothing party=a:b claim=0") != 1 ||
		log.count("WARN a claim in a party record cannot be read and counts as withdrawn party=a:b claim=2") != 1 {
		t.Errorf("log: %q", log.lines)
	}
}

// A claim that is withdrawn wins over an active one about the same thing, however little of
// it can be read beyond that.
func TestUnreadableClaimIsWithdrawn(t *testing.T) {
	t.Parallel()
	active := []string{
		compliance30("active", ""), certificate30(`"status":"active","x5c":"aGVsbG8="`),
		`{"type":"frameworkRole","roleId":"ServiceConsumer","status":"active"}`,
		`{"type":"dataspaceMembership","dataspaceId":"DS","status":"active"}`,
	}
	const compliance, certificate, role, membership = "compliance", "certificate", "role", "membership"
	upper := strings.ToUpper(certificatePrint)
	for claim, withdrawn := range map[string]string{
		`{"type":"frameworkCompliance","frameworkId":"iSHARE","status":"revoked","endDate":""}`:                             compliance,
		`{"type":"frameworkCompliance","frameworkId":"iSHARE","status":"Suspended","endDate":"2026-11-01"}`:                 compliance,
		`{"type":"frameworkCompliance","frameworkId":"iSHARE","status":"REVOKED","endDate":"soon","roleId":7}`:              compliance,
		`{"type":"frameworkCompliance","frameworkId":"iSHARE","status":"revoked","endDate":"2025-01-01T00:00:00Z","id":[]}`: compliance, // its end counts no more
		`{"type":"frameworkCompliance","frameworkId":"iSHARE","status":"revoked","startDate":"","x5c":["aGVsbG8="]}`:        compliance,
		certificate30(`"status":"revoked","x5t#s256":"` + upper + `","x5c":"?"`):                                            certificate,
		certificate30(`"status":"revoked","x5t#s256":"` + upper + `","x5c":["aGVsbG8="]`):                                   certificate,
		certificate30(`"status":"suspended","x5t#s256":" ` + upper[:2] + ":" + upper[2:] + `"`):                             certificate,
		certificate30(`"status":"revoked","x5c":"aGVs\r\nbG8=","endDate":""`):                                               certificate,
		certificate30(`"status":"revoked","x5c":"aGVsbG8=","x5t#s256":7`):                                                   certificate,
		`{"type":"frameworkRole","roleId":"ServiceConsumer","status":"revoked","startDate":"2020"}`:                         role,
		`{"type":"dataspaceMembership","dataspaceId":"DS","status":"revoked","endDate":7}`:                                  membership,
		`{"type":"frameworkCompliance","frameworkId":"iSHARE","status":"inactive","endDate":""}`:                            "",
		`{"type":"frameworkCompliance","frameworkId":"iSHARE","status":["revoked"],"endDate":""}`:                           "",
		`{"type":"frameworkCompliance","frameworkId":"another","status":"revoked","endDate":""}`:                            "",
		`{"frameworkId":"iSHARE","status":"revoked","endDate":""}`:                                                          "",
		certificate30(`"status":"revoked","x5c":"?","x5t#s256":"?"`):                                                        "",
		certificate30(`"status":"revoked","x5c":"YWJj","x5t#s256":"` + certificatePrint + `","endDate":""`):                 "",
		`{"type":"frameworkRole","roleId":"another","status":"revoked","startDate":""}`:                                     "",
	} {
		for _, claims := range [][]string{append([]string{claim}, active...), append(slices.Clone(active), claim)} {
			p, _, err := readParty(claims30(claims...), "a:b", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			for thing, holds := range map[string]bool{
				compliance: p.Compliant(at.AddDate(10, 0, 0)) == nil, certificate: p.Certified(certificatePrint, at),
				role: p.HasRole("ServiceConsumer", at), membership: p.MemberOf("DS", at),
			} {
				if holds != (thing != withdrawn) {
					t.Errorf("beside %s: %s holds: %t", claim, thing, holds)
				}
			}
		}
	}
}

// A date that is an empty text makes no claim count, and is no date that is left out.
func TestClaimsWithAnEmptyDate(t *testing.T) {
	t.Parallel()
	p, _, err := readParty(claims30(
		strings.Replace(compliance30("active", ""), "2040-01-01T00:00:00.000Z", "", 1),
		certificate30(`"status":"active","x5c":"aGVsbG8=","endDate":""`),
		`{"type":"frameworkRole","roleId":"ServiceConsumer","status":"active","startDate":""}`,
	), "a:b", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if p.Compliant(at) == nil || p.Certified(certificatePrint, at) || p.HasRole("ServiceConsumer", at) {
		t.Errorf("they count: %+v", p.Claims)
	}
}

func TestTrustedListAnswers(t *testing.T) {
	t.Parallel()
	a, b, third := strings.Repeat("ab", 32), strings.Repeat("cd", 32), strings.Repeat("ef", 32)
	entry := func(fingerprint, validity, status string) string {
		return fmt.Sprintf(`{"subject":"CN=A","certificateFingerprint":%q,"validity":%q,"status":%q}`, fingerprint, validity, status)
	}
	list := func(entries ...string) string { return `{"trustedList":[` + strings.Join(entries, ",") + `]}` }
	for name, c := range map[string]struct {
		payload string
		want    []string // fingerprints
		fails   string
	}{
		"granted":                   {list(entry(a, "valid", "granted")), []string{a}, ""},
		"capitals, colons, blanks":  {list(entry(" "+strings.ToUpper(a[:2]+":"+a[2:])+" ", "VALID", "Granted")), []string{a}, ""},
		"2.x":                       {`{"trusted_list":[{"subject":"CN=A","certificate_fingerprint":"` + a + `","validity":"Valid","status":"Granted"}]}`, []string{a}, ""},
		"withdrawn":                 {list(entry(a, "valid", "withdrawn"), entry(b, "valid", "granted")), []string{b}, ""},
		"under supervision":         {list(entry(a, "valid", "undersupervision")), nil, ""},
		"invalid":                   {list(entry(a, "invalid", "granted")), nil, ""},
		"without words":             {list(entry(a, "", "")), nil, ""},
		"granted and withdrawn":     {list(entry(a, "valid", "granted"), entry(strings.ToUpper(a), "valid", "withdrawn")), nil, ""},
		"withdrawn and granted":     {list(entry(a, "valid", "withdrawn"), entry(a, "valid", "granted")), nil, ""},
		"twice granted":             {list(entry(a, "valid", "granted"), entry(a, "valid", "granted")), []string{a}, ""},
		"one unreadable":            {list(entry("xyz", "valid", "granted"), `7`, `null`, entry(a, "valid", "granted")), []string{a}, ""},
		"two fingerprints in one":   {list(`{"certificateFingerprint":"`+a+`","certificate_fingerprint":"`+b+`","validity":"valid","status":"granted"}`, entry(b, "valid", "granted"), entry(third, "valid", "granted")), []string{third}, ""},
		"two, one of them of sense": {list(`{"certificateFingerprint":"`+a+`","certificate_fingerprint":"xyz","validity":"valid","status":"granted"}`, entry(a, "valid", "granted"), entry(b, "valid", "granted")), []string{b}, ""},
		"withdrawn, not readable":   {list(`{"certificateFingerprint":"`+a+`","status":"withdrawn","validity":"valid","subject":7}`, entry(a, "valid", "granted"), entry(b, "valid", "granted")), []string{b}, ""},
		"status not readable":       {list(entry(a, "valid", "granted"), `{"certificate_fingerprint":" `+strings.ToUpper(a)+`","status":["withdrawn"]}`, entry(b, "valid", "granted")), []string{b}, ""},
		"granted, not readable":     {list(entry(a, "valid", "granted"), `{"certificateFingerprint":"`+a+`","status":"granted","validity":"valid","subject":7}`, entry(b, "valid", "granted")), []string{b}, ""},
		"fingerprint not readable":  {list(entry(a, "valid", "granted"), `{"certificateFingerprint":["`+a+`"],"status":"withdrawn"}`), []string{a}, ""},
		"empty":                     {`{"trustedList":[]}`, nil, ""},
		"none readable":             {list(entry("xyz", "valid", "granted")), nil, "no entry"},
		"no list":                   {`{}`, nil, "no trusted list"},
		"null":                      {`{"trustedList":null}`, nil, "no trusted list"},
		"object":                    {`{"trustedList":{}}`, nil, "no trusted list"},
		"two lists":                 {`{"trustedList":[],"trusted_list":[]}`, nil, "two trusted lists"},
		"duplicate":                 {`{"trustedList":[],"trustedList":[]}`, nil, "twice"},
		"name in the wrong case":    {`{"trustedlist":[]}`, nil, "no trusted list"},
		"fingerprint of no SHA-256": {list(entry(a[:40], "valid", "granted")), nil, "no entry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			anchors, _, err := parseTrustedList([]byte(c.payload), slog.New(slog.DiscardHandler))
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("error %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil || len(anchors) != len(c.want) {
				t.Fatalf("%v, %v, want %q", anchors, err, c.want)
			}
			for _, fingerprint := range c.want {
				f, _ := trust.ParseFingerprint(fingerprint)
				if anchors[f] != "trusted list: CN=A" {
					t.Errorf("%v lacks %s", anchors, fingerprint)
				}
			}
		})
	}
}

// vectors holds published JWTs, byte for byte. It is not part of the repository.
const vectors = "../../shared/vectors"

// Published answers of registries. They are read as payloads: some are signed with
// certificates that were not valid at the time.
func TestPublishedAnswers(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile(filepath.Join(vectors, "index.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	var published struct {
		Answers []struct{ File, Kind, Version string } `yaml:"registry_answers"`
	}
	if err := yaml.Load(index, &published); err != nil {
		t.Fatal(err)
	}
	if len(published.Answers) == 0 {
		t.Fatal("the index names no answers")
	}
	for _, answer := range published.Answers {
		t.Run(answer.File, func(t *testing.T) {
			t.Parallel()
			payload := publishedPayload(t, answer.File)
			if strings.HasPrefix(answer.Kind, "party") {
				checkPublishedParty(t, payload, answer.Version)
			} else {
				checkPublishedList(t, payload, answer.Version)
			}
		})
	}
}

func publishedPayload(t *testing.T, file string) []byte {
	t.Helper()
	compact, err := os.ReadFile(filepath.Join(vectors, file))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.Split(strings.TrimSpace(string(compact)))
	if err != nil {
		t.Fatal(err)
	}
	return token.Payload()
}

func checkPublishedParty(t *testing.T, payload []byte, version string) {
	t.Helper()
	var log logged
	p, heard, err := readParty(string(payload), "CoC:123456789", slog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(version, string(heard)) || p.ID != "did:ishare:EU.NL.NTRNL-12345678" || len(p.AlsoKnownAs) != 4 || len(p.Claims) != 5 {
		t.Errorf("version %s: %+v", heard, p)
	}
	then := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	if err := p.Compliant(then); err != nil {
		t.Error(err)
	}
	if err := p.Compliant(then.AddDate(3, 0, 0)); err == nil {
		t.Error("compliance does not end")
	}
	der, _ := base64.StdEncoding.DecodeString(p.Claims[4].X5C)
	if !p.HasRole("ServiceConsumer", then) || !p.Certified(ishare.Thumbprint(der), then) {
		t.Error("role or certificate is lost")
	}
	if len(log.lines) > 0 {
		t.Errorf("log: %q", log.lines)
	}
}

func checkPublishedList(t *testing.T, payload []byte, version string) {
	t.Helper()
	var log logged
	anchors, heard, err := parseTrustedList(payload, slog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(version, string(heard)) || len(anchors) != 7 || len(log.lines) > 0 {
		t.Errorf("version %s, %d anchors, log %q", heard, len(anchors), log.lines)
	}
	foundation, _ := trust.ParseFingerprint("8C39DD06E35DE8467004A542D0CA4B8FDC7D6F8F713F40A35BD9E65938A191CF")
	if anchors[foundation] != "trusted list: CN=TEST iSHARE Foundation eIDAS" {
		t.Errorf("anchors %v", anchors)
	}
}

// FuzzPartyAnswer feeds the parser of signed answers about parties. Whoever comes out
// goes by the identifier that was asked for, and every certificate that counts is
// one.
func FuzzPartyAnswer(f *testing.F) {
	for _, seed := range []string{
		claims30(compliance30("active", ""), certificate30(`"status":"active","x5c":"aGVs\nbG8="`), `{"type":"other","x":[{}]}`, `null`),
		claims30(compliance30("active", ""), compliance30("revoked", `,"loa":7`), certificate30(`"status":"revoked","x5c":"aGVsbG8=","endDate":""`)),
		`{"partiesInfo":{"data":[{"id":"c:d","alsoKnownAs":["a:b"]},{"id":"e:f"}]}}`,
		record20(adherence20("Active"), `"certificates":[{"x5c":"aGVsbG8=","x5t#s256":"","enabled_from":"2020-01-01T00:00:00Z"}],"roles":[{"role":"Service Consumer"}]`),
		`{"parties_info":{"count":0,"data":[null,{"party_id":["a:b","EU.EORI.NL1"]}]}}`,
		`{"partyInfo":null}`, `{"party_info":{"party_id":"a:b","adherence":{"status":7}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		p, version, err := readParty(string(payload), "a:b", slog.New(slog.DiscardHandler))
		if err != nil {
			return
		}
		if !p.KnownAs("a:b") || version != Version2 && version != Version3 {
			t.Errorf("version %s: %+v", version, p)
		}
		for _, id := range p.Identifiers() {
			if _, err := ishare.ParsePartyID(string(id)); err != nil {
				t.Error(err)
			}
		}
		for _, c := range p.Claims {
			if _, err := trust.ParseFingerprint(c.X5T); c.Type == ishare.ClaimX509Certificate && err != nil {
				t.Errorf("a certificate by the fingerprint %q", c.X5T)
			}
		}
	})
}

// FuzzTrustedListAnswer feeds the parser of signed trusted lists. What is granted
// stands in the list.
func FuzzTrustedListAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"trustedList":[{"subject":"CN=A","certificateFingerprint":"` + strings.Repeat("ab", 32) + `","validity":"valid","status":"granted"},null]}`,
		`{"trusted_list":[{"subject":"CN=A","certificate_fingerprint":"` + strings.Repeat("CD", 32) + `","validity":"Valid","status":"withdrawn"}]}`,
		`{"trustedList":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		anchors, _, err := parseTrustedList(payload, slog.New(slog.DiscardHandler))
		if err == nil && anchors == nil {
			t.Error("neither anchors nor an error")
		}
		text := strings.ToLower(strings.ReplaceAll(string(payload), ":", ""))
		for fingerprint := range anchors {
			if !strings.Contains(text, `\`) && (!strings.Contains(text, fingerprint.String()) || !strings.Contains(text, "granted")) {
				t.Errorf("%s is granted by nothing", fingerprint)
			}
		}
	})
}

// FuzzAnswer feeds the parser of what stands around the signed answer.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{"partyToken":"a.b.c"}`, `{"parties_token":null,"party_token":"a"}`, `{"partyToken":"a","party_token":"b"}`, `[]`, ``, `{"partyToken":["x"]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		compact, err := signedAnswer(body, partyTokens)
		if err == nil && compact == "" {
			t.Error("neither an answer nor an error")
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("a long error: %v", err)
		}
	})
}
