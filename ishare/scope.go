package ishare

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ScopeISHARE is the value that every iSHARE token request asks for. Scope values
// are compared with regard to case: "ishare" is another one.
const ScopeISHARE = "iSHARE"

// A Scope is a list of scope values without repetition, in the order in which
// they were asked for (RFC 6749 section 3.3).
type Scope []string

var errScope = errors.New("malformed scope")

// ParseScope reads a space-separated list of scope values as RFC 6749 section 3.3 defines it: single spaces, printable
// ASCII without the quote and the backslash. A value that is repeated is kept once.
func ParseScope(s string) (Scope, error) {
	if s == "" {
		return nil, fmt.Errorf("%w: empty", errScope)
	}
	allowed := func(r rune) bool { return r >= ' ' && r < 0x7f && r != '"' && r != '\\' }
	if flaw := StrayCharacter(s, allowed); flaw != "" {
		return nil, fmt.Errorf("%w: it %s", errScope, flaw)
	}
	const few = 4
	values := strings.Count(s, " ") + 1
	scope := make(Scope, 0, min(values, few))
	var seen map[string]bool
	if values > few { // a stranger can send thousands
		seen = map[string]bool{}
	}
	for value := range strings.SplitSeq(s, " ") {
		switch {
		case value == "":
			return nil, fmt.Errorf("%w: values are separated by single spaces", errScope)
		case seen[value], seen == nil && scope.Has(value):
			continue
		case seen != nil:
			seen[value] = true
		}
		scope = append(scope, value)
	}
	return scope, nil
}

// Has reports whether value is in the scope.
func (s Scope) Has(value string) bool { return slices.Contains(s, value) }

// String gives the scope as it stands in a request or a token response.
func (s Scope) String() string { return strings.Join(s, " ") }
