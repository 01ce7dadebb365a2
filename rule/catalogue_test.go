package rule_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/rule"
)

// answer is what a caller can rely on: it changes with a new major version only.
type answer struct {
	ID     string
	Code   string
	Status int
}

var wantRules = []answer{
	{"request.method", "invalid_request", 405},
	{"request.media-type", "invalid_request", 400},
	{"request.size", "invalid_request", 413},
	{"request.malformed", "invalid_request", 400},
	{"request.duplicate-parameter", "invalid_request", 400},
	{"request.missing-parameter", "invalid_request", 400},
	{"request.grant-type", "unsupported_grant_type", 400},
	{"request.scope", "invalid_scope", 400},
	{"request.client-id", "invalid_request", 400},
	{"request.assertion-type", "invalid_request", 400},
	{"request.client-authentication", "invalid_request", 400},
	{"jwt.compact", "invalid_client", 400},
	{"jwt.header", "invalid_client", 400},
	{"jwt.alg", "invalid_client", 400},
	{"jwt.typ", "invalid_client", 400},
	{"jwt.header-parameter", "invalid_client", 400},
	{"jwt.x5c", "invalid_client", 400},
	{"jwt.payload", "invalid_client", 400},
	{"claim.iss", "invalid_client", 400},
	{"claim.sub", "invalid_client", 400},
	{"claim.aud", "invalid_client", 400},
	{"claim.jti", "invalid_client", 400},
	{"claim.iat", "invalid_client", 400},
	{"claim.exp", "invalid_client", 400},
	{"claim.lifetime", "invalid_client", 400},
	{"claim.nbf", "invalid_client", 400},
	{"certificate.key", "invalid_client", 400},
	{"certificate.validity", "invalid_client", 400},
	{"certificate.usage", "invalid_client", 400},
	{"chain.order", "invalid_client", 400},
	{"chain.issuer", "invalid_client", 400},
	{"chain.untrusted", "invalid_client", 400},
	{"jwt.signature", "invalid_client", 400},
	{"party.unknown", "invalid_client", 400},
	{"party.not-active", "invalid_client", 400},
	{"party.certificate", "invalid_client", 400},
	{"party.policy", "invalid_client", 400},
	{"certificate.revoked", "invalid_client", 400},
	{"jti.replayed", "invalid_client", 400},
}

var wantFaults = []answer{
	{"unavailable.registry", "temporarily_unavailable", 503},
	{"unavailable.revocation", "temporarily_unavailable", 503},
	{"unavailable.state", "temporarily_unavailable", 503},
	{"unavailable.overload", "temporarily_unavailable", 503},
	{"limited", "temporarily_unavailable", 429},
	{"internal", "server_error", 500},
}

func answers(rules []*rule.Rule) []answer {
	var all []answer
	for _, rule := range rules {
		all = append(all, answer{rule.ID, rule.Code, rule.Status})
	}
	return all
}

func TestCatalogueIsStable(t *testing.T) {
	if diff := cmp.Diff(wantRules, answers(rule.All())); diff != "" {
		t.Errorf("Rules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantFaults, answers(rule.Outages())); diff != "" {
		t.Errorf("Faults (-want +got):\n%s", diff)
	}
}

func TestCatalogueCannotBeChangedByItsReaders(t *testing.T) {
	rule.All()[0] = rule.Internal
	rule.Outages()[0] = rule.Internal
	if rule.All()[0] == rule.Internal || rule.Outages()[0] == rule.Internal {
		t.Error("a reader changed the catalogue")
	}
}

// A rule that is written down but not listed would refuse without being documented,
// counted or explained.
func TestCatalogueIsComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "catalogue.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var written int
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if name, ok := literal.Type.(*ast.Ident); ok && name.Name == "Rule" {
			written++
		}
		return true
	})
	if listed := len(rule.All()) + len(rule.Outages()); listed != written {
		t.Errorf("%d rules are written down, %d are listed", written, listed)
	}
}

var ruleID = regexp.MustCompile(`^[a-z]+(\.[a-z0-9]+(-[a-z0-9]+)*)?$`)

func TestEveryRuleIsWellWritten(t *testing.T) {
	all := slices.Concat(rule.All(), rule.Outages())
	seen := map[string]string{}
	unique := func(what, value, id string) {
		if other, ok := seen[what+value]; ok {
			t.Errorf("%s and %s have the same %s", other, id, what)
		}
		seen[what+value] = id
	}
	for _, rule := range all {
		unique("id", rule.ID, rule.ID)
		unique("title", rule.Title, rule.ID)
		unique("sentence", rule.Sentence, rule.ID)
		if !ruleID.MatchString(rule.ID) {
			t.Errorf("%s: not an id", rule.ID)
		}
		for field, text := range map[string]string{
			"Title": rule.Title, "Spec": rule.Spec, "Sentence": rule.Sentence, "Hint": rule.Hint,
		} {
			if text == "" || strings.TrimSpace(text) != text || strings.Contains(text, "  ") {
				t.Errorf("%s: %s is %q", rule.ID, field, text)
			}
			if strings.ContainsFunc(text, notDescriptionRune) {
				t.Errorf("%s: %s holds a character that error_description cannot: %q", rule.ID, field, text)
			}
			if strings.HasSuffix(text, ".") != (field == "Hint") {
				t.Errorf("%s: a hint ends with a full stop and nothing else does; %s is %q", rule.ID, field, text)
			}
		}
	}
}
