package explain

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/accesstoken"
	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/ishare"
)

// ReadToken finds an access token in a text: alone or in quotes, behind Bearer, in a header field, a curl line, an HTTP request or the
// answer of a token endpoint.
func ReadToken(text string) (string, error) {
	text = strings.TrimSpace(decodeText(text))
	whole := text
	if curlWord.MatchString(text) {
		for _, header := range parseCurl(words(curlLine(text))[1:]).headers {
			if headerField.MatchString(header) {
				return ReadToken(header)
			}
		}
	}
	if requestLine.MatchString(text) {
		for line := range strings.Lines(text) {
			if headerField.MatchString(line) {
				return ReadToken(line)
			}
		}
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &answer) == nil && answer.AccessToken != "" {
		text = answer.AccessToken
	}
	text = quoted(headerField.ReplaceAllString(quoted(text), ""))
	text = strings.Join(strings.Fields(bearerWord.ReplaceAllString(text, "")), "")
	switch found := anyToken.FindString(joined(mailQuote.ReplaceAllString(whole, ""))); {
	case text == "":
		return "", ErrEmpty
	case found != "" && strings.ContainsFunc(text, notInToken):
		return found, nil
	}
	return text, nil
}

// anyToken is a token of this program within another text, and notInToken tells what is in none.
var anyToken = regexp.MustCompile(`eyJ[\w-]+(?:\.[\w-]*){2,4}`)

func notInToken(r rune) bool {
	return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// Token is the view of an access token. Its steps are those of a secured endpoint; they have no rules of the catalogue, so
// their ids begin with token.
func Token(e *accesstoken.Explanation, scopes []string, at time.Time) *View {
	v := &View{Verdict: Accepted, JudgedAt: at.UTC().Truncate(time.Millisecond), Time: "judged as of " + stamp(at)}
	c := e.Claims
	v.step("token.ours", "the token is one of this server's", e.Ours, c == nil, "Ask this server for a token: waybill token. A token that another server gave, or that was altered on the way, is no good here.")
	v.step("token.expired", "the token has not expired", e.Expired, c == nil, "Ask for a new token: one lives for as long as expires_in said.")
	v.step("token.revoked", "the token was not revoked", e.Revoked, c == nil, "Ask for a new token. When that one is no good either, the server's operator has revoked the party or its certificate.")
	var lacks error
	for _, scope := range scopes {
		if c != nil && !c.Scope.Has(scope) {
			lacks = fmt.Errorf("the token has the scope %s, and lacks %s", c.Scope, scope)
			break
		}
	}
	v.step("token.scope", "the token has what the endpoint asks for", lacks, c == nil || len(scopes) == 0, "Ask for a token with --scope '"+strings.Join(scopes, " ")+"'.")
	if c != nil {
		v.Party = string(c.Party)
		v.Claims = []Field{
			{Name: "id", Value: c.ID},
			{Name: "party", Value: string(c.Party)},
			{Name: "client", Value: string(c.Client)},
			{Name: "scope", Value: c.Scope.String()},
			{Name: "iat", Value: strconv.FormatInt(c.Issued.Unix(), 10), About: stamp(c.Issued)},
			{Name: "exp", Value: strconv.FormatInt(c.Expires.Unix(), 10), About: stamp(c.Expires) + ", " + relative(c.Expires.Sub(at))},
			{Name: "cert", Value: "SHA-256 " + c.Thumbprint},
		}
	}
	return v
}

// step adds what became of one step, and makes it the verdict when it is the first that says no, or cannot be taken.
func (v *View) step(id, title string, err error, skipped bool, hint string) {
	r := Rule{ID: id, Title: title, Outcome: assertion.Pass}
	no := errors.Is(err, accesstoken.ErrInvalid) || errors.Is(err, accesstoken.ErrExpired) || id == "token.scope"
	switch {
	case err == nil && skipped:
		r.Outcome = assertion.Skipped
	case err == nil:
	case no:
		r.Outcome, r.Detail, r.Hint = assertion.Fail, Printable(err.Error()), hint
	default:
		r.Outcome, r.Detail = assertion.Unknown, Printable(err.Error())
	}
	v.Rules = append(v.Rules, r)
	switch {
	case r.Outcome == assertion.Fail && v.Verdict != Rejected:
		v.Verdict, v.Rule, v.Sentence, v.Hint = Rejected, id, r.Detail, hint
	case r.Outcome == assertion.Unknown && v.Verdict == Accepted:
		v.Verdict = Unknown
	}
}

// Scopes are the values of a scope that somebody has written.
func Scopes(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	scope, err := ishare.ParseScope(text)
	return scope, err
}
