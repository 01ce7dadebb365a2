package explain

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// curlCommand is what a curl command line sends, as far as it matters here.
type curlCommand struct {
	method  string
	url     string
	headers []string
	data    []string
	user    string
	get     bool
	json    bool
	form    bool
	absent  string // a value that stands in a file or a variable
}

// curl reads a command line of curl, and the request that it makes.
func (in *Input) curl(text string, depth int) error {
	c := parseCurl(words(curlLine(text))[1:])
	switch {
	case c.absent == "@-" && anyJWT.MatchString(text): // which stands before or behind the command
		return in.form(" "+text, depth)
	case c.absent != "":
		return &OtherError{
			"this is a curl line that takes " + c.absent + " from a file or a variable, so the assertion is not in it",
			"Put echo before curl to see what the shell makes of it, or give the assertion itself.",
		}
	}
	body, mediaType := strings.Join(c.data, "&"), ""
	target, err := url.Parse(c.url)
	if err != nil {
		target = &url.URL{}
	}
	query := target.RawQuery
	method := c.method
	switch {
	case c.get:
		query, body = strings.Trim(query+"&"+body, "&"), ""
	case c.form:
		mediaType = "multipart/form-data"
	case c.json:
		mediaType = "application/json"
	case len(c.data) > 0:
		mediaType = "application/x-www-form-urlencoded"
	}
	if method == "" {
		method = http.MethodGet
		if len(c.data) > 0 && !c.get {
			method = http.MethodPost
		}
	}
	in.request(method, mediaType, []byte(body), query)
	maps.Copy(in.Request.Header, c.given())
	if c.user != "" && in.Request.Header.Get("Authorization") == "" {
		in.Request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.user)))
	}
	return in.requestHolds(depth)
}

// curlWord begins a command of curl: on a line of its own, behind a prompt, or behind what runs or feeds it.
var curlWord = regexp.MustCompile(`(?:^|\n)[ \t]*(?:(?:PS )?[^\s'"]*[$#>%][ \t]+|[^\n]*\|[ \t]*|(?:\w+=\S*|time|sudo|exec)[ \t]+)*((?:[\w.:~/\\-]*[/\\])?curl(?:\.exe)?[ \t])`)

// curlLine is the command of curl in a text, or nothing.
func curlLine(text string) string {
	at := curlWord.FindStringSubmatchIndex(text)
	if at == nil {
		return ""
	}
	text = text[at[2]:]
	if strings.Contains(text, `^"`) {
		text = carets.ReplaceAllString(text, "$1")
	}
	return text
}

// carets are those by which the shell of Windows takes a character as it is.
var carets = regexp.MustCompile(`\^(?:\r?\n)?([^\r\n])`)

// given are the header fields of the command. They replace those of curl; one without a value takes it away.
func (c *curlCommand) given() http.Header {
	given := http.Header{}
	for _, header := range c.headers {
		name, value, _ := strings.Cut(header, ":")
		name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		given[name] = slices.DeleteFunc(append(given[name], value), func(s string) bool { return s == "" })
	}
	return given
}

// withValue are the options of curl that take a value and do not matter here.
var withValue = []string{
	"-o", "--output", "-b", "--cookie", "-c", "--cookie-jar", "-A", "--user-agent", "-e", "--referer", "-x", "--proxy", "-E", "--cert",
	"--key", "--cacert", "--capath", "--pass", "--cert-type", "--key-type", "-m", "--max-time", "--connect-timeout", "-w", "--write-out",
	"--resolve", "--retry", "--retry-delay", "-D", "--dump-header", "--connect-to", "--ciphers", "--tls-max", "--interface", "-K", "--config",
}

// parseCurl reads the arguments. A short option may have its value behind it without a blank.
func parseCurl(args []string) (c curlCommand) {
	for i := 0; i < len(args); i++ {
		option, value, attached := args[i], "", false
		for len(option) > 2 && option[0] == '-' && strings.IndexByte("sSkLfivgnN#O0146", option[1]) >= 0 { // several in one
			option = "-" + option[2:]
		}
		if len(option) > 2 && option[0] == '-' && option[1] != '-' && strings.ContainsRune("XHduFoAbmwe", rune(option[1])) {
			option, value, attached = option[:2], option[2:], true
		}
		takes := func() string {
			if !attached && i+1 < len(args) {
				i++
				return args[i]
			}
			return value
		}
		switch option {
		case "-X", "--request":
			c.method = strings.ToUpper(takes())
		case "-H", "--header":
			c.headers = append(c.headers, takes())
		case "-d", "--data", "--data-raw", "--data-binary", "--data-ascii":
			c.addData(takes(), option == "--data-raw")
		case "--data-urlencode":
			c.addEncoded(takes())
		case "--json":
			c.json = true
			c.addData(takes(), false)
		case "-F", "--form", "--form-string":
			c.form = true
			c.addData(takes(), true)
		case "--oauth2-bearer":
			c.headers = append(c.headers, "Authorization: Bearer "+takes())
		case "-I", "--head":
			c.method = http.MethodHead
		case "-u", "--user":
			c.user = takes()
		case "-G", "--get":
			c.get = true
		case "--url":
			c.url = takes()
		default:
			if slices.Contains(withValue, option) {
				takes()
			} else if !strings.HasPrefix(option, "-") && c.url == "" {
				c.url = option
			}
		}
	}
	return c
}

// addData takes data as it is; it is in a file behind an @.
func (c *curlCommand) addData(data string, raw bool) {
	if name, inFile := strings.CutPrefix(data, "@"); inFile && !raw {
		c.absent = "@" + name
		return
	}
	c.noteVariable(data)
	c.data = append(c.data, data)
}

// addEncoded takes what --data-urlencode encodes: content, =content, name=content, @file or name@file.
func (c *curlCommand) addEncoded(data string) {
	name, content, named := strings.Cut(data, "=")
	if before, _, inFile := strings.Cut(data, "@"); inFile && (!named || len(before) < len(name)) {
		c.absent = data
		return
	}
	c.noteVariable(content)
	switch {
	case !named:
		c.data = append(c.data, url.QueryEscape(data))
	case name == "":
		c.data = append(c.data, url.QueryEscape(content))
	default:
		c.data = append(c.data, name+"="+url.QueryEscape(content))
	}
}

// noteVariable finds an assertion that the shell puts in.
func (c *curlCommand) noteVariable(data string) {
	for pair := range strings.SplitSeq(data, "&") {
		name, value, named := strings.Cut(pair, "=")
		if !named {
			value = name
		}
		if strings.HasPrefix(value, "$") || strings.HasPrefix(value, "`") || strings.HasPrefix(value, "{{") || strings.HasPrefix(value, "<") && strings.HasSuffix(value, ">") {
			c.absent = value
		}
	}
}

// words splits a command as a POSIX shell does, without what it would put in, up to the next command. A caret at the end
// of a line continues it, as in the shell of Windows.
func words(text string) []string {
	const ansi = '$' // the quotes of $'…', between which escapes mean something
	var all []string
	var word strings.Builder
	begun, quote := false, byte(0)
	end := func() {
		if begun {
			all = append(all, word.String())
			word.Reset()
			begun = false
		}
	}
	for i := 0; i < len(text); i++ {
		ch := text[i]
		next := byte(0)
		if i+1 < len(text) {
			next = text[i+1]
		}
		switch {
		case quote == 0 && (ch == '|' || ch == ';' || ch == '<' && next == '<'):
			end()
			return all
		case quote == 0 && ch == '$' && next == '\'':
			quote, begun = ansi, true
			i++
		case quote == ansi && ch == '\'':
			quote = 0
		case quote == ansi:
			r, _, rest, err := strconv.UnquoteChar(text[i:], '\'')
			if err != nil {
				r, rest = rune(ch), text[i+1:]
			}
			word.WriteRune(r)
			i = len(text) - len(rest) - 1
		case quote == '\'' && ch != '\'':
			word.WriteByte(ch)
		case quote == 0 && (ch == '\'' || ch == '"'):
			quote, begun = ch, true
		case quote == ch && quote != 0:
			quote = 0
		case ch == '\\' && (next == '\n' || next == '\r'):
			i++
			if next == '\r' && i+1 < len(text) && text[i+1] == '\n' {
				i++
			}
		case ch == '\\' && quote == 0 || ch == '\\' && strings.IndexByte("\"\\$`", next) >= 0 && next != 0:
			word.WriteByte(next)
			begun = true
			i++
		case quote != 0:
			word.WriteByte(ch)
		case ch == '^' && (next == '\n' || next == '\r'):
			i++
		case ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r':
			end()
		default:
			word.WriteByte(ch)
			begun = true
		}
	}
	end()
	return all
}
