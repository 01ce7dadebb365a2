package plainjson_test

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/waybill-token/waybill/internal/plainjson"
)

// FuzzText holds what is written and read against the general encoder and decoder.
func FuzzText(f *testing.F) {
	for _, odd := range []string{"", "plain ~ text", `"`, `\`, "\n", "\x00", "\x7f", "é", "\u2028", "\xff", "<&>'", "\U0001F600"} {
		f.Add(odd, "")
		f.Add("a"+odd, odd)
	}
	f.Fuzz(func(t *testing.T, text, rest string) {
		plain := !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
		written, ok := plainjson.AppendText([]byte("before"), text)
		if ok != plain {
			t.Fatalf("%q is written: %v", text, ok)
		}
		if !ok {
			if string(written) != "before" {
				t.Errorf("%q leaves %q", text, written)
			}
			return
		}
		want, err := json.Marshal(text)
		if err != nil || string(written) != "before"+string(want) {
			t.Errorf("%q is written as %s; want %s, %v", text, written, want, err)
		}
		got, left, ok := plainjson.Text(string(want) + rest)
		if !ok || got != text || left != rest {
			t.Errorf("%s%q is read as %q and %q, %v", want, rest, got, left, ok)
		}
	})
}

// FuzzReading: what is read as a text or a number, the general decoder reads so too.
func FuzzReading(f *testing.F) {
	for _, s := range []string{
		``, `"`, `""`, `"a"b`, `"a`, `a"`, `"\"`, `"\u0061"`, "\"\x1f\"", `0`, `00`, `01`, `1`, `10,`, `-1`, `1.5`, `1e3`,
		`999999999999999999`, `1000000000000000000`, strconv.FormatUint(math.MaxUint64, 10),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if text, rest, ok := plainjson.Text([]byte(s)); ok {
			var want string
			if err := json.Unmarshal([]byte(strings.TrimSuffix(s, string(rest))), &want); err != nil || want != string(text) {
				t.Errorf("%q is read as %q; want %q, %v", s, text, want, err)
			}
		}
		digits, _, ok := plainjson.Digits(s)
		value, rest, same := plainjson.Number(s)
		if ok != same || ok && digits+rest != s {
			t.Errorf("%q has the digits %q, %v, and the number %d, %v", s, digits, ok, value, same)
		}
		if ok {
			var want int64
			if err := json.Unmarshal([]byte(digits), &want); err != nil || want != value {
				t.Errorf("%q is read as %d; want %d, %v", s, value, want, err)
			}
		}
	})
}

func TestNumbersThatAreLeft(t *testing.T) {
	for _, s := range []string{"", "-1", "+1", "01", "x", "1000000000000000000"} {
		if digits, rest, ok := plainjson.Digits(s); ok {
			t.Errorf("%q is read as %q before %q", s, digits, rest)
		}
	}
}
