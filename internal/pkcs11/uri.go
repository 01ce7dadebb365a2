package pkcs11

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// uriScheme begins the URI of a key in hardware (RFC 7512 section 2.3).
	uriScheme = "pkcs11:"

	// maxURI is far above what names a key, in bytes.
	maxURI = 4096
)

// IsURI reports whether a key is named by a PKCS#11 URI and not by a file.
func IsURI(key string) bool { return strings.HasPrefix(key, uriScheme) }

// A URI names one private key on one token: what a PKCS#11 URI says of them
// (RFC 7512). An empty field says nothing; everything that is said must hold.
type URI struct {
	Shown string // the URI without its query, which says where the PIN is

	token        string
	serial       string
	model        string
	manufacturer string
	slot         *uint

	object string
	id     []byte

	module    string // absolute path
	PINSource string // absolute path; empty: the PIN comes from elsewhere
}

// ParseURI reads a PKCS#11 URI that names a private key. It is stricter than RFC
// 7512, which lets a consumer choose when a URI fits several keys: here the token, the key
// and the module have to be named, nothing may be said twice, and what is not
// understood is refused. Its errors quote no value, since people put the PIN
// in, and in any place.
func ParseURI(s string) (*URI, error) {
	rest, ok := strings.CutPrefix(s, uriScheme)
	switch {
	case !ok:
		return nil, errors.New("not a pkcs11: URI")
	case len(s) > maxURI:
		return nil, fmt.Errorf("the URI is over %d bytes", maxURI)
	case strings.Contains(s, "pin-value="): // behind a wrong separator it would be part of a value, and shown
		return nil, ErrPINValue
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	u := &URI{Shown: uriScheme + path}
	seen := make(map[string]bool)
	for attribute := range strings.SplitSeq(path, ";") {
		if err := u.add(attribute, inPath, seen); err != nil {
			return nil, err
		}
	}
	for attribute := range strings.SplitSeq(query, "&") {
		if !hasQuery {
			break
		}
		if err := u.add(attribute, inQuery, seen); err != nil {
			return nil, err
		}
	}
	// No choice must be left to make.
	switch {
	case u.token == "" && u.serial == "" && u.slot == nil:
		return nil, errors.New("the URI names no token; add token=, serial= or slot-id=")
	case u.object == "" && len(u.id) == 0:
		return nil, errors.New("the URI names no key; add object= (its label) or id=")
	case u.module == "":
		return nil, errors.New("the URI names no PKCS#11 library; add ?module-path= with its path")
	}
	return u, nil
}

// The two parts of a URI, by what separates the attributes there.
const (
	inPath  = ';'
	inQuery = '&'
)

// add takes one attribute, name=value, from a part of the URI.
func (u *URI) add(attribute string, part rune, seen map[string]bool) error {
	name, raw, ok := strings.Cut(attribute, "=")
	if !ok {
		return errors.New("an attribute has no value; want name=value, with ; in between, and & behind the ?")
	}
	if err := known(name, part); err != nil {
		return err
	}
	if seen[name] {
		return fmt.Errorf("%s occurs twice", name)
	}
	seen[name] = true
	value, err := unescape(raw, part)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := u.set(name, value); err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	return nil
}

// known refuses the attributes that are not used, each with what to do instead.
func known(name string, part rune) error {
	place, ok := map[string]rune{
		"token": inPath, "serial": inPath, "model": inPath, "manufacturer": inPath, "slot-id": inPath,
		"object": inPath, "id": inPath, "type": inPath,
		"module-path": inQuery, "pin-source": inQuery,
	}[name]
	switch {
	case name == "module-name":
		return errors.New("module-name is not supported; give module-path, the whole path of the PKCS#11 library")
	case !ok && name != "" && len(name) <= 30 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-_") == "":
		return fmt.Errorf("the attribute %s is not supported", name)
	case !ok: // such a name may hold a part of a PIN, and is not quoted
		return errors.New("an attribute has an unknown name")
	case place != part && place == inQuery:
		return fmt.Errorf("%s stands in the wrong place: it comes behind the ?", name)
	case place != part:
		return fmt.Errorf("%s stands in the wrong place: it comes before the ?", name)
	}
	return nil
}

// ErrPINValue says that there is a PIN in the URI. It is told apart because it has a hint of
// its own.
var ErrPINValue = errors.New("the URI holds a PIN (pin-value), which then shows in configuration files, process lists and logs")

// unescape undoes percent-encoding. The characters that may stand for themselves are those
// of RFC 7512 section 2.3, pk11-pchar and pk11-qchar.
func unescape(raw string, part rune) (string, error) {
	plain := "-._~:[]@!$'()*+,=&"
	if part == inQuery {
		plain = "-._~:[]@!$'()*+,=/?|"
	}
	var value strings.Builder
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '%':
			octet, err := hex.DecodeString(raw[i+1 : min(i+3, len(raw))])
			if err != nil || len(octet) != 1 {
				return "", errors.New("holds a % that two hex digits do not follow; write %25 for the sign itself")
			}
			value.WriteByte(octet[0])
			i += 2
		case '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte(plain, c) >= 0:
			value.WriteByte(c)
		default:
			return "", errors.New("holds a character that has to be percent-encoded, such as %20 for a blank")
		}
	}
	return value.String(), nil
}

// set keeps one value. The lengths are those of the fields of CK_TOKEN_INFO (PKCS#11,
// section 3.2): a longer value cannot match.
func (u *URI) set(name, value string) error {
	switch name {
	case "id":
		if value == "" || len(value) > 255 {
			return errors.New("is empty or over 255 bytes")
		}
		u.id = []byte(value)
	case "token":
		return setText(&u.token, value, 32)
	case "serial":
		return setText(&u.serial, value, 16)
	case "model":
		return setText(&u.model, value, 16)
	case "manufacturer":
		return setText(&u.manufacturer, value, 32)
	case "object":
		return setText(&u.object, value, 255)
	case "slot-id":
		slot, err := strconv.ParseUint(value, 10, 32)
		if err != nil || strconv.FormatUint(slot, 10) != value {
			return errors.New("is not a number")
		}
		n := uint(slot)
		u.slot = &n
	case "type":
		if value != "private" {
			return errors.New("is not private, and a private key is what signs")
		}
	case "module-path":
		return setFile(&u.module, value)
	default: // pin-source; the others are not known
		// RFC 7512 section 2.4 also has commands to run, which have no place in a configuration.
		path, ok := strings.CutPrefix(value, "file:")
		if !ok {
			return errors.New("is not a file: URI")
		}
		return setFile(&u.PINSource, strings.TrimPrefix(path, "//"))
	}
	return nil
}

func setText(field *string, value string, limit int) error {
	switch {
	case value == "" || len(value) > limit:
		return fmt.Errorf("is empty or over %d bytes", limit)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return errors.New("is not text in UTF-8")
	}
	*field = value
	return nil
}

// setFile wants the whole path: a relative one would mean another file, or code
// from another folder, depending on where the program was started.
func setFile(field *string, value string) error {
	if err := setText(field, value, maxURI); err != nil {
		return err
	}
	if !filepath.IsAbs(value) {
		return errors.New("is not an absolute path")
	}
	return nil
}
