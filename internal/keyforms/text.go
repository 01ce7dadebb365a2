package keyforms

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// pemBegin is the start of every PEM block (RFC 7468 section 3).
var pemBegin = []byte("-----BEGIN ")

// ToUTF8 takes off a byte order mark, and turns UTF-16, as Windows writes it, into UTF-8. PEM in
// UTF-16 is known without a mark too. Other bytes without one stay as they are.
func ToUTF8(data []byte) []byte {
	var order func(a, b byte) uint16
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return data[3:]
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("-\x00-\x00-\x00")):
		order = func(a, b byte) uint16 { return uint16(b)<<8 | uint16(a) }
	case bytes.HasPrefix(data, []byte("\xfe\xff")), bytes.HasPrefix(data, []byte("\x00-\x00-\x00-")):
		order = func(a, b byte) uint16 { return uint16(a)<<8 | uint16(b) }
	default:
		return data
	}
	var units []uint16
	for i := 0; i+1 < len(data); i += 2 {
		units = append(units, order(data[i], data[i+1]))
	}
	return []byte(strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff"))
}

// fromBase64 undoes the base64 of a whole file, of DER or of PEM, with which secrets travel
// through variables and YAML. Nothing else is taken for it.
func fromBase64(data []byte) ([]byte, bool) {
	text := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, string(data))
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	if bytes.Contains(plain, pemBegin) {
		return plain, true
	}
	_, rest, err := toDER(plain)
	return plain, err == nil && isDER(plain) && len(rest) == 0
}

// IsText reports whether a value is a key or certificates themselves, and not the name of a file:
// PEM, the base64 of a whole file, or a JSON object such as a JWK Set. So is what is left of them when a part was lost: it
// cannot be read, and must not be shown as a name would be.
func IsText(value string) bool {
	isObject := strings.HasPrefix(strings.TrimSpace(value), "{") || strings.Contains(value, `":`)
	if isObject || strings.ContainsAny(value, "\r\n") || strings.Contains(value, "-----") {
		return true
	}
	const longName = 128 // in which people have a dot, a hyphen or a low line
	if len(value) > longName && !strings.ContainsFunc(value, func(r rune) bool { return r != '=' && r != ' ' && !isBase64(r) }) {
		return true
	}
	_, ok := fromBase64([]byte(value))
	return ok
}

var (
	beginLine = regexp.MustCompile(`^-----BEGIN ([A-Z0-9 #]+)-----`)

	// oldHeaders tell how a key is encrypted (RFC 1421 section 4.6.1); their line breaks may be gone.
	oldHeaders = regexp.MustCompile(`^\s*Proc-Type:\s*4,\s*ENCRYPTED\s+DEK-Info:\s*([A-Z0-9-]+),\s*([0-9A-Fa-f]+)`)

	otherHeaders = regexp.MustCompile(`^(?:\s*[A-Za-z-]+:[^\n]*\n)+`)
)

// escapes are how line breaks, and + and /, are written in JSON, YAML and variables. None of them
// has a character of base64 to lose.
var escapes = []string{
	`\u000a`, "\n", `\u000A`, "\n", `\u000d`, "\n", `\u000D`, "\n", `\u002b`, "+", `\u002B`, "+", `\u002f`, "/", `\u002F`, "/",
	`\r`, "\n", `\n`, "\n", `\t`, " ", `\/`, "/", `\`, "", "\r\n", "\n", "\r", "\n",
}

// readPEM reads every block, with line breaks or without them. A block that is damaged is not
// skipped: the chain would lack a certificate.
func (c *Contents) readPEM(text string) {
	for i := 1; ; i++ {
		at := strings.Index(text, string(pemBegin))
		if at < 0 {
			return
		}
		text = text[at:]
		match := beginLine.FindStringSubmatch(text)
		if len(match) == 0 {
			c.fault(Whole, nil, "Copy the file again.", "the BEGIN line of PEM block %d is damaged", i)
			return
		}
		label, end := match[1], "-----END "+match[1]+"-----"
		body, rest, ended := strings.Cut(text[len(match[0]):], end)
		if !ended || strings.Contains(body, string(pemBegin)) {
			c.fault(Whole, nil, "Copy the file again, each block from its BEGIN line to its END line.",
				"PEM block %d has no END line: %s has to follow it", i, end)
			return
		}
		c.addBlock(i, label, body)
		text = rest
	}
}

func (c *Contents) addBlock(i int, label, body string) {
	body = strings.NewReplacer(escapes...).Replace(body)
	headers := oldHeaders.FindStringSubmatch(body)
	if headers != nil {
		body = body[len(headers[0]):]
	}
	if headers == nil {
		body = body[len(otherHeaders.FindString(body)):]
	}
	compact := strings.Join(strings.Fields(body), "")
	der, err := base64.StdEncoding.DecodeString(compact)
	if err != nil {
		c.faultOfBase64(i, label, compact, err)
		return
	}
	switch {
	case label == "OPENSSH PRIVATE KEY":
		c.fault(PrivateKey, nil, "Give the private key of the seal, in PEM or PKCS#12.", "the file holds a key for SSH")
	case headers != nil:
		c.addOldEncrypted(&pem.Block{Type: label, Headers: map[string]string{"DEK-Info": headers[1] + "," + headers[2]}, Bytes: der})
	default:
		c.add(der, label)
	}
}

// faultOfBase64 says what keeps a block from being read, and quotes one character at most, which is
// none of a key.
func (c *Contents) faultOfBase64(i int, label, compact string, err error) {
	at, bad := errors.AsType[base64.CorruptInputError](err)
	if bad && int(at) < len(compact) {
		r, _ := utf8.DecodeRuneInString(compact[at:])
		switch {
		case r == '%':
			c.fault(Whole, err, "Undo the percent-encoding (%0A is a line break, %2B is +).", "PEM block %d (%s) is percent-encoded, as for a URL", i, label)
			return
		case r == '.' || r == '*' || r == '…':
			c.fault(Whole, err, "Copy the original.", "PEM block %d (%s) is shortened: it holds %q", i, label, r)
			return
		case r != '=' && !isBase64(r):
			c.fault(Whole, err, "Copy the file again; between the BEGIN and END lines stand letters, digits, +, / and = alone.",
				"PEM block %d (%s) holds %q, which is not base64", i, label, r)
			return
		}
	}
	c.fault(Whole, err, "Copy the file again, each block from its BEGIN line to its END line.",
		"PEM block %d (%s) is not whole: characters of its base64 are missing", i, label)
}

func isBase64(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '+' || r == '/'
}

// addOldEncrypted reads a key that OpenSSL encrypted before it knew PKCS#8.
func (c *Contents) addOldEncrypted(block *pem.Block) {
	der, err := x509.DecryptPEMBlock(block, []byte(c.source.Password)) //nolint:staticcheck // deprecated for writing: the form keeps no integrity. It is here to read
	if err == nil && !isDER(der) {
		err = x509.IncorrectPasswordError
	}
	switch {
	case errors.Is(err, x509.IncorrectPasswordError):
		c.faultOfEncrypted(PrivateKey, "the private key", ErrPassword)
	case err != nil:
		c.faultOfEncrypted(PrivateKey, "the private key", unsupported("an old encryption of PEM, DEK-Info: "+strings.SplitN(block.Headers["DEK-Info"], ",", 2)[0]))
	default:
		c.add(der, block.Type)
	}
}
