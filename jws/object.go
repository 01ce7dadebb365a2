package jws

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep a JSON object may nest. Headers nest twice, and the deepest
// payload of the framework, a delegation, some ten times.
const maxDepth = 32

// UnmarshalObject decodes a JSON object that a stranger sent: a header, or the
// payload of a [Token]. No name may occur twice (RFC 7515 section 4, RFC 7519
// section 4), names are compared with regard to case, the text is valid UTF-8, and
// nothing stands behind it.
//
// An object that nests deeper than 32 times is refused, because the decoder's memory
// grows fifty times as fast as its depth. The error quotes little of the input, so
// that it can be logged.
func UnmarshalObject(data []byte, into any) error {
	// A JSON null would leave into as it is, without an error.
	if jsontext.Value(data).Kind() != '{' {
		return errors.New("not an object")
	}
	if nestsTooDeep(data) {
		return fmt.Errorf("nests deeper than %d times", maxDepth)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%.200s", err.Error())
	}
	return nil
}

// nestsTooDeep counts brackets outside of strings. What it says of a text that is
// not JSON does not matter.
func nestsTooDeep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			depth--
		}
		if depth > maxDepth {
			return true
		}
	}
	return false
}
