package rule_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/rule"
)

var update = flag.Bool("update", false, "write docs/rules.md instead of comparing it")

const rulesDocument = "../docs/rules.md"

// TestRulesDocument keeps docs/rules.md true to the catalogue.
func TestRulesDocument(t *testing.T) {
	want := writeRules(t)
	if *update {
		if err := os.WriteFile(rulesDocument, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(rulesDocument)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/rules.md is out of date; run go test ./rule -run TestRulesDocument -update (-want +got):\n%s", diff)
	}
}

// A stage is a stretch of the catalogue: the rules that follow those of the stage
// before, through the last one named here.
type stage struct {
	title   string
	through *rule.Rule
	intro   string
}

var stages = []stage{
	{
		"The request", rule.RequestClientAuthentication,
		"What can be seen without looking at the assertion. Parameters that the server does not know are ignored.",
	},
	{
		"The assertion as a signed object", rule.JWTPayload,
		"Whether `client_assertion` can be read at all. JSON is read strictly: exact member names, each once, valid UTF-8, nothing behind the value.",
	},
	{
		"What the assertion claims", rule.ClaimNbf,
		"Claims are checked before certificates, as comparing text costs nothing beside cryptography. Nothing is believed yet.",
	},
	{
		"The certificates", rule.ChainUntrusted,
		"A chain without a trusted CA is refused before any signature is verified.",
	},
	{
		"The signature", rule.JWTSignature,
		"From here on the assertion is known to come from the holder of the certificate. Only now may the server call others.",
	},
	{
		"The party", rule.PartyPolicy,
		"What the Participant Registry, or the file of participants, says of the client.",
	},
	{
		"Revocation", rule.CertificateRevoked,
		"The addresses of OCSP responders and CRLs stand in the certificates, so they are followed only when the chain is trusted.",
	},
	{
		"Replay", rule.JTIReplayed,
		"The last rule, because it is the only one that leaves a trace: an assertion that fails any other is not remembered, so that nobody can use up the `jti` of somebody else.",
	},
}

const rulesIntro = `# The rules

Every reason for refusing a token request is one rule with one stable id. The id is the same wherever
the refusal shows: in the answer, in the log, in the audit trail, in the label §rule§ of the [metrics](metrics.md), in
§waybill explain§, in the test vectors and on this page.

This page is generated from the catalogue in package [§rule§](../rule/catalogue.go).
After a change there, run §go test ./rule -run TestRulesDocument -update§.

## How a refusal looks

The answer is the error of RFC 6749 section 5.2. §error_description§ is the id of the rule, a colon and
a sentence. The sentence may be more exact than the one on this page; the id, §error§ and the
status never differ from it.

§§§http
HTTP/1.1 %d %s
Content-Type: application/json
Cache-Control: no-store
Pragma: no-cache

{"error":"%s","error_description":"%s"}
§§§

§waybill explain§ takes an assertion and prints every rule with its outcome, and a mend for each that fails.
§waybill assertion --break RULE§ makes an assertion that breaks one.

An assertion that breaks several rules is refused by the first in the order of this page: cheap checks before dear
ones, local before remote, and nothing is remembered before everything else holds.

## The examples

Each shows what is sent, or found in a record, the §error_description§ of the answer, where … stands for what differs each time, and what is right. All
else in the request is right. They are about the consumer
§did:ishare:EU.NL.NTRNL-10000001§ and the provider §did:ishare:EU.NL.NTRNL-10000000§, on 23 November 2026 at 18:00 UTC, which is
1795456800. A test sends each to a provider: what is sent is answered so, and what is right gets a token.
`

const faultsIntro = `## When the server cannot decide

Here no rule was broken: the server could not find out whether one is. When something that it depends on is
out of reach there is no token, and never a guess in either direction. Where the answer carries §Retry-After§,
try again after that many seconds, with a new assertion.
`

// writeRules writes the page.
func writeRules(t *testing.T) []byte {
	t.Helper()
	var page bytes.Buffer
	example := rule.ClaimAud
	fmt.Fprintf(&page, code(rulesIntro), example.Status, http.StatusText(example.Status), example.Code, example.Reject().Description())
	fmt.Fprint(&page, "\n## In the order of evaluation\n\n")
	groups := group(t)
	for i, s := range stages {
		fmt.Fprintf(&page, "%d. %s\n", i+1, link(s.title))
		writeContents(&page, groups[i])
	}
	fmt.Fprintf(&page, "\nAnd outside of the order:\n\n- %s\n", link("When the server cannot decide"))
	writeContents(&page, rule.Outages())
	for i, s := range stages {
		fmt.Fprintf(&page, "\n## %s\n\n%s\n", s.title, s.intro)
		for _, rule := range groups[i] {
			writeRule(&page, rule)
		}
	}
	fmt.Fprintf(&page, "\n%s", code(faultsIntro))
	for _, fault := range rule.Outages() {
		writeRule(&page, fault)
	}
	return page.Bytes()
}

// group cuts the catalogue into the stages, and fails unless they fit exactly.
func group(t *testing.T) [][]*rule.Rule {
	t.Helper()
	rest := rule.All()
	var groups [][]*rule.Rule
	for _, s := range stages {
		i := slices.Index(rest, s.through)
		if i < 0 {
			t.Fatalf("stage %q: %s is not among the rules that are left", s.title, s.through.ID)
		}
		groups = append(groups, rest[:i+1])
		rest = rest[i+1:]
	}
	if len(rest) > 0 {
		t.Fatalf("%s belongs to no stage", rest[0].ID)
	}
	return groups
}

func writeRule(page *bytes.Buffer, reason *rule.Rule) {
	fmt.Fprintf(page, "\n### `%s`\n\n%s.\n\n", reason.ID, prose(reason.Title))
	example, outage := typicals()[reason], unavailabilities()[reason]
	if example.refused != "" {
		fmt.Fprintf(page, "- **Refused when:** %s\n", example.refused)
	}
	fmt.Fprintf(page, "- **Source:** %s\n", prose(reason.Spec))
	fmt.Fprintf(page, "- **Typical cause:** %s\n", example.cause+outage.cause)
	fmt.Fprintf(page, "- **Answer:** %d %s, `%s`%s\n", reason.Status, http.StatusText(reason.Status), reason.Code, headers(reason))
	fmt.Fprintf(page, "- **Sentence:** %s\n", prose(reason.Sentence))
	fmt.Fprintf(page, "- **To mend it:** %s\n", prose(reason.Hint))
	if outage.operator != "" {
		fmt.Fprintf(page, "- **For the operator:** %s\n", outage.operator)
	}
	if example.sent != "" {
		fmt.Fprintf(page, "\n```text\nsent:   %s\nanswer: %s\nright:  %s\n```\n", example.sent, example.answer, example.right)
	}
}

// headers tells of the header fields that an answer carries besides those of every
// refusal.
func headers(reason *rule.Rule) string {
	switch reason.Status {
	case http.StatusMethodNotAllowed:
		return ", with `Allow: POST`"
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return ", with `Retry-After`"
	}
	return ""
}

// code puts the backquotes into a text that is itself between backquotes.
func code(text string) string { return strings.ReplaceAll(text, "§", "`") }

// prose keeps Markdown from reading marks into a text.
func prose(text string) string {
	return strings.NewReplacer("*", `\*`, "[", `\[`, "]", `\]`, "<", "&lt;", "`", "\\`").Replace(text)
}

func writeContents(page *bytes.Buffer, rules []*rule.Rule) {
	for _, rule := range rules {
		fmt.Fprintf(page, "   - %s: %s\n", link("`"+rule.ID+"`"), prose(rule.Title))
	}
}

// link points to the heading with this text, by the anchor that Markdown renderers
// make of it.
func link(heading string) string {
	anchor := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		}
		return -1
	}, strings.ToLower(heading))
	return fmt.Sprintf("[%s](#%s)", heading, anchor)
}
