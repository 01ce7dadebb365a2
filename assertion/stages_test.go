package assertion_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/rule"
)

// The stages apply every rule of the catalogue about assertions, in its order, and each once.
func TestStagesAreTheCatalogue(t *testing.T) {
	authenticating, admitting := assertion.Walk()
	var applied []string
	for _, s := range slices.Concat(authenticating, admitting) {
		for _, r := range s.Rules {
			applied = append(applied, r.ID)
		}
	}
	var want []string
	for _, r := range rule.All() {
		if !strings.HasPrefix(r.ID, "request.") { // which the token endpoint applies
			want = append(want, r.ID)
		}
	}
	if diff := cmp.Diff(want, applied); diff != "" {
		t.Errorf("rules of the stages (-catalogue +stages):\n%s", diff)
	}
}

// A good assertion goes through all stages, and each of their rules has an outcome.
func TestEveryStageRecordsItsRules(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		r := w.verifier(t).Explain(t.Context(), newDraft().compact(t, w), time.Now())
		authenticating, admitting := assertion.Walk()
		for _, s := range slices.Concat(authenticating, admitting[:len(admitting)-1]) { // the last uses the assertion up
			for _, want := range s.Rules {
				i := slices.IndexFunc(r.Findings, func(f assertion.Finding) bool { return f.Rule == want })
				if r.Findings[i].Outcome != assertion.Pass {
					t.Errorf("stage %s: %s: %s", s.Name, want.ID, r.Findings[i].Outcome)
				}
			}
		}
	})
}

// docs/rules.md has the rules in the order of the stages.
func TestPageOfRulesFollowsTheStages(t *testing.T) {
	page := readPage(t, "../docs/rules.md")
	authenticating, admitting := assertion.Walk()
	last := 0
	for _, s := range slices.Concat(authenticating, admitting) {
		for _, r := range s.Rules {
			at := strings.Index(page, "\n### `"+r.ID+"`\n")
			if at < last {
				t.Errorf("docs/rules.md: %s is not there, or not in its order", r.ID)
			}
			last = max(last, at)
		}
	}
}

// row is a stage in the picture: its name, a star when it is skipped for a header that was proven before, what it
// does, and its first and last rule.
var row = regexp.MustCompile(`(?m)^ +│  ([a-z][A-Za-z]+)( \*)? +(\S.*?)  +([a-z]+\.[a-z0-9-]+)(?: … ([a-z]+\.[a-z0-9-]+))?$`)

const nothingAbove = "nothing is asked or kept above this line"

// The picture of docs/architecture.md shows the stages, and the line between the two halves of the walk.
func TestPictureShowsTheStages(t *testing.T) {
	page := readPage(t, "../docs/architecture.md")
	_, page, _ = strings.Cut(page, "\n assertion.Verifier\n")
	picture, _, found := strings.Cut(page, "\n accesstoken.Issuer")
	above, below, halves := strings.Cut(picture, nothingAbove)
	if !found || !halves {
		t.Fatal("docs/architecture.md has no picture of the stages")
	}
	authenticating, admitting := assertion.Walk()
	for half, stages := range map[string][]assertion.Stage{above: authenticating, below: admitting} {
		var want, shown [][]string
		for _, s := range stages {
			first, last, star := s.Rules[0].ID, "", ""
			if n := len(s.Rules); n > 1 {
				last = s.Rules[n-1].ID
			}
			if s.PerHeader {
				star = " *"
			}
			want = append(want, []string{s.Name, star, first, last})
		}
		for _, match := range row.FindAllStringSubmatch(half, -1) {
			shown = append(shown, slices.Delete(match[1:], 2, 3)) // all but what it does
		}
		if diff := cmp.Diff(want, shown); diff != "" {
			t.Errorf("docs/architecture.md (-stages +picture):\n%s", diff)
		}
	}
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
