package proxy

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A path is routed by one program and served by another, and whoever finds a spelling that they read differently gets
// past the route. /public/%2e%2e/admin is below /public for us and is /admin for a program that decodes first;
// /public/..;/admin is, for one that cuts path parameters off. We do not guess how the upstream reads: what can be read
// in two ways is refused, and what is left is passed on as it is.
//
// A route with opaque paths takes more: what can be read in many ways below its own path, when no
// reading leads out of there. See [PathsOpaque].

// maxLayers is how often a path may be percent-encoded over and over.
const maxLayers = 3

// maxPath is how many bytes a path may have: to check one costs more than to read it, and strangers
// send it. Servers usually take 8 KiB for a whole request line.
const maxPath = 8 << 10

// special are the characters that mean something in a path or end it.
const special = `./\;?#`

// slashes are what Windows makes of these characters where a program asks for text in an old code page,
// such as 1252, 932 or 949: a slash or a backslash.
const slashes = "\u2044\u2215\u2216\u00a5\u20a9"

// A canonicalPath is a path that can be read in one way.
type canonicalPath struct {
	decoded string // once, as the upstream will
	folded  string // as the most careless upstream might read it: decoded to the end, see foldPath
}

// pathText is a path as the request line has it, but that what a URL may only hold encoded is encoded.
// [url.URL.EscapedPath] would in that case decode the rest: %2F beside a quotation mark.
func pathText(u *url.URL) string {
	if plain, err := url.PathUnescape(u.RawPath); u.RawPath == "" || err != nil || plain != u.Path {
		return u.EscapedPath()
	}
	var b strings.Builder
	for i := range len(u.RawPath) {
		c := u.RawPath[i]
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		// What else a path may hold: RFC 3986 section 3.3, and the brackets that [url.URL] lets pass.
		if alphanumeric || strings.IndexByte("-._~!$&'()*+,;=:@%/[]", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// canonicalize reads the text of a path, or says why it is rejected, in a sentence for the client.
func canonicalize(text string) (path canonicalPath, rejectReason string) {
	innermost, rejectReason := decodeAll(text, rejectAmbiguous, mustNotBeEncoded)
	if rejectReason != "" {
		return canonicalPath{}, rejectReason
	}
	decoded, err := url.PathUnescape(text)
	if err != nil {
		return canonicalPath{}, "the path is not percent-encoded rightly"
	}
	return canonicalPath{decoded: decoded, folded: foldPath(innermost)}, ""
}

// rejectWayOut rejects the text behind a route's own path if some reading of it leads up and out. Nothing but a
// segment of two dots does, whichever character ends the segment, or the path.
func rejectWayOut(text string) (rejectReason string) {
	_, rejectReason = decodeAll(text, rejectDotSegments, func(byte) bool { return false })
	return rejectReason
}

// decodeAll decodes a text until there is nothing left to decode. Each layer is checked, and each character that was
// encoded.
func decodeAll(text string, reject func(string) string, forbidden func(byte) bool) (innermost, rejectReason string) {
	for layer := 0; ; layer++ {
		if rejectReason := reject(text); rejectReason != "" {
			return "", rejectReason
		}
		decoded, rejectReason := decodeOnce(text, forbidden)
		switch {
		case rejectReason != "":
			return "", rejectReason
		case decoded == text:
			return text, ""
		case layer == maxLayers:
			return "", "the path is encoded over and over"
		}
		text = decoded
	}
}

// rejectDotSegments rejects segments that consist of dots, for programs that see the end of a segment, or of
// the path, in any of these characters, or pass over blanks and what cannot be seen.
func rejectDotSegments(text string) string {
	if rejectReason := rejectServerSyntax(text); rejectReason != "" {
		return rejectReason
	}
	ends := func(r rune) bool { return isBlank(r) || strings.ContainsRune(`/\;?#:`+slashes, r) }
	for segment := range strings.FieldsFuncSeq(norm.NFKC.String(text), ends) {
		if strings.Trim(segment, ".") == "" {
			return "the path holds a segment of dots"
		}
	}
	return ""
}

// rejectAmbiguous rejects what stands in a layer unencoded and is not read alike by all programs.
func rejectAmbiguous(text string) string {
	switch {
	case !strings.HasPrefix(text, "/"):
		return "the path does not begin with a slash"
	case strings.Contains(text, "//"):
		return "the path holds an empty segment"
	case strings.Contains(text, ";"):
		return "the path holds a semicolon"
	case strings.Contains(text, ":$"):
		return "the path names a stream of a file"
	case strings.ContainsFunc(text, isLookalike):
		return "the path holds a character that some programs take for another"
	}
	for segment := range strings.SplitSeq(text[1:], "/") {
		// A program that ends a segment at a blank reads "..%20x" as the way up.
		words := strings.FieldsFunc(segment, isBlank)
		if segment != "" && (len(words) == 0 || strings.Trim(words[0], ".") == "") {
			return "the path holds a segment of dots or blanks, or one that begins so"
		}
	}
	return rejectServerSyntax(text)
}

var (
	// unicodeEscape is how JavaScript's escape writes a character, and some servers read it. It was no
	// percent-encoding in the layer above.
	unicodeEscape = regexp.MustCompile(`(?i)%u[0-9a-f]{4}`)
	// cookieless is how ASP.NET writes a session into a path: /(S(abc))/orders is /orders for it.
	cookieless = regexp.MustCompile(`(?i)\([a-z]\(`)
)

// rejectServerSyntax rejects what one family of servers alone decodes, or takes out of a path.
func rejectServerSyntax(text string) string {
	switch {
	case strings.Contains(text, "%") && unicodeEscape.MatchString(text):
		return "the path holds a character encoded with %u"
	case strings.Contains(text, "(") && cookieless.MatchString(text):
		return "the path holds what some servers take for a session"
	}
	return ""
}

// isLookalike finds what is one of the characters that matter here, or holds one, for a program
// that brings text into Unicode's form NFKC, or into an old code page: a full-width slash, an ellipsis, a Greek question mark.
func isLookalike(r rune) bool {
	return r >= utf8.RuneSelf && (strings.ContainsRune(slashes, r) || strings.ContainsAny(norm.NFKC.String(string(r)), special+"%"))
}

// isBlank finds blanks of every kind, and what cannot be seen at all.
func isBlank(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }

// mustNotBeEncoded finds what no client encodes but to hide it, or what means something else decoded than encoded.
func mustNotBeEncoded(c byte) bool { return c < ' ' || c == 0x7f || strings.IndexByte(special, c) >= 0 }

// decodeOnce decodes percent-encoding once, and rejects the characters that must not be encoded.
func decodeOnce(text string, forbidden func(byte) bool) (decoded, rejectReason string) {
	if !strings.Contains(text, "%") {
		return text, ""
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '%' && i+2 < len(text) {
			encoded, err := strconv.ParseUint(text[i+1:i+3], 16, 8) // which takes two digits and nothing else, no sign either
			if err == nil && forbidden(byte(encoded)) {
				return "", fmt.Sprintf("the path holds the character %%%02X encoded", encoded)
			}
			if err == nil {
				c, i = byte(encoded), i+2
			}
		}
		b.WriteByte(c)
	}
	if !utf8.ValidString(b.String()) {
		return "", "the path is not UTF-8"
	}
	return b.String(), ""
}

// foldPath gives one text to all paths that are the same for some upstream: Windows passes over
// case, and over dots and blanks at the end of a name; other programs cut off blanks on both sides,
// pass over what cannot be seen, or take full-width letters for the usual ones.
func foldPath(path string) string {
	seen := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, path)
	isDotOrBlank := func(r rune) bool { return r == '.' || isBlank(r) }
	segments := strings.Split(strings.ToLower(strings.ToUpper(norm.NFKC.String(seen))), "/")
	for i, segment := range segments {
		segments[i] = strings.TrimLeftFunc(strings.TrimRightFunc(segment, isDotOrBlank), isBlank)
	}
	return strings.Join(segments, "/")
}
