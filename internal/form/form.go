// Package form reads the forms that clients post: strictly, in bounded memory, and with
// the rules of the catalogue as its errors.
package form

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"

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
//
// It lies in a buffer that is used again for other requests, and so ends with Release.
type Form struct {
	parameters []parameter
	buffer     *buffer
}

// A parameter lies in the buffer of its form.
type parameter struct{ name, value string }

// View returns the value of a parameter, and nothing when there is none. It lies in the form's buffer: it must not be
// used any more after Release.
func (f *Form) View(name string) string {
	for i := range f.parameters {
		if f.parameters[i].name == name {
			return f.parameters[i].value
		}
	}
	return ""
}

// Get is a copy of [Form.View], which may be kept.
func (f *Form) Get(name string) string { return strings.Clone(f.View(name)) }

// Len is the number of parameters.
func (f *Form) Len() int { return len(f.parameters) }

// Release gives the buffer back. A form that was released is empty.
func (f *Form) Release() {
	f.buffer.release()
	f.parameters, f.buffer = nil, nil
}

// Read takes the form from the body of a POST, and never from the URL. An error is a [*rule.Rejection] by one of the
// rules request.method to request.duplicate-parameter, unless it is our own.
func Read(r *http.Request) (*Form, error) {
	if r.Method != http.MethodPost {
		return nil, rule.RequestMethod.Because("this endpoint answers POST, not %s", rule.Quote(r.Method))
	}
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	b, err := readBody(r)
	if err == nil {
		var f *Form
		if f, err = Parse(b.bytes[:b.used]); err == nil {
			f.buffer = b
			return f, nil
		}
	}
	b.release()
	return nil, err
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

// A body is read whole before it is parsed, into a buffer that is used again: a stranger costs no more memory than these,
// and one that sends little only a small one.
type buffer struct {
	size  int // index of the pool
	bytes []byte
	used  int
}

// sizes of buffers: of the requests of programs that send no certificates, of those that send some, and the largest.
//
//nolint:gochecknoglobals // all requests share them
var (
	sizes = [...]int{4 << 10, 16 << 10, MaxBody + 1}
	pools [len(sizes)]sync.Pool
)

func newBuffer(size int) *buffer {
	if b, ok := pools[size].Get().(*buffer); ok {
		return b
	}
	return &buffer{size: size, bytes: make([]byte, sizes[size])}
}

// release wipes what was used, so that an assertion is gone with its request, and no later one can see it.
func (b *buffer) release() {
	if b == nil {
		return
	}
	clear(b.bytes[:b.used])
	b.used = 0
	pools[b.size].Put(b)
}

// readBody returns the buffer also with an error.
func readBody(r *http.Request) (*buffer, error) {
	if r.ContentLength > MaxBody {
		return nil, rule.RequestSize.Because("the body has %d bytes, more than %d", r.ContentLength, MaxBody)
	}
	b := newBuffer(0)
	for {
		n, err := r.Body.Read(b.bytes[b.used:])
		b.used += n
		// A larger buffer comes before this one is full when more than it holds was announced: what a server has read
		// already comes first, and then one read brings the rest.
		full := b.used == len(b.bytes) || r.ContentLength > int64(len(b.bytes)) && b.used >= len(b.bytes)/2
		switch {
		case ended(err) && r.ContentLength >= 0 && int64(b.used) != r.ContentLength:
			return b, rule.RequestMalformed.Because("the body has %d bytes, and its Content-Length is %d", b.used, r.ContentLength).
				WithHint("Let the HTTP library count: Content-Length is in bytes, and not in characters.")
		case err != nil && !errors.Is(err, io.EOF):
			return b, rule.RequestMalformed.Because("the body could not be read to its end").
				WithHint("Send the whole body: the connection, or a proxy, cut it off.").From(err)
		case b.used > MaxBody:
			return b, rule.RequestSize.Reject()
		case errors.Is(err, io.EOF):
			return b, nil
		case full:
			larger := newBuffer(b.size + 1)
			larger.used = copy(larger.bytes, b.bytes[:b.used])
			b.release()
			b = larger
		}
	}
}

// ended reports whether a body ended, and maybe before its end.
func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// Parse takes a form apart in one pass, and decodes it where it lies. It is stricter than [net/url.ParseQuery] in that a
// name has a value once, but for resource, and everything is UTF-8. An error is a [*rule.Rejection].
func Parse(body []byte) (*Form, error) {
	f, count := &Form{parameters: make([]parameter, 0, 8)}, 0
	for pair := range bytes.SplitSeq(body, []byte{'&'}) {
		if len(pair) == 0 {
			continue
		}
		count++
		if count > maxParameters {
			return nil, rule.RequestMalformed.Because("the form holds more than %d parameters", maxParameters).
				WithHint("Send the five parameters of a token request, and no other data.")
		}
		rawName, rawValue, _ := bytes.Cut(pair, []byte{'='})
		name, ok := unescape(rawName)
		if !ok {
			return nil, rule.RequestMalformed.Because("the parameter name %s is not percent-encoded rightly", rule.Quote(string(rawName)))
		}
		value, ok := unescape(rawValue)
		switch {
		case !ok:
			return nil, rule.RequestMalformed.Because("the value of %s is not percent-encoded rightly", rule.Quote(string(name)))
		case !utf8.Valid(name) || !utf8.Valid(value):
			return nil, rule.RequestMalformed.Because("the parameter %s is not UTF-8", rule.Quote(string(name))).
				WithHint("Encode names and values in UTF-8, and then percent-encode them.")
		case len(value) == 0:
		case f.View(string(name)) != "" && string(name) != repeatable:
			return nil, rule.RequestDuplicateParameter.Because("the parameter %s occurs more than once", rule.Quote(string(name)))
		default:
			f.parameters = append(f.parameters, parameter{viewOf(name), viewOf(value)})
		}
	}
	return f, nil
}

// viewOf is a text that lies in the bytes.
func viewOf(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // nobody writes there before Release
}

// unescape decodes in place what [net/url.QueryUnescape] decodes, and reports whether that can be done. Otherwise the text
// stays as it is.
func unescape(text []byte) ([]byte, bool) {
	if bytes.IndexByte(text, '%') < 0 && bytes.IndexByte(text, '+') < 0 {
		return text, true
	}
	for i := range text {
		if text[i] == '%' && (i+2 >= len(text) || hexDigit(text[i+1]) < 0 || hexDigit(text[i+2]) < 0) {
			return nil, false
		}
	}
	decoded := text[:0]
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '%':
			decoded = append(decoded, byte(hexDigit(text[i+1])<<4|hexDigit(text[i+2])))
			i += 2
		case '+':
			decoded = append(decoded, ' ')
		default:
			decoded = append(decoded, c)
		}
	}
	return decoded, true
}

// hexDigit is the value of a digit, or -1.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
