package registry

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	twoPartiesJSON = `[
	{"id": "did:ishare:EU.NL.NTRNL-1", "name": "One", "alsoKnownAs": ["EU.EORI.NL1"], "claims": [
		{"type": "frameworkCompliance", "frameworkId": "iSHARE", "status": "active", "registrarId": " did:ishare:EU.NL.NTRNL-9",
		 "startDate": "2020-01-01T00:00:00Z", "endDate": "2040-01-01T00:00:00Z"},
		{"type": "x509Certificate", "status": "active", "x5c": "aGVs\nbG8="}]},
	{"id": "did:ishare:EU.NL.NTRNL-2", "name": "2", "claims": null}
]`
	twoPartiesYAML = `# who takes part
- id: did:ishare:EU.NL.NTRNL-1
  name: One
  alsoKnownAs: [EU.EORI.NL1]
  claims:
    - type: frameworkCompliance
      frameworkId: iSHARE
      status: active
      registrarId: " did:ishare:EU.NL.NTRNL-9"
      startDate: 2020-01-01T00:00:00Z
      endDate: "2040-01-01T00:00:00Z"
    - type: x509Certificate
      status: active
      x5c: |
        aGVs
        bG8=
- id: did:ishare:EU.NL.NTRNL-2
  name: 2
  claims:
`
)

func TestParseReadsJSONAndYAMLAlike(t *testing.T) {
	t.Parallel()
	fromJSON, err := parse([]byte(twoPartiesJSON))
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := parse([]byte(twoPartiesYAML))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON.byID, fromYAML.byID); diff != "" {
		t.Errorf("JSON and YAML differ (-json +yaml):\n%s", diff)
	}
	one := fromYAML.byID["EU.EORI.NL1"]
	if at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC); one == nil || one.Compliant(at) != nil {
		t.Errorf("the dates of the first record were lost: %+v", one)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, text, want string }{
		{"empty file", "", "it is empty"},
		{"comment only", "# nobody\n", "it is empty"},
		{"null", "null", "want a list of party records"},
		{"one record", "id: did:x:1\nname: One\n", "line 1: want a list of party records"},
		{"list in an object", `{"parties": []}`, "want a list of party records"},
		{"text", "hello", "want a list of party records"},
		{"two documents", "- id: did:x:1\n---\n- id: did:x:2\n", "multiple"},
		{"cut short", `[{"id": "did:x:1"`, "unexpected EOF"},
		{"text behind", `[] []`, "after top-level value"},
		{"duplicate member in JSON", `[{"id": "did:x:1", "id": "did:x:2"}]`, "duplicate"},
		{"duplicate key in YAML", "- id: did:x:1\n  id: did:x:2\n", "line 2, column 3: jsontext: duplicate object member name \"id\""},
		{"duplicate key, quoted once", "- id: did:x:1\n  'id': did:x:2\n", "duplicate object member name"},
		{"null record", "-\n", "null"},
		{"no identifier", "- name: One\n", "not a party identifier"},
		{"date without time", "- id: did:x:1\n  claims: [{type: a, endDate: 2040-01-01}]\n", "endDate"},
		{"alias", "- &a {id: did:x:1}\n- *a\n", "line 2, column 3: an alias is not accepted"},
		{"merge key", "- <<: {id: did:x:1}\n", "a key must be plain text"},
		{"number as a key", "- 1: a\n", "a key must be plain text"},
		{"list as a key", "- [a]: a\n", "a key must be plain text"},
		{"tagged key", "- !!str id: did:x:1\n", "a key must be plain text"},
		{"binary", "- id: !!binary ZGlkOng6MQ==\n", "an explicit tag is not accepted"},
		{"own tag", "- !party {id: did:x:1}\n", "an explicit tag is not accepted"},
		{"invalid UTF-8", "- id: \"did:x:\xff\"\n", "UTF-8"},
		{"invalid UTF-8 in JSON", "[{\"id\": \"did:x:1\", \"name\": \"\xff\"}]", "UTF-8"},
		{"conflict", "- id: did:x:1\n- id: did:x:1\n", "claimed by two records"},
		{"nested beyond measure", strings.Repeat("- ", 20_000), "depth"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			list, err := parse([]byte(c.text))
			if err == nil {
				t.Fatalf("accepted: %v", list.byID)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

// An alias bomb of ten levels stands for ten thousand million values.
func TestParseRefusesAliasBomb(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("- &a0 did:x:1\n")
	for i := range 10 {
		fmt.Fprintf(&bomb, "- &a%d [%s]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 10))
	}
	if _, err := parse([]byte(bomb.String())); err == nil || !strings.Contains(err.Error(), "alias is not accepted") {
		t.Errorf("error %v, want a refused alias", err)
	}
}

func TestParseAcceptsEmptyList(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"[]", " \n[ ]\n", "# nobody yet\n[]\n", "\ufeff[]"} {
		if list, err := parse([]byte(text)); err != nil || list.Len() != 0 {
			t.Errorf("parse(%q) = %v, %v", text, list, err)
		}
	}
}

// FuzzParse feeds the parser of the file. Whatever it accepts, every record is
// found by its own identifiers; and JSON that is accepted as JSON and as YAML
// means the same in both.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		twoPartiesJSON, twoPartiesYAML, "[]", "- &a x\n- *a", "- {id: did:x:1, name: 0x1F, alsoKnownAs: [yes:no]}",
		"- id: \"did:x:1\"\n  name: !!binary aGk=", "[{\"id\":\"did:x:1\",\"name\":\"\\ud83d\\ude00\"}]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parse(data)
		if err != nil {
			return
		}
		for id, p := range list.byID {
			if !p.KnownAs(id) {
				t.Errorf("%s is filed under %s", p.ID, id)
			}
		}
		found, err := inspect(data, time.Now())
		if err != nil {
			t.Fatalf("parsed, and not inspected: %v", err)
		}
		for _, f := range found {
			if f.Line < 1 || f.Line > bytes.Count(data, []byte("\n"))+bytes.Count(data, []byte("\r"))+1 || f.Message == "" {
				t.Errorf("%+v", f)
			}
		}
		converted, _, err := jsonOfYAML(data)
		if err != nil {
			return
		}
		again, err := parse(converted)
		if err != nil {
			t.Fatalf("accepted as JSON, refused by way of YAML: %v", err)
		}
		if diff := cmp.Diff(list.byID, again.byID); diff != "" {
			t.Errorf("JSON and YAML differ:\n%s", diff)
		}
	})
}
