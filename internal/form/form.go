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

	"github.com/waybill-token/waybill/ishare"
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

// Read takes the form from the body of a POST, and never from the URL. An error is a
// [*ishare.Rejection] by one of the rules request.method to request.duplicate-parameter,
// unless it is our own.
func Read(r *http.Request) (Form, error) {
	if r.Method != http.MethodPost {
		return nil, ishare.RequestMethod.Because("this endpoint answers POST, not %.20s", r.Method)
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
	if len(values) != 1 {
		return ishare.RequestMediaType.Because("the request has no content type, or several")
	}
	mediaType, _, err := mime.ParseMediaType(values[0])
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return ishare.RequestMediaType.Reject()
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return ishare.RequestMediaType.Because("the body is compressed, which is not supported here")
	}
	return nil
}

// A body is read whole before it is parsed, into a buffer that is used again:
// a stranger costs no more memory than this.
var buffers = sync.Pool{New: func() any { return new([MaxBody + 1]byte) }}

func readBody(r *http.Request) (string, error) {
	if r.ContentLength > MaxBody {
		return "", ishare.RequestSize.Reject()
	}
	buffer, ok := buffers.Get().(*[MaxBody + 1]byte)
	if !ok {
		return "", errors.New("form: the pool holds something else than buffers")
	}
	defer buffers.Put(buffer)
	n, err := io.ReadFull(r.Body, buffer[:])
	switch {
	case err == nil:
		return "", ishare.RequestSize.Reject()
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return "", ishare.RequestMalformed.Because("the body could not be read to its end").From(err)
	case r.ContentLength >= 0 && int64(n) != r.ContentLength:
		return "", ishare.RequestMalformed.Because("the body is shorter than its Content-Length")
	}
	return string(buffer[:n]), nil
}

// Parse takes a form apart in one pass. It is stricter than [url.ParseQuery] in that a
// name has a value once, but for resource, and everything is UTF-8. An error is a [*ishare.Rejection].
func Parse(body string) (Form, error) {
	f, count := make(Form, 0, 8), 0
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		count++
		if count > maxParameters {
			return nil, ishare.RequestMalformed.Because("the form holds more than %d parameters", maxParameters)
		}
		name, value, _ := strings.Cut(pair, "=")
		p, err := decode(name, value)
		switch {
		case err != nil:
			return nil, err
		case p.value == "":
		case f.Get(p.name) != "" && p.name != repeatable:
			return nil, ishare.RequestDuplicateParameter.Because("the parameter %.40s occurs more than once", p.name)
		default:
			f = append(f, p)
		}
	}
	return f, nil
}

func decode(name, value string) (parameter, error) {
	n, err := url.QueryUnescape(name)
	if err != nil {
		return parameter{}, ishare.RequestMalformed.Because("a parameter name is not percent-encoded rightly").From(err)
	}
	v, err := url.QueryUnescape(value)
	if err != nil {
		return parameter{}, ishare.RequestMalformed.Because("the value of %.40s is not percent-encoded rightly", n)
	}
	if !utf8.ValidString(n) || !utf8.ValidString(v) {
		return parameter{}, ishare.RequestMalformed.Because("a parameter is not UTF-8")
	}
	return parameter{n, v}, nil
}
