package probe

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/internal/problem"
	"github.com/waybill-token/waybill/rule"
)

// maxAnswer is the most that is read of an answer, in bytes.
const maxAnswer = 256 << 10

// An answer is what a server said, or that it said nothing.
type answer struct {
	err    error // there was no answer
	status int
	header http.Header
	body   []byte // at most maxAnswer bytes

	token             string                    // access_token, wherever it is
	object            map[string]jsontext.Value // the body, when it is one strict JSON object
	code, description string                    // of RFC 6749 section 5.2

	secrets []string // what must not be shown
}

// anyToken finds a token in an answer that is no strict JSON object, such as a form, or an array as in the OpenAPI
// description.
var anyToken = regexp.MustCompile(`(?:"access_token"\s*:\s*"|(?:^|&)access_token=)([^"&\s]+)`)

// readAnswer reads the body, and no more of it than is bounded.
func readAnswer(response *http.Response) (*answer, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	a := &answer{status: response.StatusCode, header: response.Header, body: body}
	if json.Unmarshal(body, &a.object) != nil {
		a.object = nil
	}
	if a.token = a.text("access_token"); a.object == nil {
		if found := anyToken.FindSubmatch(body); found != nil {
			a.token = string(found[1])
		}
	}
	a.code, a.description = a.text("error"), a.text("error_description")
	return a, nil
}

// text is a member of the body that is a text, or empty.
func (a *answer) text(name string) string {
	var s string
	if v, ok := a.object[name]; !ok || json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

// refusal says whether the server definitely gave no token.
func (a *answer) refusal() bool {
	return a.err == nil && a.token == "" && a.status >= 400 && a.status < 500 && !a.busy()
}

// maxLife is the longest life of an access token that is told from a longer one.
const maxLife = 366 * 24 * time.Hour

// life is how long the access token lives, a text that is a number included; zero when the answer does not say.
func (a *answer) life() time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(a.object["expires_in"]), `"`), 64)
	if err != nil || !(seconds > 0) { // nor is NaN
		return 0
	}
	return time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second))
}

// busy says whether the server wants to be asked again later.
func (a *answer) busy() bool {
	return a.err == nil && (a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "")
}

// rule is the id that the description begins with, as that of Waybill does, or empty.
func (a *answer) rule() string {
	id, _, _ := strings.Cut(a.description, ":")
	if slices.ContainsFunc(rule.All(), func(r *rule.Rule) bool { return r.ID == id }) {
		return id
	}
	return ""
}

// told is what the server said, fit for a terminal and a report.
func (a *answer) told() string {
	switch {
	case a.err != nil:
		return "no answer: " + a.clean(a.err.Error())
	case a.token != "":
		return fmt.Sprintf("%d and a token", a.status)
	}
	said := a.clean(problem.Text(a.body))
	if a.code != "" {
		said = a.clean(a.code)
		if a.description != "" {
			said += ": " + a.clean(a.description)
		}
	}
	if a.status >= 300 && a.status < 400 {
		said = "a redirect, which is not followed"
	}
	return strings.TrimSuffix(fmt.Sprintf("%d %s", a.status, said), " ")
}

// maxTold is how much is shown of what a server said, in bytes.
const maxTold = 300

// clean takes from a text what nobody must see, and what a terminal would not stand.
func (a *answer) clean(text string) string {
	for _, secret := range a.secrets {
		text = strings.ReplaceAll(text, secret, "[removed]")
	}
	text = problem.Clean(text) // which bounds the work that follows
	for _, secret := range a.secrets {
		text = problem.Without(text, secret)
	}
	if len(text) > maxTold {
		text = strings.ToValidUTF8(text[:maxTold], "") + "…"
	}
	return text
}

// mediaType is that of the body, or empty.
func (a *answer) mediaType() string {
	mediaType, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// noStore says whether Cache-Control forbids to keep the answer.
func (a *answer) noStore() bool {
	for _, line := range a.header.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-store") {
				return true
			}
		}
	}
	return false
}

// traces are what no answer to a stranger should hold: stack traces, and the pages of frameworks.
var traces = regexp.MustCompile(`(?i)\bat [\w.$<>]+\([\w.]+:\d+\)|\bat [^\s()]+ \(?/?[^\s()]+:\d+:\d+\)?|Traceback \(most recent call last\)|goroutine \d+ \[|Stack trace:|<!DOCTYPE html|<html`)

func (a *answer) trace() bool { return traces.Match(a.body) }

// codes are the error codes of RFC 6749 section 5.2.
var codes = []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}

// flaw is in what a refusal is not one of RFC 6749, or empty.
func (a *answer) flaw(statuses []int) string {
	switch {
	case a.status != http.StatusBadRequest && a.status != http.StatusUnauthorized && !slices.Contains(statuses, a.status):
		return fmt.Sprintf("the status is %d, where RFC 6749 section 5.2 has 400, or 401 for invalid_client", a.status)
	case a.trace():
		return "the answer is a page or holds a stack trace"
	}
	return a.codeFlaw()
}

// codeFlaw is what is wrong with the code of an error, or empty.
func (a *answer) codeFlaw() string {
	switch {
	case a.object == nil:
		return "the answer is no JSON object, as RFC 6749 section 5.2 has it"
	case a.code == "":
		return "error is missing, or no text"
	case !slices.Contains(codes, a.code):
		return fmt.Sprintf("error is %q, which is none of RFC 6749 section 5.2", a.clean(a.code))
	}
	return ""
}

// Judging.

// A finding is what came of a case.
type finding struct {
	Verdict Verdict
	Outcome Outcome
	Reason  string
}

func skip(format string, args ...any) *finding {
	return &finding{Skipped, NotJudged, fmt.Sprintf(format, args...)}
}

// unanswered judges answers that are none, whatever the case.
func unanswered(a *answer) *finding {
	switch {
	case a.err != nil:
		return &finding{Fail, NoAnswer, a.clean(a.err.Error())}
	case a.busy():
		return a.putOff()
	case a.status >= 500:
		return &finding{Fail, ServerError, a.told()}
	}
	return nil
}

// mustRefuse wants no token, and an error of RFC 6749.
func mustRefuse(c Case, a *answer) finding {
	if a.token != "" {
		return finding{c.miss(), GaveToken, a.told()}
	}
	if f := unanswered(a); f != nil {
		return *f
	}
	if !a.refusal() {
		return finding{Warn, OddRefusal, a.told() + "; neither a token nor an error"}
	}
	if flaw := a.flaw(nil); flaw != "" && !slices.Contains(c.statuses, a.status) {
		return finding{Warn, OddRefusal, a.told() + "; " + flaw}
	}
	return finding{Pass, Refused, a.told()}
}

// mustRefuseMethod wants a status that says so; what the body says is of no matter.
func mustRefuseMethod(c Case, a *answer) finding {
	switch {
	case a.status == http.StatusNotImplemented && a.token == "": // RFC 9110 section 15.6.2
		return finding{Warn, OddRefusal, a.told() + "; 405 is the status for it"}
	case a.token != "" || a.err != nil || a.status >= 500:
		return mustRefuse(c, a)
	case a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotFound:
		return finding{Pass, Refused, a.told()}
	case !a.refusal():
		return finding{c.miss(), OddRefusal, a.told() + "; neither 405 nor 404"}
	}
	return finding{Warn, OddRefusal, a.told() + "; 405 is the status for it"}
}

// mustRefuseSize takes a closed connection for a refusal: the server need not read on.
func mustRefuseSize(c Case, a *answer) finding {
	if a.err != nil {
		return finding{Pass, Refused, a.told()}
	}
	return mustRefuse(c, a)
}

// mustAccept wants a token.
func mustAccept(c Case, a *answer) finding {
	if a.token != "" && a.status < 400 {
		return finding{Pass, Accepted, a.told()}
	}
	if f := unanswered(a); f != nil {
		return *f
	}
	return finding{c.miss(), RefusedRight, a.told()}
}
