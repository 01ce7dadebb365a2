package probe_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/probe"
)

var update = flag.Bool("update", false, "write the list in docs/probe.md instead of comparing it")

const (
	document = "../docs/probe.md"
	above    = "`go test ./probe -run TestPage -update`.\n"
)

// TestPage keeps the list of docs/probe.md true to the table.
func TestPage(t *testing.T) {
	page := string(must(os.ReadFile(document)))
	before, got, found := strings.Cut(page, above)
	if !found {
		t.Fatalf("%s does not say how its list is made", document)
	}
	want := listed()
	if *update {
		if err := os.WriteFile(document, []byte(before+above+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/probe.md is out of date; run go test ./probe -run TestPage -update (-want +got):\n%s", diff)
	}
}

// listed is the list of cases as the page has it.
func listed() string {
	var b strings.Builder
	b.WriteString("\n| case | | what is sent | what must come of it |\n|---|---|---|---|\n")
	for _, c := range probe.Cases() {
		sends := c.Sends
		if c.Official != "" {
			sends += " Official: " + c.Official + "."
		}
		if c.Needs != "" {
			sends += " Needs " + c.Needs + "."
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.Name, c.Weight, sends, c.Wants)
	}
	return b.String()
}
