package probe_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/probe"
)

// alsoCaught are cases that catch a mutant besides the one it is called by, because the same thing is missing there.
var alsoCaught = map[string][]string{
	"jti.replayed/same-assertion": {"jti.replayed/at-once"},
	"answer/JSON-object":          {"answer/expires_in", "answer/expires_in-3600", "answer/token_type"},
	"answer/expires_in":           {"answer/expires_in-3600"},
	"secured/no-token":            {"secured/challenge"},
	"answer/error-no-token": { // which are skipped
		"answer/error-challenge", "answer/error-code", "answer/error-media-type", "answer/error-no-store", "answer/error-no-trace",
		"answer/error-says-why", "answer/error-status",
	},
	"secured/token": { // which are skipped
		"secured/altered", "secured/challenge", "secured/client-assertion", "secured/garbage", "secured/in-the-URL", "secured/longer",
		"secured/lower-case-bearer", "secured/no-token", "secured/not-bearer", "secured/two-headers", "secured/without-signature",
	},
}

// waits is the one case that is skipped where there is no time for it; see TestExpiry.
const waits = "secured/expired"

// judged lists the cases that did not pass.
func judged(report *probe.Report) []string {
	var names []string
	for _, r := range report.Results {
		if r.Verdict != probe.Pass && r.Name != waits {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestLenientServer: the server of the mutants passes as long as nothing of it is switched off.
func TestLenientServer(t *testing.T) {
	s := startLenient(t, players(), "nothing")
	report := run(t, players().everything(s.url, s.url+"/secured"))
	for _, r := range report.Results {
		if r.Verdict != probe.Pass && r.Name != waits {
			t.Errorf("%s: %s, %s: %s%s", r.Name, r.Verdict, r.Outcome, r.Came, r.Reason)
		}
	}
}

// TestMutantsOfGroups: a server that minds nothing of a group is caught by all cases of that group, and by no others.
func TestMutantsOfGroups(t *testing.T) {
	var groups []string
	for _, c := range probe.Cases() {
		if g := c.Group(); strings.Contains(g, ".") && !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	for _, group := range groups {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			s := startLenient(t, players(), group)
			report := run(t, players().everything(s.url, s.url+"/secured"))
			var want []string
			for _, c := range probe.Cases() {
				if c.Group() == group && c.Name != "jti.replayed/not-burned" || c.Name == "jti.replayed/not-burned" && group == "jwt.signature" {
					want = append(want, c.Name)
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, judged(report)); diff != "" {
				t.Errorf("cases that do not pass (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMutants: a server that does not mind one thing is caught by the case for it, and by none of its neighbours.
func TestMutants(t *testing.T) {
	for _, c := range probe.Cases() {
		if c.Name == probe.RightCase || c.Name == waits {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			off := c.Name
			s := startLenient(t, players(), off)
			config := players().everything(s.url, s.url+"/secured")
			config.Only = []string{c.Group() + "/"}
			want := append([]string{c.Name}, alsoCaught[c.Name]...)
			slices.Sort(want)
			if diff := cmp.Diff(want, judged(run(t, config))); diff != "" {
				t.Errorf("cases that do not pass (-want +got):\n%s", diff)
			}
		})
	}
}
