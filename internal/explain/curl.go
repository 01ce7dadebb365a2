package explain

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
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
	c := parseCurl(words(text)[1:])
	if c.absent != "" {
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
	for _, header := range c.headers {
		name, value, _ := strings.Cut(header, ":")
		in.Request.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if c.user != "" {
		in.Request.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.user)))
	}
	return in.requestHolds(depth)
}

func parameters(query string) url.Values {
	values, _ := url.ParseQuery(query)
	return values
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
		if strings.HasPrefix(value, "$") || strings.HasPrefix(value, "<") && strings.HasSuffix(value, ">") {
			c.absent = value
		}
	}
}

// words splits a command as a POSIX shell does, without what it would put in. A caret at the end of a line continues it,
// as in the shell of Windows.
func words(text string) []string {
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
