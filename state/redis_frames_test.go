package state

import (
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	for text, want := range map[string]int64{
		"":                0,
		"+OK\r\n":         1,
		"+OK\r\n-ERR\r\n": 2,
		"$3\r\na\r\n\r\n": 1,
		"$0\r\n\r\n":      1,
		"$-1\r\n*-1\r\n*0\r\n_\r\n#t\r\n,1.5\r\n(12\r\n": 7,
		"*2\r\n:1\r\n*1\r\n$1\r\na\r\n":                  1,
		"%1\r\n+a\r\n~1\r\n+b\r\n":                       1,
		"=6\r\ntxt:ab\r\n!3\r\nERR\r\n":                  2,
		">2\r\n+message\r\n+a\r\n:1\r\n":                 1,
		"*2\r\n:1\r\n":                                   0,
		"$10\r\na":                                       0,
	} {
		f := &frames{}
		if err := f.follow([]byte(text)); err != nil || f.messages != want {
			t.Errorf("%q: %d messages, %v; want %d", text, f.messages, err, want)
		}
	}
	for _, text := range []string{
		"x\r\n", "+OK\n", "$-2\r\n", "$x\r\n", "$\r\n", "$?\r\n", "*?\r\n", "|1\r\n", ".\r\n", "*-2\r\n", "%-2\r\n", "$99999999999\r\n", "*2000000\r\n", "%600000\r\n",
		"_x\r\n", "#tr\r\n", strings.Repeat("*1\r\n", 20), strings.Repeat("*500000\r\n", 3), "$0000000000000000000000001\r\n",
	} {
		if err := new(frames).follow([]byte(text)); err == nil {
			t.Errorf("%q is no message, and is taken for one", text)
		}
	}
}

// FuzzFrames: what comes in parts is judged like what comes whole, and what is kept of it has a bound.
func FuzzFrames(f *testing.F) {
	for _, text := range []string{"\r\n", "+OK\r\n", "$3\r\nabc\r\n", "*2\r\n$1\r\na\r\n:5\r\n", "%1\r\n+a\r\n_\r\n", ">1\r\n#t\r\n", "$-1\r\n", "*-3\r\n", "$99999999999999\r\n"} {
		f.Add([]byte(text), 1)
		f.Add([]byte(text+text), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, part int) {
		whole, parts := &frames{}, &frames{}
		wholeErr := whole.follow(b)
		var err error
		for rest, size := b, max(1, part%64); len(rest) > 0 && err == nil; {
			n := min(size, len(rest))
			err = parts.follow(rest[:n])
			rest = rest[n:]
		}
		if (err == nil) != (wholeErr == nil) || whole.messages != parts.messages || whole.pushes != parts.pushes {
			t.Errorf("%d messages, %v; in parts %d, %v", whole.messages, wholeErr, parts.messages, err)
		}
		if len(whole.open) > maxDepth+1 || wholeErr == nil && whole.size > maxMessage {
			t.Errorf("%d lists around, %d bytes", len(whole.open), whole.size)
		}
	})
}
