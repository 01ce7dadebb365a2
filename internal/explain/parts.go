package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/waybill-token/waybill/assertion"
	"github.com/waybill-token/waybill/rule"
)

// A Part is what stands between the dots of an assertion, or before or behind them.
type Part struct {
	Name    string // header, payload or signature; part and a number where there are not three
	Encoded string // empty for a signature, so that what is shown is no assertion that somebody could use
	Decoded string // JSON with its members under each other, or text; empty: it is none
	Note    string
}

var partNames = []string{"header", "payload", "signature"}

// Bounds of what is shown of a part.
const (
	maxParts   = 5
	maxDecoded = 16 << 10
	maxEncoded = 64 << 10
)

// partsOf takes an assertion apart as far as it can be, whatever it is.
func partsOf(in *Input) []Part {
	if in.Assertion == "" {
		return nil
	}
	encoded := strings.SplitN(in.Assertion, ".", maxParts)
	if mended := strings.Split(in.Mended, "."); len(encoded) == 1 && len(mended) == len(partNames) {
		encoded = mended // another serialisation, or one that is percent-encoded
	}
	parts := make([]Part, len(encoded))
	for i, text := range encoded {
		p := Part{Name: fmt.Sprintf("part %d", i+1), Encoded: Printable(beginning(text, maxEncoded))}
		if len(encoded) == len(partNames) {
			p.Name = partNames[i]
		}
		switch decoded := decodePart(strings.Join(strings.Fields(text), "")); {
		case decoded == nil:
			p.Note = "not base64url"
		case p.Name == "signature":
			p.Encoded, p.Note = "", fmt.Sprintf("%d bytes", len(decoded))
		default:
			p.Decoded = pretty(decoded)
		}
		parts[i] = p
	}
	return parts
}

// pretty writes JSON with its members under each other, and certificates by their beginning. What is none is shown as it is.
func pretty(text []byte) string {
	value := jsontext.Value(slices.Clone(text))
	if err := value.Indent(jsontext.AllowDuplicateNames(true), jsontext.WithIndent("  ")); err != nil {
		return Printable(beginning(string(text), maxDecoded))
	}
	var lines []string
	for line := range strings.Lines(string(value)) {
		line = strings.TrimSuffix(line, "\n")
		const certificate, shown, long = `"MII`, 24, 200
		if i := strings.Index(line, certificate); i >= 0 && len(line) > i+long {
			end := len(strings.TrimRight(line, `",`))
			line = fmt.Sprintf("%s… (%d characters)%s", line[:i+shown], end-i-1, line[end:])
		}
		lines = append(lines, Printable(line))
	}
	return beginning(strings.Join(lines, "\n"), maxDecoded)
}

// beginning is at most so many bytes of a text, as UTF-8.
func beginning(s string, most int) string {
	if len(s) <= most {
		return strings.ToValidUTF8(s, "\ufffd")
	}
	return strings.ToValidUTF8(s[:most], "\ufffd") + "…"
}

// saySent adds to the rules that fail what they are about, as it was sent.
func (v *View) saySent(header, payload string) {
	of := map[string]func() string{}
	for names, part := range map[string]string{
		"jwt.alg alg": header, "jwt.typ typ": header, "jwt.x5c x5c": header,
		"claim.iss iss": payload, "claim.sub sub iss": payload, "claim.aud aud": payload, "claim.jti jti": payload, "claim.iat iat": payload,
		"claim.exp exp": payload, "claim.nbf nbf": payload, "claim.lifetime iat exp": payload,
	} {
		id, names, _ := strings.Cut(names, " ")
		of[id] = func() string { return sent(part, strings.Fields(names)) }
	}
	of[rule.JWTHeaderParameter.ID] = func() string { return namesOf(header) }
	for i := range v.Rules {
		if r := &v.Rules[i]; r.Outcome == assertion.Fail && of[r.ID] != nil {
			r.Sent = of[r.ID]()
		}
	}
}

// sent says what stands in a part under some names.
func sent(part string, names []string) string {
	found := members(part)
	if found == nil {
		return ""
	}
	var said []string
	for _, name := range names {
		if value, ok := found[name]; ok {
			said = append(said, name+": "+cut(string(value)))
		} else {
			said = append(said, "no "+name)
		}
	}
	return strings.Join(said, ", ")
}

// namesOf are the names in a part.
func namesOf(part string) string {
	var names []string
	for name := range members(part) {
		names = append(names, cut(name))
	}
	slices.Sort(names)
	return strings.Join(names[:min(len(names), maxFields)], ", ")
}

// members are those of a part as they were written, of several with a name the last. Nil: it is no object.
func members(part string) map[string]jsontext.Value {
	var found map[string]jsontext.Value
	if json.Unmarshal(decodePart(part), &found, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return nil
	}
	return found
}
