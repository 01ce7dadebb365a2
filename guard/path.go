package guard

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A path is routed by one program and served by another, and whoever finds a spelling that they
// read differently gets past the route. /public/%2e%2e/admin is below /public for
// us and is /admin for a program that decodes first; /public/..;/admin is, for one that cuts
// path parameters off. We do not guess how the upstream reads: what can be read in two
// ways is refused, and what is left is passed on as it is.

// maxLayers is how often a path may be percent-encoded over and over.
const maxLayers = 3

// special are the characters that mean something in a path or end it.
const special = `./\;?#`

// A reading is a path that can be read in one way.
type reading struct {
	plain string // decoded once, as the upstream will
	loose string // as the most careless upstream might: decoded to the end and folded
}

// readPath says what is suspicious about a path, in a sentence for the client.
func readPath(u *url.URL) (r reading, suspicion string) {
	text := u.EscapedPath()
	for layer := 0; ; layer++ {
		if suspicion := suspectText(text); suspicion != "" {
			return reading{}, suspicion
		}
		decoded, suspicion := decodeLayer(text)
		switch {
		case suspicion != "":
			return reading{}, suspicion
		case decoded == text:
			return reading{plain: u.Path, loose: loosen(text)}, ""
		case layer == maxLayers:
			return reading{}, "the path is encoded over and over"
		}
		text = decoded
	}
}

// suspectText judges what stands in a layer unencoded.
func suspectText(text string) string {
	switch {
	case !strings.HasPrefix(text, "/"):
		return "the path does not begin with a slash"
	case strings.Contains(text, "//"):
		return "the path holds an empty segment"
	case strings.Contains(text, ";"):
		return "the path holds a semicolon"
	case unicodeEscape.MatchString(text):
		return "the path holds a character encoded with %u"
	case strings.Contains(text, ":$"):
		return "the path names a stream of a file"
	case strings.ContainsFunc(text, isLookalike):
		return "the path holds a character that some programs take for another"
	}
	for segment := range strings.SplitSeq(text[1:], "/") {
		if segment != "" && strings.TrimLeftFunc(segment, isDotOrBlank) == "" {
			return "the path holds a segment of dots or blanks"
		}
	}
	return ""
}

// unicodeEscape is how JavaScript's escape writes a character, and some servers read it. It was no
// percent-encoding in the layer above.
var unicodeEscape = regexp.MustCompile(`(?i)%u[0-9a-f]{4}`)

// isLookalike finds what is one of the characters that matter here, or holds one, for a program
// that brings text into Unicode's form NFKC: a full-width slash, an ellipsis, a Greek question mark.
func isLookalike(r rune) bool {
	return r >= utf8.RuneSelf && strings.ContainsAny(norm.NFKC.String(string(r)), special+"%")
}

// isBlank finds blanks of every kind, and what cannot be seen at all.
func isBlank(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }

func isDotOrBlank(r rune) bool { return r == '.' || isBlank(r) }

// decodeLayer decodes percent-encoding once, and refuses what no client encodes but to hide it, or
// what means something else decoded than encoded.
func decodeLayer(text string) (decoded, suspicion string) {
	if !strings.Contains(text, "%") {
		return text, ""
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c, ok := unhex(text[i:])
		if !ok {
			b.WriteByte(text[i])
			continue
		}
		if c < ' ' || c == 0x7f || strings.IndexByte(special, c) >= 0 {
			return "", fmt.Sprintf("the path holds the character %%%02X encoded", c)
		}
		b.WriteByte(c)
		i += 2
	}
	if !utf8.ValidString(b.String()) {
		return "", "the path is not UTF-8"
	}
	return b.String(), ""
}

// unhex reads %XX at the beginning of a text.
func unhex(text string) (byte, bool) {
	if len(text) < 3 || text[0] != '%' {
		return 0, false
	}
	high, low := digit(text[1]), digit(text[2])
	return high<<4 | low, high < 16 && low < 16
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// loosen gives one text to all paths that are the same for some upstream: Windows passes over
// case, and over dots and blanks at the end of a name; other programs cut off blanks on both sides,
// pass over what cannot be seen, or take full-width letters for the usual ones.
func loosen(path string) string {
	seen := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, path)
	segments := strings.Split(strings.ToLower(strings.ToUpper(norm.NFKC.String(seen))), "/")
	for i, segment := range segments {
		segments[i] = strings.TrimLeftFunc(strings.TrimRightFunc(segment, isDotOrBlank), isBlank)
	}
	return strings.Join(segments, "/")
}
