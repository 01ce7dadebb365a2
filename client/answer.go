package client

import (
	"bytes"
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/oauth2"

	"github.com/waybill-token/waybill/internal/outbound"
	"github.com/waybill-token/waybill/internal/problem"
)

// An answer is what a server said, whoever it is.
type answer struct {
	status   int
	header   http.Header
	body     []byte
	tooLarge *outbound.TooLargeError // nil: the body is whole
	sent     time.Time
	received time.Time // when the header came
}

// token reads the answer of a token endpoint to a request with the assertion
// compact, for the scope. The error is an [*Error].
func (a *answer) token(compact, scope string) (*cachedToken, error) {
	if a.status < 200 || a.status > 299 {
		return nil, a.refusal(compact)
	}
	granted, flaw := a.grant()
	if flaw != "" {
		e := a.unexpected(flaw)
		e.Said = clean(problem.JSON(a.body), compact, maxSaid) // no other form: it may well be a token
		return nil, e
	}
	if granted.scope == "" {
		granted.scope = scope // RFC 6749 section 5.1: as it was asked for
	}
	extra := map[string]any{"scope": granted.scope}
	if len(granted.notes) > 0 {
		extra["notes"] = granted.notes
	}
	// The life counts from when the request was sent: the server cannot have issued the token before.
	token := &oauth2.Token{AccessToken: granted.token, TokenType: "Bearer", Expiry: a.sent.Add(granted.life).Round(0)}
	share := renewalFrom + (renewalTo-renewalFrom)*fraction()
	return &cachedToken{
		token: token.WithExtra(extra),
		renew: a.sent.Add(time.Duration(float64(granted.life) * share)),
		until: a.sent.Add(granted.life - min(granted.life/10, maxMargin)),
	}, nil
}

// A grant is the answer of RFC 6749 section 5.1.
type grant struct {
	token string
	life  time.Duration
	scope string   // empty when the answer does not say
	notes []string // in what the answer differs from section 5.1, and was taken all the same
}

// tokenBody takes members of any kind, so that one of the wrong kind can be named. Others are ignored.
type tokenBody struct {
	AccessToken jsontext.Value `json:"access_token"`
	TokenType   jsontext.Value `json:"token_type"`
	ExpiresIn   jsontext.Value `json:"expires_in"`
	Scope       jsontext.Value `json:"scope"`
}

// grant reads a success, or says what is wrong with it. What is wrong never quotes the token.
//
// Servers differ from section 5.1 in ways that leave no doubt about what they mean:
// these are noted. Whatever leaves a doubt is refused.
func (a *answer) grant() (g grant, flaw string) {
	var body tokenBody
	if flaw := a.tokenObject(&body, &g); flaw != "" {
		return grant{}, flaw
	}
	token, ok := text(body.AccessToken)
	// RFC 6749 appendix A.12, without the blank, which would end the token in an Authorization header.
	if !ok || token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return grant{}, "the answer holds no token: access_token is missing or not the text of a token"
	}
	g.token = token
	g.note(a.status != http.StatusOK, "the server answered %d, where RFC 6749 section 5.1 has 200", a.status)
	if len(body.TokenType) == 0 || body.TokenType.Kind() == 'n' {
		g.note(true, "the answer states no token_type; the token is taken for one of the type Bearer")
	} else if kind, _ := text(body.TokenType); !strings.EqualFold(kind, "Bearer") {
		return grant{}, fmt.Sprintf("token_type is %s, and not Bearer, the one type that is known here", shown(body.TokenType, token))
	}
	g.life, ok = g.lifeOf(body.ExpiresIn)
	if !ok {
		return grant{}, fmt.Sprintf("expires_in is %s, and not a number of seconds, one at least", shown(body.ExpiresIn, token))
	}
	g.scope, _ = text(body.Scope)
	return g, ""
}

func (g *grant) note(when bool, format string, args ...any) {
	if when {
		g.notes = append(g.notes, fmt.Sprintf(format, args...))
	}
}

// tokenObject reads the object that holds the token, of whatever media type.
func (a *answer) tokenObject(into *tokenBody, g *grant) (flaw string) {
	if a.tooLarge != nil {
		return fmt.Sprintf("the answer is longer than %d bytes", a.tooLarge.Limit)
	}
	body, marked := bytes.CutPrefix(a.body, []byte("\xef\xbb\xbf"))
	g.note(marked, "a byte order mark stands before the answer, where RFC 8259 section 8.1 has none")
	object := jsontext.Value(body)
	if list := []jsontext.Value(nil); object.Kind() == '[' && json.Unmarshal(object, &list) == nil && len(list) == 1 {
		object = list[0] // as the OpenAPI of iSHARE 3.0 shows it
		g.note(true, "the answer is an array around the object of RFC 6749 section 5.1")
	}
	if object.Kind() != '{' || json.Unmarshal(object, into) != nil {
		return a.decode(into) // which says what is wrong
	}
	mediaType := a.mediaType()
	g.note(mediaType != mediaTypeJSON, "the media type of the answer is %s, not application/json", cmp.Or(clean(mediaType, "", 60), "missing"))
	return ""
}

// shown is a value other than the token for an error.
func shown(v jsontext.Value, token string) string {
	s, ok := text(v)
	if !ok {
		s = string(v)
	}
	return "'" + clean(s, token, 40) + "'"
}

// lifeOf reads expires_in. Without one, the token is kept for a short time: RFC 6749 only recommends to state it.
func (g *grant) lifeOf(v jsontext.Value) (time.Duration, bool) {
	number := string(v)
	switch v.Kind() {
	case '0':
	case '"':
		number, _ = text(v)
		if strings.Trim(number, "0123456789.") != "" {
			return 0, false
		}
		g.note(true, "expires_in is a text, where RFC 6749 section 5.1 has a number")
	default:
		g.note(v.Kind() == 'n', "expires_in is null; the token is kept for %s", defaultLife)
		return defaultLife, len(v) == 0 || v.Kind() == 'n'
	}
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil || seconds < 1 {
		return 0, false
	}
	return time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second)), true
}

// decode reads the body strictly, or says what is wrong with it.
func (a *answer) decode(into any) (flaw string) {
	switch mediaType := a.mediaType(); {
	case a.tooLarge != nil:
		return fmt.Sprintf("the answer is longer than %d bytes", a.tooLarge.Limit)
	case mediaType == "" && len(bytes.TrimSpace(a.body)) == 0:
		return "the answer is empty, and of no media type"
	case mediaType == "":
		return "the answer is of no media type, and should be application/json"
	case mediaType != mediaTypeJSON:
		return fmt.Sprintf("the answer is %s, not application/json", clean(mediaType, "", 60)) // in lower case, so never an assertion
	}
	switch {
	case jsontext.Value(a.body).Kind() == '{' && json.Unmarshal(a.body, into) == nil:
		return ""
	case len(bytes.TrimSpace(a.body)) == 0:
		return "the answer is empty"
	}
	return "the answer is not one JSON object in UTF-8 with each name once"
}

const mediaTypeJSON = "application/json"

// mediaType is empty when there is none, or no sense in it.
func (a *answer) mediaType() string {
	mediaType, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// text returns a value that is a string.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err == nil
}

// maxSaid is how much of what a server says is told, in characters.
const maxSaid = 500

// refusal reads an answer of RFC 6749 section 5.2, or tells what came instead.
func (a *answer) refusal(compact string) *Error {
	if a.status >= 300 && a.status < 400 {
		target, location := "nowhere", a.header.Get("Location")
		if u, err := url.Parse(location); err == nil && location != "" { // without the query, which may hold anything
			target = "to " + clean((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), compact, 120)
		}
		return a.fail("the answer is a redirect "+target+", which is not followed", "Set the server's address to where its token endpoint is.")
	}
	var body struct { // of any kind, as in tokenBody
		Error       jsontext.Value `json:"error"`
		Description jsontext.Value `json:"error_description"`
	}
	flaw := a.decode(&body)
	code, _ := text(body.Error)
	if flaw == "" && code == "" {
		flaw = "the answer is not an error of RFC 6749: it lacks the member error"
		if len(body.Error) > 0 {
			flaw = "the answer is not an error of RFC 6749: its member error is not a text"
		}
	}
	said := clean(problem.Text(a.body), compact, maxSaid)
	if flaw != "" {
		e := a.unexpected(flaw)
		e.Said = said
		return e
	}
	shortCode := clean(code, compact, 60)
	description := strings.TrimSuffix(strings.TrimSuffix(said, shortCode), "; ") // of other members, in servers that know half of RFC 6749
	if stated, ok := text(body.Description); ok {
		description = clean(stated, compact, maxSaid)
	}
	id, hint := namedRule(description)
	e := a.fail(description, hint)
	e.Code, e.RuleID = shortCode, id
	return e
}

// unexpected is an answer that no token endpoint gives: most often that of a proxy, or of another server.
func (a *answer) unexpected(flaw string) *Error {
	if a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed {
		return a.fail(flaw, "Check the server's address: who answers there has no token endpoint at it.")
	}
	if mediaType := a.mediaType(); a.status >= 500 || mediaType == mediaTypeJSON || strings.HasSuffix(mediaType, "+json") {
		return a.fail(flaw, "")
	}
	return a.fail(flaw, "Check the server's address: a token endpoint answers JSON, whatever it answers.")
}

// fail makes the error. A clock that is off is told whatever else is wrong.
func (a *answer) fail(description, hint string) *Error {
	wait := outbound.RetryAfter(a.header, a.received, maxRetryAfter)
	offset, ok := outbound.ClockAhead(a.header, a.sent, a.received)
	if !ok || offset.Abs() <= a.received.Sub(a.sent)/2+time.Second/2+tolerance {
		offset = 0
	}
	offset = offset.Round(time.Second)
	if wait > 0 {
		hint += fmt.Sprintf(" The server asks to wait for %s.", wait)
	}
	if offset != 0 {
		side := "behind"
		if offset < 0 {
			side = "ahead of"
		}
		hint += fmt.Sprintf(" The clock of this machine is %s %s the server's, by the Date of its answer; keep it right with NTP.", offset.Abs(), side)
	}
	return &Error{
		Status:      a.status,
		Description: description,
		Hint:        strings.TrimSpace(hint),
		RetryAfter:  wait,
		ClockOffset: offset,
		ClockKnown:  ok,
	}
}

// maxRetryAfter bounds what a server can ask for.
const maxRetryAfter = 24 * time.Hour

// tolerance is the difference of clocks that is not worth a word. Servers allow for some seconds.
const tolerance = 2 * time.Second
