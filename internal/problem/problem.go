// Package problem extracts the message from an HTTP answer that reports an error, in whatever
// form: JSON of RFC 6749, of RFC 9457 or of a house's own, HTML, or plain text.
package problem

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of what is read, and of what is returned.
const (
	maxRead  = 16 << 10 // bytes of the body
	maxText  = 500      // characters of the whole
	maxParts = 4        // texts out of one JSON answer
	maxDepth = 3        // of the members that hold them
)

// members are those whose texts are written for people, the most specific first. The texts of other
// members are left out: they may be anything.
var members = []string{
	"error_description", "errorDescription", "detail", "details", "description", "message", "error_message",
	"errorMessage", "msg", "reason", "title", "error", "errors", "info", "status_message", "statusMessage", "code",
}

// JSON is what a JSON answer says, and empty when it is no JSON or says nothing.
func JSON(body []byte) string {
	var value any
	if len(body) > maxRead || json.Unmarshal(body, &value) != nil {
		return ""
	}
	var parts []string
	collect(&parts, value, 0)
	return Clean(strings.Join(parts, "; "))
}

func collect(parts *[]string, value any, depth int) {
	if depth > maxDepth || len(*parts) == maxParts {
		return
	}
	switch v := value.(type) {
	case string:
		if text := strings.TrimSpace(v); text != "" && !slices.Contains(*parts, text) {
			*parts = append(*parts, text)
		}
	case []any:
		for _, element := range v[:min(len(v), maxParts)] {
			collect(parts, element, depth+1)
		}
	case map[string]any:
		for _, name := range members {
			collect(parts, v[name], depth+1)
		}
	}
}

// Text is what an answer of any form says.
func Text(body []byte) string {
	body = body[:min(len(body), maxRead)]
	if kind := jsontext.Value(body).Kind(); kind == '{' || kind == '[' || kind == '"' {
		return JSON(body)
	}
	text := string(body)
	if strings.HasPrefix(strings.TrimSpace(text), "<") {
		text = html.UnescapeString(markup.ReplaceAllString(text, " "))
	}
	return Clean(text)
}

// markup is what of HTML and XML is not for people. What has no end goes on to the end of the
// text, as in browsers: to look for the end again and again would cost with the square of the size.
var markup = regexp.MustCompile(`(?is)<script\b.*?(?:</script\s*>|\z)|<style\b.*?(?:</style\s*>|\z)|<!--.*?(?:-->|\z)|<[^>]*>?`)

// Clean makes a text fit for a terminal and a log: of at most 500 characters, printable, on one
// line, and without what looks like a token or a key.
func Clean(text string) string {
	text = text[:min(len(text), maxRead)]
	text = secrets.ReplaceAllString(text, "[removed]")
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return string(runes)
}

// enough is how many characters of a secret in a row give it away. Fewer occur by chance in an honest sentence.
const enough = 12

// Without takes out of a text whatever is also in a secret, such as an assertion that a server quotes in pieces. The work grows
// with the product of both lengths.
func Without(text, secret string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		at := -1
		if len(text)-i >= enough {
			at = strings.Index(secret, text[i:i+enough])
		}
		if at < 0 {
			b.WriteByte(text[i])
			i++
			continue
		}
		b.WriteString("[removed]")
		for at < len(secret) && i < len(text) && text[i] == secret[at] {
			i, at = i+1, at+1
		}
	}
	return b.String()
}

// secrets are JWTs, from their first part on, and whatever is long and has no blank: a
// fingerprint has 64 characters.
var secrets = regexp.MustCompile(`eyJ[A-Za-z0-9_.~+/=-]{10,}|[A-Za-z0-9_.~+/=-]{90,}`)
