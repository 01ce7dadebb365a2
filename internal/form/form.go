// Package form reads the forms that clients post: strictly, in bounded memory, and with
// the rules of the catalogue as its errors.
package form

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/waybill-token/waybill/rule"
)

// MaxBody is the size in bytes of the largest body that is read.
const MaxBody = 64 << 10

// maxParameters bounds the work on a form, those without a value included. A token request has five.
const maxParameters = 100

// repeatable is the one parameter that may occur several times: each names a place where the token
// is to be used (RFC 8707 section 2). It means nothing here.
const repeatable = "resource"

// A Form is the parameters of a body that have a value, each name once. A parameter without a value is
// treated as if it were omitted (RFC 6749 section 3.2).
type Form []parameter

type parameter struct{ name, value string }

// Get returns the value of a parameter, and nothing when there is none.
func (f Form) Get(name string) string {
	for _, p := range f {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// Read takes the form from the body of a POST, and never from the URL. An error is a [*rule.Rejection] by one of the
// rules request.method to request.duplicate-parameter, unless it is our own.
func Read(r *http.Request) (Form, error) {
	if r.Method != http.MethodPost {
		return nil, rule.RequestMethod.Because("this endpoint answers POST, not %s", rule.Quote(r.Method))
	}
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	return Parse(body)
}

func checkMediaType(header http.Header) error {
	values := header.Values("Content-Type")
	switch len(values) {
	case 0:
		return rule.RequestMediaType.Because("the request has no content type")
	case 1:
	default:
		return rule.RequestMediaType.Because("the request has %d content types", len(values)).
			WithHint("Set Content-Type once: a library and the code around it seem to set one each.")
	}
	mediaType, _, err := mime.ParseMediaType(values[0])
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return rule.RequestMediaType.Because("the content type is %s, not application/x-www-form-urlencoded", rule.Quote(values[0]))
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return rule.RequestMediaType.Because("the body is compressed (%s), which is not supported here", rule.Quote(encoding)).
			WithHint("Send the body as it is, without Content-Encoding.")
	}
	return nil
}

// A body is read whole before it is parsed, into buffers that are used again: a stranger costs no more
// memory than these, and one that sends little only the small one.
var (
	small = sync.Pool{New: func() any { return new([4 << 10]byte) }}
	large = sync.Pool{New: func() any { return new([MaxBody + 1]byte) }}
)

func readBody(r *http.Request) (string, error) {
	if r.ContentLength > MaxBody {
		return "", rule.RequestSize.Because("the body has %d bytes, more than %d", r.ContentLength, MaxBody)
	}
	begin, ok := small.Get().(*[4 << 10]byte)
	if !ok {
		return "", errPool
	}
	defer small.Put(begin)
	n, err := io.ReadFull(r.Body, begin[:])
	if err != nil {
		return wholeBody(r, begin[:n], err)
	}
	whole, ok := large.Get().(*[MaxBody + 1]byte)
	if !ok {
		return "", errPool
	}
	defer large.Put(whole)
	copy(whole[:], begin[:])
	more, err := io.ReadFull(r.Body, whole[n:])
	return wholeBody(r, whole[:n+more], err)
}

var errPool = errors.New("form: the pool holds something else than buffers")

// wholeBody returns what has been read as text, when the error is that there is no more.
func wholeBody(r *http.Request, read []byte, err error) (string, error) {
	switch {
	case err == nil:
		return "", rule.RequestSize.Reject()
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return "", rule.RequestMalformed.Because("the body could not be read to its end").
			WithHint("Send the whole body: the connection, or a proxy, cut it off.").From(err)
	case r.ContentLength >= 0 && int64(len(read)) != r.ContentLength:
		return "", rule.RequestMalformed.Because("the body has %d bytes, and its Content-Length is %d", len(read), r.ContentLength).
			WithHint("Let the HTTP library count: Content-Length is in bytes, and not in characters.")
	}
	return string(read), nil
}

// Parse takes a form apart in one pass. It is stricter than [url.ParseQuery] in that a
// name has a value once, but for resource, and everything is UTF-8. An error is a [*rule.Rejection].
func Parse(body string) (Form, error) {
	f, count := make(Form, 0, 8), 0
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		count++
		if count > maxParameters {
			return nil, rule.RequestMalformed.Because("the form holds more than %d parameters", maxParameters).
				WithHint("Send the five parameters of a token request, and no other data.")
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return nil, rule.RequestMalformed.Because("the parameter name %s is not percent-encoded rightly", rule.Quote(rawName))
		}
		value, err := url.QueryUnescape(rawValue)
		switch {
		case err != nil:
			return nil, rule.RequestMalformed.Because("the value of %s is not percent-encoded rightly", rule.Quote(name))
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return nil, rule.RequestMalformed.Because("the parameter %s is not UTF-8", rule.Quote(name)).
				WithHint("Encode names and values in UTF-8, and then percent-encode them.")
		case value == "":
		case f.Get(name) != "" && name != repeatable:
			return nil, rule.RequestDuplicateParameter.Because("the parameter %s occurs more than once", rule.Quote(name))
		default:
			f = append(f, parameter{name, value})
		}
	}
	return f, nil
}
