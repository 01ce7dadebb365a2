// Package explain is what `waybill explain` and the console of the sandbox have in common: it finds the assertion in what
// people have at hand, has it judged, and shows the result as text, JSON or HTML.
package explain

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
)

// MaxInput is the size in bytes of the largest input that is read.
const MaxInput = 256 << 10

// An Input is what was found in a text.
type Input struct {
	// Assertion is the client assertion, as a server would get it.
	Assertion string
	// Mended is the assertion with its encoding put right, so that more of it can be judged: the same when nothing is wrong
	// with that.
	Mended string
	// Request is the token request that carries it; nil: the text does not say.
	Request *http.Request
	// Body is that of the request.
	Body []byte
	// Notes say what the text was taken for, and what was taken off.
	Notes []string
}

// An OtherError is the answer to a text that holds something else than an assertion.
type OtherError struct {
	What string // what it is
	Do   string // what to do with it
}

// Error says what it is.
func (e *OtherError) Error() string { return e.What }

// ErrEmpty is the answer to a text in which there is nothing.
var ErrEmpty = errors.New("there is no assertion to explain: the input is empty")

// maxDepth bounds how deep an assertion may be wrapped: quotes in a header field in a curl line, and so on.
const maxDepth = 6

// Read finds the assertion in a text: a JWT, alone or in quotes; a form, a curl command or an HTTP request that
// carries it; JSON that holds it; the value of a header field. An [*OtherError] says what else it is. What cannot be
// recognised is taken for an assertion, as a server would.
func Read(text string) (*Input, error) {
	if strings.TrimSpace(text) == "" {
		return nil, ErrEmpty
	}
	in := &Input{}
	if err := in.read(decodeText(text), 0); err != nil {
		return nil, err
	}
	if in.Mended == "" {
		in.Mended = mended(in.Assertion)
	}
	if answer := answerOf(in.Mended); answer != "" {
		in.note("%s", answer)
	}
	return in, nil
}

// decodeText takes the byte order mark off, and makes UTF-8 of the UTF-16 that some shells write.
func decodeText(text string) string {
	text = strings.TrimPrefix(text, "\xef\xbb\xbf")
	little, isLittle := strings.CutPrefix(text, "\xff\xfe")
	big, isBig := strings.CutPrefix(text, "\xfe\xff")
	if !isLittle && !isBig {
		return text
	}
	raw := little
	if isBig {
		raw = big
	}
	units := make([]uint16, 0, len(raw)/2)
	for i := 0; i+1 < len(raw); i += 2 {
		if isBig {
			units = append(units, uint16(raw[i])<<8|uint16(raw[i+1]))
		} else {
			units = append(units, uint16(raw[i+1])<<8|uint16(raw[i]))
		}
	}
	return string(utf16.Decode(units))
}

func (in *Input) note(format string, args ...any) {
	in.Notes = append(in.Notes, fmt.Sprintf(format, args...))
}

var (
	requestLine = regexp.MustCompile(`^[A-Za-z]+ \S+ HTTP/[0-9.]+\s*(\n|$)`)
	headerField = regexp.MustCompile(`(?i)^(authorization|proxy-authorization) *: *`)
	bearerWord  = regexp.MustCompile(`(?i)^bearer +`)
	formName    = regexp.MustCompile(`(^|[?&\s'"])(client_assertion|client_assertion_type|grant_type)=`)
	pemBlock    = regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]+)-----`)
)

// read takes one layer off, and goes on with what is inside.
func (in *Input) read(text string, depth int) error {
	trimmed := strings.TrimSpace(text)
	if depth > maxDepth {
		return in.assertion(text)
	}
	switch first, _ := utf8.DecodeRuneInString(trimmed); {
	case trimmed == "":
		return ErrEmpty
	case strings.HasPrefix(trimmed, "curl ") || strings.HasPrefix(trimmed, "$ curl "):
		return in.curl(strings.TrimPrefix(trimmed, "$ "), depth)
	case requestLine.MatchString(trimmed):
		return in.message(trimmed, depth)
	case pemBlock.MatchString(trimmed):
		return pem(pemBlock.FindStringSubmatch(trimmed)[1])
	case headerField.MatchString(trimmed):
		return in.read(headerField.ReplaceAllString(trimmed, ""), depth+1)
	case bearerWord.MatchString(trimmed):
		in.note("the input is the value of an Authorization header, where an access token stands; an assertion is sent as client_assertion in a form")
		return in.read(bearerWord.ReplaceAllString(trimmed, ""), depth+1)
	case first == '{' || first == '[':
		return in.json(trimmed, depth)
	case formName.MatchString(trimmed):
		return in.form(trimmed, depth)
	case len(quoted(trimmed)) < len(trimmed):
		return in.read(quoted(trimmed), depth+1)
	}
	if err := other(trimmed); err != nil {
		return err
	}
	return in.assertion(text)
}

// quoted takes quotes off, and the comma that stands behind a value in a program or in JSON.
func quoted(s string) string {
	s = strings.TrimRight(s, ",;")
	for _, pair := range []string{`""`, "''", "``", "“”", "‘’"} {
		opening, size := utf8.DecodeRuneInString(pair)
		if inner, ok := strings.CutPrefix(s, string(opening)); ok {
			return strings.TrimSuffix(inner, pair[size:])
		}
	}
	return s
}

// assertion takes a text for an assertion. The end of the last line belongs to the file or the terminal. What else is not of
// the assertion is judged, as a server would, and so is the rest without it.
func (in *Input) assertion(text string) error {
	compact, lineBreak := strings.CutSuffix(text, "\n")
	if lineBreak {
		compact = strings.TrimSuffix(compact, "\r")
		in.note("the input ends with a line feed: a server refuses an assertion that is sent with it (jwt.compact)")
	}
	in.Assertion = compact
	return nil
}

// noSignature stands where there is none. It is one of nobody, and no verdict about it is shown.
const noSignature = "AA"

// mended is an assertion in base64url where it is in standard base64, padded, or holds white space, and with the signature
// that it lacks.
func mended(compact string) string {
	parts := strings.Split(strings.Join(strings.Fields(compact), ""), ".")
	for i, part := range parts {
		if decoded := decodePart(part); decoded != nil {
			parts[i] = base64.RawURLEncoding.EncodeToString(decoded)
		}
	}
	if unsigned := len(parts) == 2 || len(parts) == 3 && parts[2] == ""; unsigned && object(parts[0]) != nil {
		parts = append(parts[:2], noSignature)
	}
	return strings.Join(parts, ".")
}

// form reads the body of a token request, or the URL of one. A lone client_assertion=… says nothing of the request.
func (in *Input) form(text string, depth int) error {
	if address, err := url.Parse(text); err == nil && address.Host != "" {
		in.note("the input is a URL; parameters in a URL count for nothing, and end up in logs")
		in.request(http.MethodPost, "application/x-www-form-urlencoded", nil, address.RawQuery)
		in.Assertion = address.Query().Get("client_assertion")
		return nil
	}
	text = strings.Trim(quoted(text), `'"`)
	values, err := url.ParseQuery(strings.Join(strings.Fields(text), ""))
	value := values.Get("client_assertion")
	if named := strings.Contains(text, "client_assertion="); named && (value == "" || len(values) == 1 && err == nil) {
		_, value, _ = strings.Cut(text, "client_assertion=")
		if unescaped, err := url.QueryUnescape(value); err == nil && !strings.Contains(value, "+") {
			value = unescaped
		}
		return in.read(value, depth+1)
	}
	body := strings.Join(strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "")
	in.request(http.MethodPost, "application/x-www-form-urlencoded", []byte(body), "")
	in.Assertion = value
	return nil
}

// request makes the request that a text is, as a server would get it.
func (in *Input) request(method, mediaType string, body []byte, query string) {
	in.Request = &http.Request{
		Method: method, URL: &url.URL{Path: ishare.TokenPath, RawQuery: query}, Header: http.Header{},
		ContentLength: int64(len(body)),
	}
	if mediaType != "" {
		in.Request.Header.Set("Content-Type", mediaType)
	}
	in.Body = body
}

// message reads an HTTP request as it goes over the line.
func (in *Input) message(text string, depth int) error {
	head, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	line := strings.Fields(lines[0])
	target, err := url.Parse(line[1])
	if err != nil {
		target = &url.URL{}
	}
	in.request(line[0], "", []byte(strings.TrimRight(body, "\n")), target.RawQuery)
	for _, field := range lines[1:] {
		name, value, _ := strings.Cut(field, ":")
		in.Request.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return in.requestHolds(depth)
}

// OfRequest is the input that a request is, with its body.
func OfRequest(r *http.Request, body []byte) *Input {
	in := &Input{Request: r, Body: body, Assertion: assertionIn(r, body)}
	in.Mended = mended(in.Assertion)
	return in
}

// assertionIn finds the assertion in a request: in its body, a form or JSON, or in its URL.
func assertionIn(r *http.Request, body []byte) string {
	var members map[string]any
	if json.Unmarshal(body, &members) == nil {
		assertion, _ := members["client_assertion"].(string)
		return assertion
	}
	return cmp.Or(parameters(string(body)).Get("client_assertion"), parameters(r.URL.RawQuery).Get("client_assertion"))
}

// requestHolds finds the assertion in the request, and without a body in the Authorization header.
func (in *Input) requestHolds(depth int) error {
	authorization := in.Request.Header.Get("Authorization")
	if len(in.Body) == 0 && bearerWord.MatchString(authorization) && strings.Count(authorization, ".") > 1 {
		in.Request, in.Body = nil, nil
		return in.read(authorization, depth+1)
	}
	in.Assertion = assertionIn(in.Request, in.Body)
	return nil
}

// json finds the assertion in a JSON text, at whatever depth.
func (in *Input) json(text string, depth int) error {
	var value any
	if err := json.Unmarshal([]byte(text), &value, jsontext.AllowDuplicateNames(true)); err != nil {
		if found := anyJWT.FindString(text); found != "" {
			in.note("the input is no JSON, as it is said to be; the JWT in it is judged")
			return in.read(found, depth+1)
		}
		return in.assertion(text)
	}
	if object, ok := value.(map[string]any); ok {
		if err := otherObject(object); err != nil {
			return err
		}
		if compact, ok := serialised(object); ok {
			in.note("the input is a JWS in the JSON serialisation (RFC 7515 section 7.2); an assertion is in the compact one, header.payload.signature")
			in.Assertion, in.Mended = text, mended(compact)
			return nil
		}
	}
	found := textsIn(value, nil, 0)
	i := slices.IndexFunc(found, func(s string) bool { return anyJWT.MatchString(s) })
	if i < 0 {
		return &OtherError{What: "this is JSON, and there is no JWT in it", Do: "Give the assertion itself: three parts with dots between them, the first begins with eyJ."}
	}
	in.note("the input is JSON that holds the assertion; a token request is a form, and not JSON (request.media-type)")
	return in.read(found[i], depth+1)
}

// serialised makes a compact JWS of the flattened or general serialisation of RFC 7515 section 7.2.
func serialised(object map[string]any) (string, bool) {
	payload, _ := object["payload"].(string)
	if signatures, ok := object["signatures"].([]any); ok && len(signatures) > 0 {
		object, _ = signatures[0].(map[string]any)
	}
	protected, _ := object["protected"].(string)
	signature, _ := object["signature"].(string)
	return protected + "." + payload + "." + signature, protected != "" && payload != "" && signature != ""
}

var anyJWT = regexp.MustCompile(`eyJ[A-Za-z0-9_+/=-]*\.[A-Za-z0-9_+/=-]+\.[A-Za-z0-9_+/=-]*`)

// textsIn lists the texts in a JSON value: that of client_assertion first.
func textsIn(value any, found []string, depth int) []string {
	if depth > maxDepth {
		return found
	}
	switch v := value.(type) {
	case string:
		found = append(found, v)
	case []any:
		for _, item := range v {
			found = textsIn(item, found, depth+1)
		}
	case map[string]any:
		if text, ok := v["client_assertion"].(string); ok {
			return append([]string{text}, found...)
		}
		for _, name := range sortedKeys(v) {
			found = textsIn(v[name], found, depth+1)
		}
	}
	return found
}

func sortedKeys(object map[string]any) []string {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// decodePart decodes what may be base64 of either alphabet, with or without padding. It is nil for what is none.
func decodePart(part string) []byte {
	plain := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(part), "=")
	decoded, err := base64.RawURLEncoding.DecodeString(plain)
	if err != nil {
		return nil
	}
	return decoded
}

// object decodes a part of a JWT that is a JSON object.
func object(part string) map[string]any {
	var members map[string]any
	if decoded := decodePart(part); !bytes.HasPrefix(bytes.TrimSpace(decoded), []byte("{")) ||
		json.Unmarshal(decoded, &members, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return nil
	}
	return members
}
