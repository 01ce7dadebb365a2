package ishare_test

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waybill-token/waybill/ishare"
)

// A certificate need not be one for a party record: only its bytes count.
var (
	der        = []byte("the bytes of a certificate")
	thumbprint = ishare.Thumbprint(der)
	x5c        = base64.StdEncoding.EncodeToString(der)
)

// The period of the claims below, and an instant within it.
var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end   = time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	now   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// fullRecord has the shape of the published examples, with what they carry by
// accident: a blank before registrarId, line breaks in x5c, capitals in fingerprints
// and statuses, a fingerprint of another certificate, members nobody asked for.
var fullRecord = fmt.Sprintf(`{
	"id": "did:ishare:EU.NL.NTRNL-10000001",
	"name": "Consumer",
	"alsoKnownAs": ["did:ishare:EU.NL.NTRNL-10000001", "EU.EORI.NL000000001", "EU.EORI.NL000000001"],
	"website": {"url": "https://example.com"},
	"claims": [
		{"id": "5ffb4bb9-2020-4045-a922-3bd84e78f709", "type": "frameworkCompliance", "frameworkId": "iSHARE", "status": "Active",
		 "registrarId": " did:ishare:EU.NL.NTRNL-10000000\n", "startDate": "2026-01-01T00:00:00.000Z", "endDate": "2026-12-31T23:59:59Z"},
		{"type": "frameworkRole", "roleId": "ServiceConsumer", "loa": "high", "status": "active"},
		{"type": "dataspaceMembership", "dataspaceId": "DS.NL", "status": "active", "endDate": "2026-12-31T23:59:59+01:00"},
		{"type": "x509Certificate", "status": "ACTIVE", "subjectName": "CN=Consumer", "certificateType": "eSEAL",
		 "x5c": "%s\r\n %s", "x5t#s256": "%064d"},
		{"type": "x509Certificate", "status": "active", "x5t#s256": "%s"},
		{"type": "somethingNew", "x5c": "not base64 !", "status": null}
	]
}`, x5c[:8], x5c[8:], 0, strings.Repeat("AB", 32))

func parse(t *testing.T, record string) *ishare.Party {
	t.Helper()
	p, err := ishare.ParseParty([]byte(record))
	if err != nil {
		t.Fatalf("ParseParty(%s): %v", record, err)
	}
	return p
}

func TestParsePartyTidiesPublishedRecords(t *testing.T) {
	p := parse(t, fullRecord)
	compliance, membership, certificate := p.Claims[0], p.Claims[2], p.Claims[3]
	if want := "did:ishare:EU.NL.NTRNL-10000000"; compliance.RegistrarID != want {
		t.Errorf("registrarId is %q, want %q", compliance.RegistrarID, want)
	}
	if !compliance.Start.Equal(start) || !compliance.End.Equal(end) {
		t.Errorf("compliance lasts from %v to %v", compliance.Start, compliance.End)
	}
	if !membership.Start.IsZero() || !membership.End.Equal(end.Add(-time.Hour)) {
		t.Errorf("membership lasts from %v to %v", membership.Start, membership.End)
	}
	if certificate.X5C != x5c {
		t.Errorf("x5c is %q, want %q", certificate.X5C, x5c)
	}
	if certificate.X5T != thumbprint {
		t.Errorf("x5t#s256 is %q, want that of the certificate, %q", certificate.X5T, thumbprint)
	}
	if want := strings.Repeat("ab", 32); p.Claims[4].X5T != want {
		t.Errorf("x5t#s256 is %q, want %q", p.Claims[4].X5T, want)
	}
}

func TestPartyIdentifiers(t *testing.T) {
	p := parse(t, fullRecord)
	want := []ishare.PartyID{"did:ishare:EU.NL.NTRNL-10000001", "EU.EORI.NL000000001"}
	if diff := cmp.Diff(want, p.Identifiers()); diff != "" {
		t.Errorf("Identifiers (-want +got):\n%s", diff)
	}
	for _, id := range want {
		if !p.KnownAs(id) {
			t.Errorf("not known as %s", id)
		}
	}
	for _, id := range []ishare.PartyID{"", "eu.eori.nl000000001", "EU.EORI.NL000000002", "did:ishare:EU.NL.NTRNL-1000000"} {
		if p.KnownAs(id) {
			t.Errorf("known as %q", id)
		}
	}
	plain := &ishare.Party{ID: "a:b"}
	if got := plain.Identifiers(); len(got) != 1 || got[0] != "a:b" || !plain.KnownAs("a:b") {
		t.Errorf("Identifiers without alsoKnownAs = %q", got)
	}
}

func TestParsePartyRefuses(t *testing.T) {
	for name, record := range map[string]string{
		"nothing":                    ``,
		"null":                       `null`,
		"an array":                   `[]`,
		"a string":                   `"a:b"`,
		"an unfinished object":       `{"id": "a:b"`,
		"something behind":           `{"id": "a:b"} {}`,
		"a comma behind":             `{"id": "a:b"},`,
		"a comment":                  `{"id": "a:b"} // record`,
		"no id":                      `{"name": "A"}`,
		"id null":                    `{"id": null}`,
		"id empty":                   `{"id": ""}`,
		"id a number":                `{"id": 1}`,
		"id no identifier":           `{"id": "NTRNL-1"}`,
		"id in capitals":             `{"ID": "a:b"}`,
		"id twice":                   `{"id": "a:b", "id": "a:b"}`,
		"id twice, once escaped":     `{"id": "a:b", "\u0069d": "c:d"}`,
		"a stranger's member twice":  `{"id": "a:b", "x": {"y": 1, "y": 1}}`,
		"status twice":               `{"id": "a:b", "claims": [{"type": "t", "status": "revoked", "status": "active"}]}`,
		"alias no identifier":        `{"id": "a:b", "alsoKnownAs": ["c:d", ""]}`,
		"alias a URL":                `{"id": "a:b", "alsoKnownAs": ["https://example.com"]}`,
		"claims an object":           `{"id": "a:b", "claims": {}}`,
		"not UTF-8":                  "{\"id\": \"a:b\", \"name\": \"\xff\"}",
		"half a surrogate pair":      `{"id": "a:b", "name": "\ud800"}`,
		"a byte order mark":          "\ufeff" + `{"id": "a:b"}`,
		"a date without time":        `{"id": "a:b", "claims": [{"type": "t", "startDate": "2026-01-01"}]}`,
		"a date in seconds":          `{"id": "a:b", "claims": [{"type": "t", "endDate": 1767225600}]}`,
		"an empty date":              `{"id": "a:b", "claims": [{"type": "t", "endDate": ""}]}`,
		"an impossible date":         `{"id": "a:b", "claims": [{"type": "t", "endDate": "2026-02-30T00:00:00Z"}]}`,
		"a certificate without any":  `{"id": "a:b", "claims": [{"type": "x509Certificate", "status": "active"}]}`,
		"blanks for a certificate":   `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5c": " \n "}]}`,
		"x5c not base64":             `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5c": "%%%%"}]}`,
		"x5c base64url":              `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5c": "-_-_"}]}`,
		"x5c unpadded":               `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5c": "QUI"}]}`,
		"x5c a PEM block":            `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5c": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----"}]}`,
		"x5t too short":              `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5t#s256": "abcd"}]}`,
		"x5t too long":               `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5t#s256": "` + thumbprint + `00"}]}`,
		"x5t not hex":                `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5t#s256": "` + strings.Repeat("zz", 32) + `"}]}`,
		"x5t in base64":              `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5t#s256": "` + base64.StdEncoding.EncodeToString(make([]byte, 32)) + `"}]}`,
		"x5t under the name of 2.x":  `{"id": "a:b", "claims": [{"type": "x509Certificate", "x5t#S256": "` + thumbprint + `"}]}`,
		"the wrong type of a member": `{"id": "a:b", "claims": [{"type": 7}]}`,
	} {
		if p, err := ishare.ParseParty([]byte(record)); err == nil || p != nil {
			t.Errorf("%s: ParseParty(%s) = %+v, %v; want an error", name, record, p, err)
		}
	}
}

// Member names are compared exactly. A decoder that folds case, down to the long s
// and the Kelvin sign, would let a stranger's member take the place of ours.
func TestParsePartyComparesNamesExactly(t *testing.T) {
	p := parse(t, `{
		"id": "a:b", "ID": "evil:1", "Id": "evil:2",
		"alsoKnownAs": [], "also\u212anownAs": ["evil:3"], "alsoKnownA\u017f": ["evil:4"],
		"claims": [], "clai\u004ds": [{"type": "frameworkRole"}], "claim\u017f": [{"type": "frameworkRole"}]
	}`)
	want := &ishare.Party{ID: "a:b"}
	if diff := cmp.Diff(want, p, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("ParseParty (-want +got):\n%s", diff)
	}
}

func TestParsePartySaysWhichClaimIsWrong(t *testing.T) {
	_, err := ishare.ParseParty([]byte(`{"id": "a:b", "claims": [{"type": "t"}, {"type": "x509Certificate"}]}`))
	if want := "claim 2 (x509Certificate): neither x5c nor x5t#s256"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

// Who keeps a file of records reads which member to mend, and nothing of Go.
func TestParsePartiesSaysWhatIsOfAnotherKind(t *testing.T) {
	for records, want := range map[string]string{
		`[{"id": "a:b", "claims": [{"type": "t", "startDate": "yesterday"}]}]`: "party records: /0/claims/0/startDate is not a time such as 2026-01-02T15:04:05Z (RFC 3339)",
		`[{"id": "a:b"}, {"id": 1}]`:               "party records: /1/id is not text",
		`[{"id": "a:b", "claims": {}}]`:            "party records: /0/claims is not a list",
		`[{"id": "a:b", "claims": ["t"]}]`:         "party records: /0/claims/0 is not an object",
		`{"id": "a:b"}`:                            "party records: the whole is not a list",
		`[{"id": "a:b"}, {"id": "no identifier"}]`: "party record 2 (no identifier): id: ",
		`[{"id": "a:b"}, null]`:                    "party record 2: null",
	} {
		if _, err := ishare.ParseParties([]byte(records)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", records, err, want)
		}
	}
}

// A record whose x5c is blank registers what its fingerprint says, not the
// fingerprint of nothing.
func TestParsePartyWithBlankX5C(t *testing.T) {
	p := parse(t, `{"id": "a:b", "claims": [{"type": "x509Certificate", "status": "active", "x5c": " \n", "x5t#s256": "`+thumbprint+`"}]}`)
	if !p.Certified(thumbprint, now) {
		t.Error("the certificate of the fingerprint is not registered")
	}
	if p.Certified(ishare.Thumbprint(nil), now) {
		t.Error("the empty certificate is registered")
	}
}

func TestParseParties(t *testing.T) {
	list, err := ishare.ParseParties([]byte(`[` + fullRecord + `, {"id": "a:b"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Claims[3].X5C != x5c || list[1].ID != "a:b" {
		t.Errorf("ParseParties = %+v", list)
	}
	if list, err := ishare.ParseParties([]byte(` [] `)); err != nil || len(list) != 0 {
		t.Errorf("ParseParties of an empty list = %v, %v", list, err)
	}
}

func TestParsePartiesRefuses(t *testing.T) {
	for name, records := range map[string]string{
		"nothing":           ``,
		"null":              `null`,
		"an object":         `{"id": "a:b"}`,
		"null in the list":  `[{"id": "a:b"}, null]`,
		"a bad record":      `[{"id": "a:b"}, {"id": "nobody"}]`,
		"a list in a list":  `[[{"id": "a:b"}]]`,
		"something behind":  `[] []`,
		"a duplicate in it": `[{"id": "a:b", "id": "c:d"}]`,
	} {
		if list, err := ishare.ParseParties([]byte(records)); err == nil || list != nil {
			t.Errorf("%s: ParseParties(%s) = %v, %v; want an error", name, records, list, err)
		}
	}
	_, err := ishare.ParseParties([]byte(`[{"id": "a:b"}, {"id": "c:d", "alsoKnownAs": ["x"]}]`))
	if err == nil || !strings.Contains(err.Error(), "record 2 (c:d)") {
		t.Errorf("the error does not say which record: %v", err)
	}
}

func compliance(status string, start, end time.Time) ishare.Claim {
	return ishare.Claim{
		Type: ishare.ClaimFrameworkCompliance, FrameworkID: ishare.FrameworkISHARE,
		Status: status, Start: start, End: end,
	}
}

func TestCompliant(t *testing.T) {
	var never time.Time
	otherFramework := compliance("active", start, end)
	otherFramework.FrameworkID = "ishare"
	role := ishare.Claim{Type: ishare.ClaimFrameworkRole, FrameworkID: ishare.FrameworkISHARE, Status: "active", Start: start, End: end}
	for _, test := range []struct {
		name   string
		claims []ishare.Claim
		at     time.Time
		want   string // part of the error; empty: compliant
	}{
		{"active", []ishare.Claim{compliance("active", start, end)}, now, ""},
		{"capitals", []ishare.Claim{compliance("ACTIVE", start, end)}, now, ""},
		{"first instant", []ishare.Claim{compliance("active", start, end)}, start, ""},
		{"an instant before", []ishare.Claim{compliance("active", start, end)}, start.Add(-1), "begins on 2026-01-01"},
		{"last instant", []ishare.Claim{compliance("active", start, end)}, end, ""},
		{"an instant after", []ishare.Claim{compliance("active", start, end)}, end.Add(1), "ended on 2026-12-31"},
		{"another zone", []ishare.Claim{compliance("active", start, end)}, start.In(time.FixedZone("", -3600)), ""},
		{"the date is UTC", []ishare.Claim{compliance("active", start, start.In(time.FixedZone("", -3600)))}, end, "ended on 2026-01-01"},
		{"no dates", []ishare.Claim{compliance("active", never, never)}, now, "no start or end date"},
		{"no start", []ishare.Claim{compliance("active", never, end)}, now, "no start or end date"},
		{"no end", []ishare.Claim{compliance("active", start, never)}, now, "no start or end date"},
		{"inactive", []ishare.Claim{compliance("inactive", start, end)}, now, "is inactive"},
		{"revoked", []ishare.Claim{compliance("Revoked", start, end)}, now, "is revoked"},
		{"suspended", []ishare.Claim{compliance("suspended", start, end)}, now, "is suspended"},
		{"pending", []ishare.Claim{compliance("pending", start, end)}, now, "is pending"},
		{"status missing", []ishare.Claim{compliance("", start, end)}, now, "is not active"},
		{"status with blanks", []ishare.Claim{compliance("active ", start, end)}, now, "is not active"},
		{"another framework", []ishare.Claim{otherFramework}, now, "no compliance"},
		{"another claim", []ishare.Claim{role}, now, "no compliance"},
		{"no claims", nil, now, "no compliance"},
		{"an earlier one ended", []ishare.Claim{compliance("active", start.AddDate(-1, 0, 0), start.Add(-1)), compliance("active", start, end)}, now, ""},
		{"one that is pending beside", []ishare.Claim{compliance("active", start, end), compliance("pending", start, end)}, now, ""},
		{"one that is inactive beside", []ishare.Claim{compliance("active", start, end), compliance("inactive", start, end)}, now, ""},
	} {
		err := (&ishare.Party{ID: "a:b", Claims: test.claims}).Compliant(test.at)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && err == nil:
			t.Errorf("%s: compliant", test.name)
		case test.want != "" && !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %q does not say %q", test.name, err, test.want)
		}
	}
}

// Of several claims about one thing, of whatever type, one that is revoked or suspended wins
// over one that is in force, in either order, until its endDate has passed.
func TestWithdrawalWins(t *testing.T) {
	var never time.Time
	for _, test := range []struct {
		name       string
		status     string
		start, end time.Time
		at         time.Time
		wins       bool
	}{
		{"revoked", "revoked", start, end, now, true},
		{"suspended", "Suspended", start, end, now, true},
		{"without dates", "revoked", never, never, now, true},
		{"without an end, years ago", "revoked", start.AddDate(-20, 0, 0), never, now, true},
		{"to begin", "suspended", now.Add(time.Hour), never, now, true},
		{"last instant", "revoked", start.AddDate(-1, 0, 0), now, now, true},
		{"an instant after", "revoked", start.AddDate(-1, 0, 0), now.Add(-1), now, false},
		{"inactive", "inactive", start, end, now, false},
		{"pending", "pending", start, end, now, false},
		{"no status", "", start, end, now, false},
	} {
		for _, claimType := range []string{
			ishare.ClaimFrameworkCompliance, ishare.ClaimX509Certificate, ishare.ClaimFrameworkRole, ishare.ClaimDataspaceMembership,
		} {
			claim := ishare.Claim{
				Type: claimType, Status: "active", Start: start, End: end,
				FrameworkID: ishare.FrameworkISHARE, X5T: thumbprint, RoleID: "ServiceProvider", DataspaceID: "DS.NL",
			}
			other := claim
			other.Status, other.Start, other.End = test.status, test.start, test.end
			elsewhere := claim
			elsewhere.Status, elsewhere.FrameworkID, elsewhere.X5T, elsewhere.RoleID, elsewhere.DataspaceID = "revoked", "other", "other", "other", "other"
			for _, claims := range [][]ishare.Claim{{claim, other}, {other, claim}, {elsewhere, other, claim}} {
				p := &ishare.Party{ID: "a:b", Claims: claims}
				got := map[string]bool{
					ishare.ClaimFrameworkCompliance: p.Compliant(test.at) == nil,
					ishare.ClaimX509Certificate:     p.Certified(thumbprint, test.at),
					ishare.ClaimFrameworkRole:       p.HasRole("ServiceProvider", test.at),
					ishare.ClaimDataspaceMembership: p.MemberOf("DS.NL", test.at),
				}
				if got[claimType] == test.wins {
					t.Errorf("%s, %s: holds: %t, claims %+v", test.name, claimType, got[claimType], claims)
				}
			}
		}
	}
}

// The reason may be shown to a stranger, so it never quotes a record.
func TestCompliantQuotesNoRecord(t *testing.T) {
	p := ishare.Party{ID: "a:b", Claims: []ishare.Claim{compliance("sus\npended by A. Jansen", start, end)}}
	if err := p.Compliant(now); err == nil || strings.Contains(err.Error(), "Jansen") {
		t.Errorf("Compliant says %v", err)
	}
}

// inForce tells of each way in which a claim of any type may be in force or not.
var inForce = []struct {
	name       string
	status     string
	start, end time.Time
	at         time.Time
	want       bool
}{
	{"no dates", "active", time.Time{}, time.Time{}, now, true},
	{"capitals", "Active", time.Time{}, time.Time{}, now, true},
	{"within its dates", "active", start, end, now, true},
	{"first instant", "active", start, end, start, true},
	{"an instant before", "active", start, time.Time{}, start.Add(-1), false},
	{"last instant", "active", start, end, end, true},
	{"an instant after", "active", time.Time{}, end, end.Add(1), false},
	{"inactive", "inactive", start, end, now, false},
	{"revoked", "revoked", start, end, now, false},
	{"suspended", "suspended", start, end, now, false},
	{"no status", "", start, end, now, false},
}

func TestClaimsInForce(t *testing.T) {
	for _, test := range inForce {
		claim := ishare.Claim{
			Status: test.status, Start: test.start, End: test.end,
			X5T: thumbprint, RoleID: "ServiceProvider", DataspaceID: "DS.NL",
		}
		of := func(claimType string) *ishare.Party {
			claim.Type = claimType
			return &ishare.Party{ID: "a:b", Claims: []ishare.Claim{claim}}
		}
		if got := of(ishare.ClaimX509Certificate).Certified(thumbprint, test.at); got != test.want {
			t.Errorf("%s: Certified = %v", test.name, got)
		}
		if got := of(ishare.ClaimFrameworkRole).HasRole("ServiceProvider", test.at); got != test.want {
			t.Errorf("%s: HasRole = %v", test.name, got)
		}
		if got := of(ishare.ClaimDataspaceMembership).MemberOf("DS.NL", test.at); got != test.want {
			t.Errorf("%s: MemberOf = %v", test.name, got)
		}
	}
}

// A claim of one type says nothing about another matter, even when the fields are there.
func TestClaimsOfAnotherType(t *testing.T) {
	for _, claimType := range []string{
		ishare.ClaimFrameworkCompliance, ishare.ClaimFrameworkRole, ishare.ClaimX509Certificate,
		ishare.ClaimDataspaceMembership, "dataspaceRole", "X509certificate", "",
	} {
		p := ishare.Party{ID: "a:b", Claims: []ishare.Claim{{
			Type: claimType, Status: "active", FrameworkID: ishare.FrameworkISHARE, Start: start, End: end,
			X5T: thumbprint, RoleID: "ServiceProvider", DataspaceID: "DS.NL",
		}}}
		got := map[string]bool{
			ishare.ClaimFrameworkCompliance: p.Compliant(now) == nil,
			ishare.ClaimX509Certificate:     p.Certified(thumbprint, now),
			ishare.ClaimFrameworkRole:       p.HasRole("ServiceProvider", now),
			ishare.ClaimDataspaceMembership: p.MemberOf("DS.NL", now),
		}
		for matter, granted := range got {
			if granted != (matter == claimType) {
				t.Errorf("a claim of type %q answers %s with %v", claimType, matter, granted)
			}
		}
	}
}

func TestCertifiedComparesTheWholeCertificate(t *testing.T) {
	p := parse(t, fullRecord)
	for name, test := range map[string]struct {
		thumbprint string
		want       bool
	}{
		"registered":                      {thumbprint, true},
		"registered by its fingerprint":   {strings.Repeat("ab", 32), true},
		"another":                         {ishare.Thumbprint([]byte("another")), false},
		"the wrong fingerprint beside it": {strings.Repeat("00", 32), false},
		"nothing":                         {"", false},
		"a part":                          {thumbprint[:62], false},
	} {
		if got := p.Certified(test.thumbprint, now); got != test.want {
			t.Errorf("%s: Certified(%q) = %v", name, test.thumbprint, got)
		}
	}
}

func TestRolesAndDataspacesAreComparedExactly(t *testing.T) {
	p := parse(t, fullRecord)
	if !p.HasRole("ServiceConsumer", now) || p.HasRole("serviceconsumer", now) || p.HasRole("", now) {
		t.Error("HasRole does not compare exactly")
	}
	if !p.MemberOf("DS.NL", now) || p.MemberOf("ds.nl", now) || p.MemberOf("", now) {
		t.Error("MemberOf does not compare exactly")
	}
}

func TestThumbprint(t *testing.T) {
	// SHA-256 of "abc": FIPS 180-4, example 1.
	want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := ishare.Thumbprint([]byte("abc")); got != want {
		t.Errorf("Thumbprint = %s, want %s", got, want)
	}
}

var thumbprintForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func FuzzParseParties(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `[]`, `[null]`, `[{}]`,
		`[` + fullRecord + `]`,
		`[{"id": "a:b", "ID": "c:d"}]`,
		`[{"id": "a:b", "id": "c:d"}]`,
		`[{"id": "a:b", "claims": [null, {"type": "x509Certificate", "x5c": "QUJD"}]}]`,
		`[{"id": "a:b", "claims": [{"type": "t", "startDate": "2026-06-30T23:59:60Z", "endDate": "9999-12-31T23:59:59.999999999+14:00"}]}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ishare.ParseParties(data)
		if err != nil {
			if list != nil {
				t.Error("records beside an error")
			}
			return
		}
		for _, p := range list {
			checkParsed(t, p)
		}
	})
}

// checkParsed holds a record that was accepted to what the parser promises.
func checkParsed(t *testing.T, p *ishare.Party) {
	t.Helper()
	for _, id := range p.Identifiers() {
		if _, err := ishare.ParsePartyID(string(id)); err != nil {
			t.Errorf("identifier %q: %v", id, err)
		}
	}
	for _, c := range p.Claims {
		if c.Type == ishare.ClaimX509Certificate && !thumbprintForm.MatchString(c.X5T) {
			t.Errorf("fingerprint %q", c.X5T)
		}
		if strings.TrimSpace(c.RegistrarID) != c.RegistrarID {
			t.Errorf("registrarId %q", c.RegistrarID)
		}
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		t.Fatalf("cannot be written again: %v", err)
	}
	again, err := ishare.ParseParty(encoded)
	if err != nil {
		t.Fatalf("cannot be read again: %v\n%s", err, encoded)
	}
	if diff := cmp.Diff(p, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("read again, the record differs (-first +second):\n%s", diff)
	}
}
