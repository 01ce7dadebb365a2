package spelling

import "testing"

func TestEdits(t *testing.T) {
	t.Parallel()
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"listen", "lisen"}: 1, {"kitten", "sitting"}: 3, {"abc", "abc"}: 0, {"ab", "ba"}: 2,
	} {
		if got := edits(pair[0], pair[1]); got != want {
			t.Errorf("edits(%q, %q) = %d, want %d", pair[0], pair[1], got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"claims", "alsoKnownAs", "claim2"}
	for name, want := range map[string]string{
		"claim": "claims", "Claims": "claims", "clams": "claims", "alsoknownas": "alsoKnownAs", "alsoKnowAs": "alsoKnownAs", "colour": "", "": "",
	} {
		if got := Nearest(name, candidates); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
