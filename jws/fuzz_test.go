package jws_test

import (
	"encoding/base64"
	stdjson "encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/waybill-token/waybill/jws"
)

// FuzzRead: no input makes reading panic, and what is read has one spelling only.
func FuzzRead(f *testing.F) {
	f.Add(sign(f, jws.RS256, consumer(), `{"iss":"a"}`))
	for _, spelling := range spellings {
		f.Add(join(encode(spelling), encode("{}"), "AA"))
	}
	for _, object := range hostile() {
		f.Add(join(encode(object[:min(len(object), 1<<12)]), "AA", "AA"))
	}
	for _, s := range []string{"", ".", "..", "...", "a.b.c", "e30.e30.AA", "e30.e30.AB", "e30\n.e30.AA", "e30.e30\r.AA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, err := jws.Split(s)
		if err != nil {
			return
		}
		parts := strings.Split(s, ".")
		if len(parts) != 3 || token.RawHeader() != parts[0] || encode(token.Payload()) != parts[1] {
			t.Errorf("header %q and payload %q of %q", token.RawHeader(), token.Payload(), s)
		}
		header, err := token.Header()
		if err != nil {
			return
		}
		text := raw(t, parts[0])
		if encode(text) != parts[0] {
			t.Errorf("header %q is a second spelling", parts[0])
		}
		checkHeader(t, header, text)
	})
}

// checkHeader compares with encoding/json what both understand.
func checkHeader(t *testing.T, header *jws.Header, text []byte) {
	t.Helper()
	members := members(t, text)
	others := header.Others()
	if len(others) != len(members) || !slices.IsSorted(others) {
		t.Errorf("%d parameters, want %d: %q", len(others), len(members), others)
	}
	for name, value := range members {
		got, ok := header.Text(name)
		if want, isText := value.(string); ok != isText || got != want || !header.Has(name) {
			t.Errorf("%q is %q (%t), want %v", name, got, ok, value)
		}
	}
	certificates, err := header.Certificates(nil)
	if err != nil {
		return
	}
	entries, _ := members["x5c"].([]any)
	if len(certificates) != len(entries) || len(entries) == 0 || len(entries) > jws.MaxCertificates {
		t.Fatalf("%d certificates of %d entries", len(certificates), len(entries))
	}
	for i, cert := range certificates {
		if got := base64.StdEncoding.EncodeToString(cert.Raw); entries[i] != got {
			t.Errorf("certificate %d is not the one that was sent", i)
		}
	}
}

func members(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var all map[string]stdjson.RawMessage
	if err := stdjson.Unmarshal(text, &all); err != nil || !utf8.Valid(text) {
		t.Fatalf("%q is no JSON: %v", text, err)
	}
	values := map[string]any{}
	for name, member := range all {
		var value any
		stdjson.Unmarshal(member, &value) // a number out of range stays nil, and is no text
		values[name] = value
	}
	return values
}

// FuzzSign: what is signed is read again, to the letter.
func FuzzSign(f *testing.F) {
	for _, payload := range []string{"", "{}", `{"iss":"a"}`, "\x00", "\xff\xfe", strings.Repeat("x", 1000)} {
		f.Add(payload)
	}
	me := consumer()
	f.Fuzz(func(t *testing.T, payload string) {
		compact := sign(t, jws.RS256, me, payload)
		got, err := accept(compact, public(t, me))
		if payload == "" { // a compact serialisation has no empty part, see RFC 7797 section 5.1 and RFC 7515 appendix F
			if err == nil {
				t.Error("a token without a payload is accepted")
			}
			return
		}
		if err != nil || string(got) != payload {
			t.Errorf("payload %q, want %q: %v", got, payload, err)
		}
	})
}

// FuzzUnmarshalObject: strict means that encoding/json accepts it too, with the
// same members, and that no name occurs twice.
func FuzzUnmarshalObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"a":1,"\u0061":2}`, `null`, `[]`, `{} {}`, `{"a":[[[[1]]]]}`,
		`{"a":{"b":1,"b":2}}`, "{\"a\":\"\xff\"}", `{"a":"\ud800"}`, ` {"a" : -0.0E+1 } `, `{"a":"]]]]\\\"[[["}`,
		`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`, `{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got map[string]any
		err := jws.UnmarshalObject(data, &got)
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if err != nil {
			return
		}
		want := members(t, data)
		if len(got) != len(want) {
			t.Errorf("%d members, want %d", len(got), len(want))
		}
		if depth := depthOf(data); depth > 32 {
			t.Errorf("nests %d deep", depth)
		}
	})
}

// depthOf is how deep a JSON text nests, by the tokens of encoding/json.
func depthOf(data []byte) int {
	d, depth, deepest := stdjson.NewDecoder(strings.NewReader(string(data))), 0, 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case stdjson.Delim('{'), stdjson.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case stdjson.Delim('}'), stdjson.Delim(']'):
			depth--
		}
	}
}
