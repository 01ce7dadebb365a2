// Package explain is what `waybill explain` and the console of the sandbox have in common: it finds the assertion in what
// people have at hand, has it judged, and shows the result as text, JSON or HTML.
package explain

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/ishare"
	"github.com/waybill-token/waybill/tokenendpoint"
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
	raw, isLittle := strings.CutPrefix(text, "\xff\xfe")
	raw, isBig := strings.CutPrefix(raw, "\xfe\xff")
	var order binary.ByteOrder
	switch {
	case isLittle, withoutMark.MatchString(text):
		order = binary.LittleEndian
	case isBig, withoutMark.MatchString(strings.TrimPrefix(text, "\x00")): // one letter and the half of the next
		order = binary.BigEndian
	default:
		return text
	}
	units := make([]uint16, 0, len(raw)/2)
	for i := 0; i+1 < len(raw); i += 2 {
		units = append(units, order.Uint16([]byte(raw[i:i+2])))
	}
	return string(utf16.Decode(units))
}

// withoutMark is UTF-16 that does not say so, of letters as they stand in a JWT.
var withoutMark = regexp.MustCompile(`^(?:[[:print:]]\x00){4}`)

func (in *Input) note(format string, args ...any) {
	in.Notes = append(in.Notes, fmt.Sprintf(format, args...))
}

var (
	requestLine = regexp.MustCompile(`^(?:[A-Za-z]+ \S+ HTTP/[0-9.]+|[A-Z]+ https?://\S+)\s*(\n|$)`)
	answerLine  = regexp.MustCompile(`^HTTP/[0-9.]+ [0-9]{3}\b`)
	mailQuote   = regexp.MustCompile(`(?m)^(?:> ?)+`)
	headerField = regexp.MustCompile(`(?i)^(authorization|proxy-authorization) *: *`)
	bearerWord  = regexp.MustCompile(`(?i)^bearer +`)
	basicWord   = regexp.MustCompile(`(?i)^basic +[A-Za-z0-9+/]+=*$`)
	formName    = regexp.MustCompile(`(^|[?&\s'"=])(client_assertion|client_assertion_type|grant_type)=`)
	formRun     = regexp.MustCompile("[^\\s\"'`<>^]*client_assertion=[^\\s\"'`<>^]*")
	formBegin   = regexp.MustCompile(`^[^&]*?\b(grant_type|scope|client_id|client_assertion_type|client_assertion)=`)
	plainName   = regexp.MustCompile(`^['"]?[\w.%+-]+=`)
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
	case first == '>':
		in.note("the lines are quoted as in a mail; the marks were taken off, and lines that were wrapped put together")
		return in.read(joined(mailQuote.ReplaceAllString(trimmed, "")), depth+1)
	case curlWord.MatchString(trimmed):
		return in.curl(trimmed, depth)
	case requestLine.MatchString(trimmed):
		return in.message(strings.TrimLeft(text, " \t\r\n"), depth)
	case answerLine.MatchString(trimmed):
		_, body := cutHead(trimmed)
		return in.read(body, depth+1)
	case headerField.MatchString(trimmed):
		return in.read(headerField.ReplaceAllString(trimmed, ""), depth+1)
	case basicWord.MatchString(trimmed):
		return &OtherError{"this is a name and a password for Basic authentication", "A client of the framework authenticates with its assertion alone. " + doGiveAssertion}
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
	return in.rest(text, depth)
}

// rest is of a form that is not known.
func (in *Input) rest(text string, depth int) error {
	if found, others := within(text); found != "" {
		in.note("the JWT is judged without the text around it; a server refuses one that is sent with anything before or behind it (jwt.compact)")
		if others {
			in.note("the text holds several JWTs, and one is judged: give another alone")
		}
		return in.read(found, depth+1)
	}
	if err := other(text); err != nil {
		return err
	}
	return in.assertion(text)
}

// within finds a JWT that has other text around it: of several the one with certificates, or the first.
func within(text string) (found string, others bool) {
	if alone := strings.Join(strings.Fields(text), ""); anyJWT.FindString(alone) == alone {
		return "", false
	}
	text = joined(text)
	for _, at := range anyJWT.FindAllStringIndex(text, -1) {
		jwt, behind := text[at[0]:at[1]], text[at[1]:]
		header, _, _ := strings.Cut(jwt, ".")
		members := object(header)
		if members == nil || at[0] > 0 && inWord.MatchString(text[at[0]-1:at[0]]) || !afterJWT.MatchString(behind) {
			continue
		}
		others = others || found != "" && jwt != found
		if found == "" || members["x5c"] != nil && !strings.Contains(found, "x5c") {
			found = jwt
		}
	}
	return found, others
}

var (
	inWord   = regexp.MustCompile(`[\w.-]`)
	afterJWT = regexp.MustCompile("^(?:[.:!?]?(?:\\s|$)|[\"'`<>()\\[\\]{},;&|^*\\\\”’»])")
	piece    = regexp.MustCompile("^(.*?[\\s\"'`(:=])?([A-Za-z0-9_.-]+)(?:[\"'`][ \\t]*[+.&_\\\\ \\t]*|[ \\t]*[=\\\\]?)\r?$")
)

// longestPiece is the length of a line that is wrapped. What is longer stands on its line alone.
const longestPiece = 200

// joined puts a JWT together whose lines a mail has wrapped, or a program adds to each other.
func joined(text string) string {
	var all strings.Builder
	open, width, dots := false, 0, 0 // whether the line before may go on, its length, and what the JWT has so far
	for line := range strings.SplitSeq(text, "\n") {
		found := piece.FindStringSubmatch(line)
		if found == nil {
			all.WriteString("\n" + line)
			open = false
			continue
		}
		begins, length := strings.HasPrefix(found[2], "eyJ"), len(found[2])
		if open = open && (!begins || dots < 2) && strings.Trim(found[1], " \t+.&\"'`") == ""; open {
			all.WriteString(found[2])
		} else {
			all.WriteString("\n" + found[1] + found[2])
			dots = 0
		}
		dots += strings.Count(found[2], ".")
		open = length <= longestPiece && (open && (length >= width || strings.HasSuffix(found[2], "-")) || begins)
		width = length
	}
	return strings.TrimPrefix(all.String(), "\n")
}

// quoted takes quotes off, and the comma that stands behind a value in a program or in JSON.
func quoted(s string) string {
	s = strings.TrimRight(s, ",;")
	if fenced := fence.FindStringSubmatch(s); fenced != nil {
		return strings.TrimSpace(fenced[1])
	}
	for _, pair := range []string{`""`, "''", "``", "“”", "‘’"} {
		opening, size := utf8.DecodeRuneInString(pair)
		if inner, ok := strings.CutPrefix(s, string(opening)); ok {
			return strings.TrimSuffix(inner, pair[size:])
		}
	}
	return s
}

// fence is what stands around a text in Markdown.
var fence = regexp.MustCompile("(?s)^```\\w*\\n(.*?)(?:```)?$")

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
	if !plainName.MatchString(text) {
		run := formRun.FindString(text)
		if begin := formBegin.FindStringSubmatchIndex(run); begin != nil {
			run = run[begin[2]:]
		}
		if !anyJWT.MatchString(run) {
			return in.rest(text, depth)
		}
		text = run
		in.note("the form is judged as one that is posted, without the text around it")
	}
	values := tokenendpoint.Sent(nil, []byte(strings.Join(strings.Fields(text), "")))
	value := values.Get("client_assertion")
	if named := strings.Contains(text, "client_assertion="); named && (value == "" || len(values) == 1) {
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

// cutHead cuts an HTTP message at the empty line.
func cutHead(text string) (head, body string) {
	at := emptyLine.FindStringIndex(text)
	if at == nil {
		return text, ""
	}
	return text[:at[0]], text[at[1]:]
}

var emptyLine = regexp.MustCompile(`\r?\n\r?\n`)

// message reads an HTTP request as it goes over the line, or as it stands in a file of an editor that sends it. A
// line feed at its end belongs to the body only if Content-Length says so.
func (in *Input) message(text string, depth int) error {
	head, body := cutHead(text)
	lines := strings.Split(strings.ReplaceAll(head, "\r\n", "\n"), "\n")
	line := strings.Fields(lines[0])
	target, err := url.Parse(line[1])
	if err != nil {
		target = &url.URL{}
	}
	header := http.Header{}
	for _, field := range lines[1:] {
		name, value, _ := strings.Cut(field, ":")
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	length, err := strconv.Atoi(header.Get("Content-Length"))
	switch {
	case strings.EqualFold(header.Get("Transfer-Encoding"), "chunked"):
		content, _ := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(body))) // as much as can be read
		body = string(content)
	case len(line) < 3:
		body = strings.Join(strings.Fields(body), "")
	case err != nil || length < 0 || length > len(body):
		body = strings.TrimRight(body, "\r\n")
	default:
		body = body[:length]
	}
	in.request(line[0], "", []byte(body), target.RawQuery)
	in.Request.Header = header
	return in.requestHolds(depth)
}

// OfRequest is the input that a request is, with its body.
func OfRequest(r *http.Request, body []byte) *Input {
	in := &Input{Request: r, Body: body, Assertion: assertionIn(r, body)}
	in.Mended = mended(in.Assertion)
	return in
}

// assertionIn finds the assertion in a request: in its body, a form or what some send in place of one, or in its URL.
func assertionIn(r *http.Request, body []byte) string {
	return cmp.Or(tokenendpoint.Sent(r.Header, body).Get("client_assertion"), tokenendpoint.Sent(nil, []byte(r.URL.RawQuery)).Get("client_assertion"))
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
		if strings.HasPrefix(text, "{") {
			in.note("the input is no JSON, as it is said to be")
		}
		if formName.MatchString(text) {
			return in.form(text, depth)
		}
		return in.rest(text, depth)
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
	found := textsIn(value, nil)
	i := slices.IndexFunc(found, anyJWT.MatchString)
	if i < 0 {
		return &OtherError{What: "this is JSON, and there is no JWT in it", Do: "Give the assertion itself: three parts with dots between them, the first begins with eyJ."}
	}
	if object, ok := value.(map[string]any); ok && object["client_assertion"] != nil {
		in.note("the input is JSON that holds the assertion; a token request is a form, and not JSON (request.media-type)")
	} else {
		in.note("the input is JSON that holds the assertion")
	}
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

var anyJWT = regexp.MustCompile(`eyJ[A-Za-z0-9_+/-]*={0,2}\.[A-Za-z0-9_+/-]+={0,2}\.[A-Za-z0-9_+/-]*={0,2}`)

// textsIn lists the texts in a JSON value: first those that are called client_assertion, as a member or, as tools for
// requests write it, by a member besides.
func textsIn(value any, found []string) []string {
	switch v := value.(type) {
	case string:
		found = append(found, v)
	case []any:
		for _, item := range v {
			found = textsIn(item, found)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			text, ok := v[name].(string)
			if ok && (name == "client_assertion" || name == "value" && (v["key"] == "client_assertion" || v["name"] == "client_assertion")) {
				found = append([]string{text}, found...)
				continue
			}
			found = textsIn(v[name], found)
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
