// Command simulation shows what becomes of "accepted once" when the store of used assertions fails over, within a region
// and between two: how many assertions are accepted twice when somebody presents each of them again, how many honest requests
// get no token, and how long servers wait for the store. Its figures are those of a model, and always the same:
//
//	go run ./docs/simulation
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
)

// seeds are how many runs an average is taken of.
const seeds = 20

// strategies are those that are compared.
func strategies() []strategy {
	return []strategy{
		{name: "one store, asynchronous replicas", guard: noGuard},
		{name: "… and a guard without the leeway", guard: 0},
		{name: "… and the guard", guard: leeway},
		{name: "one store that waits for a replica", wait: true, guard: noGuard},
		{name: "… and the guard", wait: true, guard: leeway},
		{name: "one store, synchronous standby in the other region", sync: true, guard: noGuard},
		{name: "a store in each region, clients routed", regional: true, routed: true, guard: noGuard},
		{name: "… and the guard", regional: true, routed: true, guard: leeway},
		{name: "a store in each region, clients anywhere", regional: true, guard: leeway},
	}
}

func main() {
	if err := report(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
}

// report writes a table for each failure.
func report(w io.Writer) error {
	days := make([]*day, seeds)
	for seed := range days {
		days[seed] = newDay(uint64(seed))
	}
	for f, title := range []string{
		nothing:   "Nothing fails",
		process:   "The process of the store dies",
		region:    "A region is lost",
		partition: "The regions cannot reach each other",
	} {
		if _, err := fmt.Fprintf(w, "### %s\n\n| strategy | accepted twice | at most | honest and refused | mean wait | p99 |\n|---|---|---|---|---|---|\n", title); err != nil {
			return err
		}
		for _, s := range strategies() {
			var double, most, refused int
			var waited []float64
			for _, d := range days {
				o := simulate(s, failure(f), d)
				double, most, refused = double+o.double, max(most, o.double), refused+o.refused
				waited = append(waited, o.waited...)
			}
			slices.Sort(waited)
			total := 0.0
			for _, t := range waited {
				total += t
			}
			if _, err := fmt.Fprintf(w, "| %s | %.1f | %d | %.0f | %.0f ms | %.0f ms |\n", s.name, float64(double)/seeds, most,
				float64(refused)/seeds, total/float64(len(waited))*1000, waited[len(waited)*99/100]*1000); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}
