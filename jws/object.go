package jws

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is how deep a JSON object may nest. Headers nest twice, and the deepest
// payload of the framework, a delegation, some ten times.
const maxDepth = 32

// UnmarshalObject decodes a JSON object that a stranger sent: a header, or the payload of a [Token]. No name may occur
// twice (RFC 7515 section 4, RFC 7519 section 4), names are compared with regard to case, the text is valid UTF-8, and
// nothing stands behind it.
//
// An object that nests deeper than 32 times is refused, because the decoder's memory
// grows fifty times as fast as its depth. The error reads on behind the name of what was
// read, as "is not JSON", may be shown to whoever sent it, and quotes little.
func UnmarshalObject(data []byte, into any) error {
	// A JSON null would leave into as it is, without an error.
	switch kind := jsontext.Value(data).Kind(); {
	case bytes.HasPrefix(data, []byte("\ufeff")):
		return errors.New("begins with a byte order mark, which is not JSON")
	case kind == '{':
	case kind == 0:
		return errors.New("is not JSON")
	default:
		return errors.New("is JSON, and not an object")
	}
	if nestsTooDeep(data) {
		return fmt.Errorf("nests deeper than %d times", maxDepth)
	}
	err := json.Unmarshal(data, into)
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return fmt.Errorf("%.200s", err.Error())
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("holds the name %.60q twice", syntax.JSONPointer.LastToken())
	case !utf8.Valid(data):
		return errors.New("is not UTF-8")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("is JSON that ends too early")
	}
	return fmt.Errorf("is not JSON: what stands at byte %d does not belong there", syntax.ByteOffset+1)
}

// nestsTooDeep counts brackets outside of strings. What it says of a text that is not JSON does not matter.
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
