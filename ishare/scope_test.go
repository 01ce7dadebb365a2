package ishare_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waybill-token/waybill/ishare"
)

func TestParseScope(t *testing.T) {
	for _, test := range []struct {
		scope string
		want  ishare.Scope // nil: refused
	}{
		{"iSHARE", ishare.Scope{"iSHARE"}},
		{"ishare", ishare.Scope{"ishare"}},
		{"dsgo iSHARE", ishare.Scope{"dsgo", "iSHARE"}},
		{"iSHARE dsgo iSHARE dsgo", ishare.Scope{"iSHARE", "dsgo"}},
		{"iSHARE ishare", ishare.Scope{"iSHARE", "ishare"}},
		{"!#$%&'()*+,-./:;<=>?@[]^_`{|}~", ishare.Scope{"!#$%&'()*+,-./:;<=>?@[]^_`{|}~"}},
		{"", nil},
		{" ", nil},
		{" iSHARE", nil},
		{"iSHARE ", nil},
		{"iSHARE  dsgo", nil},
		{"iSHARE\tdsgo", nil},
		{"iSHARE\ndsgo", nil},
		{"iSHARE,dsgo\x00", nil},
		{`iSHARE "dsgo"`, nil},
		{`iSHARE ds\go`, nil},
		{"iSHAR\u00c9", nil},
		{"iSHARE\u00a0dsgo", nil},
		{"iSHARE\x7f", nil},
		{"iSHARE\xff", nil},
	} {
		got, err := ishare.ParseScope(test.scope)
		if (err == nil) != (test.want != nil) {
			t.Errorf("ParseScope(%q): %v", test.scope, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("ParseScope(%q) (-want +got):\n%s", test.scope, diff)
		}
	}
}

func TestScopeHasRegardsCase(t *testing.T) {
	scope := ishare.Scope{"dsgo", "ishare"}
	if scope.Has(ishare.ScopeISHARE) {
		t.Error("ishare counts as iSHARE")
	}
	if !scope.Has("dsgo") {
		t.Error("dsgo is not found")
	}
	if ishare.Scope(nil).Has("") {
		t.Error("an empty scope has an empty value")
	}
}

func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{"", "iSHARE", "dsgo iSHARE", "a b a", " a", "a\x00", "\xff", `"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		scope, err := ishare.ParseScope(s)
		if err != nil {
			return
		}
		if len(scope) == 0 {
			t.Fatalf("ParseScope(%q) is empty", s)
		}
		asked := strings.Split(s, " ")
		for i, value := range scope {
			if !slices.Contains(asked, value) {
				t.Errorf("ParseScope(%q) grants %q", s, value)
			}
			if slices.Contains(scope[:i], value) {
				t.Errorf("ParseScope(%q) repeats %q", s, value)
			}
		}
		again, err := ishare.ParseScope(scope.String())
		if err != nil || !slices.Equal(again, scope) {
			t.Errorf("ParseScope(%q) = %q, and again %q, %v", s, scope, again, err)
		}
	})
}
