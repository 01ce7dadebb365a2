// Package spelling reads the words of enumerations, and finds the known word that a misspelt one is closest to.
package spelling

import (
	"fmt"
	"slices"
	"strings"
)

// Choose finds out which of the words a text is; the error names them all.
func Choose(text []byte, words ...string) (index int, err error) {
	if index = slices.Index(words, string(text)); index < 0 {
		return 0, fmt.Errorf("want %s, got %q", strings.Join(words, " or "), text)
	}
	return index, nil
}

// maxEdits is by how many characters a word may differ from the one that was meant.
const maxEdits = 2

// Nearest is the candidate that differs least from name, by [maxEdits] at most and not in every character; empty when there is
// none. Capitals are no difference.
func Nearest(name string, candidates []string) string {
	best, distance := "", maxEdits+1
	for _, c := range candidates {
		if n := edits(strings.ToLower(name), strings.ToLower(c)); n < distance && n < len(name) {
			best, distance = c, n
		}
	}
	return best
}

// edits counts the characters to insert, delete or replace to make b of a
// (Levenshtein's distance).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
