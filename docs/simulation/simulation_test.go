package main

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the figures of README.md")

const (
	page  = "README.md"
	begin = "<!-- what go run ./docs/simulation prints -->\n"
)

// The page shows the figures that the program prints.
func TestFigures(t *testing.T) {
	t.Parallel()
	var figures strings.Builder
	if err := report(&figures); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	words, shown, found := strings.Cut(string(text), begin)
	if !found {
		t.Fatalf("%s has no place for figures", page)
	}
	want := "\n" + strings.TrimSpace(figures.String()) + "\n"
	if *update {
		if err := os.WriteFile(page, []byte(words+begin+want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("%s (-printed +shown); go test ./docs/simulation -update writes it:\n%s", page, diff)
	}
}

// What the page says of each strategy.
func TestClaims(t *testing.T) {
	t.Parallel()
	var days []*day
	for seed := range uint64(seeds) {
		days = append(days, newDay(seed))
	}
	const none, some, many = 0, 1, 100         // at least, of all runs together
	for name, want := range map[string][4]int{ // by the failure
		"one store, asynchronous replicas":                    {none, some, some, many},
		"one store, asynchronous replicas/guard":              {none, none, none, many},
		"one store that waits for a replica":                  {none, none, some, many},
		"one store that waits for a replica/guard":            {none, none, none, many},
		"one store, synchronous standby in the other region":  {none, none, none, none},
		"a store in each region, clients routed":              {none, some, many, none},
		"a store in each region, clients routed/guard":        {none, none, none, none},
		"a store in each region, clients anywhere/guard":      {many, many, many, many},
		"one store, asynchronous replicas/guard, no leeway":   {none, some, some, many},
		"a store in each region, clients routed/no leeway":    {none, some, some, none},
		"one store that waits for a replica/guard, no leeway": {none, none, some, many},
	} {
		name, guard, _ := strings.Cut(name, "/")
		all := strategies()
		s := all[slices.IndexFunc(all, func(s strategy) bool { return s.name == name })]
		switch guard {
		case "guard":
			s.guard = leeway
		case "":
			s.guard = noGuard
		default:
			s.guard = 0
		}
		for f, least := range want {
			double, refused := 0, 0
			for _, d := range days {
				o := simulate(s, failure(f), d)
				double, refused = double+o.double, refused+o.refused
			}
			if double < least || least == none && double > 0 {
				t.Errorf("%s (%s), failure %d: %d accepted twice", name, guard, f, double)
			}
			if failure(f) == nothing && refused > 0 {
				t.Errorf("%s (%s): %d refused though nothing fails", name, guard, refused)
			}
		}
	}
}

// The price of the guard: for as long as the leeway, the assertions of clients whose clocks are right are refused.
func TestPrice(t *testing.T) {
	t.Parallel()
	s := strategies()[0]
	without := simulate(s, region, newDay(1))
	s.guard = leeway
	with := simulate(s, region, newDay(1))
	if more := float64(with.refused - without.refused); more < 0.9*rate*leeway || more > 1.1*rate*leeway {
		t.Errorf("the guard refuses %v requests", more)
	}
	standby := strategies()[5]
	if waited := simulate(standby, nothing, newDay(1)).waited; slices.Min(waited) < far {
		t.Errorf("a synchronous standby answers in %v s", slices.Min(waited))
	}
}
